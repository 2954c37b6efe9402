import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from common.encoder.lexical_part import fit_lexical_part
from common.encoder.public_basis import fit_basis
from common.encoder.token_states import encode_token_states
from common.errors import InputError
from tests.support.shops import make_catalogue, make_lora_targets

POWER, WEIGHT = 0.9, 0.5


def token_states_of(model, items=120, seed=0):
    return encode_token_states(
        model, make_catalogue(items, seed=seed), layer=model.depth, max_tokens=24, cache=None
    )


def fitted(model, token_states, weights, **changes):
    given = {"whitening_power": POWER, "lexical_weight": WEIGHT} | changes
    return fit_lexical_part(model.token_embeddings, token_states, weights, **given)


def some_weights(token_states, seed=3):
    return np.random.default_rng(seed).uniform(0.1, 1, len(token_states.ids)).astype(np.float32)


def means_by_hand(model, token_states, weights):
    """Each text's weighted mean of word vectors, text by text."""
    table = model.bert.embeddings.word_embeddings.weight.detach().double().numpy()
    return np.array(
        [
            np.average(table[token_states.ids[start:end]], axis=0, weights=weights[start:end])
            for start, end in pairwise(token_states.offsets)
        ]
    )


def test_an_items_part_is_its_words_weighted_mean_whitened_and_of_the_weights_length(tiny_model):
    token_states = token_states_of(tiny_model)
    weights = some_weights(token_states)
    means = means_by_hand(tiny_model, token_states, weights)
    values, vectors = np.linalg.eigh(np.cov(means.T, bias=True))
    scale = np.maximum(values, 1e-3 * values.mean()) ** (-POWER / 2)
    expected = (means - means.mean(axis=0)) @ (vectors * scale) @ vectors.T
    expected *= WEIGHT / np.linalg.norm(expected, axis=1, keepdims=True)
    part = fitted(tiny_model, token_states, weights)
    found = part.vectors(tiny_model.token_embeddings, token_states, weights)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-4
    assert np.allclose(np.linalg.norm(found, axis=1), WEIGHT, atol=1e-6)


def test_texts_the_fit_has_not_seen_are_read_with_what_it_found(tiny_model):
    """A new item, and every merchant that holds some of the public catalogue."""
    token_states, fresh = token_states_of(tiny_model), token_states_of(tiny_model, items=20, seed=5)
    part = fitted(tiny_model, token_states, some_weights(token_states))
    weights = some_weights(fresh)
    together = part.vectors(tiny_model.token_embeddings, fresh, weights)
    first = fresh.take(np.arange(5))
    alone = part.vectors(tiny_model.token_embeddings, first, weights[: first.offsets[-1]])
    assert np.allclose(alone, together[:5], atol=1e-6)


def test_order_and_place_of_words_do_not_count(tiny_model):
    token_states = token_states_of(tiny_model)
    weights = some_weights(token_states)
    part = fitted(tiny_model, token_states, weights)
    turned = type(token_states)(token_states.hidden, token_states.offsets, token_states.ids.copy())
    last = slice(*token_states.offsets[-2:])
    turned.ids[last] = token_states.ids[last][::-1]
    other = weights.copy()
    other[last] = weights[last][::-1]
    table = tiny_model.token_embeddings
    found = part.vectors(table, turned, other)
    assert np.allclose(found, part.vectors(table, token_states, weights), atol=1e-6)


def test_a_weight_of_zero_makes_no_part(tiny_model):
    token_states = token_states_of(tiny_model, items=5)
    assert fitted(tiny_model, token_states, some_weights(token_states), lexical_weight=0.0) is None


@pytest.mark.parametrize("items", [1, 2])
def test_texts_that_do_not_differ_are_finite(tiny_model, items):
    token_states = token_states_of(tiny_model, items=items).take(np.zeros(items, np.int64))
    weights = np.ones(len(token_states.ids), np.float32)
    part = fitted(tiny_model, token_states, weights)
    assert np.isfinite(part.vectors(tiny_model.token_embeddings, token_states, weights)).all()


def test_the_bytes_of_a_part_do_not_depend_on_how_often_it_is_fitted(tiny_model):
    token_states = token_states_of(tiny_model)
    weights = some_weights(token_states)
    first, again = (fitted(tiny_model, token_states, weights) for _ in range(2))
    for one, other in zip(first.arrays(), again.arrays(), strict=True):
        assert np.array_equal(one, other)


def test_token_embeddings_of_another_width_are_refused(tiny_model):
    token_states = token_states_of(tiny_model, items=5)
    basis = fit_basis(
        tiny_model,
        token_states,
        make_lora_targets(("projection",), rank=2),
        whitening_power=0.9,
        sif_smoothing=0.0,
        lexical_weight=0.5,
    )
    with pytest.raises(InputError) as caught:
        basis.token_embeddings(tiny_model.token_embeddings[:, 1:].copy(), token_states)
    assert caught.value.public() == "input:basis"


THREADS = """
import hashlib
import numpy as np
from common.encoder.token_states import TokenStates
from common.encoder.lexical_part import LexicalPart
some = np.random.default_rng(0)
table, whitening = (some.normal(size=(n, 384)).astype(np.float32) for n in (900, 384))
ids = some.integers(900, size=4000).astype(np.int32)
token_states = TokenStates(np.zeros((4000, 1), np.float32), np.arange(0, 4001, 8), ids)
part = LexicalPart(table.mean(axis=0), whitening, 0.7)
vectors = part.vectors(table, token_states, np.ones(4000, np.float32))
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
