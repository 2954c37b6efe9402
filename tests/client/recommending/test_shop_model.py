import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import client.recommending.shop_model
from client.ranking import low_rank, text_ease
from client.recommending.filters import Filters
from client.recommending.model_fit import fit_shop_model
from client.recommending.recommender import Recommender
from client.recommending.shop_model import (
    FORMAT,
    MANIFEST,
    ShopModel,
    is_fresh,
    load_shop_model,
    save_shop_model,
)
from client.shop.dataset import load_merchant_data
from client.shop.histories import typed_history
from common.arrays import map_arrays, write_arrays
from common.errors import InputError
from common.files import sha256_hex
from common.identity.signing_key import PublicKey
from common.release.verify import verify_release
from tests.support.served import SOURCE, made_model
from tests.support.shops import command


@pytest.fixture(scope="module")
def shop_folder(simulated):
    return min((simulated / "merchants").glob("00-*"))


@pytest.fixture(scope="module")
def fitted(simulated, shop_folder, tmp_path_factory):
    """A model as `client fit` makes it, in memory and as read back from its folder."""
    release = verify_release(simulated / "release", PublicKey.load(simulated / "operator.pub"))
    shop = load_merchant_data(shop_folder)
    model = fit_shop_model(release, shop, simulated.parent / "cache", source=SOURCE)
    folder = tmp_path_factory.mktemp("kept") / "model"
    save_shop_model(model, folder)
    return model, load_shop_model(folder), folder


@settings(max_examples=60)
@given(data=st.data())
def test_a_kept_model_serves_the_lists_of_the_recommender_that_was_fitted(fitted, data):
    model, kept, _ = fitted
    boost = data.draw(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.0]))
    ids = [item.item_id for item in model.catalogue.items]
    rules = Filters(
        deny=data.draw(st.lists(st.sampled_from(ids), max_size=5)),
        keep_bought=data.draw(st.booleans()),
    )
    top = data.draw(st.integers(1, 60))
    here, there = Recommender(model, boost), Recommender(kept, boost)
    shopper = data.draw(st.sampled_from([None, *model.purchases.shopper_ids]))
    if shopper is None:
        history = data.draw(st.lists(st.sampled_from(ids), max_size=8))
        assert there.for_history(history, top, rules) == here.for_history(history, top, rules)
    else:
        assert there.for_shopper(shopper, top, rules) == here.for_shopper(shopper, top, rules)


def test_a_larger_kept_model_serves_the_same_bits(tmp_path):
    """Large enough that products are in float32, whose sums could depend on how arrays lie."""
    model = made_model(items=1200, width=900, shoppers=60)
    save_shop_model(model, tmp_path / "model")
    kept = load_shop_model(tmp_path / "model")
    assert kept.ranker.text.candidate_vectors.size > 2**20
    for name in model.purchases.shopper_ids[:20]:
        ours = Recommender(model).for_shopper(name, 30)
        assert Recommender(kept).for_shopper(name, 30) == ours


@pytest.mark.parametrize("pairs", [0, 10**6])
def test_a_large_shops_model_is_kept_with_its_pairs(tmp_path, monkeypatch, pairs):
    monkeypatch.setattr(text_ease, "DENSE_BYTES", 0.0)
    monkeypatch.setattr(low_rank, "MOST_PAIRS", pairs)
    model = made_model(items=300, width=20, shoppers=60)
    assert model.ranker.collaborative.pairs is not None
    save_shop_model(model, tmp_path / "model")
    kept = load_shop_model(tmp_path / "model")
    assert kept.ranker.collaborative.pairs.nnz == model.ranker.collaborative.pairs.nnz
    for name in model.purchases.shopper_ids[:20]:
        ours = Recommender(model).for_shopper(name, 30)
        assert Recommender(kept).for_shopper(name, 30) == ours


def test_arrays_are_mapped_and_cannot_be_written(fitted):
    _, kept, _ = fitted
    for array in (kept.ranker.collaborative.factors, kept.purchases.item, kept.tail):
        assert not array.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_only_the_owner_may_read_a_model(fitted):
    folder = fitted[2]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) == 4


def test_one_altered_byte_in_any_file_is_found(fitted, tmp_path):
    save_shop_model(fitted[0], tmp_path)
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        for place in (0, len(content) // 2, len(content) - 1):
            changed = bytearray(content)
            changed[place] ^= 1
            path.write_bytes(changed)
            if path.name == MANIFEST and place == len(content) // 2:
                continue  # a digit of a weight may change and still be a number
            with pytest.raises(InputError):
                load_shop_model(tmp_path)
        path.write_bytes(content)
    load_shop_model(tmp_path)


@pytest.mark.parametrize("name", ["arrays", "catalogue", "shoppers", "manifest"])
def test_a_missing_file_is_named(fitted, tmp_path, name):
    save_shop_model(fitted[0], tmp_path)
    next(tmp_path.glob(f"{name}*")).unlink()
    with pytest.raises(InputError, match=name):
        load_shop_model(tmp_path)


def test_a_writer_that_is_stopped_leaves_the_old_model_whole(tmp_path, monkeypatch):
    old, new = (made_model(seed=seed) for seed in (1, 2))
    digest = save_shop_model(old, tmp_path)

    def stop(*_, **__):
        raise OSError(28, os.strerror(28))

    for name in ("write_atomic", "write_arrays", "write_catalogue"):
        with monkeypatch.context() as patch:
            patch.setattr(client.recommending.shop_model, name, stop)
            with pytest.raises(OSError, match="No space"):
                save_shop_model(new, tmp_path)
        assert load_shop_model(tmp_path).digest == digest


def test_who_has_mapped_the_old_model_keeps_it(tmp_path):
    save_shop_model(made_model(seed=1), tmp_path)
    old = load_shop_model(tmp_path)
    before = Recommender(old).for_shopper("shopper-3", 10)
    save_shop_model(made_model(seed=2), tmp_path)
    assert Recommender(old).for_shopper("shopper-3", 10) == before
    assert Recommender(load_shop_model(tmp_path)).for_shopper("shopper-3", 10) != before
    assert len(list(tmp_path.iterdir())) == 4


def test_a_model_is_fresh_for_just_what_it_was_made_of(tmp_path):
    assert not is_fresh(tmp_path, SOURCE)
    save_shop_model(made_model(), tmp_path)
    assert is_fresh(tmp_path, SOURCE)
    for name in ("release_digest", "data_digest", "code_digest"):
        assert not is_fresh(tmp_path, SOURCE.model_copy(update={name: "f" * 64}))


def test_a_model_that_says_nothing_of_its_making_is_not_kept(tmp_path):
    model = made_model()
    model = ShopModel(**{**vars(model), "source": None})
    with pytest.raises(InputError):
        save_shop_model(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()


# ------------------------------------------------------------------ as commands
@pytest.fixture(scope="module")
def options(simulated, shop_folder, tmp_path_factory):
    """Options of a shop with a model that `client fit` made."""
    model = tmp_path_factory.mktemp("fit") / "model"
    named = ["--release", str(simulated / "release"), "--key", str(simulated / "operator.pub")]
    named += ["--shop", str(shop_folder), "--model", str(model)]
    done = command(["client", "fit", *named], simulated.parent / "cache")
    assert done.exception is None
    assert load_shop_model(model).digest in done.output
    return named


def test_recommend_reads_the_fitted_model_and_says_what_a_fit_would(options, simulated):
    """Another process, so that what it loads shows: without a model it would load torch."""
    program = """
import sys
from pathlib import Path
import fedtail
try:
    fedtail.app(sys.argv[1:])
except SystemExit:
    pass
slow = {"polars", "scipy.linalg", "scipy.optimize"}
heavy = ({"torch", "peft", "transformers", "opacus", "flwr"} | slow) & set(sys.modules)
sys.exit(f"loaded {heavy}" if heavy else 0)
"""
    ask = ["client", "recommend", "--shopper", "shopper-3", "--json"]
    ran = subprocess.run(
        [sys.executable, "-c", program, *ask, *options], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    without = [*options[:-1], str(simulated / "no model")]
    fitted = command([*ask, *without], simulated.parent / "cache")
    assert fitted.exception is None
    assert json.loads(ran.stdout) == json.loads(fitted.output)


def test_a_list_for_every_shopper_goes_to_a_file_of_the_owners(options, simulated, tmp_path):
    out = tmp_path / "lists.jsonl"
    ask = ["client", "recommend", "--all", "--out", str(out), "--top", "4", *options]
    assert command(ask, simulated.parent / "cache").exception is None
    model = load_shop_model(Path(options[-1]))
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["shopper_id"] for line in lines] == list(model.purchases.shopper_ids)
    assert out.stat().st_mode & 0o777 == 0o600
    for line in lines[:10]:
        found = Recommender(model).for_shopper(line["shopper_id"], 4)
        assert line["items"] == [
            {"item_id": one.item.item_id, "rank": rank, "score": one.score, "chance": one.chance}
            for rank, one in enumerate(found, 1)
        ]


def test_all_and_out_go_together(options, simulated):
    ask = ["client", "recommend", "--all", *options]
    assert isinstance(command(ask, simulated.parent / "cache").exception, InputError)


def test_a_model_of_before_there_was_a_season_ranks_as_it_did(tmp_path):
    """Format 2 had neither the seasons' arrays nor their weights."""
    model = made_model()
    save_shop_model(model, tmp_path)
    before = model.ranker.with_weights(
        replace(model.ranker.weights, season=0.0, federated_season=0.0, federated_prior=0.0)
    )
    manifest = json.loads((tmp_path / MANIFEST).read_bytes())
    manifest["format"] = 2
    for name in ("season", "federated_season", "federated_prior"):
        del manifest["weights"][name]
    arrays = dict(map_arrays(tmp_path / manifest["files"]["arrays"]["name"]))
    older = {name: one for name, one in arrays.items() if "season" not in name if name != "recent"}
    path = tmp_path / "arrays-0000000000000000.safetensors"
    write_arrays(path, older)
    content = path.read_bytes()
    manifest["files"]["arrays"] = {
        "name": path.name,
        "size": len(content),
        "sha256": sha256_hex(content),
    }
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    kept = load_shop_model(tmp_path)
    history = typed_history([3, 8], len(model.catalogue))
    assert kept.ranker.weights == before.weights
    assert np.array_equal(kept.ranker.score(history), before.score(history))
    assert not np.array_equal(model.ranker.score(history), before.score(history))


def test_a_seasons_reliability_is_kept_and_a_model_of_before_it_counts_all(tmp_path):
    model = made_model()
    shaky = replace(model.ranker.season.own, reliability=0.25)
    season = replace(model.ranker.season, own=shaky)
    model = replace(model, ranker=replace(model.ranker, season=season))
    save_shop_model(model, tmp_path)
    history = typed_history([3, 8], len(model.catalogue))
    kept = load_shop_model(tmp_path).ranker.parts(history).season
    assert np.array_equal(kept, model.ranker.parts(history).season)
    manifest = json.loads((tmp_path / MANIFEST).read_bytes())
    named = manifest["files"]["arrays"]
    path = tmp_path / named["name"]
    arrays = {name: np.array(one) for name, one in map_arrays(path).items()}
    write_arrays(path, {name: one for name, one in arrays.items() if "reliability" not in name})
    named |= {"size": path.stat().st_size, "sha256": sha256_hex(path.read_bytes())}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest | {"format": 5}))
    before = load_shop_model(tmp_path).ranker.parts(history).season
    assert kept.any()
    assert np.allclose(before, 4 * kept)


@pytest.mark.parametrize("number", [3, 4])
def test_a_model_of_before_seasons_counted_by_evidence_ranks_as_it_did(number, tmp_path):
    """Formats 3 and 4 add all of a season, whatever sold; so they do when kept again."""
    model = made_model()
    season = model.ranker.season
    sales, history = model.ranker.sales, typed_history([3, 8], len(model.catalogue))
    weights = replace(model.ranker.weights, federated_prior=0.0)
    ranker = model.ranker.with_weights(weights)
    save_shop_model(replace(model, ranker=ranker), tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_bytes())
    assert manifest["format"] == FORMAT
    manifest["format"] = number
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    kept = load_shop_model(tmp_path)
    parts, now = kept.ranker.parts(history), ranker.parts(history)
    assert sales.any()
    assert np.array_equal(parts.season[0], season.own.scores * np.float32(weights.season))
    assert np.array_equal(
        parts.federated_season[0],
        season.federated.scores * np.float32(weights.federated_season),
    )
    assert not np.array_equal(parts.season, now.season)
    save_shop_model(kept, tmp_path)
    again = load_shop_model(tmp_path)
    assert np.array_equal(again.ranker.score(history), kept.ranker.score(history))
