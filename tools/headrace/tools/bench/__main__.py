"""`python -m headrace.tools.bench`: the same command without the rest of the command line."""

import typer

from headrace.tools.bench import commands

app = typer.Typer(add_completion=False, invoke_without_command=True)
app.callback()(commands.bench_command)
app.command("floors")(commands.floors_command)

if __name__ == "__main__":
    app()
