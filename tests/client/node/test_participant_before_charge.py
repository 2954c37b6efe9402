"""Nothing a node answers or does before a charge depends on a shopper."""

from dataclasses import replace

import numpy as np
import pytest

from common.errors import FedtailError
from common.wire import canaries, messages
from tests.client.node.test_participant import (
    Shop,
    entries,
    ground,
    opened_work,
    plan_of,
    without_last_shopper,
)

__all__ = ["ground"]  # a fixture


class Unread:
    """A shop's data whose purchases may not be read until `open` says so."""

    def __init__(self, data, is_open):
        self._data, self._is_open = data, is_open

    def __getattr__(self, name):
        if name == "interactions":
            assert self._is_open(), "a shopper was read before the charge"
        return getattr(self._data, name)


def unread_work(ground, folder):
    """A node whose shoppers may be read from its first charge on; an import is none."""
    settings, _, basis, _ = ground
    work = opened_work(ground, folder)
    work._data = Unread(work._data, lambda: bool(entries(work)))
    return work, basis.to_bytes(), settings.to_flat()


def test_no_shopper_is_read_before_the_charge(ground, tmp_path):
    """Preparing, the preflight and every refusal go by without them; the first round does not."""
    plan, adapter = plan_of(), ground[3]
    work, basis, settings = unread_work(ground, tmp_path)
    work.prepare(basis, settings)
    for asked, popularity in refused_rounds(plan, work):
        with pytest.raises(FedtailError):
            work.train(adapter, popularity, asked, 1, 1)
    assert entries(work) == []
    work.train(adapter, None, plan, 1, 1)
    assert entries(work) == [("train", 1)]
    assert work._shoppers is not None


def refused_rounds(plan, work):
    items = len(work._data.catalogue)
    wild = np.full(items, 1e-2, np.float32)
    wild[0] = 1e-12
    return [
        (replace(plan, noise_multiplier=1e-3), None),
        (replace(plan, delta=0.01), None),
        (plan, wild),
        (plan, np.zeros(items, np.float32)),
        (plan, np.full(items, 2.0, np.float32)),
    ]


HOSTILE = {
    "temperature": 1e-9,
    "popularity_strength": 1e9,
    "lexical_weight": 1e9,
    "rank": 0,
    "negatives": 0,
    "max_grad_norm": 0,
}


def test_every_reply_before_a_charge_is_the_same_in_a_neighbouring_shop(ground, tmp_path):
    """Byte for byte: prepared, unprepared, refused by bounds, policy, preflight, clock and name."""
    settings, data, basis, adapter = ground
    plan = plan_of()
    wild = np.full(len(data.catalogue), 1e-2, np.float32)
    wild[0] = 1e-12
    found = []
    for name, one in (("with", data), ("without", without_last_shopper(data))):
        shop = Shop(tmp_path / name / "ash", one, settings, basis)
        good, ours = basis.to_bytes(), settings.to_flat()
        histogram = messages.encode_plan_request(plan.digest)
        train = messages.encode_train(messages.TrainRequest(adapter, wild, 1, plan.digest))
        replies = [shop.ask(messages.POPULARITY, histogram), shop.ask(messages.TRAIN, train)]
        asked = [(b"not a basis", ours, plan), (good, {**ours, "extra": 1}, plan)]
        asked += [(good, {**ours, name: value}, plan) for name, value in HOSTILE.items()]
        asked += [(good, ours, replace(plan, dp_model="central")), (good, ours, plan)]
        for content, flat, wanted in asked:
            request = messages.PrepareRequest(content, flat, wanted.to_json())
            replies.append(shop.ask(messages.PREPARE, messages.encode_prepare(request)))
        other = replace(plan, steps=5)
        replies += [
            shop.ask(messages.POPULARITY, messages.encode_plan_request(other.digest)),
            shop.ask(messages.TRAIN, histogram),
            shop.ask(messages.TRAIN, train),
            shop.ask(canaries.AUDIT, canaries.encode_audit_request(other.digest)),
        ]
        found.append([bytes_of(reply) for reply in replies])
    assert found[0] == found[1]
    prepared = [reply for reply in found[0] if isinstance(reply, bytes)]
    assert len(prepared) == 1
    reasons = {reply[1] for reply in found[0] if isinstance(reply, tuple)}
    assert {"settings:temperature", "policy:popularity", "federation:prepare"} <= reasons


def bytes_of(reply):
    """A reply's error, or its records as they travel but for the canaries' secret commitment."""
    if reply.has_error():
        return reply.error.code, reply.error.reason
    content = reply.content
    for record in content.values():
        if "canaries_commitment" in record:
            assert len(record["canaries_commitment"]) == 64
            record["canaries_commitment"] = ""
    return repr(content).encode()
