import json
import re
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shops import command, interactions_of, make_catalogue, make_shop, write_tiny_bert

from client.dataset import load_merchant_data, save_merchant_data
from client.recommending import Recommender, best_unseen, find_item
from common.encoder.encoding import cached_base_model, forget_base_models
from common.errors import InputError, ReleaseError
from common.release.signing import PublicKey, SigningKey
from common.release.verifying import verify_release


# ---------------------------------------------------------------------- top k
@given(
    st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=12),
    st.sets(st.integers(0, 11)),
    st.integers(1, 15),
)
def test_the_best_unseen_are_the_best_and_unseen_ties_to_the_lower_index(scores, seen, top):
    seen = [item for item in seen if item < len(scores)]
    found = best_unseen(np.array(scores, np.float32), np.array(seen, np.int64), top)
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], item))
    assert found.tolist() == [item for item in order if item not in seen][:top]


def test_an_item_is_found_by_id_before_title_and_in_any_case():
    catalogue = make_catalogue(5)
    assert find_item(catalogue, "item-3") == 3
    assert find_item(catalogue, catalogue.items[2].title.upper()) == 2
    with pytest.raises(InputError):
        find_item(catalogue, "no such thing")


# ------------------------------------------------------------ with a release
@pytest.fixture(scope="module")
def release(simulated):
    return verify_release(simulated / "release", PublicKey.load(simulated / "operator.pub"))


@pytest.fixture(scope="module")
def shop(simulated):
    return load_merchant_data(min((simulated / "merchants").glob("00-*")))


@pytest.fixture(scope="module")
def recommender(release, shop, tmp_path_factory):
    return Recommender(release, shop, tmp_path_factory.mktemp("cache"))


def bought_by(data, name):
    place = data.interactions.shopper_ids.index(name)
    items = data.interactions.item[data.interactions.shopper == place]
    return {data.catalogue.items[item].item_id for item in items.tolist()}


def test_nobody_is_recommended_what_they_bought(recommender, shop):
    for name in shop.interactions.shopper_ids:
        found = recommender.for_shopper(name, 50)
        listed = [one.item.item_id for one in found]
        assert len(listed) == len(set(listed)) == 50 - len(bought_by(shop, name))
        assert not set(listed) & bought_by(shop, name)


def test_also_what_was_bought_before_the_history_that_ranking_looks_at(release, tmp_path):
    """Ranking reads the latest 100 items; all others are bought all the same."""
    shop = make_shop(items=140, shoppers=30)
    rows = shop.interactions
    table = list(zip(rows.shopper, rows.item, rows.time, rows.basket, strict=True))
    table = [row for row in table if row[0] != 0]
    table += [(0, item, item * 10**6, item) for item in range(130)]
    shop = type(shop)(shop.name, shop.catalogue, interactions_of(table, 140, 30), shop.split_rule)
    found = Recommender(release, shop, tmp_path).for_shopper("shopper-0", 140)
    assert sorted(int(one.item.item_id.removeprefix("item-")) for one in found) == list(
        range(130, 140)
    )


def test_a_score_is_the_sum_of_its_two_parts_and_the_list_is_in_its_order(recommender, shop):
    found = recommender.for_shopper(shop.interactions.shopper_ids[0], 20)
    for one in found:
        assert one.score == pytest.approx(one.from_shop + one.from_text, abs=1e-6)
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)


def test_a_typed_history_may_mix_ids_and_titles(recommender, shop):
    first, second = shop.catalogue.items[:2]
    found = recommender.for_history([first.item_id, second.title.upper()], 48)
    assert not {first.item_id, second.item_id} & {one.item.item_id for one in found}
    again = recommender.for_history([first.title, second.item_id], 48)
    assert found == again


def test_wrong_questions_are_refused_without_naming_a_shopper(recommender):
    with pytest.raises(InputError) as caught:
        recommender.for_shopper("somebody else", 5)
    assert caught.value.field == "shopper"
    assert "shopper-" not in str(caught.value)
    with pytest.raises(InputError):
        recommender.for_history([], 5)
    with pytest.raises(InputError):
        recommender.for_history(["no such title"], 5)


def test_a_shop_with_a_catalogue_of_its_own_is_ranked_too(release, tmp_path):
    """Another shop's items, in another order, and so few purchases that nothing can be fitted."""
    catalogue = make_catalogue(12, seed=5)
    interactions = interactions_of([(0, 3, 1, 0)], 12, 1)
    base = make_shop(items=12, shoppers=10)
    shop = type(base)("Tiny", catalogue, interactions, base.split_rule)
    found = Recommender(release, shop, tmp_path).for_shopper("shopper-0", 12)
    assert len(found) == 11
    assert all(np.isfinite(one.score) for one in found)


def test_the_adapter_of_the_release_is_what_ranks(release, shop, recommender, tmp_path):
    vectors = recommender._ranker.text.history_vectors
    frozen = recommender._ranker.text.candidate_vectors
    assert np.abs(vectors - frozen).max() > 1e-4


def test_another_base_model_is_refused(simulated, release, shop, tmp_path, monkeypatch):
    other = cached_base_model(str(write_tiny_bert(tmp_path / "other", seed=9)))
    monkeypatch.setattr("client.recommending.cached_base_model", lambda name: other)
    with pytest.raises(ReleaseError) as caught:
        Recommender(release, shop, tmp_path)
    assert caught.value.field == "base_model"


# --------------------------------------------------------------- the command
def recommend(simulated, *more, release=None, key=None, shop=None):
    arguments = ["client", "recommend", *more]
    arguments += ["--release", str(release or simulated / "release")]
    arguments += ["--key", str(key or simulated / "operator.pub")]
    arguments += ["--shop", str(shop or min((simulated / "merchants").glob("00-*")))]
    return command(arguments, simulated.parent / "cache")


def test_the_command_lists_titles_and_both_parts(simulated, shop):
    name = shop.interactions.shopper_ids[3]
    done = recommend(simulated, "--shopper", name, "--top", "5")
    assert done.exception is None
    assert "verified" in done.output
    titles = [item.title for item in shop.catalogue.items if item.title in done.output]
    assert len(titles) >= 5
    numbers = re.findall(r"(-?\d+\.\d\d)\s+│\s+(-?\d+\.\d\d)\s+│\s+(-?\d+\.\d\d)", done.output)
    assert len(numbers) == 5
    for score, own, told in numbers:
        assert float(score) == pytest.approx(float(own) + float(told), abs=0.011)


def test_the_command_takes_a_history(simulated, shop):
    done = recommend(simulated, "--history", "item-1", "--history", shop.catalogue.items[2].title)
    assert done.exception is None


@pytest.mark.parametrize("more", [(), ("--shopper", "shopper-1", "--history", "item-1")])
def test_the_command_wants_a_shopper_or_a_history(simulated, more):
    assert isinstance(recommend(simulated, *more).exception, InputError)


def every_file(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_one_flipped_bit_in_any_file_is_refused(simulated, tmp_path):
    files = every_file(simulated / "release")
    assert len(files) == 7
    for name in files:
        copy = shutil.copytree(simulated / "release", tmp_path / name.name)
        content = bytearray((copy / name).read_bytes())
        for place in (0, len(content) // 2, len(content) - 1):
            flipped = bytearray(content)
            flipped[place] ^= 1
            (copy / name).write_bytes(flipped)
            done = recommend(simulated, "--shopper", "shopper-1", release=copy)
            assert isinstance(done.exception, ReleaseError), (name, place)
            assert "item-" not in done.output


def test_a_missing_and_an_added_file_are_refused(simulated, tmp_path):
    for number, name in enumerate(every_file(simulated / "release")):
        copy = shutil.copytree(simulated / "release", tmp_path / str(number))
        (copy / name).unlink()
        done = recommend(simulated, "--shopper", "shopper-1", release=copy)
        assert isinstance(done.exception, ReleaseError), name
    copy = shutil.copytree(simulated / "release", tmp_path / "added")
    (copy / "more.bin").write_bytes(b"1")
    done = recommend(simulated, "--shopper", "shopper-1", release=copy)
    assert isinstance(done.exception, ReleaseError)


def test_another_operators_key_is_refused(simulated, tmp_path):
    SigningKey.create(tmp_path / "other.key").public.save(tmp_path / "other.pub")
    done = recommend(simulated, "--shopper", "shopper-1", key=tmp_path / "other.pub")
    assert isinstance(done.exception, ReleaseError)


def test_a_base_model_with_other_weights_is_refused(simulated, tiny_bert, tmp_path, monkeypatch):
    """The folder that the release names now holds another model."""
    other = write_tiny_bert(tmp_path / "other", seed=9)
    forget_base_models()
    kept = (tiny_bert / "model.safetensors").read_bytes()
    try:
        (tiny_bert / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
        done = recommend(simulated, "--shopper", "shopper-1")
    finally:
        (tiny_bert / "model.safetensors").write_bytes(kept)
        forget_base_models()
    assert isinstance(done.exception, ReleaseError)
    assert done.exception.field == "base_model"


def test_an_altered_shop_is_refused(simulated, tmp_path):
    shop = shutil.copytree(min((simulated / "merchants").glob("00-*")), tmp_path / "shop")
    [rows] = shop.glob("interactions-*.parquet")
    content = bytearray(rows.read_bytes())
    content[100] ^= 1
    rows.write_bytes(content)
    done = recommend(simulated, "--shopper", "shopper-1", shop=shop)
    assert isinstance(done.exception, InputError)


def test_the_manifest_says_what_was_measured_and_holds_no_shopper(simulated):
    text = (simulated / "release" / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["adapter"]["settings"]["rank"] == 3
    for path in every_file(simulated / "release"):
        content = (simulated / "release" / path).read_bytes()
        assert b"shopper-" not in content
        assert b"item-1" not in content


def test_the_saved_shop_is_the_one_that_was_read(shop, tmp_path):
    save_merchant_data(shop, tmp_path)
    assert load_merchant_data(tmp_path).catalogue.digest == shop.catalogue.digest
