"""An item's hidden states are transformers' up to rounding, and no other item moves a bit."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.encoder.base_model import load_base_model
from common.encoder.packed_layers import BLOCK, can_pack, run_packed
from tests.support.shops import write_tiny_bert

ITEMS = 40


@pytest.fixture(scope="module", params=[64, 384], ids="{} wide".format)
def model(request, tmp_path_factory):
    """A random BERT of two layers: as wide as the packaged one, and with heads as narrow as any."""
    folder = tmp_path_factory.mktemp("bert")
    return load_base_model(str(write_tiny_bert(folder, layers=2, hidden=request.param)))


@pytest.fixture(scope="module")
def texts(model):
    """Token ids of items of 3 to 60 tokens, which take several blocks together."""
    random = np.random.default_rng(0)
    counts = random.integers(3, 61, ITEMS)
    assert counts.sum() > 3 * BLOCK
    return [random.integers(5, model.bert.config.vocab_size, count) for count in counts]


@pytest.fixture(scope="module")
def whole(model, texts):
    return run(model, texts)


def run(model, items, layer=2):
    """Each item's hidden states, of these items run together."""
    lengths = np.array([len(one) for one in items])
    rows = run_packed(model, np.concatenate(items), lengths, layer)
    return np.split(rows, np.cumsum(lengths)[:-1])


@pytest.fixture(params=[1, 2], ids="{} threads".format)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@given(data=st.data())
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_item_has_the_same_bits_alone_and_in_any_company_and_order(
    model, texts, whole, threads, data
):
    some = data.draw(st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=ITEMS, unique=True))
    for found, item in zip(run(model, [texts[item] for item in some]), some, strict=True):
        assert np.array_equal(found, whole[item])


def test_how_many_tokens_go_together_moves_no_bit(model, texts, whole, monkeypatch):
    monkeypatch.setattr("common.encoder.packed_layers.TOGETHER", 50)  # less than the longest
    for found, item in zip(run(model, texts), whole, strict=True):
        assert np.array_equal(found, item)


def test_every_product_has_a_blocks_rows(model, texts, monkeypatch):
    rows, product = set(), torch.addmm

    def counted(added, some, *others, **named):
        rows.add(len(some))
        return product(added, some, *others, **named)

    monkeypatch.setattr(torch, "addmm", counted)
    for items in (texts, texts[:1]):
        run(model, items)
    assert rows == {BLOCK}


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_they_are_what_transformers_computes(model, texts, layer):
    for item, found in list(zip(texts, run(model, texts, layer), strict=True))[::7]:
        with torch.inference_mode():
            ids = torch.from_numpy(item)[None]
            expected = model.bert(input_ids=ids, output_hidden_states=True).hidden_states[layer]
        assert np.allclose(found, expected[0], atol=2e-5)


def test_another_activation_is_left_to_the_models_own_layers(model, monkeypatch):
    assert can_pack(model)
    monkeypatch.setattr(model.bert.config, "hidden_act", "relu")
    assert not can_pack(model)


def test_a_decoder_which_looks_back_alone_is_left_to_its_own_layers(model, monkeypatch):
    monkeypatch.setattr(model.bert.config, "is_decoder", True)
    assert not can_pack(model)
