"""What a node must be, and have, to take part in a run.

Flower tells a run its nodes by number, and each number belongs to one key that SuperLink has
checked. The operator's file of members says which enrolled merchant that number is, so a node that
gives another merchant's name is refused before anything is asked of it; and so is one with another
base model, or with items that the public catalogue does not have.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import FederationError, InputError, MaskedReplyError, SecureSumError
from common.files import write_atomic
from common.identity.introduction import Introduction
from common.wire.messages import Prepared


@dataclass(frozen=True, eq=False)
class Conditions:
    """What a run asks of each node.

    Attributes:
        members: The operator's file of enrolled nodes (`write_members`); None where nodes are not
            enrolled: then a name belongs to the ledger's key that used it first.
        renewed: Merchants whose ledger may come back under another key although nodes are not
            enrolled, because the operator knows that the old one was lost.
        base_model: The base model's digest; empty where it is not compared.
        text_keys: uint64 [items] of the public catalogue; None where it is not compared.
        authority: The file with the certificates of who signs the nodes' own; None where nodes have
            none, as in a simulation.
    """

    members: Path | None = None
    renewed: frozenset[str] = frozenset()
    base_model: str = ""
    text_keys: NDArray[np.uint64] | None = None
    authority: Path | None = None

    def check(self, node: int, prepared: Prepared) -> None:
        """Refuse a node that may not take part.

        The file of members is read each time: nodes may be enrolled and put out during a run.

        Raises:
            FederationError: `merchant` if the node is not enrolled under the name it gives;
                `base_model` or `catalogue` if it has another than the run.
            InputError: if the file of members cannot be read.
        """
        named = prepared.merchant
        if self.members is not None and read_members(self.members).get(node) != named:
            raise FederationError(
                f"Node {node} is not enrolled under the name it gives.", field="merchant"
            )
        if self.base_model and prepared.base_model != self.base_model:
            raise FederationError(
                f"The node of {named} has another base model than the run.", field="base_model"
            )
        if self.text_keys is not None:
            unknown = int((~np.isin(prepared.text_keys, self.text_keys)).sum())
            if unknown:
                raise FederationError(
                    f"{unknown} of {prepared.items} items of {named} are not in the public "
                    "catalogue: one of the two is of another version.",
                    field="catalogue",
                )

    def check_introduction(self, one: Introduction) -> None:
        """Refuse a party whom the other nodes would refuse: one such would end the setup for all.

        Raises:
            MaskedReplyError: `identity`.
        """
        try:
            if self.authority is not None:
                one.check(self.authority.read_bytes(), datetime.now(UTC))
            else:
                _ = one.public_key
        except SecureSumError as error:
            raise MaskedReplyError(str(error), field="identity") from None

    def may_renew(self, merchant: str) -> bool:
        """Return whether a merchant's ledger may be signed by another key than before.

        Where nodes are enrolled their own key says who they are, and a ledger that was lost with
        its key may be recovered; see `server.run.journal`.
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
