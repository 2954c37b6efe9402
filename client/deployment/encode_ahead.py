"""Encode a shop's catalogue before its node starts.

    python -m client.deployment.encode_ahead SHOP CACHE

A process of its own, because it holds a language model: 600 MB, which are free again when it ends.
What it leaves in CACHE needs no run: a node's first message then loads no language model. A run
with another base model or other settings than the defaults encodes in its first message.
"""

import sys
from pathlib import Path

from common.errors import FedtailError


def encode_ahead_command(shop: Path, cache: Path) -> list[str]:
    """Return what to start. -P: a folder named client in this one would hide the package."""
    return [sys.executable, "-P", "-m", "client.deployment.encode_ahead", str(shop), str(cache)]


def main() -> None:
    """Encode what the cache lacks.

    Raises:
        SystemExit: if the shop or the base model cannot be read; no text of the shop is in it.
    """
    from client.shop.dataset import load_merchant_data  # noqa: PLC0415 - the starter loads no model

    shop, cache = map(Path, sys.argv[1:])
    try:
        catalogue = load_merchant_data(shop).catalogue
        # After the shop: what is wrong with it is said before a language model's library loads.
        from common.encoder.catalogue_encoder import encode_ahead  # noqa: PLC0415 - as above
        from common.settings.run import RunSettings  # noqa: PLC0415 - the same

        encode_ahead(catalogue, RunSettings(), cache)
    except FedtailError as error:
        raise SystemExit(f"{error}") from None


if __name__ == "__main__":
    main()
