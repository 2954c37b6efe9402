"""One run on the coordinator: prepare the nodes, pool popularity and season, then rounds.

Every merchant weighs the same in a round's mean; every wait is bounded; a checkpoint follows each.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from common.errors import FederationError, FedtailError, QuorumError
from common.federation.bounds import Framing
from common.federation.descent import Descent, Step
from common.privacy.mechanism.canaries import CanaryRecord
from common.privacy.mechanism.sum_canaries import CanarySums
from common.wire import messages
from server.run.asking.before_rounds import ask_popularity, ask_season
from server.run.asking.canaries import reveal_canaries
from server.run.asking.questions import Questions
from server.run.asking.secure_rounds import SecureRounds
from server.run.asking.secure_sum import FailedSumError
from server.run.checkpoint import Checkpoint, RoundRecord, write_checkpoint
from server.run.cohort import Cohort
from server.run.contributions import keep_vectors
from server.run.countersigning import Countersigning
from server.run.exchange import Exchange, Take
from server.run.intake import Intake
from server.run.journal import Journal
from server.run.oversight.watch import Oversight
from server.run.run_setup import RunSetup, plain_parts, restored

logger = logging.getLogger(__name__)
Given = TypeVar("Given")


class FedtailStrategy(Strategy):
    """Flower strategy with uniform public weights, a quorum, timeouts and checkpoints.

    Attributes:
        state: The run after its last finished round.
        metrics: The allowed metrics each merchant sent last, by merchant.
        audits: Canaries, by merchant, of those that revealed them after the last round.
    """

    def __init__(
        self,
        setup: RunSetup,
        *,
        on_round: Callable[[RoundRecord], None] | None = None,
        epsilon: Callable[[int], float] | None = None,
    ) -> None:
        """Make a strategy for the run that `setup` describes.

        Args:
            setup: That run.
            on_round: Called after each round's checkpoint is on disk.
            epsilon: Gives a merchant's epsilon after so many rounds, for the records.
        """
        self.setup = setup
        self.state = restored(setup)
        self.metrics: dict[str, dict[str, float]] = {}
        self.audits: dict[str, CanaryRecord] = {}
        self._on_round = on_round
        self._epsilon = epsilon
        self.oversight = Oversight(
            setup.folder, setup.conditions.members, setup.log_format, self._prepared_name
        )
        self.log, self.standings = self.oversight.log, self.oversight.standings
        request = messages.PrepareRequest(setup.basis, setup.settings, setup.plan.to_json())
        self._cohort = Cohort(
            request,
            setup.prepare_timeout,
            self.standings,
            check=setup.conditions.check,
            may_begin=self.oversight.may_begin,
        )
        self._countersigner = Countersigning(None)
        self._descent = Descent(
            setup.optimiser,
            setup.learning_rate,
            setup.schedule,
            setup.plan.rounds,
            setup.aggregate,
        )
        self._framing = Framing(setup.parts or plain_parts(setup.adapter))
        shared = setup.plan.dp_model == "distributed"
        self._secure = SecureRounds(self._framing) if shared else None
        self._present: dict[int, messages.Prepared] = {}
        self._timeout = setup.round_timeout

    @property
    def canary_sums(self) -> CanarySums | None:
        """What secure sums showed of the canaries; None where there are none."""
        return None if self._secure is None else self._secure.canary_sums

    @property
    def history(self) -> tuple[RoundRecord, ...]:
        """The records of all rounds so far, those before a stop included."""
        return self.state.history

    def start(  # noqa: PLR0917 - Flower's own signature
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,  # noqa: ARG002 - Flower's own signature
        num_rounds: int | None = None,
        timeout: float | None = None,
        train_config: ConfigRecord | None = None,  # noqa: ARG002 - Flower's own signature
        evaluate_config: ConfigRecord | None = None,  # noqa: ARG002 - Flower's own signature
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run the rounds that are left and return the final adapter.

        Args:
            grid: The way to the nodes.
            initial_arrays: Not used: the adapter comes from the setup or the checkpoint.
            num_rounds: Stop after this round; all of the plan's rounds where it is None.
            timeout: Seconds for one round; the setup's where it is None.
            train_config: Not used: settings are sent once, when a node is prepared.
            evaluate_config: Not used: no metric of shoppers is asked for.
            evaluate_fn: Called with the adapter after each round, on public data.

        Raises:
            QuorumError: if too few nodes are there or answer; the last checkpoint stays.
            KeyboardInterrupt: as pressed; the last checkpoint stays.
        """
        self._timeout = self.setup.round_timeout if timeout is None else timeout
        last = self.setup.plan.rounds if num_rounds is None else num_rounds
        if last > self.setup.plan.rounds:
            raise FederationError(
                f"{last} rounds were asked for; the privacy plan has {self.setup.plan.rounds}.",
                field="rounds",
            )
        self.summary()
        exchange, result = Exchange(grid, self.setup.patience), Result()
        exchange.on_wait = self.oversight.show_wait
        self.standings.state.begin(last)
        try:
            with contextlib.ExitStack() as stack:
                self._open_journal(stack, exchange)
                if not self.setup.plan.trains and self.state.season is None:
                    self._before_rounds(exchange)
                for number in range(self.state.round_number + 1, last + 1):
                    record = self._round(exchange, number)
                    if self._on_round is not None:
                        self._on_round(record)
                    arrays = messages.adapter_record(self.state.adapter)
                    shown = None if evaluate_fn is None else evaluate_fn(number, arrays)
                    if shown is not None:
                        result.evaluate_metrics_serverapp[number] = shown
                self._audit(exchange)
                merchants = {node: one.merchant for node, one in self._present.items()}
                self._countersigner.deliver(exchange, merchants, wait=True)
        except BaseException as error:
            kind = error.public() if isinstance(error, FedtailError) else type(error).__name__
            self.log.note("run ended", "warning", round=self.state.round_number, reason=kind)
            raise
        finally:
            self.standings.state.enter("ended", self.state.round_number)
        self.log.note("run done", round=self.state.round_number)
        result.arrays = messages.adapter_record(self.state.adapter)
        for record in self.history:
            result.train_metrics_clientapp[record.round_number] = MetricRecord(
                {"update_norm": record.update_norm, "participants": record.participants}
            )
        return result

    # ------------------------------------------------------------ one round
    def _round(self, exchange: Exchange, number: int) -> RoundRecord:
        """Run one round; only when it is whole does `self.state` change, and then the disk."""
        began = time.monotonic()
        questions = self._before_rounds(exchange)
        self.standings.state.enter("train", number)
        train = self._plain_train if self._secure is None else self._secure_train
        step, asked = train(questions, exchange, number)
        down, up = exchange.take_bytes()
        record = RoundRecord(
            round_number=number,
            seconds=time.monotonic() - began,
            bytes_down=down,
            bytes_up=up,
            participants=step.participants,
            failures=asked - step.participants,
            learning_rate=step.rate,
            update_norm=step.update_norm,
            epsilon=None if self._epsilon is None else self._epsilon(number),
        )
        self._keep(
            replace(
                self.state,
                round_number=number,
                adapter=step.adapter,
                optimiser=step.optimiser,
                history=(*self.history, record),
            )
        )
        self.log.note("round done", round=number, participants=step.participants)
        return record

    def _before_rounds(self, exchange: Exchange) -> Questions:
        """Take histogram and season unless a checkpoint has them: all there is of a refresh."""
        if self._secure is None or not self._secure.sums.is_over:
            self._assemble(exchange)
        if self.state.popularity is None and self.setup.plan.takes_histogram:
            ask = ask_popularity if self._secure is None else self._secure.popularity
            self._keep(replace(self.state, popularity=self._once(exchange, ask)))
        if self.state.season is None and self.setup.season_ends:
            take = ask_season if self._secure is None else self._secure.season
            self._keep(replace(self.state, season=self._once(exchange, take)))
        return self._questions()

    def _once(self, exchange: Exchange, ask: Callable[[Questions, Exchange], Given]) -> Given:
        """Return what is asked before the first round; a sum that failed is asked for again."""
        while True:
            with contextlib.suppress(FailedSumError):
                return ask(self._questions(), exchange)
            self.standings.round_over()
            self._assemble(exchange)

    def _plain_train(
        self, questions: Questions, exchange: Exchange, number: int
    ) -> tuple[Step, int]:
        """Return a step on the updates that came, kept on disk, and how many nodes were asked."""
        arrays = messages.adapter_record(self.state.adapter)
        sent = self.configure_train(number, arrays, ConfigRecord(), exchange.grid)
        intake = questions.intake()
        answers = questions.ask(exchange, sent, self._taker(intake, number))
        intake.missing(answers, f"round {number}", self._cohort.forget)
        step = self._step(number, intake)
        digest = step.adapter.digest if step.participants else ""
        self._countersigner.close("train", number, step.merchants, digest)
        self.standings.round_over()
        questions.check_quorum(step.participants, len(answers.asked), "train")
        keep_vectors(self.setup.folder, self.setup.plan, number, intake.vectors)
        return step, len(answers.asked)

    def _secure_train(
        self, questions: Questions, exchange: Exchange, number: int
    ) -> tuple[Step, int]:
        """Return a step on the mean of a secure sum, kept on disk, and how many there could be."""
        assert self._secure is not None  # noqa: S101 - the caller has looked
        requests = {node: self._request(one, number) for node, one in self._present.items()}
        try:
            return self._secure.train(questions, exchange, requests, self._descent, self.state)
        finally:
            self.standings.round_over()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return one message for each node that is present, in order of merchants' names."""
        del config, grid, arrays  # everything is in setup and state; the nodes were chosen before
        questions = self._questions()
        for node, prepared in self._present.items():
            content = messages.encode_train(self._request(prepared, server_round))
            yield questions.message(node, messages.TRAIN, content, server_round)

    def _request(self, prepared: messages.Prepared, number: int) -> messages.TrainRequest:
        popularity = self.state.popularity
        return messages.TrainRequest(
            adapter=self.state.adapter,
            popularity=None if popularity is None else popularity.at(prepared.text_keys),
            round_number=number,
            plan_digest=self.setup.plan.digest,
        )

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Return the adapter after a step on the replies' mean, and what may be shown of it."""
        intake = self._questions().intake()
        take = self._taker(intake, server_round)
        for reply in replies:
            take(reply.metadata.src_node_id, reply)
        step = self._step(server_round, intake)
        if not step.participants:
            return None, None
        metrics = {"update_norm": step.update_norm, "participants": step.participants}
        return messages.adapter_record(step.adapter), MetricRecord(dict(metrics))

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return no message: a metric over shoppers would have to be paid for."""
        del server_round, arrays, config, grid
        return ()

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Return None: nothing was asked for."""
        del server_round, replies
        return None

    def summary(self) -> None:
        """Log what is about to run."""
        plan = self.setup.plan
        told = (self.setup.adapter.size, plan.rounds, self.state.round_number, plan.dp_model)
        logger.info("%d numbers, %d rounds, %d done; noise %s; plan %s", *told, plan.digest[:12])

    # --------------------------------------------------------------- pieces
    def _prepared_name(self, node: int) -> str:
        held = self._cohort.members.get(node)
        return "" if held is None else held.merchant

    def _assemble(self, exchange: Exchange) -> None:
        self.standings.state.enter("preparing", self.state.round_number)
        joined = self._secure is None or self._secure.sums.sitting is not None
        wanted = 0 if joined else self.setup.plan.merchants
        self._present = self._cohort.assemble(exchange, self.setup.quorum, wanted)

    def _audit(self, exchange: Exchange) -> None:
        """After the last round, ask every node there to open its canaries, if there are any."""
        plan, canaries = self.setup.plan, self.setup.settings.get("audit_canaries", 0)
        audited = plan.dp_model in {"local", "distributed"} and canaries
        if self.state.round_number == plan.rounds and audited:
            with contextlib.suppress(QuorumError):  # too few to ask: the run stands, unaudited
                self._assemble(exchange)
            self.standings.state.enter("audit", self.state.round_number)
            self.audits = reveal_canaries(
                exchange,
                self._present,
                plan,
                self._timeout,
                standings=self.standings,
                quorum=self.setup.quorum,
            )

    def _questions(self) -> Questions:
        """Return the way to ask who is present now."""
        return Questions(
            self.setup,
            self._present,
            self._countersigner,
            self.standings,
            self._timeout,
            self._cohort.forget,
            self._framing.inner_size + int(self.setup.settings.get("audit_canaries", 0)),
        )

    def _taker(self, intake: Intake, number: int) -> Take:
        told, framing = self.state.adapter.digest, self._framing
        return lambda node, reply: intake.update(reply, node, number, told, framing)

    def _step(self, number: int, intake: Intake) -> Step:
        """Return a step on what was taken in."""
        self.metrics |= intake.metrics
        state = self.state
        return self._descent.step(state.adapter, state.optimiser, number, intake.vectors)

    def _open_journal(self, stack: contextlib.ExitStack, exchange: Exchange) -> None:
        """Open the journal until `stack` ends, and have it look at whoever prepares.

        Raises:
            JournalError: if it cannot be trusted or written.
        """
        if self.setup.journal is None:
            return
        run_id = str(exchange.grid.run.run_id)
        journal = stack.enter_context(Journal(self.setup.journal, self.setup.plan, run_id))
        countersigner = self._countersigner = Countersigning(
            journal, self.setup.conditions.may_renew, self.state.settings_digest
        )
        self._cohort.address = lambda content: countersigner.address(content, None)
        self._cohort.check_head = countersigner.check_head
        self._cohort.on_rollback = lambda node, name: countersigner.deliver(
            exchange, {node: name}, wait=False
        )
        self.standings.journal = countersigner.refuse

    def _keep(self, state: Checkpoint) -> None:
        """Write `state` to disk, then make it the current one."""
        if self.setup.folder is not None:
            write_checkpoint(self.setup.folder, state)
        self.state = state
