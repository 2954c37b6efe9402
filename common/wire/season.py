"""A season's request and reply to and from Flower's records: the plan's digest, and one vector."""

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from common.errors import FederationError
from common.wire.arrays import pack_array, unpack_array
from common.wire.totality import total

SEASON = "query.season"


def encode_season_request(plan_digest: str) -> RecordDict:
    """Return a request for the noised season vector under the named plan."""
    return RecordDict({"run": ConfigRecord({"plan_digest": plan_digest})})


@total
def decode_season_request(content: RecordDict, plan_digest: str) -> None:
    """Check that the request names the plan the node holds.

    Raises:
        FederationError: if it does not.
    """
    run = content.get("run")
    if not isinstance(run, ConfigRecord) or run.get("plan_digest") != plan_digest:
        raise FederationError("The message names another plan.", field="plan_digest")


def encode_season(vector: NDArray[np.float32], plan_digest: str) -> RecordDict:
    """Return the records of a noised season vector, float32 [ends * d]."""
    record = ArrayRecord({"vector": pack_array(vector, np.float32, "season")})
    return RecordDict({"season": record, "run": ConfigRecord({"plan_digest": plan_digest})})


@total
def decode_season(content: RecordDict, size: int, plan_digest: str) -> NDArray[np.float32]:
    """Read a noised season vector, float32 [size].

    Raises:
        FederationError: on another plan, length or dtype, or a number that is not finite.
    """
    decode_season_request(content, plan_digest)
    record = content.get("season")
    if not isinstance(record, ArrayRecord) or set(record) != {"vector"}:
        raise FederationError("The message has no season vector alone.", field="season")
    return unpack_array(record["vector"], np.float32, "season", shape=(size,))
