"""A catalogue encoded on another device: every tensor where it belongs, and the same vectors."""

import shutil

import numpy as np
import pytest
import torch

from common.encoder import catalogue_encoder, token_states
from common.encoder.catalogue_encoder import (
    base_model_digest,
    candidate_tensor,
    encode_ahead,
    encode_catalogue,
    fit_public_basis,
    forget_base_models,
)
from common.encoder.device import DEVICE
from common.encoder.last_layer import LastLayer
from common.encoder.public_basis import PublicBasis
from tests.support.shops import make_catalogue, make_settings, random_adapter

LORA_TARGETS = [
    {},
    {"lora_modules": "query,value", "last_layers": 2},
    {"lora_modules": "projection"},
]


@pytest.fixture
def on(monkeypatch):
    """Choose the process's device."""

    def choose(device):
        monkeypatch.setattr(catalogue_encoder, "chosen_device", lambda: device)

    yield choose
    forget_base_models()


@pytest.fixture
def encode(tiny_bert, tmp_path):
    """Encode a small catalogue with what is in the cache, on a basis that came from elsewhere."""

    def settings_of(**changes):
        return make_settings(base_model=str(tiny_bert), rank=4, output_rank=32, **changes)

    def make(basis=None, **changes):
        settings = settings_of(**changes)
        catalogue, cache = make_catalogue(30), tmp_path / "cache"
        basis = basis or fit_public_basis(catalogue, settings, cache)
        return encode_catalogue(catalogue, basis, settings, cache), basis

    make.settings = settings_of
    return make


def adapted(encoded):
    encoded.encoder.load_adapter(random_adapter(encoded.encoder))
    return encoded.tokens.vectors(encoded.encoder)


def least_cosine(found, expected):
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return ((found * expected).sum(axis=1) / lengths).min()


@pytest.fixture(params=["packed", "padded"])
def way(request, monkeypatch):
    """Either way in which BERT's lower layers are run."""
    if request.param == "padded":
        monkeypatch.setattr("common.encoder.token_states.can_pack", lambda _: False)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("lora_targets", LORA_TARGETS, ids=str)
def test_vectors_are_the_processors(on, encode, device, lora_targets):
    on(torch.device("cpu"))
    here, basis = encode(**lora_targets)
    on(device)
    there, _ = encode(basis, **lora_targets)
    assert there.encoder.device.type == candidate_tensor(there).device.type == device.type
    assert there.base_model == here.base_model
    assert least_cosine(there.vectors, here.vectors) > 1 - 1e-6
    assert least_cosine(adapted(there), adapted(here)) > 1 - 1e-6
    again, _ = encode(basis, **lora_targets)  # from the cache
    assert again.encoder.device.type == device.type
    np.testing.assert_array_equal(again.vectors, there.vectors)


def test_a_basis_is_fitted_there(on, encode, device):
    on(torch.device("cpu"))
    _, here = encode()
    on(device)
    _, there = encode()
    np.testing.assert_allclose(there.mean, here.mean, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(there.whitening, here.whitening, rtol=1e-2, atol=1e-3)
    assert PublicBasis.from_bytes(there.to_bytes()).digest == there.digest


def test_what_the_processor_finds_in_a_cache_is_its_own(on, encode, device, tmp_path):
    """Its bits would else depend on who came first."""
    on(device)
    _, basis = encode()
    files = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.safetensors")}
    marked = [path for path in files if device.type in str(path)]
    assert {path.name.split("-")[0] for path in files - set(marked)} <= {"words", "layer"}
    assert len(marked) == 3  # basis, token states, items
    on(torch.device("cpu"))
    mixed, _ = encode(basis)
    for path in marked:
        (tmp_path / path).unlink()
    forget_base_models()
    alone, _ = encode(basis)
    np.testing.assert_array_equal(mixed.vectors, alone.vectors)
    new = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.safetensors")} - files
    assert len(new) == 2  # token states and items anew


def test_a_node_whose_device_encoded_ahead_goes_on_there_without_a_language_model(
    on, encode, device, tmp_path, monkeypatch
):
    on(torch.device("cpu"))
    _, basis = encode()  # what lies in the cache now is the processor's
    on(device)
    run, before_b, told = token_states.run_packed, LastLayer.before_b, []

    def lower(model, *rest):
        told.append(("lower", model.device.type))
        return run(model, *rest)

    def last(layer, *arguments):
        told.append(("last", arguments[-1].type))
        return before_b(layer, *arguments)

    monkeypatch.setattr(token_states, "run_packed", lower)
    monkeypatch.setattr(LastLayer, "before_b", last)
    for _ in range(2):
        encode_ahead(make_catalogue(30), encode.settings(), tmp_path / "cache")
    assert told == [("lower", device.type)]
    shutil.rmtree(next((tmp_path / "cache").glob("*-ids")))
    monkeypatch.setattr(catalogue_encoder, "cached_base_model", None)
    there, _ = encode(basis)
    assert told[1:] == [("last", device.type)]
    assert there.encoder.device.type == device.type


def test_a_model_has_one_digest_on_all_devices(on, device, tiny_bert, tmp_path):
    on(torch.device("cpu"))
    here = base_model_digest(str(tiny_bert), tmp_path / "one")
    on(device)
    assert base_model_digest(str(tiny_bert), tmp_path / "other") == here


def test_the_environment_chooses(monkeypatch, encode):
    monkeypatch.setenv(DEVICE, "cpu")
    assert encode()[0].encoder.device.type == "cpu"
