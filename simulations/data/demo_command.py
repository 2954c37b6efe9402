"""`fedtail server demo`: what the tutorial begins with."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="The folder for them.")] = Path(),
) -> None:
    """Make tables of three made-up shops and an experiment, to try a federation with."""
    from simulations.data.demo_tables import write_demo  # noqa: PLC0415 - so that help is quick

    for path in write_demo(out):
        typer.echo(path)
    typer.echo("Made up by chance: docs/tutorial-first-federation.md goes on from here.")
