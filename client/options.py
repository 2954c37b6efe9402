"""Options that several commands of a merchant share."""

from pathlib import Path
from typing import Annotated

import typer

Release = Annotated[Path, typer.Option(help="The release's folder.")]
Key = Annotated[Path, typer.Option(help="The operator's public key, from a way you trust.")]
Shop = Annotated[Path, typer.Option(help="The shop's folder, as `client import` made it.")]
Cache = Annotated[
    Path | None, typer.Option(help="Folder for encodings; else within the shop's folder.")
]
Model = Annotated[
    Path | None,
    typer.Option(help="The shop model's folder; else `model` in the shop's. See `fit`."),
]
