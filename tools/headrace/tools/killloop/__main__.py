"""`python -m headrace.tools.killloop`: the campaign without the rest of the command line."""

import typer

from headrace.tools.killloop.commands import kill_command

if __name__ == "__main__":
    typer.run(kill_command)
