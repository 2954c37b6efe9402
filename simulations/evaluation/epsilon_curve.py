"""Trainings at several budgets, for accuracy and membership inference against epsilon.

A part of each merchant's shoppers is left out of these trainings, chosen by chance, so that there
is somebody of the same shop and the same months to tell members from.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.adapter import AdapterState
from common.evaluation.scorecard import Scorecard, pool
from common.settings.run import RunSettings
from simulations.data.shop import Shop
from simulations.evaluation.evaluator import ShopEvaluator
from simulations.evaluation.membership_inference import membership_scores, membership_test
from simulations.federation.comparisons import Trainer
from simulations.federation.parallel_runs import OnRound
from simulations.results.measures import SPREAD_METRICS, Number, SpreadMetric
from simulations.results.sections import CurvePoint, EpsilonCurve

HELD_BACK: Final = 0.2  # of each merchant's shoppers


def shoppers_held_back(shop: Shop, seed: int) -> NDArray[np.bool_]:
    """Return who is left out: bool [shoppers], the same at every budget."""
    count = shop.past.shopper_count
    chosen = np.random.default_rng((seed, count)).permutation(count)[: round(HELD_BACK * count)]
    held = np.zeros(count, dtype=bool)
    held[chosen] = True
    return held


def without_shoppers(shop: Shop, held: NDArray[np.bool_]) -> Shop:
    """Return the shop as if the shoppers `held` had never been there."""
    stay = np.flatnonzero(~held)
    return Shop.of(replace(shop.data, interactions=shop.data.interactions.only_shoppers(stay)))


def epsilon_curve(
    trainer: Trainer,
    evaluators: Sequence[ShopEvaluator],
    frozen: dict[str, list[Scorecard]],
    epsilons: Sequence[float],
    *,
    on_round: OnRound,
    processes: int | None = None,
) -> EpsilonCurve:
    """Train once at each budget and evaluate adapter, fusion and attack.

    Args:
        trainer: Of the main run; each training has a folder and ledgers of its own.
        evaluators: Of the main run's shops: the accuracy is that of all their test shoppers.
        frozen: Scorecards of `frozen_text` and `fused_frozen`, one a shop.
        epsilons: Budgets; inf is without noise.
        on_round: Told of rounds, with the place of the budget among them.
        processes: How many trainings at once, as `train_side_by_side`.
    """
    settings = trainer.settings
    held = [shoppers_held_back(evaluator.shop, settings.seed) for evaluator in evaluators]
    shops = [without_shoppers(one.shop, out) for one, out in zip(evaluators, held, strict=True)]
    budgets = sorted(epsilons, reverse=True)
    comparisons = [trainer.at_epsilon(shops, epsilon) for epsilon in budgets]
    adapters = trainer.compared(comparisons, on_round, processes)
    points = [
        _point(adapter, evaluators, held, epsilon, settings)
        for adapter, epsilon in zip(adapters, budgets, strict=True)
    ]
    return EpsilonCurve(
        held_back=HELD_BACK,
        frozen={name: _means(frozen[name]) for name in ("frozen_text", "fused_frozen")},
        points=points,
    )


def _point(
    adapter: AdapterState,
    evaluators: Sequence[ShopEvaluator],
    held: Sequence[NDArray[np.bool_]],
    epsilon: float,
    settings: RunSettings,
) -> CurvePoint:
    scorecards: dict[str, list[Scorecard]] = {"adapter": [], "fused": []}
    members, others = [], []
    for evaluator, out in zip(evaluators, held, strict=True):
        text = evaluator.text(adapter)
        scorecards["adapter"].append(evaluator.evaluate(text.score))
        scorecards["fused"].append(evaluator.evaluate(evaluator.fused(text).score))
        scores = membership_scores(
            evaluator.shop.past,
            np.arange(len(out)),
            settings,
            adapted=evaluator.vectors.under(adapter),
            frozen=evaluator.vectors.candidates,
        )
        members.append(scores[~out])
        others.append(scores[out])
    return CurvePoint(
        epsilon=None if math.isinf(epsilon) else epsilon,
        metrics={name: _means(of_shops) for name, of_shops in scorecards.items()},
        membership=membership_test(
            members, others, epsilon=epsilon, delta=settings.delta, seed=settings.seed
        ),
    )


def _means(scorecards: Sequence[Scorecard]) -> dict[SpreadMetric, Number]:
    means = pool(list(scorecards)).means()
    return {metric: means[metric] for metric in SPREAD_METRICS}
