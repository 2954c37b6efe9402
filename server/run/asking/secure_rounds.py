"""What a run with distributed noise asks for: popularity, season, gradients, each a secure sum."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import RecordDict

from common.federation.aggregation import Popularity
from common.federation.bounds import FloatVector, Framing
from common.federation.descent import Descent, Step
from common.federation.failed_sums import ENDED
from common.federation.secure_step import mean_gradient, summed_popularity, summed_season
from common.privacy.accounting.plan import EventKind
from common.privacy.mechanism.sum_canaries import CanarySums
from common.season import Season
from common.wire.messages import (
    POPULARITY,
    TRAIN,
    Prepared,
    TrainRequest,
    encode_plan_request,
    encode_train,
)
from common.wire.season import SEASON
from common.wire.secure_sum import index_digest, with_index
from server.run.asking.questions import Questions
from server.run.asking.secure_sum import FailedSumError, SecureSums, Wanted
from server.run.checkpoint import Checkpoint
from server.run.contributions import keep_framing, keep_transcript
from server.run.exchange import Exchange


@dataclass(eq=False)
class SecureRounds:
    """The secure sums of a run.

    Attributes:
        framing: From the coordinates in which updates are summed to the adapter's.
        sums: The conversation with the nodes.
        canary_sums: What the sums showed of the canaries since this process started; None
            where there are none.
    """

    framing: Framing
    sums: SecureSums = field(default_factory=SecureSums)
    canary_sums: CanarySums | None = None

    def popularity(self, questions: Questions, exchange: Exchange) -> Popularity:
        """Return the popularity of all items of those that take part.

        Raises:
            FailedSumError, QuorumError, JournalError: as `SecureSums.take`.
        """
        plan, sitting = questions.setup.plan, self.sums.prepare(questions, exchange)

        def content_of(_node: int, _prepared: Prepared) -> tuple[str, RecordDict]:
            return POPULARITY, with_index(encode_plan_request(plan.digest), sitting.index)

        questions.standings.state.enter("popularity", 0)
        popularity, merchants = self.sums.take(
            questions,
            exchange,
            Wanted("popularity", 0, index_digest(sitting.index)),
            content_of,
            lambda total: summed_popularity(total, plan, sitting.index),
        )
        self._close(questions, "popularity", merchants)
        return popularity

    def season(self, questions: Questions, exchange: Exchange) -> Season:
        """Return the season of all shoppers of those that take part.

        Raises:
            FailedSumError, QuorumError, JournalError: as `SecureSums.take`.
        """
        setup = questions.setup
        self.sums.prepare(questions, exchange)

        def content_of(_node: int, _prepared: Prepared) -> tuple[str, RecordDict]:
            return SEASON, encode_plan_request(setup.plan.digest)

        questions.standings.state.enter("season", 0)
        season, merchants = self.sums.take(
            questions,
            exchange,
            Wanted("season", 0),
            content_of,
            lambda total: summed_season(total, setup.plan, setup.season_ends),
        )
        self._close(questions, "season", merchants)
        return season

    def gradient(
        self,
        questions: Questions,
        exchange: Exchange,
        number: int,
        requests: Mapping[int, TrainRequest],
    ) -> tuple[FloatVector, tuple[str, ...], int]:
        """Return a round's mean update, whose updates are in it, and how many there could be.

        Args:
            questions: How nodes are asked.
            exchange: The way to them.
            number: The round, from 1.
            requests: What each node that is present is asked.

        Raises:
            FailedSumError, QuorumError, JournalError: as `SecureSums.take`.
        """
        plan, sitting = questions.setup.plan, self.sums.prepare(questions, exchange)
        questions.standings.state.enter("train", number)
        (gradient, columns), merchants = self.sums.take(
            questions,
            exchange,
            Wanted("train", number, next(iter(requests.values())).adapter.digest),
            lambda node, _prepared: (TRAIN, encode_train(requests[node])),
            lambda total: mean_gradient(total, plan, self.framing),
        )
        if columns.size:
            if self.canary_sums is None or self.canary_sums.roster != sitting.names:
                run_id = str(exchange.grid.run.run_id)
                self.canary_sums = CanarySums.start(
                    run_id, plan.to_json(), sitting.names, columns.size
                )
            self.canary_sums = self.canary_sums.observed(
                number, merchants, columns, plan.max_grad_norm
            )
        return gradient, merchants, len(sitting.names)

    def train(
        self,
        questions: Questions,
        exchange: Exchange,
        requests: Mapping[int, TrainRequest],
        descent: Descent,
        state: Checkpoint,
    ) -> tuple[Step, int]:
        """Return the next round's step, kept on disk, and how many merchants could be in it.

        A round whose sum fails is given up: no step is taken, and nobody is asked for it again
        (`common.federation.failed_sums`). Where no sum is asked for any more, all of them are.

        Raises:
            FederationError: whatever made this sum fail, where no other is asked for and no round
                came to anything yet: the run can be started again.
            QuorumError, JournalError: as `SecureSums.take`.
            FederationError: if the sum's transcript cannot be kept.
        """
        number, countersigner = state.round_number + 1, questions.countersigner
        none = descent.step(state.adapter, state.optimiser, number, {})
        if self.sums.is_over:
            countersigner.close("train", number, (), state.adapter.digest, ENDED)
            return none, 0
        try:
            gradient, merchants, asked = self.gradient(questions, exchange, number, requests)
        except FailedSumError as failed:
            last = self.sums.is_over or number == questions.setup.plan.rounds
            if last and not any(one.participants for one in state.history):
                raise failed.cause from None
            return none, len(requests)
        step = descent.step_on(state.adapter, state.optimiser, number, gradient, merchants)
        countersigner.close("train", number, merchants, step.adapter.digest)
        self.keep(questions.setup.folder, number, "train")
        return step, asked

    def keep(self, folder: Path | None, number: int, kind: EventKind) -> None:
        """Put the transcript of the sum that was taken last on disk.

        Raises:
            FederationError: if it cannot be written.
        """
        keep_framing(folder, self.framing)
        keep_transcript(folder, number, kind, self.sums.transcript)

    def _close(self, questions: Questions, kind: EventKind, merchants: tuple[str, ...]) -> None:
        kept = questions.setup.kept_adapter if kind == "season" else ""
        questions.countersigner.close(kind, 0, merchants, kept)
        self.keep(questions.setup.folder, 0, kind)
