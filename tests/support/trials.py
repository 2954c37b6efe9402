"""Shops' past periods for tests of what is fitted on them."""

from dataclasses import replace

import numpy as np

from client.ranking.fusion import FusedRanker
from client.ranking.fusion_weights import DEFAULT_WEIGHTS, STRENGTHS, FusionTrial
from client.ranking.shortlist import LISTED, Reading, Spread, shortlist
from client.ranking.text_ease import fit_text_ease
from client.ranking.text_scorer import DECAYS, TextScorer, strengthened
from client.ranking.validation import Validation, validation_of
from client.shop.splitting import evaluation_cases
from tests.support.shops import make_interactions

ITEMS, WIDTH, CUT = 40, 8, 180 * 86_400_000_000
FROZEN = tuple(Reading(0.0, decay) for decay in sorted(DECAYS))
ADAPTED = tuple(Reading(strength, decay) for strength in STRENGTHS for decay in (0.8, 1.0))
_TOP = 5  # items that come true


def unit_vectors(seed, items=ITEMS):
    rows = np.random.default_rng(seed).normal(size=(items, WIDTH))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def made_period(seed=0, shoppers=120, items=ITEMS):
    """A ranker of random purchases, its model, and the cases after them."""
    rows = make_interactions(items, shoppers, seed)
    before, after = rows.where(rows.time < CUT), rows.where(rows.time >= CUT)
    vectors = unit_vectors(seed, items)
    model = fit_text_ease(before.matrix(), vectors, 50.0)
    ranker = FusedRanker.of(TextScorer(vectors, vectors), model, DEFAULT_WEIGHTS, before)
    return ranker, validation_of(before, evaluation_cases(before, after))


def texts_of(ranker, readings, seed=100):
    frozen = ranker.text.candidate_vectors
    adapted = unit_vectors(seed, len(frozen))
    return {
        one: TextScorer(strengthened(frozen, adapted, one.strength), frozen, one.decay)
        for one in readings
    }


def shortlist_of(ranker, validation: Validation, texts):
    spread = Spread.of(ranker.text.candidate_vectors)
    return shortlist(ranker, ranker.collaborative, validation, texts, spread)


def make_trial(seed=0, shoppers=120, readings=FROZEN):
    """One period of a shop whose next purchases have nothing to do with its texts."""
    ranker, validation = made_period(seed, shoppers)
    one = shortlist_of(ranker, validation, texts_of(ranker, readings))
    return FusionTrial([one], np.arange(len(one)))


def coming_true(trial, choice):
    """The same shop, where each shopper bought the items that a choice ranks first."""
    [one] = trial.shortlists
    scores = one.scores(choice.weights, choice.reading)
    relevant = np.zeros_like(one.relevant)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :_TOP]
    np.put_along_axis(relevant, best, True, 1)
    relevant &= ~one.padding
    unsold = one.alike["cold_start"] > 0
    told = replace(one, relevant=relevant, tail=relevant & (one.few > 0.3), cold=relevant & unsold)
    assert LISTED > _TOP
    return FusionTrial([told], trial.shoppers)
