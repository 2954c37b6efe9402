"""Whom this node takes for a merchant of the federation: not whoever the run's server names.

A deployed node that trusts an authority takes who that authority's certificate vouches for, each
certificate for one party. Else a name belongs to the key that came with it first, and a name that
comes with another key is refused: a server that lies from the first run on is then not found out.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from common.errors import SecureSumError
from common.files import PRIVATE_MODE, write_atomic
from common.identity.introduction import Introduction
from common.identity.signing_key import PublicKey

AUTHORITY_FILE = "authority.crt"  # in the node's state folder, put there by `client start`
INTRODUCTION_FILE = "introduction.json"  # beside it: how this node's enrolled key vouches for it
PINNED_FILE = "merchants.json"


def own_introduction(state: Path, name: str, key: PublicKey) -> Introduction:
    """Return this node's, with what its enrolled key has signed where there is that.

    Raises:
        SecureSumError: `identity` if what lies there is for another name or key.
    """
    path = state / INTRODUCTION_FILE
    if not path.exists():
        return Introduction(name, key.raw)
    try:
        held = json.loads(path.read_bytes())
        one = Introduction(
            held["name"],
            bytes.fromhex(held["key"]),
            held["certificate"].encode(),
            bytes.fromhex(held["proof"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        one = None
    if one is None or (one.name, one.key) != (name, key.raw):
        raise SecureSumError(
            "The node's introduction is for another name or ledger; start the node again.",
            field="identity",
        )
    return one


def write_introduction(state: Path, introduction: Introduction, authorities: bytes) -> None:
    """Put a node's introduction where its app finds it, and whom the node trusts (PEM)."""
    content = {
        "name": introduction.name,
        "key": introduction.key.hex(),
        "certificate": introduction.certificate.decode(),
        "proof": introduction.proof.hex(),
    }
    write_atomic(state / AUTHORITY_FILE, authorities)
    write_atomic(state / INTRODUCTION_FILE, json.dumps(content).encode(), mode=PRIVATE_MODE)


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
