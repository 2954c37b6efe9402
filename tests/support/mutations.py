"""Messages of the wire, and mutations of them: what a node may send that has gone wrong, or bad."""

import random

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord

from common.adapter import AdapterState, AdapterUpdate
from common.privacy.ledger.contributions import Purpose
from common.wire import canaries, heads, messages, refusal
from common.wire.contributions import accepted_contribution, with_contribution
from common.wire.season import decode_season, encode_season
from common.wire.sizes import size_in_bytes
from tests.support.fake_node import LOCAL, SEASON_SIZE, FakeWork
from tests.support.hostile import BUFFERS

SIZE = 12
_WORK = FakeWork(type("Settings", (), {"merchant": "ash"}))
_PREPARED = _WORK.prepare(b"", {})
_PURPOSE = Purpose("train", "1", 1, LOCAL.digest, "setup", "adapter")
_SIGNED = _WORK.contribution(np.zeros(SIZE, np.float32), _PURPOSE)


def _with_all(content):
    return with_contribution(heads.with_head(content, _WORK.head("journal")), _SIGNED)


def prepared():
    return _with_all(messages.encode_prepared(_PREPARED))


def popularity():
    return _with_all(messages.encode_popularity(np.zeros(6, np.float32), LOCAL.digest))


def season():
    return _with_all(encode_season(np.zeros(SEASON_SIZE, np.float32), LOCAL.digest))


def update():
    zeros = AdapterUpdate(np.zeros(SIZE, np.float32), 1, LOCAL.digest)
    return _with_all(messages.encode_update(zeros, {"epsilon": 1.0}))


def train():
    adapter = AdapterState({"b": np.zeros((3, 4), np.float32)})
    popular = np.full(6, 1 / 6, np.float32)
    content = messages.encode_train(messages.TrainRequest(adapter, popular, 1, LOCAL.digest))
    return heads.with_note(content, heads.JournalNote("k", None))


def audit():
    content = canaries.encode_audit(None, LOCAL.digest)
    content["run"]["canaries"] = b'{"not": "canaries"}' * 20
    return content


def refused():
    return refusal.encode_refusal("federation:merchant")


def _read_all(content, read):
    for one in (
        read,
        heads.read_head,
        heads.read_note,
        refusal.decode_refusal,
        lambda content: accepted_contribution(content, _SIGNED),
        size_in_bytes,
    ):
        yield lambda one=one: one(content)


# Each message with all that may be made of it.
READERS = {
    prepared: messages.decode_prepared,
    popularity: lambda content: messages.decode_popularity(content, 6, LOCAL.digest),
    season: lambda content: decode_season(content, SEASON_SIZE, LOCAL.digest),
    update: lambda content: messages.decode_update(content, SIZE, 1, LOCAL.digest),
    train: lambda content: messages.decode_train(content, 6, LOCAL.digest),
    audit: lambda content: canaries.decode_audit(content, _PREPARED, LOCAL),
    refused: messages.decode_prepare,
}
KINDS = list(READERS)
SCALARS = (
    "", "x", "\x00", "9" * 5000, "[" * 5000, "ash", 0, -1, 2**63 - 1, True, False, 1.5,
    float("nan"), float("inf"), -0.0, b"", b"\x93NUMPY\x01\x00", b"\xff" * 300,
)  # fmt: skip


def readers(kind, content):
    """What the code reads of such a message, each a call."""
    return _read_all(content, READERS[kind])


def mutated(kind, rng: random.Random):
    """A message of this kind with one to four things wrong."""
    content = kind()
    for _ in range(rng.randint(1, 4)):
        if content:
            content = _change(content, rng)
    return content


def _change(content, rng):
    name = rng.choice(list(content))
    record = content[name]
    what = rng.randrange(8)
    if what == 0:
        del content[name]
    elif what == 1:
        content[name] = rng.choice([ArrayRecord(), ConfigRecord(), MetricRecord({"epsilon": 1})])
    elif what == 2:
        content[rng.choice(["run", "head", "facts", "update", "more"])] = record
    elif what == 3 and len(record):
        del record[rng.choice(list(record))]
    elif isinstance(record, ArrayRecord):
        _change_array(record, rng)
    elif isinstance(record, ConfigRecord):
        _change_config(record, rng)
    else:
        value = rng.choice([1, -1.5, float("nan"), [1.0] * 50, [2**63 - 1]])
        record[rng.choice(["epsilon", "delta", "loss", ""])] = value
    return content


def _change_array(record, rng):
    name = rng.choice([*record, "vector", ""])
    held = record[name].data if name in record else b""
    buffer = rng.choice([*BUFFERS.values(), held])
    if rng.random() < 0.7 and held:
        place, end = sorted(rng.randrange(len(held) + 1) for _ in range(2))
        patch = rng.randbytes(rng.choice([0, 1, 1, 2, end - place]))
        buffer = held[:place] + patch + held[rng.choice([place + len(patch), end]) :]
    shape = rng.choice([(12,), (), (0,), (10**9, 10**9), (-1,)])
    record[name] = Array(rng.choice(["float32", "O", ""]), shape, "numpy.ndarray", buffer)


def _change_config(record, rng):
    name = rng.choice([*record, "more"])
    value = record.get(name, "")
    if isinstance(value, str | bytes) and value and rng.random() < 0.6:
        place = rng.randrange(len(value))
        piece = rng.choice(["9", '"', "}", "[", "\\", "e400", "null", "-", "\ud7ff", ""])
        piece = piece if isinstance(value, str) else piece.encode()
        record[name] = value[:place] + piece + value[place + rng.randint(0, 3) :]
        return
    scalar = rng.choice(SCALARS)
    record[name] = [scalar] * rng.randint(0, 3) if rng.random() < 0.2 else scalar
