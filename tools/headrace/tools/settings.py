"""Options that every online command shares."""

from typing import Annotated

import typer

from headrace.tools.wire import ServerSettings

JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")]


def settings_of(context: typer.Context) -> ServerSettings:
    """Give what the command line says of the server."""
    settings = context.find_object(ServerSettings)
    assert settings is not None, "the root command sets it"
    return settings
