"""Merchants that never train: what a release is worth to a shop that joins after it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from client.shop.dataset import MerchantData
from common.evaluation.scorecard import Scorecard
from common.settings.run import RunSettings
from simulations.data.shop import Shop
from simulations.evaluation.evaluator import make_evaluators
from simulations.evaluation.scoring import intervals, merchant_results, pooled_metrics
from simulations.federation.runner import FinishedRun
from simulations.results.sections import HeldOut


def hold_out(
    parts: Sequence[MerchantData], count: int, seed: int
) -> tuple[list[MerchantData], list[MerchantData]]:
    """Return the merchants that train and the `count` that do not, chosen by the seed, in order."""
    chosen = set(np.random.default_rng(seed).permutation(len(parts))[:count].tolist())
    training = [part for place, part in enumerate(parts) if place not in chosen]
    return training, [part for place, part in enumerate(parts) if place in chosen]


def evaluate_held_out(
    shops: Sequence[Shop], run: FinishedRun, settings: RunSettings, cache: Path
) -> HeldOut | None:
    """Evaluate the release on shops that had no part in it; None where there are none.

    Nothing of such a shop is in the adapter, the basis or the popularity of the loss. Decay, fusion
    weights, trend and EASE are its own, fitted on its past, as at any merchant. Head, tail and cold
    are by the sales of the held-out shops together.
    """
    if not shops:
        return None
    evaluators = make_evaluators(shops, run.basis, settings, cache)
    scorecards: dict[str, list[Scorecard]] = {}
    for evaluator in evaluators:
        text = evaluator.text(run.adapter)
        found = {
            **evaluator.baselines(),
            "adapter": evaluator.evaluate(text.score),
            "fused": evaluator.evaluate(evaluator.fused(text, run.season).score),
        }
        for model, scorecard in found.items():
            scorecards.setdefault(model, []).append(scorecard)
    return HeldOut(
        merchants=merchant_results(scorecards, evaluators, settings.size_bracket),
        metrics=pooled_metrics(scorecards),
        intervals=intervals(scorecards, settings.seed),
    )
