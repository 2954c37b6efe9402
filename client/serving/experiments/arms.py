"""The arms that a list can be made by: what each changes of the shop's model.

An arm is made of a fitted model and nothing else, so a list of any arm can be made again from its
row and the model.
"""

import re
from dataclasses import dataclass, replace

from client.ranking.fusion_weights import COLLABORATIVE_AND_TREND
from client.ranking.text_scorer import TextScorer
from client.serving.live_shop import Snapshot

RELEASE = "release"  # the shop's model as it was fitted
OWN = "own"  # what the shop has without a release's text scores: what sells together, and the trend
FROZEN = "frozen"  # the release's weights on text that no adapter has read
OTHER = "model:"  # before the name of a folder with another model, beside the one that serves
ARM_PATTERN = r"^(release|own|frozen|model:[a-z0-9][a-z0-9_.-]{0,24})$"


@dataclass(frozen=True)
class Assigned:
    """What a request gets.

    Attributes:
        variant: The arm.
        experiment: Whose test the list counts in; None if it counts in none.
    """

    variant: str = RELEASE
    experiment: str | None = None


TO_ALL = Assigned()


def is_arm(name: str) -> bool:
    """Whether a name is one of an arm."""
    return re.fullmatch(ARM_PATTERN, name) is not None


def folder_of(arm: str) -> str | None:
    """Return the folder's name of an arm that is another model; None for an arm of this one."""
    return arm.removeprefix(OTHER) if arm.startswith(OTHER) else None


def with_arm(snapshot: Snapshot, arm: str) -> Snapshot:
    """Return the shop as an arm ranks it; the same where the arm is a model of its own.

    The click curves were fitted on the release's scores, so that other arms have no chances.
    """
    model = snapshot.model
    ranker = model.ranker
    if arm == OWN:
        ranker = ranker.with_weights(COLLABORATIVE_AND_TREND)
    elif arm == FROZEN:
        vectors = ranker.text.candidate_vectors
        ranker = replace(ranker, text=TextScorer(vectors, vectors, ranker.text.decay, 0.0))
    else:
        return snapshot
    return replace(snapshot, model=replace(model, ranker=ranker, chances={}))
