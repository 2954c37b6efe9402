"""A server that prepares one node for something else than the rest: it is in no sum with them.

On another basis, or with other settings, the others may have no gradient: a sum would be one
merchant's alone.
"""

from dataclasses import replace

import pytest
from flwr.app import RecordDict

from common.wire import secure_sum as wire
from common.wire.messages import decode_prepare, encode_prepare
from tests.attacks.test_secure_sum import LIAR_ASKS, town
from tests.support.fake_node import shops
from tests.support.secure_town import BARE, NAMES, secure_town

__all__ = ["secure_town", "shops", "town"]

pytestmark = pytest.mark.attack


def prepared_for(**changes):
    def lie(content):
        other = replace(decode_prepare(content), **changes)
        return RecordDict({**content, **encode_prepare(other)})  # others hold the same one

    return lie


other_settings = prepared_for(settings={"objective": "softmax", "seed": 4})
other_basis = prepared_for(basis=b"a basis of nothing")
other_noise = prepared_for(plan=replace(BARE, spared=1).to_json())


@pytest.mark.parametrize("lie", [other_settings, other_basis])
def test_a_node_that_is_prepared_for_something_else_joins_nobody(town, lie):
    run = town.run(rounds=1, asks={("prepare", LIAR_ASKS, 1): lie})
    assert NAMES[LIAR_ASKS] not in run._secure.sums.sitting.names
    assert not town.charged(NAMES[LIAR_ASKS])
    assert run.history[0].participants == 7


def test_a_node_that_is_told_of_another_plan_takes_part_in_nothing(town):
    run = town.run(rounds=1, asks={("prepare", LIAR_ASKS, 1): other_noise})
    assert not town.charged(NAMES[LIAR_ASKS])
    assert run.history[0].participants == 7


def test_a_histogram_of_other_items_is_not_the_sum_of_the_setup(secure_town):
    """A server that gives one merchant more items than the rest learns of no item alone."""

    def more(content):
        return wire.with_secure(content, wire.Opening(10_000))

    secure_town.run(rounds=1, asks={("advertise", LIAR_ASKS, 1): more})
    names = [one.name for one in secure_town.transcript("popularity.sum").masked]
    assert NAMES[LIAR_ASKS] not in names
    assert not secure_town.charged(NAMES[LIAR_ASKS])
