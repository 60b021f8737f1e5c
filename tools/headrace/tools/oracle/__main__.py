"""`python -m headrace.tools.oracle`: the same commands without the rest of the command line."""

import typer

from headrace.tools.oracle import commands

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.command("record")(commands.record)
app.command("compare")(commands.compare_command)
app.command("fuzz")(commands.fuzz_command)
app.command("keep")(commands.keep_command)

if __name__ == "__main__":
    app()
