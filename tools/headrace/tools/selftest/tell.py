"""How every campaign ends: a table, and status 1 where a line of it failed."""

from collections.abc import Sequence
from dataclasses import asdict

import typer

from headrace.tools import render
from headrace.tools.selftest.growth import Row


def tell(name: str, rows: Sequence[Row], *, as_json: bool) -> None:
    """Show a result; ends the command with status 1 when a line of it failed."""
    if as_json:
        render.print_json([asdict(row) for row in rows])
    else:
        render.print_table(
            f"selftest {name}",
            ("what", "figure", ""),
            [(row.what, row.figure, "pass" if row.passed else "FAIL") for row in rows],
        )
    if not all(row.passed for row in rows):
        raise typer.Exit(1)
