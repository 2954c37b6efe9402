"""Before the first round: ask the nodes for popularity and season, and sum what they give.

A node charges for each when it answers. So that a run asks only once, whoever calls these keeps
what they return in the checkpoint before it goes on.
"""

from collections.abc import Sequence
from typing import Literal

from flwr.app import Message

from common.federation.aggregation import Popularity, pool_popularity
from common.federation.season_sum import sum_seasons
from common.season import Season
from common.wire.messages import POPULARITY, encode_popularity_request
from common.wire.season import SEASON, encode_season_request
from server.run.asking.questions import Questions
from server.run.contributions import keep_vectors
from server.run.exchange import Exchange, Take
from server.run.intake import Intake, Vectors


def ask_popularity(questions: Questions, exchange: Exchange) -> Popularity:
    """Return the pooled popularity of the merchants that are present.

    Raises:
        QuorumError: if too few sent a usable histogram.
        JournalError: if the journal cannot be written.
        FederationError: if the histograms cannot be kept.
    """
    plan, present, intake = questions.setup.plan, questions.present, questions.intake()
    request = encode_popularity_request
    sent = [questions.message(node, POPULARITY, request(plan.digest), 0) for node in present]
    take: Take = lambda node, reply: intake.histogram(reply, node)  # noqa: E731 - one line
    histograms = _ask_once(questions, exchange, intake, sent, take, kind="popularity")
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
    setup, plan, intake = questions.setup, questions.setup.plan, questions.intake()
    size, request = setup.season_size, encode_season_request
    sent = [questions.message(node, SEASON, request(plan.digest), 0) for node in questions.present]
    take: Take = lambda node, reply: intake.season(reply, node, size)  # noqa: E731 - one line
    vectors = _ask_once(questions, exchange, intake, sent, take, kind="season")
    return sum_seasons(vectors, setup.season_ends, plan.noise_std("season"), setup.aggregate)


def _ask_once(
    questions: Questions,
    exchange: Exchange,
    intake: Intake,
    sent: Sequence[Message],
    take: Take,
    *,
    kind: Literal["popularity", "season"],
) -> Vectors:
    """Return what the nodes gave before the first round, by merchant, in order of names."""
    setup = questions.setup
    questions.standings.state.enter(kind, 0)
    answers = questions.ask(exchange, sent, take)
    intake.missing(answers, kind, questions.forget)
    vectors = {name: intake.vectors[name] for name in sorted(intake.vectors)}
    questions.countersigner.close(kind, 0, tuple(vectors))
    questions.check_quorum(len(vectors), len(answers.asked), kind)
    keep_vectors(setup.folder, setup.plan, 0, vectors, kind)
    return vectors
