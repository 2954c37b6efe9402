"""Options that several commands of a merchant share."""

from pathlib import Path
from typing import Annotated

import typer

from common.encoder.device import use_device

Release = Annotated[Path, typer.Option(help="The release's folder.")]
Key = Annotated[Path, typer.Option(help="The operator's public key, from a way you trust.")]
Shop = Annotated[Path, typer.Option(help="The shop's folder, as `client import` made it.")]
Cache = Annotated[
    Path | None, typer.Option(help="Folder for encodings; else within the shop's folder.")
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        callback=use_device,
        help="Where the language model runs: cpu, cuda, cuda:N, mps or auto. "
        "[default: FEDTAIL_DEVICE, else cpu]",
    ),
]
Model = Annotated[
    Path | None,
    typer.Option(help="The shop model's folder; else `model` in the shop's. See `fit`."),
]
