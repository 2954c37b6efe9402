"""Who may connect: invites that are out, nodes that are enrolled, keys that are revoked.

One JSON file of mode 600, replaced whole at each change. It is the operator's own record: Flower's
SuperLink has its database of keys, and the operator registers and unregisters there what is said
here.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from common.errors import EnrolmentError
from common.files import PRIVATE_MODE, write_atomic
from common.identity.node_key import read_secret

VERSION = 1


@dataclass(frozen=True)
class OpenInvite:
    """An invite that was given out.

    Attributes:
        name: Whom it is for.
        expires: UTC, ISO 8601.
        secret: Base64, shared with the merchant until the invite is used.
    """

    name: str
    expires: str
    secret: str


@dataclass(frozen=True)
class EnrolledNode:
    """A node that may connect, or could once.

    Attributes:
        public_key: An OpenSSH line.
        enrolled: UTC, ISO 8601.
        revoked: UTC, ISO 8601; empty while the node may connect.
    """

    public_key: str
    enrolled: str
    revoked: str = ""


@dataclass
class Registry:
    """All that the file holds.

    Attributes:
        invites: By id.
        nodes: By the merchant's name.
        barred: Public keys, OpenSSH lines, that may never connect again.
    """

    invites: dict[str, OpenInvite] = field(default_factory=dict)
    nodes: dict[str, EnrolledNode] = field(default_factory=dict)
    barred: list[str] = field(default_factory=list)


def read_registry(path: Path) -> Registry:
    """Return the registry at `path`.

    Raises:
        EnrolmentError: if it cannot be read, others may read it, or it is not a registry.
    """
    try:
        content = json.loads(read_secret(path, "registry"))
        if content["version"] != VERSION:
            raise _broken(path)
        return Registry(
            invites={key: OpenInvite(**one) for key, one in content["invites"].items()},
            nodes={key: EnrolledNode(**one) for key, one in content["nodes"].items()},
            barred=[str(one) for one in content["barred"]],
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _broken(path) from error


def write_registry(path: Path, registry: Registry) -> None:
    """Replace the file at `path`."""
    content = {"version": VERSION, **asdict(registry)}
    write_atomic(path, json.dumps(content, indent=2).encode() + b"\n", mode=PRIVATE_MODE)


@contextmanager
def changing(path: Path) -> Iterator[Registry]:
    """Give the registry to change, and write it when the block ends without an error.

    A lock keeps two commands from using one invite twice.
    """
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        registry = read_registry(path)
        yield registry
        write_registry(path, registry)
    finally:
        os.close(descriptor)


def _broken(path: Path) -> EnrolmentError:
    return EnrolmentError(
        f"{path} is not a list of nodes of this version; put back a copy.", field="registry"
    )
