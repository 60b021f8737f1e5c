"""`headrace demo`: the main job, end to end, as one command."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.core.base.chance import fresh_seed
from headrace.tools import render
from headrace.tools.settings import JsonOption

if TYPE_CHECKING:
    from headrace.tools.demo.orders import Result

app = typer.Typer(no_args_is_help=True, help="Watch a server being killed, and what is left.")


@app.callback()
def root() -> None:
    """Hold the group together: there may be other demos."""


@app.command("orders")
def orders(
    count: Annotated[int, typer.Option("--orders", min=1, max=10_000_000, help="How many orders.")] = 5_000,
    kills: Annotated[int, typer.Option(min=0, max=1_000, help="How often the server is killed.")] = 3,
    seed: Annotated[int | None, typer.Option(help="Choose when it is killed; default: by chance.")] = None,
    keep: Annotated[bool, typer.Option(help="Leave the store for inspection.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Publish orders with acks, consume with a durable, kill -9 the server in the middle; then count."""
    from rich.console import Console  # noqa: PLC0415  (with nats-py below: 200 ms that other commands need not pay)

    from headrace.tools.demo.orders import Plan, play  # noqa: PLC0415
    from headrace.tools.demo.orders import as_json as result_json  # noqa: PLC0415

    if kills >= count:
        raise typer.BadParameter("there must be more orders than kills")
    plan = Plan(count, kills, fresh_seed() if seed is None else seed)
    console = Console(stderr=as_json, highlight=False, soft_wrap=True)
    result = asyncio.run(play(plan, keep=keep, console=console))
    if as_json:
        typer.echo(result_json(result))
    else:
        tell(result)
    if keep:
        console.print(f"the store is left in {result.store_dir}: try  headrace store ls {result.store_dir}")
    if not result.is_sound:
        raise typer.Exit(1)


def tell(result: "Result") -> None:
    """Print how it went."""
    ledger = result.ledger
    render.print_fields(
        f"After {result.kills} kills, in {result.seconds:.1f} s",
        [
            ("orders acknowledged", f"{len(ledger.acknowledged):,} of {result.orders:,}"),
            ("stored, once each", f"{result.stored:,}"),
            ("delivered", f"{len(ledger.delivered):,}"),
            ("redelivered before they were confirmed", f"{ledger.redelivery_count:,}"),
            ("confirmed", f"{len(ledger.confirmed):,}"),
            ("acks whose confirmation was lost with a kill", f"{result.orders - len(ledger.confirmed):,}"),
            ("lost", f"{len(ledger.lost):,}"),
            ("confirmed ones that came again", f"{len(ledger.confirmed_again):,}"),
            ("slowest restart", f"{result.slowest_restart_s * 1000:.0f} ms"),
        ],
    )
    typer.echo("every acknowledged order arrived" if result.is_sound else "THE BOOKS DO NOT BALANCE")
