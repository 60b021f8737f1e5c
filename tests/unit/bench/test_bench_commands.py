"""The benchmark's command line: what it lists, and what it refuses."""

import pytest
import typer
from typer.testing import CliRunner

from headrace.tools import bench, killloop, oracle
from headrace.tools.bench import commands
from headrace.tools.killloop import commands as kill_commands
from headrace.tools.oracle import commands as oracle_commands


@pytest.fixture
def app() -> typer.Typer:
    application = typer.Typer()
    for module in (commands, oracle_commands, kill_commands):
        module.register(application)
    return application


def test_all_commands_are_registered(app: typer.Typer) -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    for name in ("bench", "oracle", "kill"):
        assert name in shown


def test_every_row_is_listed(app: typer.Typer) -> None:
    shown = CliRunner().invoke(app, ["bench", "--list"]).output
    for row in bench.ROWS:
        assert row.name in shown


def test_an_unknown_row_is_refused_in_one_line(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["bench", "--rows", "warp"])
    assert result.exit_code == 1
    assert result.output.strip() == "no row is named 'warp'; --list shows them all"


def test_without_a_reference_there_is_nothing_to_compare_with(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_REFERENCE", "/nowhere/nats-server")
    for command in (["bench"], ["bench", "floors"], ["oracle", "record"], ["kill", "--reference"]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 1
        assert "no reference server" in result.output


def test_an_unknown_engine_is_refused(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["bench", "--engine", "steam"])
    assert result.exit_code == 1
    assert "expected plain or compiled" in result.output


def test_a_folder_without_scenarios_is_named(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["oracle", "compare", "--scenarios", "/nowhere"])
    assert result.exit_code == 1
    assert "/nowhere" in result.output


def test_the_packages_show_what_others_use() -> None:
    assert callable(bench.run_row)
    assert callable(oracle.play)
    assert callable(killloop.run_campaign)
