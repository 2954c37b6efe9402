"""The secure sum's messages in Flower's records.

Before the first sum of a run the server asks each node three things:

    advertise   how many items the histogram has   ->  the party's keys, and who it is
    share       everybody's keys                   ->  sealed shares of its secrets
    accept      the shares sealed to it            ->  whose do not open, signed

A sum is two of them, three where somebody is missing. The first is what the node is asked for
anyway (`train`, `popularity`, `season`) with the masked vector in the place of a noised one:

    train, ...  the round's work, and a request to mask   ->  the masked vector
    view        who is there, and who is missing          ->  signed
    unmask      that, and what the others signed          ->  shares of neighbours' secrets

Each lies as bytes (`common.privacy.secagg.encoding`) in a record of its own beside whatever else a
message holds. Whatever comes, it is the message or one error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from common.errors import FederationError, MaskedReplyError, SecureSumError
from common.files import sha256_hex
from common.identity.introduction import MOST_BYTES, Introduction
from common.privacy.secagg.encoding import encode, most_bytes, read_reply, read_request
from common.privacy.secagg.messages import Advertisement, Roster, Terms
from common.wire.arrays import pack_array
from common.wire.messages import MOST_ITEMS, only_array
from common.wire.totality import total

ADVERTISE: Final = "query.advertise"
SHARE: Final = "query.share"
ACCEPT: Final = "query.accept"
VIEW: Final = "query.view"
UNMASK: Final = "query.unmask"
MOST_ASKED: Final = 1024  # bytes of a request without a list of parties
_RECORD: Final = "secure_sum"
_INDEX: Final = "index"

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Opening:
    """What the server tells first: how many items the histogram counts; 0 where none is taken."""

    histogram: int


@dataclass(frozen=True, slots=True)
class Introduced:
    """A party's keys for a run, and who it is."""

    introduction: Introduction
    advertisement: Advertisement


@dataclass(frozen=True, slots=True)
class Company:
    """All parties' keys for a run, and who they are."""

    introductions: tuple[Introduction, ...]
    roster: Roster


@dataclass(frozen=True, slots=True)
class Dealt:
    """What a party's neighbours sealed to it, by name."""

    sealed: Mapping[str, bytes]


def most_of(terms: Terms, parties: int) -> int:
    """Return how many bytes no message of a run with so many parties exceeds."""
    return most_bytes(parties, terms.rounds, terms.longest) + parties * MOST_BYTES


def with_secure(content: RecordDict, message: object) -> RecordDict:
    """Add a message of the secure sum to a message's records and return them."""
    content[_RECORD] = ConfigRecord({"message": encode(message)})
    return content


def read_asked(kind: type[Kind], content: RecordDict, most: int) -> Kind:
    """Read what the server asks of a party.

    Raises:
        SecureSumError: `message` if it is none of that kind, or longer than `most` bytes.
    """
    held = _bytes(content)
    if held is None:
        raise SecureSumError("The request says nothing of a secure sum.", field="message")
    return read_request(kind, held, most)


def read_answer(kind: type[Kind], content: RecordDict, most: int) -> Kind:
    """Read what a party answers.

    Raises:
        MaskedReplyError: `message` if it is none of that kind, or longer than `most` bytes.
    """
    held = _bytes(content)
    if held is None:
        raise MaskedReplyError("The reply says nothing of a secure sum.", field="message")
    return read_reply(kind, held, most)


def with_index(content: RecordDict, keys: NDArray[np.uint64]) -> RecordDict:
    """Add the text keys [items] that a histogram counts, ascending, and return the records."""
    content[_INDEX] = ArrayRecord({"keys": pack_array(keys, np.uint64, _INDEX)})
    return content


@total
def read_index(content: RecordDict) -> NDArray[np.uint64]:
    """Return the text keys [items] that a histogram counts.

    Raises:
        FederationError: `index` unless they are there, at least one, and ascend.
    """
    keys = only_array(content, _INDEX, "keys", np.uint64, most=MOST_ITEMS)
    if not keys.size or not (keys[1:] > keys[:-1]).all():
        raise FederationError("A histogram's items ascend, each once.", field=_INDEX)
    return keys


def index_digest(keys: NDArray[np.uint64]) -> str:
    """Return the digest of a histogram's text keys [items]."""
    return sha256_hex(np.ascontiguousarray(keys, "<u8").tobytes())


def _bytes(content: RecordDict) -> bytes | None:
    record = content.get(_RECORD)
    held = record.get("message") if isinstance(record, ConfigRecord) else None
    return held if isinstance(held, bytes) else None
