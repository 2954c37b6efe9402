from dataclasses import replace

import numpy as np
import pytest

import client.ranking.released_vectors
from client.ranking.fusion_weights import DEFAULT_WEIGHTS, default_fusion_weights
from client.ranking.purchase_probability import pairs_of
from client.ranking.released_vectors import released_vectors
from client.recommending.filters import Filters
from client.recommending.model_fit import fit_shop_model
from client.recommending.new_items import with_new_items
from client.recommending.recommender import Recommender, find_item
from client.shop.dataset import load_merchant_data
from client.shop.splitting import SplitRule, split_interactions
from common.catalogue import Item
from common.errors import InputError
from common.identity.signing_key import PublicKey
from common.release.verify import verify_release
from tests.support.shops import bought_by, interactions_of, make_catalogue, make_shop


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
    return Recommender(fit_shop_model(release, shop, tmp_path_factory.mktemp("cache")))


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
    found = Recommender(fit_shop_model(release, shop, tmp_path)).for_shopper("shopper-0", 140)
    assert sorted(int(one.item.item_id.removeprefix("item-")) for one in found) == list(
        range(130, 140)
    )


def test_a_score_is_the_sum_of_its_parts_and_the_list_is_in_its_order(recommender, shop):
    found = recommender.for_shopper(shop.interactions.shopper_ids[0], 20)
    for one in found:
        why = one.explanation
        parts = {name: np.float32(part) for name, part in why.parts.items()}
        own, text = parts["collaborative"], parts["text"]
        alike = parts["trend"] + parts["cold_start"] + parts["popularity"]
        assert one.score == own + text + (alike + (parts["season"] + parts["federated_season"]))
        assert np.float32(sum(part.collaborative for part in why.history)) == own
        assert np.float32(sum(part.text for part in why.history)) == text
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
    found = Recommender(fit_shop_model(release, shop, tmp_path)).for_shopper("shopper-0", 12)
    assert len(found) == 11
    assert all(np.isfinite(one.score) for one in found)


def test_a_shop_without_validation_cases_keeps_the_decay_of_training(
    release, tmp_path, monkeypatch
):
    honest = client.ranking.released_vectors.released_model

    def trained_with_a_decay(release):
        model = honest(release)
        return replace(model, settings=model.settings.model_copy(update={"history_decay": 0.7}))

    monkeypatch.setattr(client.ranking.released_vectors, "released_model", trained_with_a_decay)
    base = make_shop(items=12, shoppers=10)
    interactions = interactions_of([(0, 3, 1, 0)], 12, 1)
    shop = type(base)("Tiny", make_catalogue(12, seed=5), interactions, base.split_rule)
    assert Recommender(fit_shop_model(release, shop, tmp_path))._ranker.text.decay == 0.7
    new = [Item("new", "A new thing", "a new thing")]
    assert Recommender(fit_shop_model(release, shop, tmp_path, new))._ranker.text.decay == 0.7


def test_the_adapter_of_the_release_is_what_ranks(release, shop, recommender, tmp_path):
    vectors = recommender._ranker.text.history_vectors
    frozen = recommender._ranker.text.candidate_vectors
    assert np.abs(vectors - frozen).max() > 1e-4


def test_chances_rise_with_the_score_among_head_and_among_tail_items(recommender, shop):
    found = recommender.for_shopper(shop.interactions.shopper_ids[2], 50)
    tail = {
        item.item_id: bool(one)
        for item, one in zip(shop.catalogue.items, recommender._model.tail, strict=True)
    }
    for of_tail in (True, False):
        chances = [one.chance for one in found if tail[one.item.item_id] is of_tail]
        assert chances == sorted(chances, reverse=True)
        assert all(0 <= chance <= 1 for chance in chances)
    assert all(one.chance is None for one in recommender.for_history([], 5))


def test_a_chance_is_that_of_the_score_as_the_tail_boost_leaves_it(
    release, shop, tmp_path, monkeypatch
):
    asked = []
    for name in ("fit_fusion_weights", "fit_strength"):
        monkeypatch.setattr(f"client.ranking.shop_fit.{name}", lambda _, default: default)
    monkeypatch.setattr(
        "client.recommending.model_fit.pairs_of",
        lambda score, *more: asked.append(score.__self__.weights) or pairs_of(score, *more),
    )
    ranking = [
        Recommender(
            fit_shop_model(release, shop, tmp_path, boosts=[tail_boost]), tail_boost
        )._ranker.weights
        for tail_boost in (0, 1, 2)
    ]
    assert asked == ranking == [DEFAULT_WEIGHTS.boosted(tail_boost) for tail_boost in (0, 1, 2)]


@pytest.mark.parametrize("timed", [True, False])
def test_weights_are_fitted_from_those_of_a_shop_with_or_without_a_clock(
    release, shop, tmp_path, monkeypatch, timed
):
    asked = []
    monkeypatch.setattr(
        "client.ranking.shop_fit.fit_fusion_weights",
        lambda _, default: asked.append(default.weights) or default,
    )
    rows = replace(shop.interactions, timed=timed)
    rule = shop.split_rule if timed else SplitRule("leave_last_out")
    Recommender(
        fit_shop_model(release, replace(shop, interactions=rows, split_rule=rule), tmp_path)
    )
    assert asked == [default_fusion_weights(split_interactions(rows, rule).train)]


# ---------------------------------------------------------------- cold start
def test_an_item_that_came_after_the_import_is_ranked_by_its_text(release, shop, tmp_path):
    """A new item with the words of an old one is what a shopper of the old one is told of."""
    old = next(item for item in shop.catalogue.items if len(item.text.split()) > 6)
    words = old.text.split()
    text = " ".join([words[1], words[0], *words[2:]])
    new = Item("new-1", f"The new {old.title}", text)
    recommender = Recommender(fit_shop_model(release, shop, tmp_path, [new]))
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
    apart = Recommender(fit_shop_model(release, shop, tmp_path, new))
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
    found = Recommender(fit_shop_model(release, shop, tmp_path)).for_history(["item-4"], 20)
    assert len(found) == 19
    assert all(one.explanation.collaborative == 0 and one.chance is None for one in found)
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
