"""How this node is introduced to the others of a secure sum, in its state folder.

`client start` puts it there (`client.node.introduction`), and the app reads it: the key that
the node enrolled with never comes near the app.

    introduction.json    name and ledger key, with what the enrolled key has signed of them
    authority.crt        the certificates of whom the node trusts to vouch for others
"""

import json
from pathlib import Path

from common.errors import SecureSumError
from common.files import PRIVATE_MODE, write_atomic
from common.identity.introduction import Introduction
from common.identity.signing_key import PublicKey

AUTHORITY_FILE = "authority.crt"
INTRODUCTION_FILE = "introduction.json"


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
