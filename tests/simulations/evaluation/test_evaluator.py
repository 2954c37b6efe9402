from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.ranking import shop_fit
from client.ranking.baselines import fit_ease
from client.ranking.fusion_weights import (
    default_fusion_weights,
)
from client.ranking.sales_trend import sales_trend
from client.ranking.text_ease import fit_text_ease
from client.ranking.text_scorer import DECAYS, TextScorer
from client.ranking.validation import past_windows
from client.shop.dataset import MerchantData
from client.shop.histories import histories
from client.shop.splitting import SplitRule, evaluation_cases, split_interactions
from common.catalogue import Catalogue, Item, popularity_buckets
from common.encoder.catalogue_encoder import encode_catalogue
from simulations.data import shop as shop_module
from simulations.data.shop import Shop
from simulations.evaluation.evaluator import ShopEvaluator, make_evaluators, shared_buckets
from tests.support.judged_shops import ITEMS, RULE, shop_of
from tests.support.shops import (
    DAY,
    interactions_of,
    make_catalogue,
    random_adapter,
)


# -------------------------------------------------------------------- periods
def test_a_node_sees_no_row_of_the_test_period():
    shop = shop_of("A")
    assert shop.past.time.max() < RULE.test_from
    assert len(shop.past) == (shop.data.interactions.time < RULE.test_from).sum()
    assert len(shop.split.test) > 0


def test_test_cases_are_first_purchases_after_the_past():
    shop = shop_of("A")
    cases = shop.test_cases
    rows = shop.data.interactions
    for place, shopper in enumerate(cases.shoppers):
        mine = rows.shopper == shopper
        had = set(rows.item[mine & (rows.time < RULE.test_from)].tolist())
        later = set(rows.item[mine & (rows.time >= RULE.test_from)].tolist())
        assert set(cases.seen[place].indices.tolist()) == had
        assert set(cases.relevant[place].indices.tolist()) == later - had
        assert later - had


# -------------------------------------------------------------------- buckets
@given(st.data())
def test_shared_buckets_are_those_of_the_market(data):
    """By hand: add up sales by text over all shops, split once, and look each item up."""
    texts = [f"text {number}" for number in range(12)]
    shops = []
    for name in "ABC"[: data.draw(st.integers(1, 3))]:
        mine = data.draw(st.lists(st.sampled_from(texts), min_size=1, max_size=8, unique=True))
        catalogue = Catalogue(tuple(Item(f"{name}{text}", text, text) for text in mine))
        rows = data.draw(
            st.lists(
                st.tuples(st.integers(0, 3), st.integers(0, len(mine) - 1)),
                max_size=15,
                unique=True,
            )
        )
        table = [(shopper, item, 1, 0) for shopper, item in rows]
        interactions = interactions_of(table, len(mine), 4)
        shops.append(Shop.of(MerchantData(name, catalogue, interactions, RULE)))
    sold = {}
    for shop in shops:
        for item, count in zip(shop.data.catalogue.items, shop.past.item_counts(), strict=True):
            sold[item.text] = sold.get(item.text, 0) + int(count)
    expected = popularity_buckets(np.array(list(sold.values())))
    place = {text: number for number, text in enumerate(sold)}
    found = shared_buckets(shops)
    for shop in shops:
        where = [place[item.text] for item in shop.data.catalogue.items]
        for name in ("head", "tail", "cold", "tail_by_volume"):
            assert np.array_equal(
                getattr(found[shop.name], name), getattr(expected, name)[where]
            ), name


# --------------------------------------------------------------------- judging
def test_an_evaluator_takes_the_decay_of_training_for_the_usual_one(ground):
    settings, cache, basis, shops, _ = ground
    settings = settings.model_copy(update={"history_decay": 0.7})
    assert [one.decay for one in make_evaluators(shops, basis, settings, cache)] == [0.7] * 3


def test_shops_of_one_catalogue_share_its_vectors(ground):
    *_, evaluators = ground
    assert evaluators[0].vectors is evaluators[1].vectors
    assert evaluators[0].vectors is not evaluators[2].vectors
    assert [evaluator.shop.name for evaluator in evaluators] == ["A", "B", "C"]


def test_vectors_under_an_adapter_are_the_encoders_and_candidates_stay(ground):
    settings, cache, basis, shops, evaluators = ground
    encoded = encode_catalogue(shops[0].data.catalogue, basis, settings, cache)
    first, second = (random_adapter(encoded.encoder, seed, size=0.5) for seed in (1, 2))
    frozen = evaluators[0].vectors.under(None).copy()
    for adapter in (first, second, first):
        encoded.encoder.load_adapter(adapter)
        expected = encoded.tokens.vectors(encoded.encoder)
        assert np.array_equal(evaluators[0].vectors.under(adapter), expected)
        assert np.array_equal(evaluators[0].vectors.under(None), frozen)
    assert np.array_equal(evaluators[0].vectors.candidates, encoded.vectors)


def test_every_baseline_is_judged_on_the_same_cases(ground):
    *_, evaluators = ground
    for evaluator in evaluators:
        scorecards = evaluator.baselines()
        assert set(scorecards) == {
            "popularity",
            "local_ease",
            "own_alone",
            "ease_trend",
            "frozen_text",
            "fused_frozen",
        }
        cases = len(evaluator.shop.test_cases.shoppers)
        assert cases > 5
        for scorecard in scorecards.values():
            assert all(len(values) == cases for values in scorecard.per_shopper.values())


@pytest.mark.parametrize("timed", [True, False])
def test_weights_are_fitted_from_those_of_a_shop_with_or_without_a_clock(
    ground, monkeypatch, timed
):
    *_, evaluators = ground
    asked = []
    monkeypatch.setattr(
        shop_fit,
        "fit_fusion_weights",
        lambda _, default: asked.append(default.weights) or default,
    )
    data = evaluators[0].shop.data
    rows = replace(data.interactions, timed=timed)
    rule = data.split_rule if timed else SplitRule("leave_last_out")
    evaluator = replace(
        evaluators[0], shop=Shop.of(replace(data, interactions=rows, split_rule=rule))
    )
    evaluator.fused(evaluator.text(None))
    assert asked == [default_fusion_weights(split_interactions(rows, rule).train)]


def test_a_model_that_knows_the_future_is_perfect_and_its_opposite_finds_nothing(ground):
    *_, evaluators = ground
    evaluator = evaluators[0]
    relevant = evaluator.shop.test_cases.relevant.toarray()
    for sign, expected in ((1, 1.0), (-1, 0.0)):
        rows = iter(sign * relevant)

        def scores(history, rows=rows):
            return np.array([next(rows) for _ in range(len(history))], np.float32)

        scorecard = evaluator.evaluate(scores)
        assert scorecard.per_shopper["auc"] == pytest.approx(np.full(len(relevant), expected))
        if sign == 1:
            assert scorecard.per_shopper["ndcg@10"] == pytest.approx(np.ones(len(relevant)))


class ScoreReader(ShopEvaluator):
    """Gives each model's scores of the past's shoppers instead of judging them."""

    def evaluate_all(self, models):
        past = histories(self.shop.past, np.arange(self.shop.past.shopper_count))
        return {name: scores(past) for name, scores in models.items()}


def test_no_model_and_no_bucket_knows_a_row_of_the_test_period(ground):
    """Whatever is bought later, the same past gives the same scores and the same buckets."""
    settings, cache, basis, shops, _ = ground
    rows = shops[0].data.interactions
    late = rows.time >= RULE.test_from
    found = []
    for later in (rows.where(~late), rows, replace(rows, item=np.where(late, 3, rows.item))):
        [evaluator] = make_evaluators(
            [Shop.of(replace(shops[0].data, interactions=later))], basis, settings, cache
        )
        reader = ScoreReader(evaluator.shop, evaluator.vectors, evaluator.buckets)
        found.append({**vars(evaluator.buckets), **reader.baselines()})
    assert late.sum() > 20
    for other in found[1:]:
        for name, values in found[0].items():
            assert np.array_equal(values, other[name]), name


def test_what_validation_chooses_was_fitted_before_it(ground, monkeypatch):
    """Weights and both models' strengths are compared on models that end where a period begins."""
    *_, evaluators = ground
    evaluator, train = evaluators[0], evaluators[0].shop.split.train
    handed = {}

    def listen(name):
        module = shop_module if name == "choose_ease" else shop_fit
        heard = getattr(module, name)

        def fit(*given, **named):
            handed.setdefault(name, []).append(given)
            return heard(*given, **named)

        monkeypatch.setattr(module, name, fit)

    for name in ("shortlist", "choose_text_ease", "choose_ease", "fit_decay"):
        listen(name)
    fresh = replace(evaluator, shop=Shop.of(evaluator.shop.data), decay=0.7)
    fresh.baselines()
    windows = past_windows(train, fresh.shop.validation_cases)
    assert len(windows) > 1
    for (ranker, own, validation, *_), (before, cases) in zip(
        handed["shortlist"], windows, strict=True
    ):
        again = fit_text_ease(before.matrix(), fresh.vectors.candidates, own.l2, own.text_strength)
        assert np.array_equal(own.factors, again.factors)
        assert np.array_equal(ranker.sales, before.item_counts())
        assert np.array_equal(ranker.trend, sales_trend(before))
        assert (validation.seen != cases.seen).nnz == 0
        assert (validation.relevant != cases.relevant).nnz == 0
        assert np.array_equal(validation.history.item, histories(before, cases.shoppers).item)
    for name in ("choose_text_ease", "choose_ease"):
        assert (handed[name][0][0] != train.matrix()).nnz == 0, name
    assert handed["fit_decay"][0][2] is fresh._fit.validation
    assert handed["fit_decay"][0][3] == 0.7
    expected = evaluation_cases(train, fresh.shop.split.valid)
    assert (windows[0].cases.seen != expected.seen).nnz == 0
    assert (windows[0].cases.relevant != expected.relevant).nnz == 0


def test_the_text_is_judged_with_its_own_history_and_the_fitted_decay(ground):
    *_, evaluators = ground
    evaluator = evaluators[0]
    text = evaluator.text(None)
    assert text.decay in DECAYS
    found = evaluator.evaluate(text.score).per_shopper["ndcg@10"]
    other = evaluator.evaluate(TextScorer(text.history_vectors, -text.candidate_vectors).score)
    assert not np.allclose(found, other.per_shopper["ndcg@10"])


def test_the_fused_ranker_uses_all_the_past(ground):
    *_, evaluators = ground
    evaluator, past = evaluators[0], evaluators[0].shop.past
    fused = evaluator.fused(evaluator.text(None))
    own = fused.collaborative
    again = fit_text_ease(past.matrix(), evaluator.vectors.candidates, own.l2, own.text_strength)
    assert (own.factors == again.factors).all()
    assert np.array_equal(fused.sales, past.item_counts())
    assert np.array_equal(fused.trend, sales_trend(past))


def test_local_ease_uses_all_the_past(ground):
    """A rival that lacked its last weeks would be an easy one."""
    *_, evaluators = ground
    evaluator, past = evaluators[0], evaluators[0].shop.past
    ease = evaluator.shop.fit_ease()
    assert np.array_equal(ease.weights, fit_ease(past.matrix(), ease.l2).weights)
    assert len(ease.weights) == (past.item_counts() > 0).sum()


def test_validation_scores_are_of_the_validation_cases(ground):
    settings, cache, basis, shops, evaluators = ground
    encoded = encode_catalogue(shops[0].data.catalogue, basis, settings, cache)
    ndcg, tail = evaluators[0].validation_scores(random_adapter(encoded.encoder))
    assert len(ndcg) == len(tail) == len(shops[0].validation_cases.shoppers) > 3
    assert np.isfinite(ndcg).all()


def test_a_shop_without_cases_is_judged_on_nobody(ground, tmp_path):
    settings, cache, basis, *_ = ground
    rows = [(0, 1, 10 * DAY, 0), (0, 2, 20 * DAY, 1), (1, 3, 30 * DAY, 0)]
    data = MerchantData("D", make_catalogue(ITEMS), interactions_of(rows, ITEMS, 2), RULE)
    [evaluator] = make_evaluators([Shop.of(data)], basis, settings, cache)
    for scorecard in evaluator.baselines().values():
        assert len(scorecard.per_shopper["ndcg@10"]) == 0
    ndcg, tail = evaluator.validation_scores(random_adapter(evaluator.vectors._encoded.encoder))
    assert len(ndcg) == len(tail) == 0


# ------------------------------------------------------------------- very small shops
@pytest.mark.parametrize("until", [240, 300], ids=["no validation, no test", "no test"])
def test_a_shop_with_nobody_to_validate_or_to_test_on_is_judged_all_the_same(ground, until):
    *_, evaluators = ground
    whole = evaluators[0]
    rows = whole.shop.data.interactions
    data = replace(whole.shop.data, interactions=rows.where(rows.time < until * DAY))
    small = ShopEvaluator(Shop.of(data), whole.vectors, whole.buckets)
    assert len(small.shop.test_cases) == 0
    scorecards = small.baselines()
    for scorecard in scorecards.values():
        assert len(scorecard.per_shopper["ndcg@10"]) == 0
        assert np.isnan(scorecard.means()["ndcg@10"])


def test_what_was_fitted_can_be_let_go_and_is_the_same_again(ground):
    *_, evaluators = ground
    evaluator = evaluators[0]
    before = evaluator.evaluate(evaluator.frozen_fused.score).per_shopper["ndcg@10"]
    held = evaluator.frozen_fused
    evaluator.let_go()
    assert evaluator.frozen_fused is not held
    after = evaluator.evaluate(evaluator.frozen_fused.score).per_shopper["ndcg@10"]
    assert np.array_equal(before, after)
    evaluator.let_go()
    evaluator.let_go()


def test_own_alone_is_the_title_reading_model_and_nothing_beside_it(ground):
    *_, evaluators = ground
    evaluator = evaluators[0]
    own = evaluator.frozen_fused.collaborative
    cases, history = (
        evaluator.shop.test_cases,
        histories(evaluator.shop.past, evaluator.shop.test_cases.shoppers),
    )
    alone = evaluator.evaluate(lambda some: own.score(some.bought()))
    found = evaluator.baselines()["own_alone"]
    assert len(cases) == len(history)
    assert np.array_equal(found.per_shopper["ndcg@10"], alone.per_shopper["ndcg@10"])
