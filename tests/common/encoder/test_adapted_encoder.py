from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from common.encoder import catalogue_encoder
from common.encoder.adapted_encoder import ItemTokens, Tower
from common.encoder.base_model import load_base_model
from common.encoder.catalogue_encoder import encode_catalogue, fit_public_basis
from common.encoder.public_basis import PublicBasis, fit_basis
from common.encoder.token_states import encode_trunk
from common.errors import InputError, SettingsError
from common.settings.lora_placement import Placement, state_name
from tests.support.shops import make_catalogue, make_settings, random_adapter

PLACEMENTS = {
    "output.dense": Placement(),
    "output.dense and projection": Placement(("output.dense", "projection")),
    "projection": Placement(("projection",), rank=5),
    "q,v of 2 layers": Placement(("query", "value"), last_layers=2, rank=3),
    "every module of all layers": Placement(
        ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"),
        last_layers=3,
        rank=2,
    ),
    "plain": Placement(("output.dense", "query"), variant="plain"),
}


def build(model, placement, items=70):
    catalogue = make_catalogue(items)
    trunk = encode_trunk(
        model, catalogue, layer=placement.first_layer(model.depth), max_tokens=24, cache=None
    )
    basis = fit_basis(
        model, trunk, placement, whitening_power=0.8, half_weight_share=0.05, word_weight=0.7
    )
    tower = Tower(model, basis, placement)
    return catalogue, trunk, basis, tower


def dense_vectors(model, basis, adapter, catalogue, placement):
    """f of each text by the whole model, LoRA added to its weights: no PEFT, no cache."""
    bert = type(model.bert)(model.bert.config, add_pooling_layer=False).eval()
    bert.load_state_dict(model.bert.state_dict())
    projection = nn.Linear(model.width, model.width)
    projection.weight.data = torch.from_numpy(basis.whitening.T.copy())
    projection.bias.data = torch.from_numpy(-(basis.mean @ basis.whitening))
    for name in placement.module_names(model.depth):
        stem = state_name(f"{name}.lora_B.default.weight").removesuffix("lora_B.weight")
        a = adapter.tensors.get(f"{stem}lora_A.weight", basis.directions[name])
        b = adapter.tensors[f"{stem}lora_B.weight"]
        inside = name != "projection"
        module = bert.get_submodule(name.removeprefix("bert.")) if inside else projection
        module.weight.data += torch.from_numpy(b @ a)
    rows = []
    with torch.inference_mode():
        for text in catalogue.texts:
            ids, mask = model.tokenise([text], 24)
            weight = torch.from_numpy(basis.token_weight)[ids[0]]
            tokens = bert(input_ids=ids, attention_mask=mask)[0][0]
            pooled = (weight @ tokens) / weight.sum()
            vector = projection(pooled)
            read = (vector / vector.norm()).numpy()
            rows.append(with_words(model, basis, ids[0], weight, read))
    return np.array(rows)


def with_words(model, basis, ids, weight, read):
    """A text's vector: what BERT read, of length 1, and its words by themselves."""
    if basis.words is None:
        return read
    table = model.bert.embeddings.word_embeddings.weight.detach()
    mean = ((weight @ table[ids]) / weight.sum()).numpy()
    words = (mean - basis.words.mean) @ basis.words.whitening
    both = np.concatenate([read, basis.words.weight * words / np.linalg.norm(words)])
    return both / np.linalg.norm(both)


@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
def test_the_cached_path_is_the_whole_model_with_the_adapter_in_its_weights(tiny_model, placement):
    catalogue, trunk, basis, tower = build(tiny_model, placement)
    adapter = random_adapter(tower, size=0.3)
    tokens = ItemTokens.from_trunk(tower, trunk, tiny_model.word_vectors)
    frozen = tokens.vectors(tower)
    tower.load_adapter(adapter)
    found = tokens.vectors(tower)
    assert np.abs(found - frozen).max() > 0.05  # the adapter does something
    expected = dense_vectors(tiny_model, basis, adapter, catalogue, placement)
    assert np.abs(found - expected).max() < 1e-5
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
def test_with_b_at_zero_it_is_the_frozen_whitened_text(tiny_model, placement):
    catalogue, trunk, basis, tower = build(tiny_model, placement)
    found = ItemTokens.from_trunk(tower, trunk, tiny_model.word_vectors).vectors(tower)
    expected = dense_vectors(tiny_model, basis, tower.adapter(), catalogue, placement)
    assert np.abs(found - expected).max() < 1e-5


def test_a_projection_alone_reads_one_vector_an_item(tiny_model):
    _, trunk, _, tower = build(tiny_model, PLACEMENTS["projection"])
    assert not tower.layers
    assert trunk.lengths.max() > 1
    tokens = ItemTokens.from_trunk(tower, trunk, tiny_model.word_vectors)
    assert tokens.lengths.tolist() == [1] * len(trunk)
    assert tokens.arrays()["hidden"].shape == (len(trunk), tiny_model.width)


def test_the_packaged_model_has_one_function_by_cache_and_in_full():
    model = load_base_model()
    catalogue = make_catalogue(20)
    for placement in (Placement(), Placement(("query", "value"), last_layers=2)):
        trunk = encode_trunk(
            model, catalogue, layer=placement.first_layer(6), max_tokens=24, cache=None
        )
        basis = fit_basis(model, trunk, placement, whitening_power=0.8)
        tower = Tower(model, basis, placement)
        adapter = random_adapter(tower, size=0.1)
        tower.load_adapter(adapter)
        found = ItemTokens.from_trunk(tower, trunk, model.word_vectors).vectors(tower)
        expected = dense_vectors(model, basis, adapter, catalogue, placement)
        assert np.abs(found - expected).max() < 1e-5


def test_only_the_default_placement_is_cached_up_to_a(tiny_model):
    _, trunk, _, tower = build(tiny_model, Placement(rank=3))
    arrays = ItemTokens.from_trunk(tower, trunk, tiny_model.word_vectors).arrays()
    assert arrays["hidden"].shape == (len(trunk.hidden), 3)
    assert arrays["summed"].shape == trunk.hidden.shape
    for placement in (Placement(("output.dense",), last_layers=2), Placement(variant="plain")):
        _, trunk, _, tower = build(tiny_model, placement)
        held = set(ItemTokens.from_trunk(tower, trunk, tiny_model.word_vectors).arrays())
        assert held == {"offsets", "hidden", "weight", "words"}


def test_without_the_words_part_a_vector_is_what_bert_read(tiny_model):
    _, trunk, basis, tower = build(tiny_model, Placement())
    plain = replace(basis, words=None)
    alone = Tower(tiny_model, plain, Placement())
    tokens = ItemTokens.from_trunk(alone, trunk, tiny_model.word_vectors)
    assert "words" not in tokens.arrays()
    found = tokens.vectors(alone)
    assert found.shape == (len(trunk), tiny_model.width)
    both = ItemTokens.from_trunk(tower, trunk, tiny_model.word_vectors).vectors(tower)
    assert both.shape == (len(trunk), 2 * tiny_model.width)
    assert np.abs(both[:, : tiny_model.width] * np.hypot(1, 0.7) - found).max() < 1e-5


def test_no_adapter_changes_the_words_part(tiny_model):
    _, trunk, _, tower = build(tiny_model, Placement())
    tokens = ItemTokens.from_trunk(tower, trunk, tiny_model.word_vectors)
    before = tokens.vectors(tower)[:, tiny_model.width :]
    tower.load_adapter(random_adapter(tower, size=0.3))
    assert np.abs(tokens.vectors(tower)[:, tiny_model.width :] - before).max() < 1e-6


# ------------------------------------------------------------ what is trained
@pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)
def test_lora_alone_is_trained(tiny_model, placement):
    _, _, basis, tower = build(tiny_model, placement)
    names = [name for name, _ in tower.trained()]
    assert names == sorted(names)
    modules = placement.module_names(3)
    per_module = 1 if placement.variant == "ffa" else 2
    assert len(names) == len(modules) * per_module
    assert all(".lora_" in name for name in names)
    if placement.variant == "ffa":
        assert not any("lora_A" in name for name in names)
    for name in modules:
        a = tower.get_submodule(name).lora_A["default"].weight.detach().numpy()
        assert np.array_equal(a, basis.directions[name])


def test_building_and_loading_leave_the_base_model_alone(tiny_model):
    before = {name: one.clone() for name, one in tiny_model.bert.state_dict().items()}
    for placement in PLACEMENTS.values():
        tower = build(tiny_model, placement)[3]
        tower.load_adapter(random_adapter(tower))
    assert tiny_model.bert.state_dict().keys() == before.keys()
    for name, tensor in tiny_model.bert.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_an_adapter_comes_back_as_it_was_loaded(tiny_model):
    for placement in PLACEMENTS.values():
        tower = build(tiny_model, placement)[3]
        adapter = random_adapter(tower)
        tower.load_adapter(adapter)
        again = tower.adapter()
        assert again.digest == adapter.digest
        with torch.no_grad():
            for _, parameter in tower.trained():
                parameter.zero_()
        assert again.digest == adapter.digest  # a copy, not a view


def test_an_adapter_of_another_placement_is_refused(tiny_model):
    tower = build(tiny_model, Placement(rank=3))[3]
    other = build(tiny_model, Placement(("query",), rank=3))[3].adapter()
    wider = build(tiny_model, Placement(rank=4))[3].adapter()
    for adapter in (other, wider):
        with pytest.raises(InputError) as caught:
            tower.load_adapter(adapter)
        assert caught.value.field == "adapter"


@pytest.mark.parametrize(
    "change",
    [
        lambda basis: {"directions": {}},
        lambda basis: {"directions": {name: one[:-1] for name, one in basis.directions.items()}},
        lambda basis: {"directions": {name: one[:, 1:] for name, one in basis.directions.items()}},
        lambda basis: {"mean": basis.mean[:-1], "whitening": basis.whitening[:-1, :-1]},
        lambda basis: {"directions": {**basis.directions, "bert.other": np.eye(4)}},
    ],
    ids=["no directions", "fewer ranks", "other inputs", "another width", "one too many"],
)
def test_a_basis_that_does_not_fit_is_refused(tiny_model, change):
    basis = build(tiny_model, Placement())[2]
    parts = dict(vars(basis))
    with pytest.raises(InputError) as caught:
        Tower(tiny_model, PublicBasis(**parts | change(basis)), Placement())
    assert caught.value.field == "basis"


def test_more_layers_than_the_model_has_are_refused(tiny_model):
    basis = build(tiny_model, Placement())[2]
    with pytest.raises(SettingsError) as caught:
        Tower(tiny_model, basis, Placement(last_layers=4))
    assert caught.value.field == "last_layers"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"modules": ("output",)}, "lora_modules"),
        ({"modules": ()}, "lora_modules"),
        ({"modules": ("query", "query")}, "lora_modules"),
        ({"rank": 0}, "rank"),
        ({"rank": 769}, "rank"),
        ({"last_layers": 0}, "last_layers"),
        ({"variant": "adalora"}, "lora"),
    ],
)
def test_a_placement_out_of_bounds_is_refused(change, field):
    with pytest.raises(SettingsError) as caught:
        Placement(**change)
    assert caught.value.field == field


# ------------------------------------------------------------ rows and batches
def test_rows_repeat_where_an_item_does_and_do_not_depend_on_company(tiny_model):
    for placement in (Placement(), Placement(("query", "value"))):
        _, trunk, _, tower = build(tiny_model, placement)
        tower.load_adapter(random_adapter(tower))
        tokens = ItemTokens.from_trunk(tower, trunk, tiny_model.word_vectors)
        items = np.array([5, 40, 5, 0, 69])
        with torch.inference_mode():
            together = tower(*tokens.rows(items)).numpy()
            alone = [tower(*tokens.rows(items[[place]])).numpy()[0] for place in range(5)]
        assert np.array_equal(together[0], together[2])
        assert np.abs(together - np.array(alone)).max() < 1e-5
        assert np.abs(together - tokens.vectors(tower)[items]).max() < 1e-5


def test_an_order_of_items_gives_the_same_vectors_in_that_order(tiny_model):
    _, trunk, _, tower = build(tiny_model, Placement())
    order = np.random.default_rng(1).permutation(70)
    forward = ItemTokens.from_trunk(tower, trunk, tiny_model.word_vectors).vectors(tower)
    shuffled = ItemTokens.from_trunk(tower, trunk.take(order), tiny_model.word_vectors).vectors(
        tower
    )
    assert np.abs(shuffled - forward[order]).max() < 1e-5


# --------------------------------------------------------- kept on disk
@pytest.fixture
def settings(tiny_bert):
    return make_settings(base_model=str(tiny_bert))


def test_an_encoded_catalogue_is_read_back_bit_by_bit(settings, tmp_path, monkeypatch):
    catalogue = make_catalogue(30)
    basis = fit_public_basis(catalogue, settings, tmp_path)
    first = encode_catalogue(catalogue, basis, settings, tmp_path)

    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(catalogue_encoder, "encode_trunk", never)
    again = encode_catalogue(catalogue, basis, settings, tmp_path)
    assert np.array_equal(first.vectors, again.vectors)
    for name, array in first.tokens.arrays().items():
        assert np.array_equal(array, again.tokens.arrays()[name])
    adapter = random_adapter(first.tower)
    for one in (first, again):
        one.tower.load_adapter(adapter)
    assert np.array_equal(first.tokens.vectors(first.tower), again.tokens.vectors(again.tower))


def test_a_broken_file_is_made_anew(settings, tmp_path):
    catalogue = make_catalogue(10)
    basis = fit_public_basis(catalogue, settings, tmp_path)
    first = encode_catalogue(catalogue, basis, settings, tmp_path)
    [path] = tmp_path.glob("items-*.safetensors")
    path.write_bytes(path.read_bytes()[:-9])
    again = encode_catalogue(catalogue, basis, settings, tmp_path)
    assert np.array_equal(first.vectors, again.vectors)


def test_candidate_vectors_do_not_depend_on_what_the_tower_held(settings, tmp_path):
    """Candidates are frozen: no adapter changes them, whoever encodes first."""
    catalogue = make_catalogue(30)
    basis = fit_public_basis(catalogue, settings, tmp_path / "one")
    first = encode_catalogue(catalogue, basis, settings, tmp_path / "one")
    first.tower.load_adapter(random_adapter(first.tower, size=1.0))
    again = encode_catalogue(catalogue, basis, settings, tmp_path / "two")
    assert np.abs(first.vectors - again.vectors).max() < 1e-5


def test_another_basis_placement_or_catalogue_has_a_file_of_its_own(settings, tmp_path):
    catalogue = make_catalogue(12)
    basis = fit_public_basis(catalogue, settings, tmp_path)
    other_settings = settings.model_copy(update={"whitening_power": 0.3})
    other = fit_public_basis(catalogue, other_settings, tmp_path)
    encode_catalogue(catalogue, basis, settings, tmp_path)
    encode_catalogue(catalogue, other, other_settings, tmp_path)
    encode_catalogue(make_catalogue(12, seed=1), basis, settings, tmp_path)
    assert len(list(tmp_path.glob("items-*.safetensors"))) == 3
