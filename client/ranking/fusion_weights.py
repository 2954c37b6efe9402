"""Fit how a shop's ranker weighs its parts, on periods of its own past.

The public default stands unless the shop's own past says otherwise: `believe` weighs the evidence
for each of some hundred candidates, and what is used is the mean of the weights under that belief.
So few cases move a shop a little or not at all, many move it all the way, and the luckiest
candidate of many decides nothing by itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from client.ranking.fusion import FusionWeights
from client.ranking.model_selection import DEFAULT_ODDS, believe
from client.ranking.shortlist import Found, Reading, Shortlist
from client.shop.interactions import Interactions

DEFAULT_WEIGHTS = FusionWeights()
_NOTHING = FusionWeights(*(0.0 for _ in fields(FusionWeights)))
# Of a shop that has sold nothing yet; without a clock there is no season. See docs/adr/0070.
UNTIMED_WEIGHTS = replace(
    DEFAULT_WEIGHTS,
    text=0.3,
    tail=0.1,
    cold_start=0,
    season=0,
    federated_season=0,
    federated_prior=0,
)
TEXT_ALONE = replace(_NOTHING, text=1)
COLLABORATIVE_ALONE = replace(_NOTHING, collaborative=1)
# A shop without titles.
COLLABORATIVE_AND_TREND = replace(_NOTHING, collaborative=1, trend=1.5)
PARTS = (TEXT_ALONE, COLLABORATIVE_ALONE, COLLABORATIVE_AND_TREND)

# How far a weight is moved at a time: times and by 1 / times, or up and down by.
TIMES = {"text": 2.0, "tail": 3.0}
BY = {"trend": 1.0, "cold_start": 1.0, "season": 0.25, "federated_season": 0.25}
LEAST = {"text": 0.1, "tail": 0.05}  # what 0 is moved up to, and below which a weight is 0
PAIRS = (
    ("text", "trend"),
    ("text", "cold_start"),
    ("trend", "cold_start"),
    ("season", "trend"),
    ("season", "cold_start"),
    ("federated_season", "cold_start"),
)
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)  # of the adapter
STRENGTH_ODDS = 2.0  # of the adapter as released
ROUNDS = 6  # each from where the last one ended
# What a point of NDCG@10 counts below that of the best part alone: a shop must not lose by fusing.
BELOW_PARTS = 3.0
# Of the odds against the default: one number changed, two changed, a part alone.
SHARES = (0.5, 0.25, 0.25)

Floats = NDArray[np.float64]


class Choice(NamedTuple):
    """How a shop's ranker is put together: its weights, and how it reads titles."""

    weights: FusionWeights
    reading: Reading


def default_fusion_weights(past: Interactions) -> FusionWeights:
    """Return the public weights that a shop starts from.

    Where purchases have an order and no clock, what never sold is seldom new: it is what nobody
    wanted, and is not asked for. And titles count for less the more the shop has sold, half at one
    purchase for each item: there is no trend and no season beside them, and a shop's own purchases,
    which are read with titles too, soon know better.
    """
    if past.timed:
        return DEFAULT_WEIGHTS
    share = past.item_count / (past.item_count + len(past))
    text, tail = UNTIMED_WEIGHTS.text * share, UNTIMED_WEIGHTS.tail * share
    return replace(UNTIMED_WEIGHTS, text=text, tail=tail)


@dataclass(frozen=True, eq=False)
class FusionTrial:
    """One shop's past periods, on which choices are compared.

    Attributes:
        shortlists: Of each period's cases.
        shoppers: int [cases], whose cases they are, period after period: a shopper who is a case
            of several periods is one piece of evidence.
    """

    shortlists: Sequence[Shortlist]
    shoppers: NDArray[np.integer]

    def found(self, choice: Choice) -> Found:
        """Return what lists under a choice find, all periods' cases."""
        found = [one.found(choice.weights, choice.reading) for one in self.shortlists]
        return Found(*(np.concatenate(part) for part in zip(*found, strict=True)))

    def gains(self, default: Choice, choices: Sequence[Choice]) -> Floats:
        """Return what each choice brings each shopper over the default: float64 [shoppers, k]."""
        best = max((self.found(Choice(part, default.reading)).ndcg for part in PARTS), key=np.mean)
        start = _worth(self.found(default), best)
        gains = np.stack([_worth(self.found(one), best) - start for one in choices], axis=1)
        _, place = np.unique(self.shoppers, return_inverse=True)
        summed = np.zeros((place.max() + 1, len(choices)))
        np.add.at(summed, place, gains)
        return summed

    @property
    def moving(self) -> tuple[str, ...]:
        """The weights that can change a list here."""
        still = [
            name for name in BY if not any(np.ptp(one.alike[name]) > 0 for one in self.shortlists)
        ]
        return tuple(name for name in (*TIMES, *BY) if name not in still)


def _worth(found: Found, best_part: Floats) -> Floats:
    """Return what each case adds to the objective: float64 [cases]; the mean is the objective.

    It is NDCG@10 + recall@10 of tail items + recall@10 of cold-start items: a ranking that forgets
    what sells rarely, or not yet, is not a good one. Where NDCG@10 is below the best part's, what
    it lacks is taken off BELOW_PARTS times.
    """
    worth = found.ndcg.copy()
    for recalled in (found.tail, found.cold):
        known = ~np.isnan(recalled)
        if known.any():  # its mean over all cases is the mean over those it is known for
            worth += np.where(known, recalled, 0) * len(known) / known.sum()
    if found.ndcg.mean() < best_part.mean():
        worth += BELOW_PARTS * (found.ndcg - best_part)
    return worth


def fit_fusion_weights(trial: FusionTrial, default: Choice) -> Choice:
    """Return the weights and the decay of a shop that reads titles as `default` does.

    Without cases it is the default.
    """
    for _ in range(ROUNDS):
        decays = sorted({reading.decay for reading in trial.shortlists[0].texts})
        found = _better(trial, default, _around(default, trial.moving, decays))
        if found == default:
            break
        default = found
    return default


def fit_strength(trial: FusionTrial, alone: Choice) -> Choice:
    """Return the choice of a shop with an adapter, from the one it made without.

    The default is the same with the adapter as released, at lower odds than other defaults have:
    what an adapter brings is little beside what a wrong one costs. To leave it out is `alone`
    itself, and as likely before any evidence as all else together: other strengths and text
    weights, and titles alone, where the adapter reads so well that a shop's own purchases add
    nothing.
    """
    released = Choice(alone.weights, alone.reading._replace(strength=1.0))
    others = [*_read_stronger(released), (alone, 0.5)]
    found = _better(trial, released, others, STRENGTH_ODDS)
    for _ in range(ROUNDS - 1):
        if not found.reading.strength:
            return alone
        before, found = found, _better(trial, found, list(_read_stronger(found)))
        if found == before:
            break
    return found


def _read_stronger(default: Choice) -> Iterator[tuple[Choice, float]]:
    """Yield an adapter's strengths with text weights about the default's, and its titles alone."""
    weights, reading = default
    strengths = [one for one in STRENGTHS if one]
    texts = (weights.text, *_steps("text", weights.text))
    for strength in strengths:
        for text in texts:
            choice = Choice(replace(weights, text=text), reading._replace(strength=strength))
            yield choice, 0.25 / (len(strengths) * len(texts))
        yield Choice(TEXT_ALONE, reading._replace(strength=strength)), 0.25 / len(strengths)


def _around(
    default: Choice, moving: tuple[str, ...], decays: Sequence[float]
) -> Iterator[tuple[Choice, float]]:
    """Yield candidates and their shares of the odds: the default's neighbours, and parts alone."""
    weights, reading = default
    steps = {name: _steps(name, getattr(weights, name)) for name in moving}
    singles = [
        replace(weights, **{name: value}) for name, values in steps.items() for value in values
    ]
    pairs = [
        replace(weights, **dict(zip(pair, values, strict=True)))
        for pair in PAIRS
        if set(pair) <= set(moving)
        for values in product(*(steps[name] for name in pair))
    ]
    place = decays.index(reading.decay)
    near = [one for one in decays[max(place - 1, 0) : place + 2] if one != reading.decay]
    share = SHARES[0] / (len(singles) + len(near))
    for decay in near:
        yield Choice(weights, reading._replace(decay=decay)), share
    for kind, some in zip(SHARES, (singles, pairs, PARTS), strict=True):
        count = len(some) + (len(near) if some is singles else 0)
        for one in some:  # none where nothing that belongs together can move
            yield Choice(one, reading), kind / count


def _steps(name: str, value: float) -> tuple[float, ...]:
    """Return what a weight is moved to, down and up."""
    if name in BY:
        return (max(value - BY[name], 0.0), value + BY[name])
    lower = value / TIMES[name]
    return (lower if lower >= LEAST[name] else 0.0, max(value * TIMES[name], LEAST[name]))


def _better(
    trial: FusionTrial,
    default: Choice,
    candidates: Iterable[tuple[Choice, float]],
    odds: float = DEFAULT_ODDS,
) -> Choice:
    """Return the default where it is likelier than not, else the mean of all that is believed."""
    shares: dict[Choice, float] = {}
    for choice, share in candidates:
        if choice != default:
            shares[choice] = max(share, shares.get(choice, 0.0))
    choices = list(shares)
    belief = believe(trial.gains(default, choices), np.array(list(shares.values())), odds)
    if belief.default > 0.5:
        return default
    return _mean([default, *choices], np.array([belief.default, *belief.candidates]))


def _mean(choices: Sequence[Choice], likely: Floats) -> Choice:
    """Return the mean weights of what reads titles in the likeliest way."""
    readings: dict[Reading, float] = {}
    for choice, share in zip(choices, likely, strict=True):
        readings[choice.reading] = readings.get(choice.reading, 0.0) + share
    reading = max(readings, key=lambda one: readings[one])
    share = np.array([one.reading == reading for one in choices]) * likely
    share /= share.sum()
    mean = {
        field.name: float(share @ [getattr(one.weights, field.name) for one in choices])
        for field in fields(FusionWeights)
    }
    return Choice(FusionWeights(**mean), reading)
