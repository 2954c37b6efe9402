"""Before the first round: ask the nodes for popularity and season, and sum what they give.

A node charges for each when it answers. So that a run asks only once, whoever calls these keeps
what they return in the checkpoint before it goes on.
"""

from collections.abc import Mapping
from typing import Final

from common.federation.aggregation import Popularity, pool_popularity
from common.federation.season_sum import sum_seasons
from common.season import Season
from common.wire.messages import POPULARITY, encode_plan_request
from common.wire.season import SEASON
from server.run.asking.questions import Questions
from server.run.contributions import keep_vectors
from server.run.exchange import Exchange
from server.run.intake import AskedOnce, Vectors

_QUERIES: Final[dict[AskedOnce, str]] = {"popularity": POPULARITY, "season": SEASON}


def ask_popularity(questions: Questions, exchange: Exchange) -> Popularity:
    """Return the pooled popularity of the merchants that are present.

    Raises:
        QuorumError: if too few sent a usable histogram.
        JournalError: if the journal cannot be written.
        FederationError: if the histograms cannot be kept.
    """
    plan, present = questions.setup.plan, questions.present
    sizes = {node: one.items for node, one in present.items()}
    histograms = _ask_once(questions, exchange, "popularity", sizes)
    keys = {one.merchant: one.text_keys for one in present.values()}
    counts = {name: (keys[name], noised) for name, noised in histograms.items()}
    return pool_popularity(counts, plan.noise_std("popularity"))


def ask_season(questions: Questions, exchange: Exchange) -> Season:
    """Return the season of the merchants that are present.

    Raises:
        QuorumError: if too few sent a usable vector.
        JournalError: if the journal cannot be written.
        FederationError: if the vectors cannot be kept.
    """
    setup, plan = questions.setup, questions.setup.plan
    sizes = dict.fromkeys(questions.present, setup.season_size)
    vectors = _ask_once(questions, exchange, "season", sizes)
    return sum_seasons(vectors, setup.season_ends, plan.noise_std("season"), setup.aggregate)


def _ask_once(
    questions: Questions, exchange: Exchange, kind: AskedOnce, sizes: Mapping[int, int]
) -> Vectors:
    """Return what the nodes gave, by merchant, in order of names; a node gives `sizes` numbers."""
    setup, intake = questions.setup, questions.intake()
    questions.standings.state.enter(kind, 0)
    answers = questions.ask(
        exchange,
        [
            questions.message(node, _QUERIES[kind], encode_plan_request(setup.plan.digest), 0)
            for node in sizes
        ],
        lambda node, reply: intake.asked_once(reply, node, kind, sizes[node]),
    )
    intake.missing(answers, kind, questions.forget)
    vectors = {name: intake.vectors[name] for name in sorted(intake.vectors)}
    kept = setup.kept_adapter if kind == "season" else ""
    questions.countersigner.close(kind, 0, tuple(vectors), kept)
    questions.check_quorum(len(vectors), len(answers.asked), kind)
    keep_vectors(setup.folder, setup.plan, 0, vectors, kind)
    return vectors
