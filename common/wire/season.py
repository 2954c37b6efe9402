"""A season's reply to and from Flower's records; its request names the plan, as others do."""

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from common.wire.arrays import pack_array
from common.wire.messages import decode_plan_request, only_array
from common.wire.totality import total

SEASON = "query.season"


def encode_season(vector: NDArray[np.float32], plan_digest: str) -> RecordDict:
    """Return the records of a noised season vector, float32 [ends * d]."""
    record = ArrayRecord({"season": pack_array(vector, np.float32, "season")})
    return RecordDict({"season": record, "run": ConfigRecord({"plan_digest": plan_digest})})


@total
def decode_season(content: RecordDict, size: int, plan_digest: str) -> NDArray[np.float32]:
    """Read a noised season vector, float32 [size].

    Raises:
        FederationError: on another plan, length or dtype, or a number that is not finite.
    """
    decode_plan_request(content, plan_digest)
    return only_array(content, "season", "season", np.float32, shape=(size,))
