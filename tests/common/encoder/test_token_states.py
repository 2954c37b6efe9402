from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.catalogue import Catalogue, Item
from common.encoder.base_model import BaseModel
from common.encoder.token_states import (
    TokenStates,
    encode_token_states,
    pad,
    together,
    token_mask,
)
from common.errors import SettingsError
from tests.support.shops import make_catalogue


@pytest.fixture
def counted(tiny_model, monkeypatch):
    """The tiny BERT; `texts` holds every text it was asked to tokenise."""
    texts = []
    tokenise = BaseModel.tokenise

    def counting(self, asked, max_tokens):
        texts.extend(asked)
        return tokenise(self, asked, max_tokens)

    monkeypatch.setattr(BaseModel, "tokenise", counting)
    return tiny_model, texts


def encode(model, catalogue, cache=None, *, layer=2, max_tokens=24, progress=None):
    return encode_token_states(
        model, catalogue, layer=layer, max_tokens=max_tokens, cache=cache, progress=progress
    )


def rows_of(token_states, item):
    return token_states.hidden[token_states.offsets[item] : token_states.offsets[item + 1]]


def catalogue_of(texts):
    return Catalogue(tuple(Item(str(place), text, text) for place, text in enumerate(texts)))


# --------------------------------------------------------------- the numbers
@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_each_item_has_the_hidden_states_that_enter_the_layer(tiny_model, layer):
    catalogue = make_catalogue(70)  # more than one batch
    token_states = encode(tiny_model, catalogue, layer=layer)
    assert len(token_states) == 70
    assert token_states.hidden.dtype == np.float32
    for item in (0, 33, 69):
        ids, mask = tiny_model.tokenise([catalogue.texts[item]], 24)
        with torch.inference_mode():
            whole = tiny_model.bert(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        assert np.allclose(rows_of(token_states, item), whole.hidden_states[layer][0], atol=1e-5)


@pytest.fixture
def padded(monkeypatch):
    """As for a model whose layers are others than ours: its own, in padded batches."""
    monkeypatch.setattr("common.encoder.token_states.can_pack", lambda _: False)


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_a_models_own_layers_compute_the_same_in_padded_batches(tiny_model, monkeypatch, layer):
    catalogue, told = make_catalogue(70), []
    packed = encode(tiny_model, catalogue, layer=layer)
    monkeypatch.setattr("common.encoder.token_states.can_pack", lambda _: False)
    monkeypatch.setattr("common.encoder.token_states.run_packed", None)
    found = encode(tiny_model, catalogue, layer=layer, progress=lambda *one: told.append(one))
    assert np.allclose(found.hidden, packed.hidden, atol=1e-5)
    assert np.array_equal(found.offsets, packed.offsets)
    assert np.array_equal(found.ids, packed.ids)
    assert told == [(64, 70), (70, 70)]


def test_the_model_is_whole_again_after_the_lower_layers_ran(tiny_model, padded):
    encode(tiny_model, make_catalogue(3), layer=1)
    assert len(tiny_model.bert.encoder.layer) == 3


def test_the_model_is_whole_again_after_a_failure(tiny_model, padded):
    def broken(*_):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        encode(tiny_model, make_catalogue(3), layer=1, progress=broken)
    assert len(tiny_model.bert.encoder.layer) == 3


def test_long_texts_are_cut(tiny_model):
    token_states = encode(tiny_model, catalogue_of(["red " * 40, "jug"]), max_tokens=8)
    assert token_states.lengths.tolist() == [8, 3]


def test_more_tokens_than_the_model_has_places_for_are_refused(tiny_model):
    with pytest.raises(SettingsError) as caught:
        encode(tiny_model, make_catalogue(3), max_tokens=65)
    assert caught.value.field == "max_tokens"
    assert "64" in str(caught.value)


def test_the_order_of_items_does_not_matter(tiny_model, tmp_path):
    catalogue = make_catalogue(80)
    order = np.random.default_rng(0).permutation(80)
    forward = encode(tiny_model, catalogue)
    shuffled = encode(tiny_model, catalogue.take(order))
    cached = encode(tiny_model, catalogue, tmp_path)
    from_cache = encode(tiny_model, catalogue.take(order), tmp_path)
    for place, item in enumerate(order):
        assert np.allclose(rows_of(shuffled, place), rows_of(forward, item), atol=1e-5)
        assert np.array_equal(rows_of(from_cache, place), rows_of(cached, item))


def test_progress_ends_at_the_number_of_new_texts(tiny_model, monkeypatch):
    monkeypatch.setattr("common.encoder.packed_layers.TOGETHER", 300)
    told = []
    encode(tiny_model, make_catalogue(70), progress=lambda *one: told.append(one))
    assert len(told) > 1
    assert told == sorted(set(told))
    assert told[-1] == (70, 70)


# ----------------------------------------------------------------- the cache
def test_the_second_time_nothing_is_encoded(counted, tmp_path):
    model, texts = counted
    catalogue = make_catalogue(20)
    first = encode(model, catalogue, tmp_path)
    assert sorted(texts) == sorted(catalogue.texts)
    texts.clear()
    again = encode(model, catalogue, tmp_path)
    assert texts == []
    assert np.array_equal(first.hidden, again.hidden)
    assert np.array_equal(first.offsets, again.offsets)


def test_a_catalogue_that_grew_encodes_only_what_is_new(counted, tmp_path):
    model, texts = counted
    whole = make_catalogue(30)
    encode(model, whole.take(range(20)), tmp_path)
    texts.clear()
    grown = encode(model, whole, tmp_path)
    assert sorted(texts) == sorted(whole.texts[20:])
    plain = encode(model, whole)
    assert np.allclose(grown.hidden, plain.hidden, atol=1e-5)


def test_equal_texts_are_encoded_once(counted, tmp_path):
    model, texts = counted
    token_states = encode(model, catalogue_of(["red jug", "oak clock", "red jug"]), tmp_path)
    assert sorted(texts) == ["oak clock", "red jug"]
    assert np.array_equal(rows_of(token_states, 0), rows_of(token_states, 2))


def test_another_merchants_cache_serves_the_texts_both_have(counted, tmp_path):
    model, texts = counted
    encode(model, catalogue_of(["red jug", "oak clock"]), tmp_path)
    texts.clear()
    encode(model, catalogue_of(["blue bowl", "red jug"]), tmp_path)
    assert texts == ["blue bowl"]


def test_a_broken_cache_file_is_made_anew(counted, tmp_path, caplog):
    model, texts = counted
    catalogue = make_catalogue(10)
    first = encode(model, catalogue, tmp_path)
    [part] = tmp_path.rglob("*.safetensors")
    part.write_bytes(part.read_bytes()[:-50])
    texts.clear()
    again = encode(model, catalogue, tmp_path)
    assert len(texts) == 10
    assert np.array_equal(first.hidden, again.hidden)
    assert not any(title in caplog.text for title in catalogue.texts)
    texts.clear()
    encode(model, catalogue, tmp_path)
    assert texts == []


def test_another_layer_length_or_model_has_a_cache_of_its_own(counted, tmp_path):
    model, texts = counted
    catalogue = make_catalogue(5)
    encode(model, catalogue, tmp_path)
    for other in (
        lambda: encode(model, catalogue, tmp_path, layer=1),
        lambda: encode(model, catalogue, tmp_path, max_tokens=10),
        lambda: encode(replace(model, digest="f" * 64), catalogue, tmp_path),
    ):
        texts.clear()
        other()
        assert len(texts) == 5


# -------------------------------------------------------------------- packing
def token_states_of(lengths, width=3, seed=0):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(offsets[-1], width))
    return TokenStates(
        hidden.astype(np.float32), offsets, rng.integers(0, 99, offsets[-1], np.int32)
    )


lengths = st.lists(st.integers(1, 6), min_size=1, max_size=8)


@given(lengths, st.data())
def test_items_are_taken_whole_in_any_order_and_twice(counts, data):
    token_states = token_states_of(counts)
    items = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=10))
    taken = token_states.take(np.array(items, np.int64))
    assert len(taken) == len(items)
    for place, item in enumerate(items):
        assert np.array_equal(rows_of(taken, place), rows_of(token_states, item))


@given(lengths, lengths, st.data())
def test_items_are_put_together_from_parts_in_any_order_and_twice(first, second, data):
    parts = [token_states_of(first, seed=1), token_states_of(second, seed=2)]
    count = len(first) + len(second)
    known = np.array(data.draw(st.permutations(range(count))), np.uint64)
    items = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=12))
    held = list(parts)
    found = together(held, known, known[items])
    assert not held
    for place, item in enumerate(items):
        part, row = (0, item) if item < len(first) else (1, item - len(first))
        assert np.array_equal(rows_of(found, place), rows_of(parts[part], row))
        assert found.ids[found.offsets[place]] == parts[part].ids[parts[part].offsets[row]]


@given(lengths, st.data())
def test_padding_puts_zeros_behind_the_last_token_and_nothing_else(counts, data):
    token_states = token_states_of(counts)
    items = np.array(data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=6)), np.int64)
    padded = pad(token_states.hidden, token_states.offsets, items)
    mask = token_mask(token_states.lengths[items])
    assert padded.shape[:2] == mask.shape
    assert mask.sum(dim=1).tolist() == token_states.lengths[items].tolist()
    for row, item in enumerate(items):
        assert np.array_equal(padded[row][mask[row].bool()].numpy(), rows_of(token_states, item))
    assert not padded[~mask.bool()].any()
