import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from common.encoder.public_basis import fit_basis
from common.encoder.token_states import encode_trunk
from common.encoder.word_embeddings import fit_words
from common.errors import InputError
from common.settings.lora_placement import Placement
from tests.support.shops import make_catalogue

POWER, WEIGHT = 0.9, 0.5


def trunk_of(model, items=120, seed=0):
    return encode_trunk(
        model, make_catalogue(items, seed=seed), layer=model.depth, max_tokens=24, cache=None
    )


def fitted(model, trunk, weights, **changes):
    given = {"whitening_power": POWER, "word_weight": WEIGHT} | changes
    return fit_words(model.word_vectors, trunk, weights, **given)


def some_weights(trunk, seed=3):
    return np.random.default_rng(seed).uniform(0.1, 1, len(trunk.ids)).astype(np.float32)


def means_by_hand(model, trunk, weights):
    """Each text's weighted mean of word vectors, text by text."""
    table = model.bert.embeddings.word_embeddings.weight.detach().double().numpy()
    return np.array(
        [
            np.average(table[trunk.ids[start:end]], axis=0, weights=weights[start:end])
            for start, end in pairwise(trunk.offsets)
        ]
    )


def test_an_items_part_is_its_words_weighted_mean_whitened_and_of_the_weights_length(tiny_model):
    trunk = trunk_of(tiny_model)
    weights = some_weights(trunk)
    means = means_by_hand(tiny_model, trunk, weights)
    values, vectors = np.linalg.eigh(np.cov(means.T, bias=True))
    scale = np.maximum(values, 1e-3 * values.mean()) ** (-POWER / 2)
    expected = (means - means.mean(axis=0)) @ (vectors * scale) @ vectors.T
    expected *= WEIGHT / np.linalg.norm(expected, axis=1, keepdims=True)
    part = fitted(tiny_model, trunk, weights)
    found = part.vectors(tiny_model.word_vectors, trunk, weights)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-4
    assert np.allclose(np.linalg.norm(found, axis=1), WEIGHT, atol=1e-6)


def test_texts_the_fit_has_not_seen_are_read_with_what_it_found(tiny_model):
    """A new item, and every merchant that holds some of the public catalogue."""
    trunk, fresh = trunk_of(tiny_model), trunk_of(tiny_model, items=20, seed=5)
    part = fitted(tiny_model, trunk, some_weights(trunk))
    weights = some_weights(fresh)
    together = part.vectors(tiny_model.word_vectors, fresh, weights)
    first = fresh.take(np.arange(5))
    alone = part.vectors(tiny_model.word_vectors, first, weights[: first.offsets[-1]])
    assert np.allclose(alone, together[:5], atol=1e-6)


def test_order_and_place_of_words_do_not_count(tiny_model):
    trunk = trunk_of(tiny_model)
    weights = some_weights(trunk)
    part = fitted(tiny_model, trunk, weights)
    turned = type(trunk)(trunk.hidden, trunk.offsets, trunk.ids.copy())
    last = slice(*trunk.offsets[-2:])
    turned.ids[last] = trunk.ids[last][::-1]
    other = weights.copy()
    other[last] = weights[last][::-1]
    table = tiny_model.word_vectors
    found = part.vectors(table, turned, other)
    assert np.allclose(found, part.vectors(table, trunk, weights), atol=1e-6)


def test_a_weight_of_zero_makes_no_part(tiny_model):
    trunk = trunk_of(tiny_model, items=5)
    assert fitted(tiny_model, trunk, some_weights(trunk), word_weight=0.0) is None


@pytest.mark.parametrize("items", [1, 2])
def test_texts_that_do_not_differ_are_finite(tiny_model, items):
    trunk = trunk_of(tiny_model, items=items).take(np.zeros(items, np.int64))
    weights = np.ones(len(trunk.ids), np.float32)
    part = fitted(tiny_model, trunk, weights)
    assert np.isfinite(part.vectors(tiny_model.word_vectors, trunk, weights)).all()


def test_the_bytes_of_a_part_do_not_depend_on_how_often_it_is_fitted(tiny_model):
    trunk = trunk_of(tiny_model)
    weights = some_weights(trunk)
    first, again = (fitted(tiny_model, trunk, weights) for _ in range(2))
    for one, other in zip(first.arrays(), again.arrays(), strict=True):
        assert np.array_equal(one, other)


def test_word_vectors_of_another_width_are_refused(tiny_model):
    trunk = trunk_of(tiny_model, items=5)
    basis = fit_basis(
        tiny_model, trunk, Placement(("projection",), rank=2), whitening_power=0.9, word_weight=0.5
    )
    with pytest.raises(InputError) as caught:
        basis.word_vectors(tiny_model.word_vectors[:, 1:].copy(), trunk)
    assert caught.value.public() == "input:basis"


THREADS = """
import hashlib
import numpy as np
from common.encoder.token_states import Trunk
from common.encoder.word_embeddings import WordPart
some = np.random.default_rng(0)
table, whitening = (some.normal(size=(n, 384)).astype(np.float32) for n in (900, 384))
ids = some.integers(900, size=4000).astype(np.int32)
trunk = Trunk(np.zeros((4000, 1), np.float32), np.arange(0, 4001, 8), ids)
part = WordPart(table.mean(axis=0), whitening, 0.7)
vectors = part.vectors(table, trunk, np.ones(4000, np.float32))
print(hashlib.sha256(vectors.tobytes()).hexdigest())
"""


def test_the_words_part_is_the_same_on_one_core_and_on_many():
    found = set()
    for threads in ("1", "2"):
        several = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", THREADS],
            env=os.environ | several,
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout)
    assert len(found) == 1
