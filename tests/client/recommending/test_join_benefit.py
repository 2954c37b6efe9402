import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from client.ranking import shop_fit
from client.ranking.fusion_weights import default_fusion_weights
from client.ranking.released_vectors import ReleasedVectors
from client.recommending import join_benefit
from client.recommending.join_benefit import (
    JOINED,
    MODELS,
    TAIL_BOOSTS,
    _both_ways,
    _joint_verdict,
    measure_benefit,
    verdict_of,
)
from client.recommending.join_benefit_output import benefit_json, benefit_page
from client.shop.dataset import MerchantData, load_merchant_data
from client.shop.splitting import SplitRule, evaluation_cases, split_interactions
from common.errors import InputError
from common.evaluation.bootstrap import Interval
from common.season import Season
from tests.support.shops import DAY, command, interactions_of, make_catalogue

KINDS, EACH = 6, 8  # kinds of items, and items of a kind
ITEMS = KINDS * EACH
RULE = SplitRule("time", valid_from=100 * DAY, test_from=200 * DAY)
KIND = np.arange(ITEMS) // EACH


def shop_where(step, shoppers=120, seed=0, *, single=False):
    """Shoppers buy items of one kind, and in the validation period of the kind `step` further.

    With `single` they have one item only until then, of which purchases alone can say nothing.
    """
    random = np.random.default_rng(seed)
    rows = []
    for shopper in range(shoppers):
        kind = int(random.integers(KINDS))
        baskets = [(10, kind, 1)] if single else [(10, kind, 2), (20, kind, 2)]
        for number, (day, wanted, size) in enumerate([*baskets, (150, kind + step, 2)]):
            items = np.flatnonzero(wanted % KINDS == KIND)
            bought = random.choice(items, size, replace=False)
            rows += [(shopper, item, day * DAY, number) for item in bought]
    data = interactions_of(rows, ITEMS, shoppers)
    return MerchantData("Kinds", make_catalogue(ITEMS), data, RULE)


def vectors_with(step):
    """A release that reads an item as one of the kind `step` further; frozen text as its own."""
    random = np.random.default_rng(7)
    kinds = np.eye(KINDS)

    def noisy(rows):
        rows = rows + random.normal(0, 0.05, rows.shape)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    return ReleasedVectors(noisy(kinds[(KIND + step) % KINDS]), noisy(kinds[KIND]))


# ------------------------------------------------------------------------ the verdict
def test_a_release_that_knows_what_comes_next_is_worth_joining_for():
    found = measure_benefit(shop_where(1), vectors_with(1))
    assert found.verdict == "join"
    assert found.gains["ndcg@10"].low > 0.1
    assert found.shoppers == 120


def test_a_release_that_misreads_a_shop_brings_nothing_and_harms_nobody():
    found = measure_benefit(shop_where(0, single=True), vectors_with(3))
    assert found.mean("release", "ndcg@10").high < found.mean("frozen", "ndcg@10").low - 0.3
    assert found.verdict == "cannot tell"
    assert found.gains["ndcg@10"].low > -0.1  # the fit falls back to what the shop has itself


def test_every_text_is_fitted_from_the_decay_of_training(monkeypatch):
    honest, usual = shop_fit.fit_decay, []

    def fit(vectors, candidates, validation, decay):
        usual.append(decay)
        return honest(vectors, candidates, validation, decay)

    monkeypatch.setattr(shop_fit, "fit_decay", fit)
    frozen = vectors_with(0).frozen
    measure_benefit(shop_where(0), ReleasedVectors(frozen, frozen, 0.7))
    assert set(usual) == {0.7}


@pytest.mark.parametrize("timed", [True, False])
def test_all_weights_are_fitted_from_those_of_a_shop_with_or_without_a_clock(monkeypatch, timed):
    asked = []
    monkeypatch.setattr(
        shop_fit,
        "fit_fusion_weights",
        lambda _, default: asked.append(default.weights) or default,
    )
    shop = shop_where(0)
    rows = replace(shop.interactions, timed=timed)
    rule = RULE if timed else SplitRule("leave_last_out")
    measure_benefit(replace(shop, interactions=rows, split_rule=rule), vectors_with(0))
    assert set(asked) == {default_fusion_weights(split_interactions(rows, rule).train)}


def test_a_release_that_is_the_frozen_model_cannot_be_told_from_it():
    frozen = vectors_with(0).frozen
    found = measure_benefit(shop_where(0), ReleasedVectors(frozen, frozen))
    assert found.verdict == "cannot tell"
    for metric in ("ndcg@10", "tail_recall@10"):
        same = found.difference("frozen_fused", metric)
        assert (same.low, same.mean, same.high) == (0, 0, 0)


def test_a_solo_adapter_that_is_as_good_leaves_nothing_to_join_for():
    good = vectors_with(1)
    found = measure_benefit(shop_where(1), good, good)
    assert list(found.scorecards) == list(MODELS)
    assert found.difference("solo_fused", "ndcg@10").mean == 0
    assert set(found.solo_models) <= {"solo", "solo_fused"}
    assert found.verdict != "join"


def test_what_a_releases_season_knew_before_the_period_counts_for_the_release_alone():
    shop, vectors = shop_where(0), vectors_with(0)
    along = vectors.frozen[KIND == 0].mean(axis=0)[None]

    def found(day):
        season = Season(along, (day * DAY,), 0.0, 8)
        cards = measure_benefit(shop, replace(vectors, season=season)).scorecards
        return {name: one.per_shopper["ndcg@10"] for name, one in cards.items()}

    before, after = found(20), found(150)
    without = measure_benefit(shop, vectors).scorecards
    for name, one in without.items():
        assert np.array_equal(after[name], one.per_shopper["ndcg@10"])
        assert np.array_equal(before[name], after[name]) == (name != "fused")


def test_too_few_shoppers_decide_nothing():
    found = measure_benefit(shop_where(1, shoppers=30), vectors_with(1))
    assert found.gains["ndcg@10"].low > 0
    assert found.verdict == "cannot tell"
    with pytest.raises(InputError) as caught:
        measure_benefit(shop_where(1, shoppers=1), vectors_with(1))
    assert caught.value.field == "shop"


def printed(page):
    console = Console(width=160, color_system=None)
    with console.capture() as captured:
        console.print(page)
    return captured.get()


UP, DOWN, FLAT = (0.01, 0.03), (-0.03, -0.01), (-0.01, 0.02)
NOTHING = (float("nan"), float("nan"))


@pytest.mark.parametrize(
    ("overall", "tail", "verdict"),
    [
        (UP, UP, "join"),
        (UP, FLAT, "join"),
        (FLAT, UP, "join"),
        (UP, DOWN, "cannot tell"),
        (FLAT, FLAT, "cannot tell"),
        (DOWN, FLAT, "stay solo"),
        (FLAT, DOWN, "stay solo"),
        (UP, NOTHING, "join"),
        (NOTHING, NOTHING, "cannot tell"),
    ],
)
def test_the_verdict_follows_from_the_two_intervals(overall, tail, verdict):
    gains = {
        name: Interval(low, high, (low + high) / 2)
        for name, (low, high) in (("ndcg@10", overall), ("tail_recall@10", tail))
    }
    assert verdict_of(gains, 50) == verdict
    assert verdict_of(gains, 49) == "cannot tell"


def test_a_weak_choice_among_ways_of_staying_solo_is_no_reason_to_join(monkeypatch):
    """Popularity is easily beaten; the frozen text that the release is cannot be."""
    monkeypatch.setattr(
        "client.recommending.join_benefit._objective",
        lambda scorecard: -scorecard.means()["ndcg@10"],
    )
    frozen = vectors_with(0).frozen
    found = measure_benefit(shop_where(0), ReleasedVectors(frozen, frozen))
    assert set(found.solo_models) == {"popularity"}
    assert verdict_of(found.gains, found.shoppers) == "join"
    assert found.verdict == "cannot tell"
    page = printed(benefit_page(found, "Shop", "1", took_part=False))
    assert "against the best without others (Popularity):" in page
    assert "against Frozen text, fused:" in page
    assert page.count(", no clear difference") == 2
    assert set(json.loads(benefit_json(found, "1", took_part=False))["gains_over_frozen"]) == {
        "ndcg@10",
        "tail_recall@10",
    }


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (("join", "join"), "join"),
        (("join", "cannot tell"), "cannot tell"),
        (("join", "stay solo"), "stay solo"),
        (("cannot tell", "stay solo"), "stay solo"),
        (("cannot tell", "cannot tell"), "cannot tell"),
    ],
)
def test_joining_must_be_better_than_every_way_of_staying_solo(verdicts, said):
    assert _joint_verdict(verdicts) == _joint_verdict(verdicts[::-1]) == said


# -------------------------------------------------------- who is judged by whom
def test_no_shopper_is_judged_by_what_it_fitted():
    shop = shop_where(1, shoppers=31)
    split = split_interactions(shop.interactions, RULE)
    cases = evaluation_cases(split.train, split.valid)
    for fitted_on, judged_on in _both_ways(cases):
        assert not set(fitted_on.shoppers) & set(judged_on.shoppers)
        assert set(fitted_on.shoppers) | set(judged_on.shoppers) == set(cases.shoppers)
        rows = dict(zip(cases.shoppers.tolist(), cases.relevant.toarray().tolist(), strict=True))
        for shopper, row in zip(judged_on.shoppers.tolist(), judged_on.relevant, strict=True):
            assert row.toarray()[0].tolist() == rows[shopper]


def test_fits_do_not_look_at_who_is_judged(monkeypatch):
    """What each half is fitted on is recorded; its judged half comes from the other."""

    fitted, judged = [], []
    real_fit, real_scores = shop_fit.fit_fusion_weights, join_benefit.evaluate_scores

    def fit(trial, default):
        fitted.append(set(trial.shoppers.tolist()))
        return real_fit(trial, default)

    def scores(score, seen, relevant, buckets):
        judged.append(len(score(slice(0, seen.shape[0]))))
        return real_scores(score, seen, relevant, buckets)

    monkeypatch.setattr(shop_fit, "fit_fusion_weights", fit)
    monkeypatch.setattr(join_benefit, "evaluate_scores", scores)
    measure_benefit(shop_where(1, shoppers=31), vectors_with(1))
    first, second = fitted[0], fitted[-1]
    assert not first & second
    assert all(one in (first, second) for one in fitted)
    # Six ways of staying solo are looked at on the fitting half; then all eight models and five
    # tail boosts are judged.
    assert judged == [16] * 6 + [15] * 13 + [15] * 6 + [16] * 13


def test_click_curves_and_thresholds_do_not_look_at_who_is_judged(monkeypatch):

    calls = {"pairs_of": [], "fit_chances": [], "best_threshold": []}

    def recorded(name):
        real = getattr(join_benefit, name)

        def call(*arguments):
            calls[name].append((arguments, real(*arguments)))
            return calls[name][-1][1]

        monkeypatch.setattr(join_benefit, name, call)

    for name in calls:
        recorded(name)
    measure_benefit(shop_where(1, shoppers=31), vectors_with(1))
    fitted_on = [pairs for _, pairs in calls["pairs_of"][::2]]  # each half's judged pairs follow
    assert [arguments[0] for arguments, _ in calls["fit_chances"]] == fitted_on
    asked = [arguments[1] for arguments, _ in calls["best_threshold"]]
    expected = [one for pairs in fitted_on for one in (pairs.clicked, pairs.clicked[pairs.tail])]
    assert len(asked) == len(expected) == 4
    assert all(np.array_equal(one, other) for one, other in zip(asked, expected, strict=True))


def test_every_scorecard_is_about_the_same_shoppers_in_the_same_order():
    found = measure_benefit(shop_where(1), vectors_with(1))
    fused, frozen = (found.scorecards[name].per_shopper["ndcg@10"] for name in ("fused", "frozen"))
    assert found.difference("frozen", "ndcg@10").mean == pytest.approx((fused - frozen).mean())
    assert len(fused) == found.shoppers
    assert 0 < found.tail_shoppers <= found.shoppers
    assert not set(found.solo_models) & set(JOINED)


def test_the_same_question_has_the_same_answer():
    one, two = (measure_benefit(shop_where(1), vectors_with(1)) for _ in range(2))
    assert one.gains == two.gains
    assert one.clicks == two.clicks


# --------------------------------------------------------------------- the click view
def test_click_chances_agree_with_clicks_of_shoppers_they_were_not_fitted_on():
    # What sold before has no earlier period that says something else of the release.
    shop = shop_where(1, shoppers=600, single=True)
    found = measure_benefit(shop, vectors_with(1))
    # Titles under the release alone say all of it, and the fit finds that.
    assert found.mean("fused", "ndcg@10").mean > 0.95 * found.mean("release", "ndcg@10").mean
    for view in found.clicks.values():
        assert view.reliability.mean_chance == pytest.approx(view.reliability.rate, rel=0.05)
        assert view.reliability.ece < 0.15 * view.reliability.rate
        assert view.reliability.skill > 0.05
        assert view.metrics.auc > 0.85
        assert 0 < view.metrics.precision <= 1
        assert 0 < view.metrics.f1 <= 1
    whole, tail = found.clicks["all"].reliability, found.clicks["tail"].reliability
    before = split_interactions(shop.interactions, RULE).train.matrix()
    assert tail.pairs < whole.pairs == 600 * ITEMS - before.nnz


# --------------------------------------------------------------------- the command
def benefit(simulated, *more):
    arguments = ["client", "benefit", "--release", str(simulated / "release")]
    arguments += ["--key", str(simulated / "operator.pub"), *more]
    arguments += ["--shop", str(min((simulated / "merchants").glob("00-*")))]
    return command(arguments, simulated.parent / "cache")


def test_the_command_prints_every_model_and_a_verdict_and_sends_nothing(simulated):
    shop = min((simulated / "merchants").glob("00-*"))
    before = {path: path.read_bytes() for path in shop.rglob("*.sqlite")}
    own = ("--solo", str(simulated / "release"), "--solo-key", str(simulated / "operator.pub"))
    done = benefit(simulated, *own)
    assert done.exception is None
    for name in MODELS.values():
        assert name in done.output
    assert "Verdict: cannot tell" in done.output  # thirty shoppers
    assert "It rests on" in done.output
    assert {path: path.read_bytes() for path in shop.rglob("*.sqlite")} == before
    for shopper in load_merchant_data(shop).interactions.shopper_ids:
        assert f"{shopper} " not in done.output


def test_the_json_says_the_same(simulated):
    done = benefit(simulated, "--json")
    assert done.exception is None
    found = json.loads(done.output)
    assert found["verdict"] == "cannot tell"
    assert set(found["models"]) == set(MODELS) - {"solo", "solo_fused"}
    assert set(found["fused_minus"]) == set(found["models"]) - {"fused"}
    assert found["models"]["local_ease"]["cold_recall@10"]["mean"] in {0.0, None}
    assert 2 <= found["shoppers"] <= 30


def test_a_solo_release_needs_its_key(simulated):
    failed = benefit(simulated, "--solo", str(simulated / "release")).exception
    assert isinstance(failed, InputError)
    assert failed.field == "solo"


# ------------------------------------------------------------------------- the tail boost
def test_the_tail_boost_moves_the_fused_release_from_head_to_tail(monkeypatch):
    monkeypatch.setattr(shop_fit, "fit_fusion_weights", lambda _, default: default)
    monkeypatch.setattr(
        shop_fit,
        "fit_strength",
        lambda _, alone: alone._replace(reading=alone.reading._replace(strength=1.0)),
    )
    found = measure_benefit(shop_where(1), vectors_with(1))
    assert list(found.tail_boosts) == list(TAIL_BOOSTS)
    as_fitted = found.tail_boosts[1.0].per_shopper["ndcg@10"]
    assert (as_fitted == found.scorecards["fused"].per_shopper["ndcg@10"]).all()
    head, *_, tail = (scorecard.means()["aplt@10"] for scorecard in found.tail_boosts.values())
    assert head < tail
