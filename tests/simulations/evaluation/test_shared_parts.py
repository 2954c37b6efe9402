"""Parts that models share are told apart by all that they depend on."""

import numpy as np

from client.ranking.text_scorer import TextScorer
from client.shop.histories import Histories
from simulations.evaluation.shared_parts import SharedParts

ITEMS, WIDTH = 6, 4


def vectors(seed):
    return np.random.default_rng(seed).normal(size=(ITEMS, WIDTH)).astype(np.float32)


def history(*items):
    age = np.arange(len(items), dtype=np.float64)[::-1]
    return Histories(np.array(items), age, np.array([0, len(items)]), ITEMS)


def test_readings_that_differ_in_one_thing_are_scored_each_by_itself():
    frozen, adapted, other = (vectors(seed) for seed in range(3))
    texts = [
        TextScorer(frozen, frozen),
        TextScorer(frozen, frozen, 0.5),
        TextScorer(adapted, frozen),
        TextScorer(frozen, other),
    ]
    parts = SharedParts()
    for some in (history(0, 1, 2), history(3, 4), history(0, 1, 2)):
        for _ in range(2):
            for text in texts:
                assert np.array_equal(parts.text(text)(some), text.score(some))


def test_what_is_asked_for_twice_is_the_same_array():
    parts, text, some = SharedParts(), TextScorer(vectors(0), vectors(0)), history(0, 1)
    assert parts.text(text)(some) is parts.text(text)(some)
