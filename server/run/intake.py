"""One round's answers, looked at as they come: decoded, bounded, checked against ledgers, or named.

Whatever is wrong with an answer is that node's: it is counted, told to the operator and written on
the journal, and the round goes on without it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from flwr.app import Message, RecordDict
from numpy.typing import NDArray

from common.errors import FederationError, JournalError
from common.federation.bounds import Framing, honest_bounds
from common.privacy.accounting.plan import PrivacyPlan
from common.wire.messages import Prepared, decode_popularity, decode_update
from common.wire.season import decode_season
from server.run.countersigning import Countersigning
from server.run.exchange import UNREADABLE, Answers
from server.run.oversight.standing import Standings

Vectors = dict[str, NDArray[np.float32]]
AskedOnce = Literal["popularity", "season"]
_DECODE: Final[dict[AskedOnce, Callable[[RecordDict, int, str], NDArray[np.float32]]]] = {
    "popularity": decode_popularity,
    "season": decode_season,
}


@dataclass(eq=False)
class Intake:
    """What one round, the histogram or the season has taken in.

    Attributes:
        present: The nodes that were asked, with what each told when it was prepared.
        plan: The run's.
        countersigner: Checks heads and signatures.
        standings: Told of every answer.
        vectors: The usable ones, by merchant.
        metrics: What those sent beside them, by merchant.
    """

    present: Mapping[int, Prepared]
    plan: PrivacyPlan
    countersigner: Countersigning
    standings: Standings
    vectors: Vectors = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)

    def update(
        self, reply: Message, node: int, number: int, adapter: str, framing: Framing
    ) -> bool:
        """Take a round's update; return whether it is of use.

        Args:
            reply: As it came.
            node: Whose it is.
            number: The round.
            adapter: Digest of the adapter that was sent.
            framing: To the coordinates in which updates are bounded.

        Raises:
            JournalError: if the journal cannot be written; nothing else of a node's reply does.
        """

        def read(merchant: str) -> NDArray[np.float32]:
            digest = self.plan.digest
            update, metrics = decode_update(reply.content, framing.size, number, digest)
            bounds = honest_bounds(self.plan, "train", framing.inner_size)
            if bounds is not None:
                bounds.check(framing.unframe(update.vector), "update")
            told = (number, adapter)
            self.countersigner.take_vector(merchant, reply.content, update.vector, *told)
            self.metrics[merchant] = metrics
            return update.vector

        return self._take(node, reply, f"round {number}", read)

    def asked_once(self, reply: Message, node: int, kind: AskedOnce, size: int) -> bool:
        """Take what is asked before the first round; return whether it is `size` usable numbers.

        Raises:
            JournalError: as `update`.
        """

        def read(merchant: str) -> NDArray[np.float32]:
            vector = _DECODE[kind](reply.content, size, self.plan.digest)
            bounds = honest_bounds(self.plan, kind, size)
            if bounds is not None:
                bounds.check(vector, kind)
            self.countersigner.take_vector(merchant, reply.content, vector, 0, kind=kind)
            return vector

        return self._take(node, reply, kind, read)

    def missing(self, answers: Answers, phase: str, forget: Callable[[int], None]) -> None:
        """Tell who gave no answer; `forget` those that lost the run's state, or are silent."""
        for node, reason in sorted(answers.errors.items()):
            merchant = self.present[node].merchant
            if reason == UNREADABLE:
                error = FederationError("An answer cannot be read.", field="message")
                self.standings.strike(node, merchant, phase, error)
            else:
                self.standings.failed(node, merchant, phase, reason)
            if reason == "federation:prepare":
                forget(node)
        for node in answers.silent:
            self.standings.silent(node, self.present[node].merchant, phase)
            forget(node)

    def _take(
        self, node: int, reply: Message, phase: str, read: Callable[[str], NDArray[np.float32]]
    ) -> bool:
        merchant = self.present[node].merchant
        try:
            self.countersigner.take(merchant, reply.content)
            self.vectors[merchant] = read(merchant)
        except JournalError:
            raise
        except FederationError as error:
            self.standings.strike(node, merchant, phase, error)
            return False
        self.standings.answered(node, merchant)
        return True
