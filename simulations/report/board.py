"""What a board has to know of a run, in sentences and a few numbers: gain, tail, fairness, privacy.

"Alone" is the best of what a merchant has without the others, chosen after the fact on the same
test, so that a gain over it is not flattered. What is not good has a section of its own, and is
looked for in the numbers here, not written by hand.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from common.release.statement_page import TRUST
from simulations.report.terminal import label_of, own_best_line
from simulations.results import measures
from simulations.results.measures import (
    ALONE,
    SPREAD_METRICS,
    Difference,
    Interval,
    SpreadMetric,
)
from simulations.results.schema import Results

TOGETHER: Final = "fused"  # what a merchant of the federation would serve
WITHOUT_TITLES: Final = "local_ease"
NAMES: Final = {
    "popularity": "Best sellers",
    "local_ease": "Own purchases (EASE)",
    "own_alone": "Own purchases, with titles",
    "ease_trend": "Own purchases and trend",
    "frozen_text": "Titles alone",
    "fused_frozen": "Titles, purchases and trend",
    "solo_adapter": "Own adapter",
    TOGETHER: "Together: the same, with the federation's adapter",
}
_MANY_SHOPPERS: Final = 0.1  # of delta times shoppers, past which delta protects few


@dataclass(frozen=True)
class Bar:
    """One model's value with its interval; `low` and `high` are None where there is none."""

    name: str
    value: float
    low: float | None
    high: float | None
    together: bool


@dataclass(frozen=True)
class MerchantGain:
    """What one merchant's shoppers gain over the best alone; None is undefined there."""

    name: str
    cases: int
    overall: float | None
    tail: float | None


@dataclass(frozen=True)
class BoardReport:
    """All that the board's page says, in its order.

    Attributes:
        title: What the run is called.
        subtitle: On what, when, which release.
        verdict: The chief sentence.
        gains: Sentences on what was gained.
        overall: NDCG@10 by model, the best alone and together last.
        tail: Recall@10 in the tail by model, likewise.
        tail_sentences: What the tail brings.
        merchants: Gains of each, the largest first.
        merchant_sentences: How evenly they are spread.
        privacy: What it cost and covers.
        bad: What is not good.
        fine_print: How to read the numbers.
    """

    title: str
    subtitle: str
    verdict: str
    gains: tuple[str, ...]
    overall: tuple[Bar, ...]
    tail: tuple[Bar, ...]
    tail_sentences: tuple[str, ...]
    merchants: tuple[MerchantGain, ...]
    merchant_sentences: tuple[str, ...]
    privacy: tuple[str, ...]
    bad: tuple[str, ...]
    fine_print: str


def board_report(results: Results) -> BoardReport:
    """Return the board's report of a run."""
    alone = best_alone(results)
    nature = "made-up shops" if results.dataset.synthetic else "real purchases"
    release = "no release" if results.release is None else f"release {results.release.version}"
    merchants = tuple(_merchants(results, alone))
    return BoardReport(
        title=f"{results.name}: what training together brought",
        subtitle=(
            f"{nature}, {len(results.merchants)} merchants, {results.dataset.items:,} items, "
            f"{results.dataset.cases:,} test shoppers · {results.created[:10]} · {release}"
        ),
        verdict=_verdict(results, alone),
        gains=tuple(_gains(results, alone)),
        overall=tuple(_bars(results, "ndcg@10")),
        tail=tuple(_bars(results, "tail_recall@10")),
        tail_sentences=tuple(_tail(results, alone)),
        merchants=merchants,
        merchant_sentences=(*_fairness(results, merchants, alone), *_sizes(results)),
        privacy=tuple(_privacy(results)),
        bad=tuple(_bad(results, merchants, alone)),
        fine_print=_fine_print(results, alone),
    )


def best_alone(results: Results) -> str:
    """Return which way of staying alone had the highest NDCG@10 on the test."""
    return measures.best_alone(results.metrics) or "popularity"


def gain_of(results: Results, baseline: str, metric: SpreadMetric) -> Difference | None:
    """Return together minus `baseline` with its paired interval; None where not measured."""
    found = (
        one
        for one in results.intervals.differences
        if (one.model, one.baseline, one.metric) == (TOGETHER, baseline, metric)
    )
    return next(found, None)


def _verdict(results: Results, alone: str) -> str:
    gain = gain_of(results, alone, "ndcg@10")
    if gain is None or gain.mean is None:
        return "Training together was not compared with staying alone in this run."
    against = f"the best that a merchant has alone ({_in_a_sentence(alone)})"
    share = _relative(gain.mean, results.metrics[alone]["ndcg@10"])
    size = f"{_signed(gain.mean)} of NDCG@10 ({_ends(gain)}){share}"
    match gain.verdict:
        case "higher":
            return f"Training together ranks better than {against}: {size}."
        case "lower":
            return f"Training together ranks worse than {against}: {size}."
        case _:
            return f"Training together cannot be told apart from {against}: {size}."


def _gains(results: Results, alone: str) -> Iterator[str]:
    for baseline in dict.fromkeys((WITHOUT_TITLES, alone)):
        gain = gain_of(results, baseline, "ndcg@10")
        if gain is None or gain.mean is None:
            continue
        values = [results.metrics[model]["ndcg@10"] or 0.0 for model in (TOGETHER, baseline)]
        yield (
            f"Against {_in_a_sentence(baseline)}: {values[0]:.4f} instead of {values[1]:.4f}, "
            f"{_signed(gain.mean)} ({_ends(gain)})."
        )
    own, whole = (gain_of(results, one, "ndcg@10") for one in (alone, WITHOUT_TITLES))
    if own and whole and own.mean is not None and whole.mean and whole.mean > 0:
        share = min(max(own.mean / whole.mean, 0.0), 1.0)
        yield (
            f"Of what is gained over own purchases, {share:.0%} needs the others. The rest is "
            "titles and trend, which each shop can use by itself."
        )


def _tail(results: Results, alone: str) -> Iterator[str]:
    found = results.metrics[TOGETHER]["tail_recall@10"]
    own = results.metrics.get(WITHOUT_TITLES, {}).get("tail_recall@10")
    if found is not None and own is not None:
        yield (
            f"Of what shoppers bought outside the best-selling fifth, a list of ten held "
            f"{found:.1%}; with own purchases alone {own:.1%}."
        )
    gain = gain_of(results, alone, "tail_recall@10")
    if gain is not None and gain.mean is not None:
        told = {"higher": "clearly more", "lower": "clearly less", "unclear": "no clear difference"}
        yield (
            f"Against {_in_a_sentence(alone)}: {_signed(gain.mean)} ({_ends(gain)}), "
            f"{told[gain.verdict]}."
        )
    shown = results.metrics[TOGETHER]["coverage@10"]
    if shown is not None:
        yield f"{shown:.0%} of all items stand in somebody's list of ten."


def _merchants(results: Results, alone: str) -> Iterator[MerchantGain]:
    def gain(one: object, metric: SpreadMetric) -> float | None:
        metrics = getattr(one, "metrics", {})
        pair = [metrics.get(model, {}).get(metric) for model in (TOGETHER, alone)]
        return None if None in pair else pair[0] - pair[1]

    found = [
        MerchantGain(one.name, one.cases, gain(one, "ndcg@10"), gain(one, "tail_recall@10"))
        for one in results.merchants
    ]
    yield from sorted(found, key=lambda one: -math.inf if one.overall is None else -one.overall)


def _fairness(results: Results, merchants: tuple[MerchantGain, ...], alone: str) -> Iterator[str]:
    known = [one for one in merchants if one.overall is not None]
    ahead = sum(one.overall > 0 for one in known if one.overall is not None)
    yield (
        f"{ahead} of {len(known)} merchants rank better together than with "
        f"{_in_a_sentence(alone)}, each counted once."
    )
    for one in results.fairness.gains if results.fairness else ():
        if (one.model, one.baseline, one.metric) == (TOGETHER, alone, "ndcg@10"):
            yield (
                f"The least gain is {_signed(one.worst.mean)} ({_ends(one.worst)}), the median "
                f"{_signed(one.median)}."
            )


def _sizes(results: Results) -> Iterator[str]:
    """Say what joining brings to small and to large merchants, and who loses by it."""
    for size in results.by_size:
        for one in size.gains:
            if (one.model, one.metric) == (TOGETHER, "ndcg@10") and one.mean is not None:
                shops = "merchant" if size.merchants == 1 else "merchants"
                base = size.metrics.get(size.alone, {}).get("ndcg@10")
                yield (
                    f"{size.merchants} {shops} of about {size.size:,} shoppers, over "
                    f"{_in_a_sentence(size.alone)}: {_signed(one.mean)} ({_ends(one)})"
                    f"{_relative(one.mean, base)}."
                )
    if results.fairness is not None and results.fairness.own_best is not None:
        yield own_best_line(results.fairness.own_best).replace("-", "−")


def _privacy(results: Results) -> Iterator[str]:
    spent = results.privacy.worst_epsilon
    if spent is None:
        yield "No guarantee: this run protects no shopper."
        return
    deltas = [one.delta for one in results.privacy.merchants.values() if one.delta is not None]
    odds = f"{math.exp(spent):,.0f}" if spent < 20 else "more than a hundred million"
    yield (
        f"ε = {spent:.2f}, the most of any merchant: whether a shopper's purchases were in the "
        f"data changes the odds of whatever was sent by a factor of at most {odds}, but for a "
        f"failure of size δ, here 1 in {1 / max(deltas):,.0f}."
    )
    if results.privacy.run is not None:
        yield (
            f"That they were these purchases and not others costs more: ε = "
            f"{results.privacy.run.replace_one:.2f}."
        )
    audits = [one.audit for one in results.privacy.merchants.values() if one.audit is not None]
    if audits:
        bound = max(one.epsilon for one in audits)
        yield (
            f"Canaries measured that at least ε = {bound:.2f} was spent. More than what is claimed "
            "would be an alarm."
        )
    yield TRUST[results.privacy.dp_model]
    yield (
        "It covers one shopper at one merchant. It does not cover that a merchant takes part, its "
        "catalogue, what a shop shows its own shoppers, settings chosen by looking at results, or "
        "the averages on this page."
    )


def _bad(results: Results, merchants: tuple[MerchantGain, ...], alone: str) -> Iterator[str]:
    if results.dataset.synthetic:
        yield "The shops are made up: the parts work, and that is all that this shows."
    else:
        yield (
            "The averages on these pages are exact, and ε does not cover them. Unless the data is "
            "public, show them to nobody outside."
        )
    for metric, name in zip(SPREAD_METRICS, ("overall", "in the tail"), strict=True):
        gain = gain_of(results, alone, metric)
        if gain is not None and gain.verdict != "higher":
            yield f"No clear gain {name} over the best alone: {_signed(gain.mean)} ({_ends(gain)})."
    tails = {one: results.metrics.get(one, {}).get("tail_recall@10") or 0.0 for one in ALONE}
    finder = max(tails, key=lambda one: tails[one])
    together = results.metrics[TOGETHER]["tail_recall@10"] or 0.0
    if finder != alone and tails[finder] > together:
        yield (
            f"Who wants the tail alone finds more of it with {_in_a_sentence(finder)}: "
            f"{tails[finder]:.1%} instead of {together:.1%}, at less overall."
        )
    behind = [one for one in merchants if one.overall is not None and one.overall <= 0]
    if behind:
        yield f"{len(behind)} of {len(merchants)} merchants gain nothing overall by joining."
    yield from _bad_for_later(results, alone)
    if results.gate is not None and not results.gate.passed:
        yield f"The release was refused: {results.gate.reason}."
    if "solo_adapter" not in results.metrics:
        yield "No merchant trained alone in this run: an own adapter was not compared."
    yield from _bad_privacy(results)
    yield "It is one run. Other seeds deal shoppers and noise anew; small gains may change sign."


def _bad_for_later(results: Results, alone: str) -> Iterator[str]:
    held = results.held_out
    if held is None:
        yield "No merchant was held out: what a later joiner gets was not measured here."
    else:
        for one in held.intervals.differences:
            pair = (one.model, one.baseline, one.metric)
            if pair == (TOGETHER, alone, "ndcg@10") and one.verdict != "higher":
                yield (
                    f"Merchants that joined later gain nothing clear: {_signed(one.mean)} "
                    f"({_ends(one)})."
                )


def _bad_privacy(results: Results) -> Iterator[str]:
    spent = results.privacy.worst_epsilon
    if results.privacy.dp_model == "central":
        yield "Noise was central: whoever adds up the sum sees each merchant's without noise."
    if spent is not None and spent > 1:
        yield (
            f"ε = {spent:.2f} is no small number. A strict reading asks for 1 or less, and "
            "accuracy falls there."
        )
    deltas = [one.delta or 0.0 for one in results.privacy.merchants.values()]
    if deltas and max(deltas) * results.dataset.shoppers > _MANY_SHOPPERS:
        yield (
            f"δ times all shoppers is {max(deltas) * results.dataset.shoppers:.2f}: above a "
            "tenth, the chance that the bound fails for somebody is no longer small."
        )


def _bars(results: Results, metric: SpreadMetric) -> Iterator[Bar]:
    for model in (*ALONE, TOGETHER):
        value = results.metrics.get(model, {}).get(metric)
        if value is None:
            continue
        interval = results.intervals.metrics.get(model, {}).get(metric)
        low, high = (None, None) if interval is None else (interval.low, interval.high)
        yield Bar(NAMES[model], value, low, high, model == TOGETHER)


def _fine_print(results: Results, alone: str) -> str:
    return (
        f"Numbers in brackets: {results.intervals.confidence:.0%} intervals, "
        f"{results.intervals.method}. NDCG@10: how far up in a list of ten stands what a shopper "
        "then bought, 0 to 1. Test: "
        f"{results.dataset.split}. Alone, “{label_of(alone).lower()}” in results.json, is the best "
        "of these on the same test. The whole run: report.html and results.json."
    )


def _in_a_sentence(model: str) -> str:
    name = NAMES[model]
    return name[:1].lower() + name[1:]


def _relative(gain: float, base: float | None) -> str:
    return f", {gain / base:+.1%}".replace("-", "−") if base else ""


def _signed(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.4f}".replace("-", "−")


def _ends(one: Interval) -> str:
    return f"{_signed(one.low)} to {_signed(one.high)}"
