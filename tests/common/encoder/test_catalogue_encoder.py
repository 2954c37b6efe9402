"""What is kept of an encoded catalogue is enough to train on, and loads no language model."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from common.encoder import catalogue_encoder
from common.encoder.adapted_encoder import AdaptedEncoder, ItemTokens
from common.encoder.base_model import DEFAULT_BASE_MODEL, files_digest, load_base_model
from common.encoder.catalogue_encoder import (
    bare_encoder,
    cached_base_model,
    encode_ahead,
    encode_catalogue,
    fit_public_basis,
    forget_base_models,
)
from common.encoder.last_layer import LastLayer
from common.encoder.token_states import encode_token_states
from common.errors import InputError
from tests.support.shops import make_catalogue, make_settings, write_tiny_bert

ITEMS = 30


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return str(write_tiny_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture
def encode(tiny, tmp_path):
    """Encode a small catalogue with what is in the cache."""

    def make(**changes):
        settings = make_settings(base_model=tiny, rank=4, output_rank=32, **changes)
        catalogue = make_catalogue(ITEMS)
        basis = fit_public_basis(catalogue, settings, tmp_path / "cache")
        return encode_catalogue(catalogue, basis, settings, tmp_path / "cache")

    return make


def step(encoder, tokens):
    """The vectors under a random B, and the gradient of a number of them."""
    random = np.random.default_rng(3)
    adapter = encoder.adapter()
    encoder.load_adapter(adapter.with_vector(random.normal(size=adapter.size).astype(np.float32)))
    encoder.zero_grad()
    rows = encoder(*tokens.rows(np.arange(ITEMS)))
    (rows * torch.arange(rows.shape[1])).sum().backward()
    return rows.detach().numpy(), [one.grad.numpy() for _, one in encoder.trained()]


@pytest.mark.parametrize("name", ["tiny", "packaged"])
def test_a_node_computes_what_the_whole_model_does_to_the_last_bit(tiny, tmp_path, name):
    """transformers' layers and PEFT's modules against the last layer alone, and what is cached."""
    changes = {"base_model": tiny} if name == "tiny" else {"base_model": DEFAULT_BASE_MODEL}
    settings = make_settings(rank=4, output_rank=32, **changes)
    catalogue, cache = make_catalogue(ITEMS), tmp_path / "cache"
    basis = fit_public_basis(catalogue, settings, cache)
    model, tokens = cached_base_model(settings.base_model), settings.max_tokens
    whole = AdaptedEncoder(model, basis, settings.lora_targets)
    token_states = encode_token_states(
        model, catalogue, layer=model.depth - 1, max_tokens=tokens, cache=None
    )
    expected = ItemTokens.from_token_states(whole, token_states, model.token_embeddings)
    vectors = expected.vectors(whole)
    for _ in range(2):  # encoded, and read
        found = encode_catalogue(catalogue, basis, settings, cache)
        np.testing.assert_array_equal(found.vectors, vectors)
        for one, array in expected.arrays().items():
            np.testing.assert_array_equal(found.tokens.arrays()[one], array)
        assert whole.adapter().tensors.keys() == found.encoder.adapter().tensors.keys()
        for first, second in zip(
            step(whole, expected), step(found.encoder, found.tokens), strict=True
        ):
            np.testing.assert_array_equal(first, second)
        for parameter, _ in whole.trained():
            assert torch.equal(whole.noise_basis(parameter), found.encoder.noise_basis(parameter))


@pytest.mark.parametrize("modules", ["output.dense", "query,value", "output.dense,projection"])
def test_a_server_starts_from_the_whole_encoders_adapter_and_frames(tiny, tmp_path, modules):
    rank = {"rank": 4} if "dense,p" not in modules else {"rank": 2}
    settings = make_settings(base_model=tiny, output_rank=32, lora_modules=modules, **rank)
    basis = fit_public_basis(make_catalogue(ITEMS), settings, tmp_path)
    whole = AdaptedEncoder(load_base_model(tiny), basis, settings.lora_targets)
    for _ in range(2):  # from the model, and from what the cache then has of it
        bare = bare_encoder(basis, settings, tmp_path)
        assert bare.adapter().digest == whole.adapter().digest
        for name, _ in whole.trained():
            frames = whole.noise_basis(name), bare.noise_basis(name)
            assert (frames[0] is None) == (frames[1] is None)
            assert frames[0] is None or torch.equal(*frames)


def test_a_server_refuses_a_basis_of_other_targets(tiny, tmp_path):
    settings = make_settings(base_model=tiny, rank=4, output_rank=32)
    basis = fit_public_basis(make_catalogue(ITEMS), settings, tmp_path)
    for other in ({"rank": 5}, {"lora_modules": "query"}):
        with pytest.raises(InputError, match="directions"):
            bare_encoder(basis, settings.model_copy(update=other), tmp_path)


def test_what_is_encoded_ahead_needs_no_model_for_a_basis(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("common.encoder.token_states.PART", 7)
    settings = make_settings(base_model=tiny, rank=4, output_rank=32)
    catalogue = make_catalogue(ITEMS)
    basis = fit_public_basis(catalogue, settings, tmp_path / "server")
    expected = encode_catalogue(catalogue, basis, settings, tmp_path / "other")
    encode_ahead(catalogue, settings, tmp_path / "node")
    assert len(list(tmp_path.glob("node/*/*.safetensors"))) == 5  # 30 texts, 7 at a time
    forget_base_models()
    monkeypatch.setattr(catalogue_encoder, "load_base_model", None)  # whoever loads it fails
    encode_ahead(catalogue, settings, tmp_path / "node")
    found = encode_catalogue(catalogue, basis, settings, tmp_path / "node")
    np.testing.assert_array_equal(found.vectors, expected.vectors)


@pytest.mark.parametrize("name", ["words-*", "layer-*"])
def test_a_broken_or_missing_file_of_the_base_model_is_made_anew(tiny, tmp_path, name):
    settings = make_settings(base_model=tiny, rank=4, output_rank=32)
    catalogue = make_catalogue(ITEMS)
    basis = fit_public_basis(catalogue, settings, tmp_path / "server")
    expected = encode_catalogue(catalogue, basis, settings, tmp_path / "other")
    for spoil in (
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.unlink(),
    ):
        encode_ahead(catalogue, settings, tmp_path / "node")
        [path] = (tmp_path / "node").glob(name)
        spoil(path)
        found = encode_catalogue(catalogue, basis, settings, tmp_path / "node")
        np.testing.assert_array_equal(found.vectors, expected.vectors)
        for items in (tmp_path / "node").glob("items-*"):
            items.unlink()


def test_a_layer_with_another_activation_is_left_to_transformers(tiny, tmp_path):
    model = load_base_model(tiny)
    model.bert.config.hidden_act = "relu"
    assert LastLayer.of(model) is None


@pytest.mark.parametrize("content", [b"", b"nothing", save({"facts": np.zeros(1)})[:-3]])
def test_a_broken_last_layer_is_none(content):
    assert LastLayer.from_bytes(content) is None


@pytest.mark.parametrize("modules", ["query,value", "output.dense,projection"])
def test_where_more_is_trained_the_whole_encoder_is_built_each_time(encode, modules):
    first, second = encode(lora_modules=modules), encode(lora_modules=modules)
    assert len(list(first.encoder.modules())) == len(list(second.encoder.modules()))
    np.testing.assert_array_equal(first.vectors, second.vectors)


def test_another_model_in_the_same_folder_is_not_taken_for_the_old_one(tiny, encode, tmp_path):
    before, digest = encode(), files_digest(tiny)
    write_tiny_bert(tiny, seed=1)
    try:
        assert files_digest(tiny) != digest
        encode()  # this process holds the old model still, and must not note it as the new one
        forget_base_models()  # as a new process would
        assert not np.array_equal(encode().vectors, before.vectors)
    finally:
        write_tiny_bert(tiny, seed=0)
        forget_base_models()


def test_a_name_on_the_hub_has_no_files_here():
    assert files_digest("bert-base-nowhere") is None


def test_neither_transformers_nor_peft_is_loaded_to_train_on_what_is_cached():
    """The import alone would cost 150 MB and seconds a message."""
    code = (
        "import sys, client.node.participant; "
        "print(sorted({'transformers', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def mapped(array):
    """Whether an array is a part of a mapped file."""
    while array is not None:
        if isinstance(array, np.memmap):
            return True
        array = getattr(array, "base", None)
    return False


def test_nodes_of_one_catalogue_hold_it_once(encode):
    """A copy each took 150 MB for 3,659 items of four words, and 17 GB for a hundred nodes."""
    for encoded in (encode(), encode()):  # also the one that has just computed it
        large = [encoded.vectors, *encoded.tokens.arrays().values()]
        assert all(mapped(one) for one in large if one.size)
    assert encode().encoder.noise_basis(
        next(name for name, _ in encode().encoder.trained())
    ) is encode().encoder.noise_basis(next(name for name, _ in encode().encoder.trained()))
