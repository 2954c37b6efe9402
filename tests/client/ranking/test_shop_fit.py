from dataclasses import replace

import numpy as np
import pytest

from client.ranking import shop_fit
from client.ranking.fusion_weights import (
    TEXT_ALONE,
    Choice,
    default_fusion_weights,
)
from client.ranking.shop_fit import ShopFit
from client.ranking.shortlist import Reading
from client.ranking.text_scorer import strengthened
from client.ranking.validation import PERIOD, past_windows
from client.shop.histories import histories
from client.shop.splitting import SplitRule, evaluation_cases, join, split_interactions
from common.season import Season
from tests.support.shops import interactions_of, make_interactions
from tests.support.trials import WIDTH, unit_vectors

ITEMS, DAY = 40, 86_400_000_000
RULE = SplitRule("time", valid_from=200 * DAY, test_from=260 * DAY)


def made_fit(seed=0, timed=True, **more):
    rows = replace(make_interactions(ITEMS, 120, seed), timed=timed)
    split = split_interactions(rows, RULE if timed else SplitRule("leave_last_out"))
    cases = evaluation_cases(split.train, split.valid)
    past = join(split.train, split.valid)
    return ShopFit(split.train, cases, past, unit_vectors(seed), **more)


@pytest.fixture(scope="module")
def fit():
    return made_fit()


def fitted(fit, seed=100, season=None):
    vectors = fit.candidates if seed is None else unit_vectors(seed)
    return fit.fit(vectors, 1.0, season)


# ------------------------------------------------------------------- past periods
def test_periods_before_validation_are_asked_too_each_by_what_came_before_it(fit):
    windows = past_windows(fit.train, fit.cases)
    assert len(windows) == 3
    assert windows[0].before is fit.train
    assert windows[0].cases is fit.cases
    end = fit.train.time.max() + 1
    for window in windows[1:]:
        start = window.before.time.max()
        period = fit.train.where((fit.train.time > start) & (fit.train.time < end))
        assert len(period) == pytest.approx(PERIOD * len(fit.train), rel=0.2)
        expected = evaluation_cases(window.before, period)
        assert np.array_equal(window.cases.shoppers, expected.shoppers)
        assert (window.cases.relevant != expected.relevant).nnz == 0
        end = period.time.min()


def test_without_a_clock_validation_is_the_one_period():
    fit = made_fit(timed=False)
    assert len(past_windows(fit.train, fit.cases)) == 1


def test_a_shop_with_many_cases_asks_no_earlier_period(fit, monkeypatch):
    monkeypatch.setattr("client.ranking.validation.ENOUGH_CASES", len(fit.cases))
    assert len(past_windows(fit.train, fit.cases)) == 1


def test_whoever_is_judged_is_no_case_of_an_earlier_period(fit):
    everybody = past_windows(fit.train, fit.cases)
    judged = everybody[1].cases.shoppers[::2]
    for window in past_windows(fit.train, fit.cases, judged)[1:]:
        assert not set(window.cases.shoppers) & set(judged)
        assert len(window.cases)


def test_a_shop_of_one_purchase_has_no_earlier_period():
    rows = interactions_of([(0, 1, 5, 0)], ITEMS, 2)
    assert len(past_windows(rows, evaluation_cases(rows, rows))) == 1


# ------------------------------------------------------------------------ the fit
def test_without_cases_the_public_default_stands(fit):
    nobody = replace(fit, cases=fit.cases.take(np.arange(0)), _alone={})
    for seed, strength in ((None, 0.0), (100, 1.0)):
        ranker = fitted(nobody, seed).ranker
        assert ranker.weights == default_fusion_weights(fit.train)
        assert (ranker.text.decay, ranker.text.strength) == (1.0, strength)


def test_a_shop_without_a_sale_uses_the_text_alone(fit):
    none = fit.train.where(np.zeros(len(fit.train), bool))
    new = ShopFit(none, fit.cases.take(np.arange(0)), none, fit.candidates)
    ranker = fitted(new).ranker
    assert ranker.weights == TEXT_ALONE
    assert np.array_equal(ranker.text.history_vectors, unit_vectors(100))


def test_what_is_chosen_is_what_ranks(fit, monkeypatch):
    weights = replace(default_fusion_weights(fit.train), text=0.7)
    chosen = Choice(weights, Reading(1.5, 0.8))
    monkeypatch.setattr(shop_fit, "fit_strength", lambda *_: chosen)
    early, ranker = fitted(fit)
    expected = strengthened(fit.candidates, unit_vectors(100), 1.5)
    for one, past in ((early, fit.train), (ranker, fit.past)):
        assert np.array_equal(one.text.history_vectors, expected)
        assert (one.text.decay, one.text.strength, one.weights) == (0.8, 1.5, weights)
        assert np.array_equal(one.sales, past.item_counts())


def test_an_adapter_starts_from_what_the_shop_chose_without(fit, monkeypatch):
    alone = fitted(fit, None).ranker
    asked = []
    monkeypatch.setattr(shop_fit, "fit_strength", lambda _, choice: asked.append(choice) or choice)
    joined = fitted(fit).ranker
    assert asked == [Choice(alone.weights, Reading(0.0, alone.text.decay))]
    history = histories(fit.past, np.arange(30))
    assert np.array_equal(joined.score(history), alone.score(history))


def test_the_decay_that_suits_an_adapter_does_not_move_what_the_shop_chose_without(monkeypatch):
    fit, honest = made_fit(), shop_fit.fit_decay

    def decayed(vectors, *more):
        text = honest(vectors, *more)
        return text if vectors is fit.candidates else replace(text, decay=0.5)

    monkeypatch.setattr(shop_fit, "fit_decay", decayed)
    assert fit.text_scorer(unit_vectors(100), 1.0).decay == 0.5
    monkeypatch.setattr(shop_fit, "fit_strength", lambda _, alone: alone)
    alone, joined = fitted(fit, None).ranker, fitted(fit).ranker
    assert (joined.weights, joined.text.decay) == (alone.weights, alone.text.decay)
    assert np.array_equal(joined.text.history_vectors, alone.text.history_vectors)


def test_frozen_titles_are_asked_once_for_all_adapters(monkeypatch):
    fit, asked = made_fit(), []
    monkeypatch.setattr(
        shop_fit, "fit_fusion_weights", lambda _, default: asked.append(default) or default
    )
    for vectors in (fit.candidates, unit_vectors(100), unit_vectors(101)):
        fit.fit(vectors, 1.0)
    assert asked == [Choice(default_fusion_weights(fit.train), Reading(0.0, 1.0))]


def test_a_period_knows_the_federations_season_of_its_own_time():
    season = Season(np.eye(3, WIDTH, dtype=np.float32), (100 * DAY, 200 * DAY, 255 * DAY), 0.0, 8)
    early, ranker = fitted(made_fit(), season=season)
    direction = early.season.federated.direction
    assert np.count_nonzero(direction) == 1
    assert direction[1] > 0
    assert ranker.season.federated.direction[2] > 0


def test_a_season_of_today_changes_no_choice_but_is_used(fit):
    season = Season(np.eye(1, WIDTH, dtype=np.float32), (260 * DAY,), 0.0, 8)
    alone, joined = fitted(fit), fitted(fit, season=season)
    assert joined.ranker.weights == alone.ranker.weights
    assert not joined.early.season.federated.scores.any()
    assert joined.ranker.season.federated.scores.any()
    assert not fitted(fit).ranker.season.federated.scores.any()


# --------------------------------------------------------------------- strengths
def test_a_strength_goes_from_frozen_to_adapted_and_beyond():
    frozen, adapted = unit_vectors(0), unit_vectors(1)
    assert strengthened(frozen, adapted, 0) is frozen
    assert strengthened(frozen, adapted, 1) is adapted
    for strength in (0.5, 1.5, 2.0):
        found = strengthened(frozen, adapted, strength)
        assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(ITEMS), abs=1e-5)
        straight = frozen + strength * (adapted - frozen)
        cosine = (found * straight).sum(axis=1) / np.linalg.norm(straight, axis=1)
        assert cosine == pytest.approx(np.ones(ITEMS), abs=1e-5)
