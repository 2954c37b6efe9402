import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from shops import make_catalogue

from common.encoder.basis import PublicBasis, fit_basis, mean_of_tokens
from common.encoder.placement import Placement
from common.encoder.trunk import encode_trunk
from common.errors import InputError, SettingsError

ALL = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")


def trunk_for(model, catalogue, placement):
    first = placement.first_layer(model.depth)
    return encode_trunk(model, catalogue, layer=first, max_tokens=24, cache=None)


def fitted(model, placement, *, power=1.0, items=200):
    trunk = trunk_for(model, make_catalogue(items), placement)
    return fit_basis(model, trunk, placement, whitening_power=power)


def pooled_texts(model, catalogue):
    """Each text's mean token by the whole model, text by text."""
    rows = []
    with torch.inference_mode():
        for text in catalogue.texts:
            ids, mask = model.tokenise([text], 24)
            rows.append(model.bert(input_ids=ids, attention_mask=mask)[0][0].mean(dim=0).numpy())
    return np.array(rows)


# ---------------------------------------------------------------- whitening
def test_fully_whitened_texts_have_mean_zero_and_unit_covariance(tiny_model):
    basis = fitted(tiny_model, Placement())
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
    basis = fitted(tiny_model, Placement(), power=power)
    pooled = pooled_texts(tiny_model, make_catalogue(200)).astype(np.float64)
    values, directions = np.linalg.eigh(np.cov(pooled.T, bias=True))
    kept = values > 1e-3 * values.mean()
    covariance = np.cov(((pooled - basis.mean) @ basis.whitening).T, bias=True)
    found = np.diag(directions.T @ covariance @ directions)[kept]
    assert np.allclose(found, values[kept] ** (1 - power), rtol=0.03)


def test_whitening_is_symmetric_and_finite_for_fewer_items_than_dimensions(tiny_model):
    for items in (1, 2, 10):
        basis = fitted(tiny_model, Placement(), items=items)
        assert np.isfinite(basis.whitening).all()
        assert np.allclose(basis.whitening, basis.whitening.T, rtol=1e-3, atol=1e-4)


# --------------------------------------------------------------- directions
def inputs_of(model, catalogue, names):
    """What enters each module, all tokens of all texts, caught in the whole model."""
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
    return {name: torch.cat(tokens).double().numpy() for name, tokens in caught.items()}


@pytest.mark.parametrize("layers", [1, 2])
def test_directions_are_the_leading_ones_of_what_enters_the_module(tiny_model, layers):
    placement = Placement(modules=ALL, last_layers=layers, rank=4)
    basis = fitted(tiny_model, placement)
    assert sorted(basis.directions) == placement.module_names(3)
    assert len(basis.directions) == 6 * layers
    entering = inputs_of(tiny_model, make_catalogue(200), list(basis.directions))
    for name, rows in basis.directions.items():
        inputs = entering[name]
        mean = inputs.mean(axis=0) / np.linalg.norm(inputs.mean(axis=0))
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
    basis = fitted(tiny_model, Placement(modules=("projection",), rank=5))
    rows = basis.directions["projection"]
    pooled = pooled_texts(tiny_model, make_catalogue(200)).astype(np.float64)
    mean = pooled.mean(axis=0) / np.linalg.norm(pooled.mean(axis=0))
    assert np.allclose(rows @ rows.T, np.eye(5), atol=1e-5)
    assert np.abs(rows @ mean).max() < 1e-4
    centred = pooled - pooled.mean(axis=0)
    left = centred - np.outer(centred @ mean, mean)
    best = np.linalg.eigvalsh(left.T @ left)[-5:].sum()
    assert np.linalg.norm(left @ rows.T) ** 2 == pytest.approx(best, rel=1e-4)


def test_the_basis_repeats_bit_by_bit(tiny_model):
    placement = Placement(modules=("output.dense", "projection"), rank=4)
    assert fitted(tiny_model, placement).digest == fitted(tiny_model, placement).digest


def test_fitting_leaves_no_hook_on_the_model(tiny_model):
    fitted(tiny_model, Placement())
    for module in tiny_model.bert.modules():
        assert not module._forward_pre_hooks


def test_more_ranks_than_inputs_are_refused(tiny_model):
    with pytest.raises(SettingsError) as caught:
        fitted(tiny_model, Placement(modules=("query",), rank=33))
    assert caught.value.field == "rank"
    assert "32" in str(caught.value)


# ------------------------------------------------------------------ its file
@pytest.fixture(scope="module")
def basis(tiny_model):
    return fitted(tiny_model, Placement(modules=("output.dense", "projection"), rank=2))


def test_a_basis_comes_back_from_its_bytes(basis):
    again = PublicBasis.from_bytes(basis.to_bytes())
    assert again.digest == basis.digest
    assert np.array_equal(again.mean, basis.mean)
    assert np.array_equal(again.whitening, basis.whitening)
    assert again.directions.keys() == basis.directions.keys()
    for name, rows in basis.directions.items():
        assert np.array_equal(again.directions[name], rows)


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
        lambda tensors: tensors.update(mean=tensors["mean"][:-1].copy()),
        lambda tensors: tensors.update(whitening=tensors["whitening"][:, :-1].copy()),
        lambda tensors: tensors.update(mean=tensors["mean"].astype(np.float64)),
        lambda tensors: tensors["mean"].__setitem__(0, np.nan),
        lambda tensors: tensors["whitening"].__setitem__((0, 0), np.inf),
        lambda tensors: tensors[NAME].__setitem__((0, 0), np.nan),
        lambda tensors: tensors.update({NAME: tensors[NAME].astype(np.float16)}),
        lambda tensors: tensors.update({NAME: tensors[NAME].ravel().copy()}),
        lambda tensors: tensors.update(another=np.zeros((2, 2), np.float32)),
    ],
)
def test_a_basis_with_a_wrong_tensor_is_refused(basis, change):
    tensors = {name: tensor.copy() for name, tensor in load(basis.to_bytes()).items()}
    change(tensors)
    with pytest.raises(InputError):
        PublicBasis.from_bytes(save(tensors))


def test_the_mean_is_over_real_tokens_only():
    hidden = torch.tensor([[[1.0], [3.0], [99.0]], [[5.0], [7.0], [9.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert mean_of_tokens(hidden, mask).tolist() == [[2.0], [7.0]]
