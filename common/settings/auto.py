"""Settings that fit themselves: from what a federation declares to how it trains.

A rule and no search. It reads what is public before anybody trains and nothing of a shopper, so
it costs no epsilon, and the same facts give the same settings everywhere. The study that decided
it is in docs/adr/0059-settings-from-declared-facts.md.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from common.catalogue import Catalogue
from common.errors import SettingsError
from common.privacy.accounting.plan import spared_of
from common.settings.run import RunSettings, Scalar

CHOSEN = (
    "history_decay",
    "whitening_power",
    "sif_smoothing",
    "lexical_weight",
    "lora_modules",
    "rank",
    "output_rank",
    "temperature",
    "popularity_strength",
    "learning_rate",
)
BASE_RANK = 16  # of eight merchants of 300 shoppers at an epsilon of 4
BASE_VOICES = 8**0.5 * 300
LEAST_RANK, MOST_RANK = 8, 64
BASE_OUTPUT_RANK = 96
STEP_PER_RANK = 0.015 / 16
MOST_EPSILON = 8.0  # above it noise is not what limits training
LONG_TEXT = 10  # words from which on a text is more than a title
CLOSED = 0.25  # distinct words a text below which a vocabulary is closed: made of a grammar


@dataclass(frozen=True)
class DeclaredFacts:
    """What a federation says of itself before it trains; none of it is counted from shoppers.

    Attributes:
        clock: Whether purchases have times; else only an order within each shopper.
        merchants: How many train, at least 1.
        size_bracket: A merchant's declared size bracket, at least 1.
        items: Distinct texts in the public catalogue, at least 1.
        words: Mean words of such a text, above 0.
        vocabulary: Distinct words in all of them, whatever their case, at least 1.
        epsilon: Budget of the run, above 0; inf where no noise is added.
        sharing: How many merchants' noise together is that of one: 1 where each adds its own, with
            `distributed` noise those that the plan does not spare. At most `merchants`.

    Raises:
        SettingsError: if a number is out of bounds.
    """

    clock: bool
    merchants: int
    size_bracket: int
    items: int
    words: float
    vocabulary: int
    epsilon: float
    sharing: int = 1

    def __post_init__(self) -> None:
        for name in ("merchants", "size_bracket", "items", "vocabulary", "sharing"):
            if getattr(self, name) < 1:
                raise SettingsError(
                    f"{name} is {getattr(self, name)}; it must be at least 1.", field=name
                )
        if self.sharing > self.merchants:
            raise SettingsError(
                "sharing must be at most merchants: nobody else adds noise.", field="sharing"
            )
        for name in ("words", "epsilon"):
            if not getattr(self, name) > 0:  # NaN is refused too
                raise SettingsError(
                    f"{name} is {getattr(self, name)}; it must be above 0.", field=name
                )

    @property
    def long_texts(self) -> bool:
        """Whether texts are more than titles."""
        return self.words >= LONG_TEXT

    @property
    def closed_vocabulary(self) -> bool:
        """Whether texts are put together from few words."""
        return self.vocabulary < CLOSED * self.items

    @property
    def voices(self) -> float:
        """Shoppers a merchant at an epsilon of 4 whose mean would be as clear as the federation's.

        Noise on the mean of N merchants falls with the square root of N, and where each adds one
        k-th of its variance with the square root of k besides.
        """
        averaged = math.sqrt(self.merchants * self.sharing)
        return self.size_bracket * averaged * min(self.epsilon, MOST_EPSILON) / 4

    @classmethod
    def of(
        cls, catalogues: Iterable[Catalogue], settings: RunSettings, *, clock: bool, merchants: int
    ) -> "DeclaredFacts":
        """Return the facts of public catalogues and of the settings that were declared."""
        texts = {text for catalogue in catalogues for text in catalogue.texts}
        words = [word for text in texts for word in text.lower().split()]
        return cls(
            clock=clock,
            merchants=merchants,
            size_bracket=settings.size_bracket,
            items=max(len(texts), 1),
            words=max(len(words) / max(len(texts), 1), 1.0),
            vocabulary=max(len(set(words)), 1),
            epsilon=math.inf if settings.noise == "none" else settings.epsilon,
            sharing=_sharing(settings, merchants),
        )


def _sharing(settings: RunSettings, merchants: int) -> int:
    if settings.noise == "distributed":
        return merchants - spared_of(merchants, settings.spared_share)
    return merchants if settings.noise == "central" else 1


@dataclass(frozen=True)
class Choice:
    """A setting's value and why the rule gave it."""

    value: Scalar
    reason: str


def choose(facts: DeclaredFacts) -> dict[str, Choice]:
    """Return the settings that follow from `facts`, each with its reason in a few words."""
    return {**_history(facts), **_reading(facts), **_training(facts)}


def _history(facts: DeclaredFacts) -> dict[str, Choice]:
    if facts.clock:
        return {"history_decay": Choice(1.0, "there is a clock: all baskets count alike")}
    return {"history_decay": Choice(0.65, "an order and no clock: what was bought last tells most")}


def _reading(facts: DeclaredFacts) -> dict[str, Choice]:
    """Return how a text becomes a frozen vector."""
    if facts.closed_vocabulary:
        reason = f"{facts.vocabulary} words for {facts.items} texts: common ones tell too"
        power, smoothing, lexical = 0.8, 0.0, 0.0
    elif facts.long_texts:
        reason = f"{facts.words:.0f} words a text: they name what kind an item is"
        power, smoothing, lexical = 0.8, 0.0, 0.5
    else:
        reason = f"{facts.words:.0f} words a text: a rare one tells most"
        power, smoothing, lexical = 0.9, 0.01, 0.7
    return {
        "whitening_power": Choice(power, reason),
        "sif_smoothing": Choice(smoothing, reason),
        "lexical_weight": Choice(lexical, reason),
    }


def _training(facts: DeclaredFacts) -> dict[str, Choice]:
    """Return where the adapter sits, how large it is and how it steps."""
    voices = facts.voices
    rank = _power_of_two(BASE_RANK * math.sqrt(voices / BASE_VOICES))
    told = f"about {voices:,.0f} shoppers are heard above the noise"
    if facts.long_texts:
        doublings = math.log2(rank / BASE_RANK)
        return {
            "lora_modules": Choice("projection", f"{facts.words:.0f} words a text, read as one"),
            "rank": Choice(rank, told),
            "output_rank": Choice(BASE_OUTPUT_RANK, "not read by the projection"),
            "temperature": Choice(round(0.1 + 0.1 * max(doublings, 0), 2), f"for rank {rank}"),
            "popularity_strength": Choice(
                2.0 if rank == MOST_RANK else 1.2, f"for rank {rank}, so that the tail pays nothing"
            ),
            "learning_rate": Choice(round(rank * STEP_PER_RANK, 4), f"for rank {rank}"),
        }
    reason = f"{facts.words:.0f} words a text, each read by itself"
    return {
        "lora_modules": Choice("output.dense", reason),
        "rank": Choice(rank, told),
        "output_rank": Choice(BASE_OUTPUT_RANK, "as chosen over five periods of a real shop"),
        "temperature": Choice(0.1, "the nearest items decide"),
        "popularity_strength": Choice(1.2, "the noised histogram is flat"),
        "learning_rate": Choice(
            *(
                (0.003, "a closed vocabulary spans few directions")
                if facts.closed_vocabulary
                else (0.01, "as chosen over five periods of a real shop")
            )
        ),
    }


def _power_of_two(rank: float) -> int:
    return int(2 ** round(math.log2(min(max(rank, LEAST_RANK), MOST_RANK))))


def fit_settings(
    settings: RunSettings, facts: DeclaredFacts, asked: Mapping[str, Any]
) -> tuple[RunSettings, dict[str, Choice]]:
    """Fill in by the rule what nobody asked for.

    Args:
        settings: The run's, with all that was asked for.
        facts: What the federation declares.
        asked: The settings that a person named; they stand. Names may have hyphens.

    Returns:
        The settings and the choices that are in them.
    """
    named = {name.replace("-", "_") for name in asked}
    open_ = {name: one for name, one in choose(facts).items() if name not in named}
    values = {name: one.value for name, one in open_.items()}
    # Not `to_flat`: that a season was forgone is not in it.
    return RunSettings.from_flat({**settings.model_dump(exclude_unset=True), **values}), open_
