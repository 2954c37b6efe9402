"""Whom this node takes for a merchant of the federation: not whoever the run's server names.

A deployed node that trusts an authority takes who that authority's certificate vouches for, each
certificate for one party. Else a name belongs to the key that came with it first, and a name that
comes with another key is refused: a server that lies from the first run on is then not found out.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from client.privacy.introductions import AUTHORITY_FILE
from common.errors import SecureSumError
from common.files import PRIVATE_MODE, write_atomic
from common.identity.introduction import Introduction
from common.identity.signing_key import PublicKey

PINNED_FILE = "merchants.json"


def checked_identities(
    state: Path, folder: Path, introductions: Sequence[Introduction]
) -> dict[str, PublicKey]:
    """Return the parties' keys by name.

    Args:
        state: The node's folder, with its authority where it has one.
        folder: Where names are pinned to keys.
        introductions: One of each party, as the server passed them on.

    Raises:
        SecureSumError: `identity` if one is not vouched for, comes twice, or has another key than
            its name had before.
    """
    found = {one.name: one.public_key for one in introductions}
    if len(found) < len(introductions) or len({one.key for one in introductions}) < len(found):
        raise SecureSumError("A party is introduced twice.", field="identity")
    authorities = state / AUTHORITY_FILE
    if authorities.exists():
        trusted = authorities.read_bytes()
        now = datetime.now(UTC)
        nodes = {one.check(trusted, now) for one in introductions}
        if len(nodes) < len(introductions):
            raise SecureSumError("Two parties are one enrolled node.", field="identity")
        return found
    _pin(folder / PINNED_FILE, {name: key.raw.hex() for name, key in found.items()})
    return found


def _pin(path: Path, found: dict[str, str]) -> None:
    try:
        held: dict[str, str] = json.loads(path.read_bytes()) if path.exists() else {}
    except (OSError, ValueError):
        raise SecureSumError(f"{path.name} of this node cannot be read.", field="state") from None
    for name, key in found.items():
        if held.get(name, key) != key:
            raise SecureSumError("A party has another key than it had before.", field="identity")
    if not found.keys() <= held.keys():
        write_atomic(path, json.dumps(held | found, sort_keys=True).encode(), mode=PRIVATE_MODE)
