import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from common.encoder import catalogue_encoder
from common.encoder.adapted_encoder import AdaptedEncoder, ItemTokens
from common.encoder.base_model import load_base_model
from common.encoder.catalogue_encoder import encode_catalogue, fit_public_basis
from common.encoder.public_basis import PublicBasis, fit_basis
from common.encoder.token_states import encode_token_states
from common.errors import InputError, SettingsError
from common.settings.lora_targets import state_name
from tests.support.shops import make_catalogue, make_lora_targets, make_settings, random_adapter

LORA_TARGETS = {
    "output.dense": make_lora_targets(),
    "output.dense and projection": make_lora_targets(("output.dense", "projection")),
    "projection": make_lora_targets(("projection",), rank=5),
    "q,v of 2 layers": make_lora_targets(("query", "value"), last_layers=2, rank=3),
    "every module of all layers": make_lora_targets(
        ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"),
        last_layers=3,
        rank=2,
    ),
    "plain": make_lora_targets(("output.dense", "query"), variant="lora"),
}


def build(model, lora_targets, items=70):
    catalogue = make_catalogue(items)
    token_states = encode_token_states(
        model, catalogue, layer=lora_targets.first_layer(model.depth), max_tokens=24, cache=None
    )
    basis = fit_basis(
        model,
        token_states,
        lora_targets,
        whitening_power=0.8,
        sif_smoothing=0.05,
        lexical_weight=0.7,
    )
    encoder = AdaptedEncoder(model, basis, lora_targets)
    return catalogue, token_states, basis, encoder


def dense_vectors(model, basis, adapter, catalogue, lora_targets):
    """f of each text by the whole model, LoRA added to its weights: no PEFT, no cache."""
    bert = copy.deepcopy(model.bert)
    projection = nn.Linear(model.width, model.width)
    projection.weight.data = torch.from_numpy(basis.whitening.T.copy())
    projection.bias.data = torch.from_numpy(-(basis.mean @ basis.whitening))
    for name in lora_targets.module_names(model.depth):
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


@pytest.mark.parametrize("lora_targets", LORA_TARGETS.values(), ids=LORA_TARGETS)
def test_the_cached_path_is_the_whole_model_with_the_adapter_in_its_weights(
    tiny_model, lora_targets
):
    catalogue, token_states, basis, encoder = build(tiny_model, lora_targets)
    adapter = random_adapter(encoder, size=0.3)
    tokens = ItemTokens.from_token_states(encoder, token_states, tiny_model.token_embeddings)
    frozen = tokens.vectors(encoder)
    encoder.load_adapter(adapter)
    found = tokens.vectors(encoder)
    assert np.abs(found - frozen).max() > 0.05  # the adapter does something
    expected = dense_vectors(tiny_model, basis, adapter, catalogue, lora_targets)
    assert np.abs(found - expected).max() < 1e-5
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("lora_targets", LORA_TARGETS.values(), ids=LORA_TARGETS)
def test_with_b_at_zero_it_is_the_frozen_whitened_text(tiny_model, lora_targets):
    catalogue, token_states, basis, encoder = build(tiny_model, lora_targets)
    found = ItemTokens.from_token_states(
        encoder, token_states, tiny_model.token_embeddings
    ).vectors(encoder)
    expected = dense_vectors(tiny_model, basis, encoder.adapter(), catalogue, lora_targets)
    assert np.abs(found - expected).max() < 1e-5


def test_a_projection_alone_reads_one_vector_an_item(tiny_model):
    _, token_states, _, encoder = build(tiny_model, LORA_TARGETS["projection"])
    assert not encoder.layers
    assert token_states.lengths.max() > 1
    tokens = ItemTokens.from_token_states(encoder, token_states, tiny_model.token_embeddings)
    assert tokens.lengths.tolist() == [1] * len(token_states)
    assert tokens.arrays()["hidden"].shape == (len(token_states), tiny_model.width)


def test_the_packaged_model_has_one_function_by_cache_and_in_full():
    model = load_base_model()
    catalogue = make_catalogue(20)
    for lora_targets in (make_lora_targets(), make_lora_targets(("query", "value"), last_layers=2)):
        token_states = encode_token_states(
            model, catalogue, layer=lora_targets.first_layer(6), max_tokens=24, cache=None
        )
        basis = fit_basis(
            model,
            token_states,
            lora_targets,
            whitening_power=0.8,
            sif_smoothing=0.0,
            lexical_weight=0.0,
        )
        encoder = AdaptedEncoder(model, basis, lora_targets)
        adapter = random_adapter(encoder, size=0.1)
        encoder.load_adapter(adapter)
        found = ItemTokens.from_token_states(encoder, token_states, model.token_embeddings).vectors(
            encoder
        )
        expected = dense_vectors(model, basis, adapter, catalogue, lora_targets)
        assert np.abs(found - expected).max() < 1e-5


def test_only_the_default_lora_targets_is_cached_up_to_a(tiny_model):
    _, token_states, _, encoder = build(tiny_model, make_lora_targets(rank=3))
    arrays = ItemTokens.from_token_states(
        encoder, token_states, tiny_model.token_embeddings
    ).arrays()
    assert arrays["hidden"].shape == (len(token_states.hidden), 3)
    assert arrays["summed"].shape == token_states.hidden.shape
    for lora_targets in (
        make_lora_targets(("output.dense",), last_layers=2),
        make_lora_targets(variant="lora"),
    ):
        _, token_states, _, encoder = build(tiny_model, lora_targets)
        held = set(
            ItemTokens.from_token_states(
                encoder, token_states, tiny_model.token_embeddings
            ).arrays()
        )
        assert held == {"offsets", "hidden", "weight", "words"}


def test_without_the_words_part_a_vector_is_what_bert_read(tiny_model):
    _, token_states, basis, encoder = build(tiny_model, make_lora_targets())
    plain = replace(basis, words=None)
    alone = AdaptedEncoder(tiny_model, plain, make_lora_targets())
    tokens = ItemTokens.from_token_states(alone, token_states, tiny_model.token_embeddings)
    assert "words" not in tokens.arrays()
    found = tokens.vectors(alone)
    assert found.shape == (len(token_states), tiny_model.width)
    both = ItemTokens.from_token_states(encoder, token_states, tiny_model.token_embeddings).vectors(
        encoder
    )
    assert both.shape == (len(token_states), 2 * tiny_model.width)
    assert np.abs(both[:, : tiny_model.width] * np.hypot(1, 0.7) - found).max() < 1e-5


def test_no_adapter_changes_the_words_part(tiny_model):
    _, token_states, _, encoder = build(tiny_model, make_lora_targets())
    tokens = ItemTokens.from_token_states(encoder, token_states, tiny_model.token_embeddings)
    before = tokens.vectors(encoder)[:, tiny_model.width :]
    encoder.load_adapter(random_adapter(encoder, size=0.3))
    assert np.abs(tokens.vectors(encoder)[:, tiny_model.width :] - before).max() < 1e-6


# ------------------------------------------------------------ what is trained
@pytest.mark.parametrize("lora_targets", LORA_TARGETS.values(), ids=LORA_TARGETS)
def test_lora_alone_is_trained(tiny_model, lora_targets):
    _, _, basis, encoder = build(tiny_model, lora_targets)
    names = [name for name, _ in encoder.trained()]
    assert names == sorted(names)
    modules = lora_targets.module_names(3)
    per_module = 1 if lora_targets.variant == "ffa-lora" else 2
    assert len(names) == len(modules) * per_module
    assert all(".lora_" in name for name in names)
    if lora_targets.variant == "ffa-lora":
        assert not any("lora_A" in name for name in names)
    for name in modules:
        a = encoder.get_submodule(name).lora_A["default"].weight.detach().numpy()
        assert np.array_equal(a, basis.directions[name])


def test_building_and_loading_leave_the_base_model_alone(tiny_model):
    before = {name: one.clone() for name, one in tiny_model.bert.state_dict().items()}
    for lora_targets in LORA_TARGETS.values():
        encoder = build(tiny_model, lora_targets)[3]
        encoder.load_adapter(random_adapter(encoder))
    assert tiny_model.bert.state_dict().keys() == before.keys()
    for name, tensor in tiny_model.bert.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_an_adapter_comes_back_as_it_was_loaded(tiny_model):
    for lora_targets in LORA_TARGETS.values():
        encoder = build(tiny_model, lora_targets)[3]
        adapter = random_adapter(encoder)
        encoder.load_adapter(adapter)
        again = encoder.adapter()
        assert again.digest == adapter.digest
        with torch.no_grad():
            for _, parameter in encoder.trained():
                parameter.zero_()
        assert again.digest == adapter.digest  # a copy, not a view


def test_an_adapter_of_another_lora_targets_is_refused(tiny_model):
    encoder = build(tiny_model, make_lora_targets(rank=3))[3]
    other = build(tiny_model, make_lora_targets(("query",), rank=3))[3].adapter()
    wider = build(tiny_model, make_lora_targets(rank=4))[3].adapter()
    for adapter in (other, wider):
        with pytest.raises(InputError) as caught:
            encoder.load_adapter(adapter)
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
    basis = build(tiny_model, make_lora_targets())[2]
    parts = dict(vars(basis))
    with pytest.raises(InputError) as caught:
        AdaptedEncoder(tiny_model, PublicBasis(**parts | change(basis)), make_lora_targets())
    assert caught.value.field == "basis"


def test_more_layers_than_the_model_has_are_refused(tiny_model):
    basis = build(tiny_model, make_lora_targets())[2]
    with pytest.raises(SettingsError) as caught:
        AdaptedEncoder(tiny_model, basis, make_lora_targets(last_layers=4))
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
def test_a_lora_targets_out_of_bounds_is_refused(change, field):
    with pytest.raises(SettingsError) as caught:
        make_lora_targets(**change)
    assert caught.value.field == field


# ------------------------------------------------------------ rows and batches
def test_rows_repeat_where_an_item_does_and_do_not_depend_on_company(tiny_model):
    for lora_targets in (make_lora_targets(), make_lora_targets(("query", "value"))):
        _, token_states, _, encoder = build(tiny_model, lora_targets)
        encoder.load_adapter(random_adapter(encoder))
        tokens = ItemTokens.from_token_states(encoder, token_states, tiny_model.token_embeddings)
        items = np.array([5, 40, 5, 0, 69])
        with torch.inference_mode():
            together = encoder(*tokens.rows(items)).numpy()
            alone = [encoder(*tokens.rows(items[[place]])).numpy()[0] for place in range(5)]
        assert np.array_equal(together[0], together[2])
        assert np.abs(together - np.array(alone)).max() < 1e-5
        assert np.abs(together - tokens.vectors(encoder)[items]).max() < 1e-5


def test_an_order_of_items_gives_the_same_vectors_in_that_order(tiny_model):
    _, token_states, _, encoder = build(tiny_model, make_lora_targets())
    order = np.random.default_rng(1).permutation(70)
    forward = ItemTokens.from_token_states(
        encoder, token_states, tiny_model.token_embeddings
    ).vectors(encoder)
    shuffled = ItemTokens.from_token_states(
        encoder, token_states.take(order), tiny_model.token_embeddings
    ).vectors(encoder)
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

    monkeypatch.setattr(catalogue_encoder, "encode_token_states", never)
    again = encode_catalogue(catalogue, basis, settings, tmp_path)
    assert np.array_equal(first.vectors, again.vectors)
    for name, array in first.tokens.arrays().items():
        assert np.array_equal(array, again.tokens.arrays()[name])
    adapter = random_adapter(first.encoder)
    for one in (first, again):
        one.encoder.load_adapter(adapter)
    assert np.array_equal(first.tokens.vectors(first.encoder), again.tokens.vectors(again.encoder))


def test_a_broken_file_is_made_anew(settings, tmp_path):
    catalogue = make_catalogue(10)
    basis = fit_public_basis(catalogue, settings, tmp_path)
    first = encode_catalogue(catalogue, basis, settings, tmp_path)
    [path] = tmp_path.glob("items-*.safetensors")
    path.write_bytes(path.read_bytes()[:-9])
    again = encode_catalogue(catalogue, basis, settings, tmp_path)
    assert np.array_equal(first.vectors, again.vectors)


def test_candidate_vectors_do_not_depend_on_what_the_encoder_held(settings, tmp_path):
    """Candidates are frozen: no adapter changes them, whoever encodes first."""
    catalogue = make_catalogue(30)
    basis = fit_public_basis(catalogue, settings, tmp_path / "one")
    first = encode_catalogue(catalogue, basis, settings, tmp_path / "one")
    first.encoder.load_adapter(random_adapter(first.encoder, size=1.0))
    again = encode_catalogue(catalogue, basis, settings, tmp_path / "two")
    assert np.abs(first.vectors - again.vectors).max() < 1e-5


def test_another_basis_lora_targets_or_catalogue_has_a_file_of_its_own(settings, tmp_path):
    catalogue = make_catalogue(12)
    basis = fit_public_basis(catalogue, settings, tmp_path)
    other_settings = settings.model_copy(update={"whitening_power": 0.3})
    other = fit_public_basis(catalogue, other_settings, tmp_path)
    encode_catalogue(catalogue, basis, settings, tmp_path)
    encode_catalogue(catalogue, other, other_settings, tmp_path)
    encode_catalogue(make_catalogue(12, seed=1), basis, settings, tmp_path)
    assert len(list(tmp_path.glob("items-*.safetensors"))) == 3
