from dataclasses import replace

import numpy as np
import pytest

from client.ranking.fusion import FusedRanker, FusionWeights
from client.ranking.fusion_weights import (
    CANDIDATES,
    COLLABORATIVE_ALONE,
    COLLABORATIVE_AND_TREND,
    DEFAULT_WEIGHTS,
    SEARCH_ERRORS,
    TEXT_ALONE,
    FusionTrial,
    Objectives,
    default_fusion_weights,
    fit_fusion_weights,
)
from client.ranking.model_selection import clearly_better
from client.ranking.text_ease import fit_text_ease
from client.ranking.text_scorer import TextScorer
from client.ranking.validation import Validation
from client.shop.histories import histories
from client.shop.splitting import evaluation_cases
from common.catalogue import popularity_buckets
from common.evaluation.metrics import ndcg, rank_scores, recall
from tests.support.shops import make_interactions

ITEMS, SHOPPERS, WIDTH, CUT = 40, 120, 8, 180 * 86_400_000_000


def make_trial(seed=0):
    """A shop whose next purchases have nothing to do with its texts."""
    rows = make_interactions(ITEMS, SHOPPERS, seed)
    before, after = rows.where(rows.time < CUT), rows.where(rows.time >= CUT)
    cases = evaluation_cases(before, after)
    vectors = np.random.default_rng(seed).normal(size=(ITEMS, WIDTH))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    validation = Validation(histories(before, cases.shoppers), cases.seen, cases.relevant)
    own = fit_text_ease(before.matrix(), vectors, 50.0)
    ranker = FusedRanker.of(TextScorer(vectors, vectors), own, DEFAULT_WEIGHTS, before)
    return FusionTrial(ranker, validation)


def test_a_shop_without_a_clock_asks_less_of_what_never_sold():
    timed = make_interactions(ITEMS, SHOPPERS, 0)
    assert default_fusion_weights(timed) == DEFAULT_WEIGHTS
    told = default_fusion_weights(replace(timed, timed=False))
    assert 0 < told.cold_start < DEFAULT_WEIGHTS.cold_start
    seasonal = ("cold_start", "season", "federated_season", "federated_prior")
    kept = {name: getattr(DEFAULT_WEIGHTS, name) for name in seasonal}
    assert replace(told, **kept) == DEFAULT_WEIGHTS
    assert told.season == told.federated_season == told.federated_prior == 0


def fitted(trial):
    return fit_fusion_weights(trial.ranker, trial.validation)


def coming_true(trial, weights):
    """The same shop, where each shopper bought the five items that `weights` rank first."""
    validation = trial.validation
    score = replace(trial.ranker, weights=weights).score(validation.history)
    ranked = rank_scores(lambda rows: score[rows], validation.seen, 5).items
    relevant = validation.relevant.copy().tolil()
    relevant[:] = 0
    for shopper, items in enumerate(ranked):
        relevant[shopper, items[items >= 0]] = 1
    told = Validation(validation.history, validation.seen, relevant.tocsr().astype(np.float32))
    return replace(trial, validation=told)


@pytest.fixture(scope="module")
def trial():
    return make_trial()


def test_an_objective_is_ndcg_and_recall_of_tail_and_cold_start_items(trial):
    validation = trial.validation
    for weights in (DEFAULT_WEIGHTS, FusionWeights(0.5, 1.0, 0.2, 1.0, 0.5)):
        score = replace(trial.ranker, weights=weights).score(validation.history)
        ranking = rank_scores(lambda rows, score=score: score[rows], validation.seen, 10)
        buckets = (popularity_buckets(trial.ranker.sales).tail, trial.ranker.sales == 0)
        parts = [ndcg(ranking, validation.relevant)]
        parts += [recall(ranking, validation.relevant, bucket) for bucket in buckets]
        expected = sum(np.nanmean(part) for part in parts if not np.isnan(part).all())
        assert trial.objectives(weights).objective.mean() == pytest.approx(expected, abs=1e-9)
        assert trial.objectives(weights).ndcg.mean() == pytest.approx(
            np.nanmean(parts[0]), abs=1e-9
        )


@pytest.mark.parametrize("part", [TEXT_ALONE, COLLABORATIVE_ALONE, COLLABORATIVE_AND_TREND])
def test_a_part_that_does_better_alone_is_fallen_back_to(trial, part):
    told = coming_true(trial, part)
    found = fitted(told)
    # Numbers that nothing here reads, such as that of cold-start items, may differ.
    assert np.array_equal(told.objectives(found).objective, told.objectives(part).objective)
    assert not np.array_equal(
        told.objectives(found).objective, told.objectives(DEFAULT_WEIGHTS).objective
    )


@pytest.mark.parametrize("seed", range(6))
def test_no_single_part_is_clearly_better_than_the_weights_on_validation(seed):
    trial = make_trial(seed)
    objectives = trial.objectives(fitted(trial)).objective
    for part in (TEXT_ALONE, COLLABORATIVE_ALONE, COLLABORATIVE_AND_TREND):
        assert not clearly_better(trial.objectives(part).objective, objectives)


def test_a_part_that_was_only_lucky_is_not_fallen_back_to(trial, monkeypatch):
    """A hundred shoppers' luck must not cost a shop three quarters of what it fuses."""
    monkeypatch.setattr(
        "client.ranking.fusion_weights._climb", lambda _, start: (DEFAULT_WEIGHTS, start)
    )
    told = coming_true(trial, DEFAULT_WEIGHTS)
    lucky = coming_true(trial, TEXT_ALONE).validation.relevant
    relevant = told.validation.relevant.tolil()
    better = 0
    for row in range(relevant.shape[0]):  # more and more shoppers buy what the text alone ranks
        relevant[row] = lucky[row]
        validation = replace(told.validation, relevant=relevant.tocsr())
        mixed = replace(told, validation=validation)
        text, default = (
            mixed.objectives(TEXT_ALONE).objective,
            mixed.objectives(DEFAULT_WEIGHTS).objective,
        )
        if text.mean() > default.mean() and not clearly_better(text, default):
            better += 1
            assert fitted(mixed) == DEFAULT_WEIGHTS
    assert better


def test_searched_weights_must_be_better_by_more_than_some_that_were_not(trial, monkeypatch):
    wanted = FusionWeights(1.0, 0.0, 1.5, 0.0, 0.0, 0.0, 0.25, 0.0)
    told, lucky = (
        coming_true(trial, DEFAULT_WEIGHTS),
        coming_true(trial, wanted).validation.relevant,
    )
    relevant = told.validation.relevant.tolil()
    for part in ("TEXT_ALONE", "COLLABORATIVE_ALONE", "COLLABORATIVE_AND_TREND"):
        monkeypatch.setattr(f"client.ranking.fusion_weights.{part}", DEFAULT_WEIGHTS)
    stood = taken = 0
    for row in range(relevant.shape[0]):  # more and more shoppers buy what `wanted` ranks
        relevant[row] = lucky[row]
        mixed = replace(told, validation=replace(told.validation, relevant=relevant.tocsr()))
        found, default = (
            mixed.objectives(wanted).objective,
            mixed.objectives(DEFAULT_WEIGHTS).objective,
        )
        monkeypatch.setattr(
            "client.ranking.fusion_weights._climb",
            lambda *_, objectives=found: (wanted, objectives),
        )
        clear = clearly_better(found, default, SEARCH_ERRORS)
        stood += clearly_better(found, default) and not clear
        taken += clear
        assert fitted(mixed) == (wanted if clear else DEFAULT_WEIGHTS)
    assert stood
    assert taken


def test_weights_that_clearly_cost_overall_accuracy_are_passed_over(trial, monkeypatch):
    """The objective counts new items as much as all: weights for them alone must not win by it."""

    def objectives(_, weights):
        worth = np.zeros(len(trial.validation.history))
        if weights.cold_start == 4.0:
            return Objectives(worth + 1, worth - 0.1)
        return Objectives(worth + (weights.tail == 0.6) * 0.5, worth)

    monkeypatch.setattr(FusionTrial, "objectives", objectives)
    assert fitted(trial) == replace(DEFAULT_WEIGHTS, tail=0.6)


def test_the_default_stands_where_it_comes_true(trial):
    assert fitted(coming_true(trial, DEFAULT_WEIGHTS)) == DEFAULT_WEIGHTS


def test_other_weights_are_taken_where_they_are_clearly_better(trial):
    wanted = FusionWeights(1.0, 0.0, 1.5, 0.0, 0.0, 0.0, 0.25, 0.0)
    for number, values in CANDIDATES.items():
        assert getattr(wanted, number) in values
    told = coming_true(trial, wanted)
    found = told.objectives(fitted(told)).objective.mean()
    assert found > told.objectives(DEFAULT_WEIGHTS).objective.mean() + 0.1


def test_without_cases_the_default_stands(trial):
    empty = trial.validation.thinned(0)
    assert not len(empty.history)
    assert fitted(replace(trial, validation=empty)) == DEFAULT_WEIGHTS


def test_a_shop_without_a_sale_uses_the_text_alone(trial):
    new = replace(trial.ranker, sales=np.zeros(ITEMS, np.int64))
    assert fit_fusion_weights(new, trial.validation) == TEXT_ALONE
