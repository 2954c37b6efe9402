"""The door: one command that mounts the groups of each room. No logic."""

import os
import sys

import typer
from rich.console import Console

from client.cli import app as client
from common.errors import FedtailError
from simulations.cli import HELP as SIMULATE_HELP
from simulations.cli import simulate

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")  # a merchant's node tells nobody that it runs
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

app = typer.Typer(
    name="fedtail",
    help="Merchants train one private recommender for the long tail together.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.add_typer(client, name="client")
app.command(help=SIMULATE_HELP)(simulate)


def main() -> None:
    """Run the command; an error of ours is one line, not a traceback."""
    try:
        app()
    except FedtailError as error:
        Console(stderr=True).print(f"[red]fedtail:[/red] {error}", highlight=False, markup=True)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("fedtail: stopped. The same command goes on where it stopped.")
        sys.exit(130)


if __name__ == "__main__":
    main()
