import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, precision_recall_fscore_support, roc_auc_score

from common.errors import InputError
from common.evaluation.calibration import (
    CLICKS_PER_STEP,
    ClickCurve,
    best_threshold,
    click_metrics,
    fit_click_curve,
    reliability,
)

SEEDS = st.integers(0, 2**32 - 1)


def world(seed, pairs=400_000):
    """Scores, and clicks drawn with a known chance of about 1%."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=pairs)
    chances = expit(1.5 * scores - 6)
    return scores, chances, random.random(pairs) < chances


def small(seed):
    random = np.random.default_rng(seed)
    pairs = int(random.integers(1, 200))
    scores = random.choice([-1.0, -0.25, 0.0, 0.5, 3.0], pairs)
    return scores, random.random(pairs) < random.random()


# ------------------------------------------------------------------------ curve
@settings(max_examples=300)
@given(SEEDS)
def test_a_curve_rises_within_0_and_1_and_keeps_the_mean(seed):
    scores, clicked = small(seed)
    curve = fit_click_curve(scores, clicked)
    assert (np.diff(curve.starts) > 0).all()
    assert (np.diff(curve(np.linspace(-9, 9, 50))) >= 0).all()
    assert ((curve.chances >= 0) & (curve.chances <= 1)).all()
    assert curve(scores).mean() == pytest.approx(clicked.mean())


@settings(max_examples=300)
@given(SEEDS)
def test_each_step_but_the_lowest_rests_on_ten_clicks(seed):
    scores, clicked = small(seed)
    curve = fit_click_curve(scores, clicked)
    step = np.searchsorted(curve.starts, scores, side="right")
    counts = np.bincount(step, weights=clicked, minlength=len(curve.chances))
    assert (counts[1:] >= CLICKS_PER_STEP).all()
    assert set(curve.starts) <= set(scores)


def test_one_lucky_click_at_the_top_is_no_certainty():
    scores = np.append(np.linspace(0, 1, 1000), 9.0)
    clicked = np.zeros(1001, dtype=bool)
    clicked[::40] = clicked[-1] = True
    assert fit_click_curve(scores, clicked)(np.array([9.0]))[0] < 0.1


def test_known_chances_are_found_again_on_other_pairs():
    scores, _, clicked = world(1)
    curve = fit_click_curve(scores, clicked)
    others, chances, drawn = world(2)
    found = reliability(curve(others), drawn)
    assert found.ece < 0.1 * found.rate
    assert found.mean_chance == pytest.approx(found.rate, rel=0.1)
    assert found.skill > 0.9 * reliability(chances, drawn).skill > 0


def test_a_wrong_curve_is_found_out():
    _, chances, clicked = world(3)
    right = reliability(chances, clicked)
    wrong = reliability(np.minimum(3 * chances, 1), clicked)
    assert wrong.ece > 10 * right.ece
    assert wrong.ece == pytest.approx(2 * right.rate, rel=0.1)


# -------------------------------------------------------------- other people's code
@settings(max_examples=100)
@given(SEEDS)
def test_the_measures_are_scikit_learns(seed):
    random = np.random.default_rng(seed)
    pairs = int(random.integers(20, 300))
    chances = np.round(random.random(pairs), 2)
    clicked = random.random(pairs) < chances
    clicked[:2] = True, False
    found = click_metrics(chances, clicked, 0.4)
    precision, recall, f1, _ = precision_recall_fscore_support(
        clicked, chances >= 0.4, average="binary", zero_division=np.nan
    )
    assert (found.recall, found.f1) == pytest.approx((recall, f1))
    assert found.precision == pytest.approx(precision, nan_ok=True)
    assert found.auc == pytest.approx(roc_auc_score(clicked, chances))
    assert reliability(chances, clicked).brier == pytest.approx(brier_score_loss(clicked, chances))


def test_the_calibration_error_is_that_of_scikit_learns_bins():
    random = np.random.default_rng(4)
    chances = random.permutation(np.arange(1000) / 1000)  # no two equal: quantiles are clear
    clicked = random.random(1000) < chances**2
    happened, said = calibration_curve(clicked, chances, n_bins=10, strategy="quantile")
    assert reliability(chances, clicked).ece == pytest.approx(np.abs(happened - said).mean())


# -------------------------------------------------------------------- the threshold
@settings(max_examples=100)
@given(SEEDS)
def test_no_other_threshold_has_a_higher_f1(seed):
    scores, clicked = small(seed)
    chances = expit(scores)
    best = click_metrics(chances, clicked, best_threshold(chances, clicked)).f1
    every = [click_metrics(chances, clicked, one).f1 for one in np.unique(chances)]
    if clicked.any():
        assert best == pytest.approx(max(every))
    else:
        assert math.isnan(best)


# ------------------------------------------------------------------------ refusals
@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: fit_click_curve(np.empty(0), np.empty(0, bool)), "clicked"),
        (lambda: fit_click_curve(np.ones(3), np.ones(2, bool)), "clicked"),
        (lambda: fit_click_curve(np.array([np.nan]), np.ones(1, bool)), "scores"),
        (lambda: reliability(np.array([1.5]), np.ones(1, bool)), "chances"),
        (lambda: reliability(np.array([0.5]), np.ones(1, bool), bins=0), "bins"),
    ],
)
def test_what_does_not_fit_is_refused(call, field):
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.field == field


def test_a_level_curve_has_no_skill():
    clicked = np.arange(100) % 10 == 0
    curve = ClickCurve(np.empty(0), np.array([0.1]))
    found = reliability(curve(np.arange(100.0)), clicked)
    assert found.skill == pytest.approx(0)
    assert found.ece == pytest.approx(0)
    assert math.isnan(reliability(np.zeros(3), np.zeros(3, bool)).skill)
