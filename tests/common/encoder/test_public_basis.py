from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from common.encoder.public_basis import LEAST_WEIGHT, PublicBasis, fit_basis, mean_of_tokens
from common.encoder.token_states import encode_token_states
from common.errors import InputError, SettingsError
from tests.support.shops import make_catalogue, make_lora_targets

ALL = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")


def token_states_for(model, catalogue, lora_targets):
    first = lora_targets.first_layer(model.depth)
    return encode_token_states(model, catalogue, layer=first, max_tokens=24, cache=None)


def fitted(model, lora_targets, *, power=1.0, items=200, half=0.0, words=0.0):
    token_states = token_states_for(model, make_catalogue(items), lora_targets)
    return fit_basis(
        model,
        token_states,
        lora_targets,
        whitening_power=power,
        sif_smoothing=half,
        lexical_weight=words,
    )


def pooled_texts(model, catalogue, weight_of=lambda token: 1.0):
    """Each text's mean token by the whole model, text by text."""
    rows = []
    with torch.inference_mode():
        for text in catalogue.texts:
            ids, mask = model.tokenise([text], 24)
            tokens = model.bert(input_ids=ids, attention_mask=mask)[0][0].numpy()
            rows.append(np.average(tokens, axis=0, weights=[weight_of(one) for one in ids[0]]))
    return np.array(rows, np.float32)


# ---------------------------------------------------------------- whitening
def test_fully_whitened_texts_have_mean_zero_and_unit_covariance(tiny_model):
    basis = fitted(tiny_model, make_lora_targets())
    pooled = pooled_texts(tiny_model, make_catalogue(200)).astype(np.float64)
    assert np.allclose(basis.mean, pooled.mean(axis=0), atol=1e-4)
    whitened = (pooled - basis.mean) @ basis.whitening
    values, directions = np.linalg.eigh(np.cov(pooled.T, bias=True))
    kept = directions[:, values > 1e-3 * values.mean()]  # above the floor
    assert kept.shape[1] >= 20
    covariance = kept.T @ np.cov(whitened.T, bias=True) @ kept
    assert np.allclose(covariance, np.eye(kept.shape[1]), atol=0.02)


@pytest.mark.parametrize("power", [0.0, 0.5, 0.8])
def test_a_lower_power_whitens_in_part(tiny_model, power):
    basis = fitted(tiny_model, make_lora_targets(), power=power)
    pooled = pooled_texts(tiny_model, make_catalogue(200)).astype(np.float64)
    values, directions = np.linalg.eigh(np.cov(pooled.T, bias=True))
    kept = values > 1e-3 * values.mean()
    covariance = np.cov(((pooled - basis.mean) @ basis.whitening).T, bias=True)
    found = np.diag(directions.T @ covariance @ directions)[kept]
    assert np.allclose(found, values[kept] ** (1 - power), rtol=0.03)


def test_whitening_is_symmetric_and_finite_for_fewer_items_than_dimensions(tiny_model):
    for items in (1, 2, 10):
        basis = fitted(tiny_model, make_lora_targets(), items=items)
        assert np.isfinite(basis.whitening).all()
        assert np.allclose(basis.whitening, basis.whitening.T, rtol=1e-3, atol=1e-4)


# ------------------------------------------------------------ token weights
def shares(model, catalogue):
    """In which share of the texts each token stands, counted text by text."""
    found = Counter()
    for text in catalogue.texts:
        found.update(set(model.tokenise([text], 24)[0][0].tolist()))
    return {token: count / len(catalogue) for token, count in found.items()}


def test_a_token_counts_less_the_more_texts_have_it(tiny_model):
    catalogue = make_catalogue(200)
    basis = fitted(tiny_model, make_lora_targets(), half=0.05)
    share = shares(tiny_model, catalogue)
    expected = np.ones(tiny_model.bert.config.vocab_size, np.float32)  # where no text has it
    for token, found in share.items():
        expected[token] = 0.05 / (0.05 + found)
    assert np.allclose(basis.token_weight, expected, rtol=1e-6)
    assert len({round(one, 3) for one in share.values()}) > 5


def test_with_a_half_share_of_zero_all_tokens_count_alike(tiny_model):
    assert (fitted(tiny_model, make_lora_targets(), half=0.0).token_weight == 1).all()


def test_a_text_of_common_tokens_only_still_has_a_mean(tiny_model):
    basis = fitted(tiny_model, make_lora_targets(), half=1e-9)
    assert basis.token_weight.min() == np.float32(LEAST_WEIGHT)
    assert np.isfinite(basis.mean).all()


def test_mean_and_whitening_are_those_of_the_weighted_texts(tiny_model):
    basis = fitted(tiny_model, make_lora_targets(), half=0.05)
    pooled = pooled_texts(tiny_model, make_catalogue(200), lambda token: basis.token_weight[token])
    assert np.allclose(basis.mean, pooled.mean(axis=0), atol=1e-5)
    values, _ = np.linalg.eigh(np.cov(pooled.T.astype(np.float64), bias=True))
    scales = 1 / np.linalg.eigvalsh(basis.whitening.astype(np.float64))[::-1] ** 2
    kept = values > 1e-3 * values.mean()
    assert np.allclose(scales[kept], values[kept], rtol=0.02)


def test_directions_are_orthogonal_to_the_mean_of_the_texts_weighted_inputs(tiny_model):
    name = "bert.encoder.layer.2.output.dense"
    basis = fitted(tiny_model, make_lora_targets(rank=4), half=0.05)
    texts = make_catalogue(200).texts
    entering = per_text(tiny_model, name)
    total = np.zeros(basis.directions[name].shape[1])
    for text in texts:
        ids, _ = tiny_model.tokenise([text], 24)
        weights = basis.token_weight[ids[0].numpy()]
        total += np.average(entering(text), axis=0, weights=weights)
    unit = total / np.linalg.norm(total)
    assert np.abs(basis.directions[name] @ unit).max() < 1e-4


def per_text(model, name):
    """What enters a module for a text, caught in the whole model."""

    def entering(text):
        caught = []
        module = model.bert.get_submodule(name.removeprefix("bert."))
        handle = module.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0][0]))
        ids, mask = model.tokenise([text], 24)
        with torch.inference_mode():
            model.bert(input_ids=ids, attention_mask=mask)
        handle.remove()
        return caught[0].double().numpy()

    return entering


def test_a_token_outside_the_vocabulary_is_refused(basis):
    ids = np.array([0, len(basis.token_weight)], np.int32)
    with pytest.raises(InputError) as caught:
        basis.weights(ids)
    assert caught.value.public() == "input:basis"


# --------------------------------------------------------------- directions
def inputs_of(model, catalogue, names):
    """What enters each module: tokens of all texts, a text's norm shared out, and its mean."""
    caught = {name: [] for name in names}

    def catch(name):
        return lambda _, inputs: caught[name].append(inputs[0][0])

    handles = [
        model.bert.get_submodule(name.removeprefix("bert.")).register_forward_pre_hook(catch(name))
        for name in names
    ]
    pooled_texts(model, catalogue)
    for handle in handles:
        handle.remove()
    tokens = {
        name: torch.cat([one / len(one) ** 0.5 for one in texts]).double().numpy()
        for name, texts in caught.items()
    }
    means = {
        name: np.mean([one.double().mean(dim=0).numpy() for one in texts], axis=0)
        for name, texts in caught.items()
    }
    return tokens, means


@pytest.mark.parametrize("layers", [1, 2])
def test_directions_are_the_leading_ones_of_what_enters_the_module(tiny_model, layers):
    lora_targets = make_lora_targets(modules=ALL, last_layers=layers, rank=4)
    basis = fitted(tiny_model, lora_targets)
    assert sorted(basis.directions) == lora_targets.module_names(3)
    assert len(basis.directions) == 6 * layers
    entering, means = inputs_of(tiny_model, make_catalogue(200), list(basis.directions))
    for name, rows in basis.directions.items():
        inputs = entering[name]
        mean = means[name] / np.linalg.norm(means[name])
        left = inputs - np.outer(inputs @ mean, mean)
        values, vectors = np.linalg.eigh(left.T @ left)
        leading = vectors[:, -4:]
        assert rows.shape == (4, inputs.shape[1])
        assert np.allclose(rows @ rows.T, np.eye(4), atol=1e-5)
        assert np.abs(rows @ mean).max() < 1e-4
        explained = np.linalg.norm(left @ rows.T) ** 2 / values[-4:].sum()
        assert explained == pytest.approx(1, abs=1e-4)
        assert np.linalg.norm(rows @ leading) ** 2 == pytest.approx(4, abs=0.02)


def test_the_projections_directions_are_those_of_the_pooled_texts(tiny_model):
    basis = fitted(tiny_model, make_lora_targets(modules=("projection",), rank=5))
    rows = basis.directions["projection"]
    pooled = pooled_texts(tiny_model, make_catalogue(200)).astype(np.float64)
    mean = pooled.mean(axis=0) / np.linalg.norm(pooled.mean(axis=0))
    lengths = np.linalg.norm(rows, axis=1)
    rows = rows / lengths[:, None]
    assert np.allclose(rows @ rows.T, np.eye(5), atol=1e-5)
    assert np.abs(rows @ mean).max() < 1e-4
    centred = pooled - pooled.mean(axis=0)
    # As long as the whitening, of power 1 here, makes them: each varies by one.
    assert np.allclose((centred @ (rows * lengths[:, None]).T).std(axis=0), 1, rtol=1e-3)
    left = centred - np.outer(centred @ mean, mean)
    best = np.linalg.eigvalsh(left.T @ left)[-5:].sum()
    assert np.linalg.norm(left @ rows.T) ** 2 == pytest.approx(best, rel=1e-4)


def test_the_basis_repeats_bit_by_bit(tiny_model):
    lora_targets = make_lora_targets(modules=("output.dense", "projection"), rank=4)
    assert fitted(tiny_model, lora_targets).digest == fitted(tiny_model, lora_targets).digest


def test_fitting_leaves_no_hook_on_the_model(tiny_model):
    fitted(tiny_model, make_lora_targets())
    for module in tiny_model.bert.modules():
        assert not module._forward_pre_hooks


def test_more_ranks_than_inputs_are_refused(tiny_model):
    with pytest.raises(SettingsError) as caught:
        fitted(tiny_model, make_lora_targets(modules=("query",), rank=33))
    assert caught.value.field == "rank"
    assert "32" in str(caught.value)


# ------------------------------------------------------------------ its file
@pytest.fixture(scope="module")
def basis(tiny_model):
    return fitted(
        tiny_model, make_lora_targets(modules=("output.dense", "projection"), rank=2), words=0.3
    )


def test_a_basis_comes_back_from_its_bytes(basis):
    again = PublicBasis.from_bytes(basis.to_bytes())
    assert again.digest == basis.digest
    assert np.array_equal(again.mean, basis.mean)
    assert np.array_equal(again.whitening, basis.whitening)
    assert np.array_equal(again.token_weight, basis.token_weight)
    assert again.directions.keys() == basis.directions.keys()
    for name, rows in basis.directions.items():
        assert np.array_equal(again.directions[name], rows)
    for mine, read in zip(basis.words.arrays(), again.words.arrays(), strict=True):
        assert np.array_equal(mine, read)
    assert again.words.weight == basis.words.weight  # to the last bit of float64


def test_a_basis_without_words_comes_back_without(tiny_model):
    basis = fitted(tiny_model, make_lora_targets())
    assert basis.words is None
    assert PublicBasis.from_bytes(basis.to_bytes()).words is None
    assert basis.vector_width == tiny_model.width


@pytest.mark.parametrize("content", [b"", b"not a file", b"\xff" * 64])
def test_bytes_that_are_no_basis_are_refused(content):
    with pytest.raises(InputError) as caught:
        PublicBasis.from_bytes(content)
    assert caught.value.public() == "input:basis"


def test_a_cut_basis_is_refused(basis):
    with pytest.raises(InputError):
        PublicBasis.from_bytes(basis.to_bytes()[:-10])


NAME = "lora_A.bert.encoder.layer.2.output.dense"


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("mean"),
        lambda tensors: tensors.pop("whitening"),
        lambda tensors: tensors.pop("token_weight"),
        lambda tensors: tensors["token_weight"].__setitem__(0, 0.0),
        lambda tensors: tensors["token_weight"].__setitem__(0, 1.5),
        lambda tensors: tensors.update(token_weight=tensors["token_weight"][None].copy()),
        lambda tensors: tensors.update(mean=tensors["mean"][:-1].copy()),
        lambda tensors: tensors.update(whitening=tensors["whitening"][:, :-1].copy()),
        lambda tensors: tensors.update(mean=tensors["mean"].astype(np.float64)),
        lambda tensors: tensors["mean"].__setitem__(0, np.nan),
        lambda tensors: tensors["whitening"].__setitem__((0, 0), np.inf),
        lambda tensors: tensors[NAME].__setitem__((0, 0), np.nan),
        lambda tensors: tensors.update({NAME: tensors[NAME].astype(np.float16)}),
        lambda tensors: tensors.update({NAME: tensors[NAME].ravel().copy()}),
        lambda tensors: tensors.update(another=np.zeros((2, 2), np.float32)),
        lambda tensors: tensors.pop("words.mean"),
        lambda tensors: tensors.pop("words.whitening"),
        lambda tensors: tensors.pop("words.weight"),
        lambda tensors: tensors["words.weight"].__setitem__(0, 0.0),
        lambda tensors: tensors["words.weight"].__setitem__(0, np.nan),
        lambda tensors: tensors["words.whitening"].__setitem__((0, 0), np.inf),
        lambda tensors: tensors.update({"words.weight": np.ones(2, np.float32)}),
        lambda tensors: tensors.update({"words.mean": tensors["words.mean"].astype(np.float64)}),
        lambda tensors: tensors.update({"words.mean": tensors["words.mean"][:-1].copy()}),
        lambda tensors: tensors.update(
            {
                "words.mean": tensors["words.mean"][:-1].copy(),
                "words.whitening": tensors["words.whitening"][:-1, :-1].copy(),
            }
        ),
    ],
)
def test_a_basis_with_a_wrong_tensor_is_refused(basis, change):
    tensors = {name: tensor.copy() for name, tensor in load(basis.to_bytes()).items()}
    change(tensors)
    with pytest.raises(InputError):
        PublicBasis.from_bytes(save(tensors))


def test_the_mean_is_over_real_tokens_only_and_by_weight():
    hidden = torch.tensor([[[1.0], [3.0], [99.0]], [[5.0], [7.0], [9.0]]])
    weight = torch.tensor([[0.5, 0.5, 0.0], [1.0, 1.0, 0.5]])
    assert mean_of_tokens(hidden, weight).tolist() == [[2.0], [pytest.approx(6.6)]]


def test_a_basis_of_a_hostile_norm_is_refused():
    basis = small_basis(3.0)
    assert PublicBasis.from_bytes(basis.to_bytes()).largest_norm == pytest.approx(12.0)
    with pytest.raises(InputError) as caught:
        PublicBasis.from_bytes(small_basis(2.6e5).to_bytes())
    assert caught.value.field == "whitening"


def small_basis(scale):
    width = 16
    whitening = np.eye(width, dtype=np.float32) * np.float32(scale)
    mean, weights = np.zeros(width, np.float32), np.ones(5, np.float32)
    return PublicBasis(mean, whitening, weights, {})
