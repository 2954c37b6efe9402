"""Signed, chained records as text: one JSON line each, in which every bit counts.

The journal is kept so. A SQLite file has bytes that mean nothing, so that a change in it can go
unseen; here reading is strict down to the last newline.
"""

import json

from common.errors import InputError
from common.privacy.canonical import canonical

Line = tuple[str, str, str]  # body, its SHA-256, signature of that hash: the last two in hex


def write_line(line: Line) -> bytes:
    """Return one line, newline included."""
    body, digest, signature = line
    return canonical({"body": body, "hash": digest, "signature": signature}).encode() + b"\n"


def read_lines(content: bytes) -> list[Line]:
    """Read what `write_line` wrote, line after line.

    Raises:
        InputError: naming the first line that is not exactly what `write_line` writes.
    """
    if not content:
        return []
    lines: list[Line] = []
    for number, raw in enumerate(content.split(b"\n")[:-1], 1):
        try:
            fields = json.loads(raw)
            line = (fields["body"], fields["hash"], fields["signature"])
            same = write_line(line) == raw + b"\n"
        except (ValueError, TypeError, KeyError):
            same = False
        if not same:
            raise InputError(f"Line {number} is altered or not readable.", field=f"line {number}")
        lines.append(line)
    if not content.endswith(b"\n"):
        raise InputError(f"Line {len(lines) + 1} has no end.", field=f"line {len(lines) + 1}")
    return lines
