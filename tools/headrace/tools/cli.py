"""`headrace`: the command line, one module for each group of commands.

Exit status: 0 done; 1 refused or failed, with one line on standard error that says what to do; 2 wrong usage.
Modules that take time to import are imported by the command that needs them.
"""

import sys
from typing import Annotated

import typer

from headrace.core.base.errors import HeadraceError
from headrace.core.base.version import VERSION
from headrace.tools import consumer_commands, demo_commands, store_commands, stream_commands
from headrace.tools.bench import commands as bench_commands
from headrace.tools.killloop import commands as killloop_commands
from headrace.tools.oracle import commands as oracle_commands
from headrace.tools.selftest import commands as selftest_commands
from headrace.tools.wire import ServerSettings

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Look into streams and stores, measure a server, and watch it survive.",
)
app.add_typer(stream_commands.app, name="stream")
app.add_typer(consumer_commands.app, name="consumer")
app.add_typer(store_commands.app, name="store")
app.add_typer(demo_commands.app, name="demo")
app.add_typer(selftest_commands.app, name="selftest")
killloop_commands.register(selftest_commands.app)
bench_commands.register(app)
oracle_commands.register(app)


@app.callback()
def root(
    context: typer.Context,
    server: Annotated[
        str, typer.Option("--server", "-s", envvar="NATS_URL", help="The server's URL.")
    ] = "nats://127.0.0.1:4222",
    user: Annotated[str, typer.Option(envvar="NATS_USER", help="User to log in as.")] = "",
    password: Annotated[str, typer.Option(envvar="NATS_PASSWORD", help="The user's password.")] = "",
    token: Annotated[str, typer.Option(envvar="NATS_TOKEN", help="Token to log in with.")] = "",
) -> None:
    """Keep what every online command needs."""
    context.obj = ServerSettings(server, user, password, token)


@app.command("version")
def show_version() -> None:
    """Show version and engine."""
    from headrace.core.base.engine_choice import ENGINE  # noqa: PLC0415  (its choice may fail)

    typer.echo(f"headrace {VERSION} ({ENGINE} engine)")


def main() -> None:
    """Run the command line."""
    try:
        app()
    except HeadraceError as error:
        typer.echo(f"headrace: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
