from dataclasses import replace

import numpy as np
import pytest

from client.ranking import fusion_weights
from client.ranking.fusion_weights import (
    COLLABORATIVE_ALONE,
    COLLABORATIVE_AND_TREND,
    DEFAULT_WEIGHTS,
    TEXT_ALONE,
    UNTIMED_WEIGHTS,
    Choice,
    FusionTrial,
    default_fusion_weights,
    fit_fusion_weights,
    fit_strength,
)
from client.ranking.shortlist import Found, Reading
from client.ranking.text_scorer import DECAYS
from tests.support.shops import make_interactions
from tests.support.trials import ADAPTED, FROZEN, coming_true, make_trial

DEFAULT = Choice(DEFAULT_WEIGHTS, Reading(0.0, 1.0))


@pytest.fixture(scope="module")
def trial():
    """A shop whose next purchases have nothing to do with its texts."""
    return make_trial(shoppers=150)


def objective(trial, choice):
    found = trial.found(choice)
    means = [np.nanmean(part) for part in found if not np.isnan(part).all()]
    return float(np.sum(means))


def test_a_shop_without_a_clock_does_not_ask_for_what_never_sold():
    timed = make_interactions(40, 30, 0)
    assert default_fusion_weights(timed) == DEFAULT_WEIGHTS
    told = default_fusion_weights(replace(timed, timed=False))
    assert told.cold_start == told.season == told.federated_season == 0
    assert told.trend == DEFAULT_WEIGHTS.trend


def test_without_a_clock_titles_count_for_less_the_more_a_shop_has_sold():
    shop = replace(make_interactions(40, 30, 0), timed=False)
    told = default_fusion_weights(shop)
    share = shop.item_count / (shop.item_count + len(shop))
    assert told.text == pytest.approx(UNTIMED_WEIGHTS.text * share)
    assert told.tail == pytest.approx(UNTIMED_WEIGHTS.tail * share)
    fewer = default_fusion_weights(shop.where(np.arange(len(shop)) < 10))
    assert told.text < fewer.text < UNTIMED_WEIGHTS.text < DEFAULT_WEIGHTS.text
    nothing = shop.where(np.zeros(len(shop), bool))
    assert default_fusion_weights(nothing) == UNTIMED_WEIGHTS


@pytest.mark.parametrize("part", [TEXT_ALONE, COLLABORATIVE_ALONE, COLLABORATIVE_AND_TREND])
def test_a_part_that_does_better_alone_is_taken(trial, part):
    told = coming_true(trial, Choice(part, DEFAULT.reading))
    found = fit_fusion_weights(told, DEFAULT)
    best = objective(told, Choice(part, DEFAULT.reading))
    assert objective(told, found) > objective(told, DEFAULT)
    assert told.found(found).ndcg.mean() > 0.97
    assert objective(told, found) >= 0.97 * best


def test_the_default_stands_where_it_comes_true(trial):
    assert fit_fusion_weights(coming_true(trial, DEFAULT), DEFAULT) == DEFAULT


def test_a_decay_is_taken_where_it_comes_true(trial):
    wanted = Choice(replace(DEFAULT_WEIGHTS, text=5.0), Reading(0.0, 0.5))
    start = wanted._replace(reading=Reading(0.0, 0.9))
    assert fit_fusion_weights(coming_true(trial, wanted), start).reading.decay < 0.9


def test_the_order_of_cases_changes_nothing(trial):
    told = coming_true(trial, Choice(COLLABORATIVE_AND_TREND, DEFAULT.reading))
    [one] = told.shortlists
    order = np.random.default_rng(0).permutation(len(one))
    mixed = FusionTrial(
        [
            type(one)(
                *(
                    {name: values[order] for name, values in part.items()}
                    if isinstance(part, dict)
                    else part[order]
                    for part in vars(one).values()
                )
            )
        ],
        told.shoppers[order],
    )
    found, other = (fit_fusion_weights(some, DEFAULT) for some in (told, mixed))
    assert found.reading == other.reading
    assert vars(found.weights) == pytest.approx(vars(other.weights), abs=1e-6)


def test_a_shopper_of_two_periods_is_one_piece_of_evidence(trial):
    [one] = trial.shortlists
    twice = FusionTrial([one, one], np.tile(trial.shoppers, 2))
    other = Choice(replace(DEFAULT_WEIGHTS, text=2.0), DEFAULT.reading)
    once = trial.gains(DEFAULT, [other])
    assert once.shape == (len(np.unique(trial.shoppers)), 1)
    assert twice.gains(DEFAULT, [other]) == pytest.approx(2 * once)
    assert fit_fusion_weights(twice, DEFAULT) == fit_fusion_weights(trial, DEFAULT)


class Told(FusionTrial):
    """Lists that find what a function says."""

    def __init__(self, trial, worth):
        super().__init__(trial.shortlists, trial.shoppers)
        object.__setattr__(self, "worth", worth)

    def found(self, choice):
        none = np.full(len(self.shoppers), np.nan)
        return Found(self.worth(choice), none, none)


def noisy(trial, random, gain=lambda choice: 0.0, cases=200):
    """Case by case, all choices share most of their luck; some gain."""
    common = random.normal(0.12, 0.2, cases)
    drawn = {}

    def worth(choice):
        if choice not in drawn:
            drawn[choice] = common + random.normal(0, 0.06, cases) + gain(choice)
        return drawn[choice]

    few = replace(trial, shoppers=np.arange(cases))
    return Told(few, worth)


@pytest.mark.parametrize("cases", [50, 200, 1000])
def test_luck_alone_leaves_the_default(trial, cases):
    random = np.random.default_rng(cases)
    left = sum(
        fit_fusion_weights(noisy(trial, random, cases=cases), DEFAULT) != DEFAULT for _ in range(60)
    )
    assert left <= 3  # of 60: a rule that errs at one in twenty does so in two of three draws


def test_a_tenth_more_is_taken_at_a_thousand_cases(trial):
    random = np.random.default_rng(0)

    def gain(choice):
        return 0.012 * (choice.weights.cold_start < DEFAULT_WEIGHTS.cold_start)

    taken = 0
    for _ in range(20):
        found = fit_fusion_weights(noisy(trial, random, gain, cases=1000), DEFAULT)
        taken += found.weights.cold_start < DEFAULT_WEIGHTS.cold_start
    assert taken >= 19


def test_overwhelming_evidence_takes_the_best(trial):
    def worth(choice):
        return np.arange(len(trial.shoppers)) * 1e-6 + 0.5 * (
            choice.weights == replace(DEFAULT_WEIGHTS, trend=2.0)
        )

    found = fit_fusion_weights(Told(trial, worth), DEFAULT)
    assert found.weights == replace(DEFAULT_WEIGHTS, trend=2.0)


def test_what_lacks_accuracy_beside_a_part_does_not_win_by_new_items(trial):
    """Recall of new items counts as much as all of NDCG@10: a shop must not lose by it."""
    cases = len(trial.shoppers)
    wobble = np.linspace(-0.02, 0.02, cases)

    class Costly(Told):
        def found(self, choice):
            weights = choice.weights
            new = 0.1 * weights.cold_start
            ndcg = 0.3 if weights == COLLABORATIVE_ALONE else 0.3 - 0.05 * weights.cold_start
            part = np.full(cases, 1.0)
            return Found(ndcg + wobble, np.full(cases, np.nan), part * new)

    found = fit_fusion_weights(Costly(trial, None), DEFAULT)
    assert found.weights.cold_start < 1


def test_without_cases_nothing_is_believed(trial):
    none = Told(replace(trial, shoppers=np.arange(1)), lambda _: np.ones(1))
    assert fit_fusion_weights(none, DEFAULT) == DEFAULT


# ------------------------------------------------------------------- the adapter
@pytest.fixture(scope="module")
def adapted():
    return make_trial(shoppers=150, readings=ADAPTED)


def test_an_adapter_is_used_as_released_where_nothing_speaks_against_it(adapted):
    random = np.random.default_rng(0)
    alone = Choice(replace(DEFAULT_WEIGHTS, text=0.5), Reading(0.0, 0.8))
    released = Choice(alone.weights, Reading(1.0, 0.8))
    kept = sum(fit_strength(noisy(adapted, random), alone) == released for _ in range(30))
    assert kept >= 25


@pytest.mark.parametrize("strength", [0.0, 2.0])
def test_an_adapter_is_left_out_or_made_stronger_where_that_comes_true(adapted, strength):
    wanted = Choice(replace(DEFAULT_WEIGHTS, text=3.0), Reading(strength, 1.0))
    told = coming_true(adapted, wanted)
    found = fit_strength(told, Choice(wanted.weights, Reading(0.0, 1.0)))
    assert found.reading.strength == strength
    if not strength:
        assert found.weights == wanted.weights
    assert found.weights.text == pytest.approx(3.0, rel=0.3)


def test_readings_of_the_trials_are_what_the_fits_ask_for():
    assert {reading.decay for reading in FROZEN} == set(DECAYS)
    assert {reading.strength for reading in ADAPTED} == set(fusion_weights.STRENGTHS)
