"""Which node may speak for which merchant.

Flower tells a run its nodes by number, and each number belongs to one key that SuperLink has
checked. The operator's file of members says which enrolled merchant that number is, so a node that
gives another merchant's name is refused before anything is asked of it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import FederationError, InputError
from common.files import write_atomic


@dataclass(frozen=True)
class Identities:
    """How a run knows its nodes.

    Attributes:
        members: The operator's file of enrolled nodes (`write_members`); None where nodes are not
            enrolled: then a name belongs to the ledger's key that used it first.
        renewed: Merchants whose ledger may come back under another key although nodes are not
            enrolled, because the operator knows that the old one was lost.
    """

    members: Path | None = None
    renewed: frozenset[str] = frozenset()

    def check(self, node: int, merchant: str) -> None:
        """Refuse a node that gives a name which is not its own.

        The file is read each time: nodes may be enrolled and put out while a run goes on.

        Raises:
            FederationError: if the node is not enrolled under this name.
            InputError: if the file cannot be read.
        """
        if self.members is not None and read_members(self.members).get(node) != merchant:
            raise FederationError(
                f"Node {node} is not enrolled under the name it gives.", field="merchant"
            )

    def may_renew(self, merchant: str) -> bool:
        """Return whether a merchant's ledger may be signed by another key than before.

        Where nodes are enrolled their own key says who they are, and a ledger that was lost with
        its key may be recovered; see `server.journal`.
        """
        return self.members is not None or merchant in self.renewed


def write_members(path: Path, members: Mapping[int, str]) -> None:
    """Write which merchant each node is, by Flower's numbers."""
    content = {str(node): members[node] for node in sorted(members)}
    write_atomic(path, json.dumps(content, indent=2).encode() + b"\n")


def read_members(path: Path) -> dict[int, str]:
    """Read what `write_members` wrote.

    Raises:
        InputError: if it cannot be read or is something else.
    """
    try:
        content = json.loads(path.read_bytes())
        return {int(node): str(name) for node, name in content.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"The file of members {path} cannot be read ({type(error).__name__}).", field="members"
        ) from error
