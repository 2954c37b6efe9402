import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from shops import command, interactions_of, make_catalogue, make_shop, write_tiny_bert

import client.recommending
from client.clicks import pairs_of
from client.dataset import load_merchant_data, save_merchant_data
from client.filters import Filters
from client.gating import DEFAULT_GATE
from client.new_items import with_new_items
from client.recommending import Recommender, find_item, released_vectors
from common.catalogue import Item
from common.encoder.encoding import forget_base_models
from common.errors import InputError, ReleaseError
from common.release.signing import PublicKey, SigningKey
from common.release.verifying import verify_release


# ---------------------------------------------------------------------- by name
def test_an_item_is_found_by_id_before_title_and_in_any_case():
    catalogue = make_catalogue(5)
    assert find_item(catalogue, "item-3") == 3
    assert find_item(catalogue, catalogue.items[2].title.upper()) == 2
    with pytest.raises(InputError) as caught:
        find_item(catalogue, "no such thing")
    assert caught.value.field == "history"
    with pytest.raises(InputError) as caught:
        find_item(catalogue, catalogue.items[3].title[:-1])
    assert f"Did you mean {catalogue.items[3].title!r}?" in str(caught.value)


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


def test_a_score_is_the_sum_of_its_parts_and_the_list_is_in_its_order(recommender, shop):
    found = recommender.for_shopper(shop.interactions.shopper_ids[0], 20)
    for one in found:
        why = one.explanation
        parts = sum(part.own + part.text for part in why.history) + why.trend + why.popularity
        assert one.score == pytest.approx(parts, abs=1e-6)
        assert one.because == one.explanation.because(shop.catalogue)
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


def test_a_shop_without_validation_cases_keeps_the_decay_of_training(
    release, tmp_path, monkeypatch
):
    honest = client.recommending.released_model

    def trained_with_a_decay(release):
        model = honest(release)
        return replace(model, settings=model.settings.model_copy(update={"history_decay": 0.7}))

    monkeypatch.setattr(client.recommending, "released_model", trained_with_a_decay)
    base = make_shop(items=12, shoppers=10)
    interactions = interactions_of([(0, 3, 1, 0)], 12, 1)
    shop = type(base)("Tiny", make_catalogue(12, seed=5), interactions, base.split_rule)
    assert Recommender(release, shop, tmp_path)._ranker.text.decay == 0.7
    new = [Item("new", "A new thing", "a new thing")]
    assert Recommender(release, shop, tmp_path, new)._ranker.text.decay == 0.7


def test_the_adapter_of_the_release_is_what_ranks(release, shop, recommender, tmp_path):
    vectors = recommender._ranker.text.history_vectors
    frozen = recommender._ranker.text.candidate_vectors
    assert np.abs(vectors - frozen).max() > 1e-4


def test_chances_rise_with_the_score_among_head_and_among_tail_items(recommender, shop):
    found = recommender.for_shopper(shop.interactions.shopper_ids[2], 50)
    tail = {
        item.item_id: bool(one)
        for item, one in zip(shop.catalogue.items, recommender._tail, strict=True)
    }
    for of_tail in (True, False):
        chances = [one.chance for one in found if tail[one.item.item_id] is of_tail]
        assert chances == sorted(chances, reverse=True)
        assert all(0 <= chance <= 1 for chance in chances)
    assert all(one.chance is None for one in recommender.for_history([], 5))


def test_a_chance_is_that_of_the_score_as_the_dial_leaves_it(release, shop, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("client.recommending.fit_gate", lambda *_: DEFAULT_GATE)
    monkeypatch.setattr(
        "client.recommending.pairs_of",
        lambda score, *more: asked.append(score.__self__.gate) or pairs_of(score, *more),
    )
    ranking = [Recommender(release, shop, tmp_path, dial=dial)._ranker.gate for dial in (0, 1, 2)]
    assert asked == ranking == [DEFAULT_GATE.turned(dial) for dial in (0, 1, 2)]


# ---------------------------------------------------------------- cold start
def test_an_item_that_came_after_the_import_is_ranked_by_its_text(release, shop, tmp_path):
    """A new item with the words of an old one is what a shopper of the old one is told of."""
    old = next(item for item in shop.catalogue.items if len(item.text.split()) > 6)
    words = old.text.split()
    text = " ".join([words[1], words[0], *words[2:]])
    new = Item("new-1", f"The new {old.title}", text)
    recommender = Recommender(release, shop, tmp_path, [new])
    found = recommender.for_history([old.item_id], 50)
    assert len(found) == len(shop.catalogue)
    place = [one.item.item_id for one in found].index("new-1")
    assert place < 3
    assert found[place].explanation.text > 0
    assert found[place].because == f"Because you bought {old.title}: the two have much in common."


def test_new_items_get_the_vectors_that_an_import_would_have_given_them(release, shop, tmp_path):
    new = [Item("item-15b", "Jug", "ivory jug"), Item("a", "Mug", "rustic oak mug with lid")]
    more = with_new_items(shop, new)
    together = released_vectors(release, more.catalogue, tmp_path)
    apart = Recommender(release, shop, tmp_path, new)
    assert apart.catalogue.items == more.catalogue.items
    text = apart._ranker.text
    assert text.history_vectors == pytest.approx(together.adapted, abs=1e-5)
    assert text.candidate_vectors == pytest.approx(together.frozen, abs=1e-5)


def test_a_new_shopper_is_served_from_the_first_click_on(recommender, shop):
    first, second = (
        [one.item.item_id for one in recommender.for_history([name], 49)]
        for name in ("item-3", "item-30")
    )
    assert len(first) == len(second) == 49
    assert first != second


def test_without_a_history_the_best_sellers_come_first(recommender, shop):
    found = recommender.for_history([], 50)
    sales = shop.interactions.item_counts()
    order = np.argsort(-sales, kind="stable")
    assert [one.item.item_id for one in found] == [
        shop.catalogue.items[place].item_id for place in order
    ]
    assert found == recommender.for_history([], 50)


def test_a_merchant_that_sold_nothing_and_never_trained_uses_the_release_as_it_is(
    release, tmp_path
):
    base = make_shop(items=20, shoppers=3, seed=8)
    shop = type(base)("New", base.catalogue, interactions_of([], 20, 3), base.split_rule)
    found = Recommender(release, shop, tmp_path).for_history(["item-4"], 20)
    assert len(found) == 19
    assert all(one.explanation.own == 0 and one.chance is None for one in found)
    assert len({one.score for one in found}) > 10
    vectors = released_vectors(release, shop.catalogue, tmp_path)
    likeness = vectors.frozen @ vectors.adapted[4]
    best = [place for place in np.argsort(-likeness) if place != 4]
    assert found[0].item.item_id == f"item-{best[0]}"
    assert list(tmp_path.rglob("ledger*")) == []


def test_rules_narrow_what_is_picked_and_not_the_list(recommender, shop):
    name = shop.interactions.shopper_ids[0]
    deny = [one.item.item_id for one in recommender.for_shopper(name, 5)]
    rest = recommender.for_shopper(name, 10)[5:]
    found = recommender.for_shopper(name, 5, Filters(deny=deny))
    assert found == rest


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
    number = r"(-?\d+\.\d\d)\s+│\s+"
    numbers = re.findall(number * 3 + r"(\d+\.\d)%", done.output)
    assert len(numbers) == 5
    for score, own, told, _ in numbers:
        assert float(score) == pytest.approx(float(own) + float(told), abs=0.011)


def test_the_command_takes_a_history(simulated, shop):
    done = recommend(simulated, "--history", "item-1", "--history", shop.catalogue.items[2].title)
    assert done.exception is None


def printed_parts(simulated, *more):
    done = recommend(simulated, "--json", *more)
    assert done.exception is None
    return json.loads(done.output)["recommendations"]


def test_the_json_holds_every_part_of_every_score(simulated, shop):
    found = printed_parts(simulated, "--shopper", shop.interactions.shopper_ids[3], "--top", "20")
    assert len(found) == 20
    for one in found:
        parts = one["parts"]
        told = sum(part["goes_together"] + part["text"] for part in parts["history"])
        assert parts["popularity"] == 0
        assert told + parts["trend"] == pytest.approx(one["score"], abs=1e-6)
        assert len(parts["history"]) == len(bought_by(shop, shop.interactions.shopper_ids[3]))


def test_explained_recommendations_show_numbers_that_add_up(simulated, shop):
    name = max(shop.interactions.shopper_ids, key=lambda one: len(bought_by(shop, one)))
    done = recommend(simulated, "--shopper", name, "--top", "3", "--explain")
    assert done.exception is None
    reasons = r"^   (Because you bought|Selling more than usual lately)"
    assert len(re.findall(reasons, done.output, re.MULTILINE)) == 3
    assert "more of the history" in done.output
    for block in re.split(r"\n\d\. ", done.output)[1:]:
        numbers = re.findall(r"(-?\d+\.\d\d) +(-?\d+\.\d\d) +(-?\d+\.\d\d) *$", block, re.MULTILINE)
        *parts, score = ([float(one) for one in row] for row in numbers)
        assert len(parts) == 4  # three of the history, and the rest in one
        trend = re.search(r"sales trend +(-?\d+\.\d\d) *$", block, re.MULTILINE)
        for column, added in enumerate((0.0, 0.0, float(trend[1]) if trend else 0.0)):
            shown = sum(row[column] for row in parts) + added
            assert shown == pytest.approx(score[column], abs=0.0301)  # six rounded numbers


def test_the_command_applies_rules_from_flags_and_file(simulated, shop, tmp_path):
    (tmp_path / "stock.csv").write_text(
        "item_id,quantity\nitem-1,2\nitem-2,0\nitem-3,1\nitem-4,1\n"
    )
    (tmp_path / "rules.toml").write_text('stock = "stock.csv"\ndeny = ["item-4"]\n')
    rules = ("--new-shopper", "--filters", str(tmp_path / "rules.toml"))
    found = printed_parts(simulated, *rules)
    assert {one["item_id"] for one in found} == {"item-1", "item-3"}
    found = printed_parts(simulated, *rules, "--allow", "item-3", "--allow", "item-9")
    assert [one["item_id"] for one in found] == ["item-3"]
    short = recommend(simulated, *rules)
    assert "Only 2 item(s) pass the rules; 10 were asked for." in short.output


def test_the_command_ranks_items_newer_than_the_import(simulated, tmp_path):
    (tmp_path / "new.csv").write_text("item_id,title\nnew-1,blue jug with lid\n")
    found = printed_parts(
        simulated, "--new-shopper", "--new-items", str(tmp_path / "new.csv"), "--allow", "new-1"
    )
    assert [(one["item_id"], one["title"]) for one in found] == [("new-1", "blue jug with lid")]


def test_an_unknown_id_in_a_rule_is_an_error_that_names_the_rule(simulated):
    failed = recommend(simulated, "--new-shopper", "--deny", "itm-4").exception
    assert isinstance(failed, InputError)
    assert failed.field == "deny"


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--shopper", "shopper-1", "--history", "item-1"),
        ("--shopper", "shopper-1", "--new-shopper"),
    ],
)
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
