"""A node's signed word for the vector it sends, as a record of its own beside the reply."""

import re
from dataclasses import replace

from flwr.app import ConfigRecord, RecordDict

from common.errors import FederationError, LedgerError
from common.privacy.ledger.contributions import Contribution
from common.wire.totality import total

MOST_CONTRIBUTION = 8192  # characters: some digests and keys, and a merchant's name
_CONTRIBUTION = "contribution"
_SEAL = re.compile(r"(?:[0-9a-f]{64})?")


def with_contribution(content: RecordDict, contribution: Contribution) -> RecordDict:
    """Add the signed word to a reply's records and return them."""
    content[_CONTRIBUTION] = ConfigRecord({"contribution": contribution.to_json()})
    return content


@total
def accepted_contribution(content: RecordDict, expected: Contribution) -> Contribution:
    """Return a reply's signed word, if it is for what was received.

    Args:
        content: The reply.
        expected: What it must be, its signature and its seal apart: what a seal covers is secret
            until the canaries are revealed, so only an auditor can check it.

    Raises:
        FederationError: `contribution` if there is none, or it is of something else.
    """
    found = read_contribution(content)
    if not _SEAL.fullmatch(found.seal):
        raise FederationError("The seal of a contribution is none.", field=_CONTRIBUTION)
    if fault := found.fault(replace(expected, seal=found.seal)):
        raise FederationError(
            f"The node signed another {fault} than that of what it sent.", field=_CONTRIBUTION
        )
    return found


@total
def read_contribution(content: RecordDict) -> Contribution:
    """Return a reply's signed word, its signature not yet checked.

    Raises:
        FederationError: if there is none, as from a node of an earlier version, or it is not
            readable.
    """
    record = content.get(_CONTRIBUTION)
    text = record.get("contribution") if isinstance(record, ConfigRecord) else None
    if not isinstance(text, str):
        raise FederationError(
            "The reply has no signature over what it sends; the node must be upgraded.",
            field=_CONTRIBUTION,
        )
    if len(text) > MOST_CONTRIBUTION:
        raise FederationError(
            f"The reply's signature has more than {MOST_CONTRIBUTION} characters around it.",
            field=_CONTRIBUTION,
        )
    try:
        return Contribution.from_json(text)
    except LedgerError as error:
        raise FederationError(
            "The reply's signature over what it sends is not readable.", field=_CONTRIBUTION
        ) from error
