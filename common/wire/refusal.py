"""A refusal on the wire: the server tells a node why it may not take part, so that its log says so.

It carries a code and a field name, as errors do in the other direction.
"""

from flwr.app import ConfigRecord, RecordDict

from common.errors import FederationError
from common.wire.reasons import known_reason
from common.wire.totality import total

REFUSED = "query.refused"
_RECORD = "refusal"


def encode_refusal(reason: str) -> RecordDict:
    """Return the records of a refusal, `code:field`."""
    return RecordDict({_RECORD: ConfigRecord({"reason": known_reason(reason)})})


@total
def decode_refusal(content: RecordDict) -> str:
    """Return a refusal's `code:field`.

    Raises:
        FederationError: if there is none.
    """
    record = content.get(_RECORD)
    reason = record.get("reason") if isinstance(record, ConfigRecord) else None
    if not isinstance(reason, str):
        raise FederationError("The message has no reason.", field=_RECORD)
    return known_reason(reason)
