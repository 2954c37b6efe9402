"""What is kept of an encoded catalogue is enough to train on, and loads no language model."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from shops import make_catalogue, make_settings, write_tiny_bert

from common.encoder.base_model import files_digest
from common.encoder.encoding import encode_catalogue, fit_public_basis, forget_base_models

ITEMS = 30


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return str(write_tiny_bert(tmp_path_factory.mktemp("bert")))


@pytest.fixture
def encode(tiny, tmp_path):
    """Encode a small catalogue with what is in the cache."""

    def make(**changes):
        settings = make_settings(base_model=tiny, rank=4, output_directions=32, **changes)
        catalogue = make_catalogue(ITEMS)
        basis = fit_public_basis(catalogue, settings, tmp_path / "cache")
        return encode_catalogue(catalogue, basis, settings, tmp_path / "cache")

    return make


def step(encoded):
    """The vectors under a random B, and the gradient of a number of them."""
    tower = encoded.tower
    random = np.random.default_rng(3)
    adapter = tower.adapter()
    tower.load_adapter(adapter.with_vector(random.normal(size=adapter.size).astype(np.float32)))
    rows = tower(*encoded.tokens.rows(np.arange(ITEMS)))
    (rows * torch.arange(rows.shape[1])).sum().backward()
    return rows.detach().numpy(), [one.grad.numpy() for _, one in tower.trained()]


def test_the_tower_from_the_cache_is_the_whole_one_to_the_last_bit(encode):
    whole, cached = encode(), encode()
    assert len(list(whole.tower.modules())) > 2 * len(list(cached.tower.modules()))
    assert whole.tower.adapter().tensors.keys() == cached.tower.adapter().tensors.keys()
    np.testing.assert_array_equal(whole.vectors, cached.vectors)
    for first, second in zip(step(whole), step(cached), strict=True):
        np.testing.assert_array_equal(first, second)
    for name, _ in whole.tower.trained():
        assert torch.equal(whole.tower.noise_frame(name), cached.tower.noise_frame(name))


@pytest.mark.parametrize("modules", ["query,value", "output.dense,projection"])
def test_where_more_is_trained_the_whole_tower_is_built_each_time(encode, modules):
    first, second = encode(lora_modules=modules), encode(lora_modules=modules)
    assert len(list(first.tower.modules())) == len(list(second.tower.modules()))
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
    code = "import sys, client.work; print(sorted({'transformers', 'peft'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
