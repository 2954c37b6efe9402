"""Which app bundle this code is: the SHA-256 that Flower gives the bundle an operator sends.

A bundle's bytes follow from its files alone: two checkouts of one version, and the copy of it that
a node has unpacked, give the same digest, whatever the machine.
"""

import warnings
from functools import cache
from pathlib import Path

from common.errors import SettingsError
from common.files import sha256_hex

_ROOT = Path(__file__).parents[2]
_ROOMS = ("client", "common", "server")  # what pyproject.toml's fab-include names
_FILES = ("pyproject.toml", "LICENSE", ".gitignore")


@cache
def app_digest(root: Path = _ROOT) -> str:
    """Return the SHA-256 of the app bundle that `flwr build` makes of `root`.

    Args:
        root: The folder with pyproject.toml; that of the running code by default.

    Returns:
        64 hex digits; empty for code that was installed without its pyproject.toml, of which no
        bundle can be made.

    Raises:
        SettingsError: if Flower refuses to bundle what is there.
    """
    if not (root / _FILES[0]).is_file():
        return ""
    from flwr.cli.build import build_fab_from_files  # noqa: PLC0415 - seconds; who audits needs none
    from flwr.cli.utils import collect_files  # noqa: PLC0415 - the same

    # Flower collects all of a folder and then leaves most of it out: with a virtual environment in
    # a checkout that is ten thousand files too many.
    files: dict[str, bytes | Path] = {
        name: root / name for name in _FILES if (root / name).is_file()
    }
    for room in _ROOMS:
        found = collect_files(root / room)
        files |= {f"{room}/{name}": path for name, path in found.items()}
    try:
        with warnings.catch_warnings():  # a pattern library's new name, which Flower does not use
            warnings.simplefilter("ignore", DeprecationWarning)
            content, _ = build_fab_from_files(files)
    except ValueError as error:
        raise SettingsError(
            f"The code in {root} makes no app bundle: {error}", field="app_digests"
        ) from error
    return sha256_hex(content)
