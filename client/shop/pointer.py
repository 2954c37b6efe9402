"""The file that names a data set's tables, and the digest of the whole set: read without them."""

from pathlib import Path

from common.errors import InputError
from common.files import sha256_hex

POINTER = "dataset.json"


def dataset_digest(folder: Path) -> str:
    """Return the SHA-256 of the pointer, and so of the whole set, as hex.

    Raises:
        InputError: if there is no set.
    """
    try:
        return sha256_hex((folder / POINTER).read_bytes())
    except OSError:
        raise InputError(
            f"{folder.name}: no data set here ({POINTER} is missing); import the shop first.",
            field="dataset",
        ) from None
