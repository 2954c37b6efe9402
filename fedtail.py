"""The door: one command that mounts the groups of each room. No logic."""

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from client.cli import app as client
from common.audit.cli import app as audit
from common.errors import FedtailError
from server.cli import app as server
from simulations.cli import HELP as SIMULATE_HELP
from simulations.cli import report, simulate
from simulations.data.demo_command import demo

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")  # a merchant's node tells nobody that it runs
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

STOPPED = 130  # what Typer makes of Ctrl-C

app = typer.Typer(
    name="fedtail",
    help="Merchants train one private recommender for the long tail together.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def show_version(asked: bool) -> None:
    """Print the installed version and stop."""
    if not asked:
        return
    try:
        typer.echo(f"fedtail {version('fedtail')}")
    except PackageNotFoundError:
        typer.echo("fedtail, not installed: run `make setup`")
    raise typer.Exit


@app.callback()
def fedtail(
    _: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Merchants train one private recommender for the long tail together."""


server.command()(demo)  # it makes shops up, which no room of the server's can
app.add_typer(client, name="client")
app.add_typer(server, name="server")
app.add_typer(audit, name="audit")
app.command(help=SIMULATE_HELP)(simulate)
app.command()(report)


def main() -> None:
    """Run the command; an error of ours is one line, not a traceback."""
    console = Console(stderr=True)
    try:
        app(prog_name="fedtail")
    except FedtailError as error:
        # Text and not markup: a message that names [settings] has to keep its brackets.
        console.print(Text.assemble(("fedtail:", "red"), f" {error}"), soft_wrap=True)
        sys.exit(error.status)
    except SystemExit as end:
        if end.code == STOPPED:
            console.print("fedtail: stopped. A run goes on: give the same command again.")
        raise


if __name__ == "__main__":
    main()
