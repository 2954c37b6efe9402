"""Which code made a release: one digest over the source files that run at a node or the server."""

from functools import cache
from pathlib import Path

from common.files import sha256_hex

_ROOMS = ("client", "common", "server")


@cache
def code_digest() -> str:
    """Return the SHA-256 over name and SHA-256 of each Python file of client, common and server.

    The same for a checkout and an installed copy of it, whatever the machine.
    """
    root = Path(__file__).parents[2]
    files = [path for room in _ROOMS for path in (root / room).rglob("*.py")]
    named = {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
    lines = [f"{sha256_hex(named[name])}  {name}\n" for name in sorted(named)]
    return sha256_hex("".join(lines).encode())
