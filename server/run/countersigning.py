"""What one run does with the journal: address requests, take heads, close rounds.

Without a journal nothing is added and nothing is asked: for tests and runs that keep no folder.
"""

from collections.abc import Callable, Sequence

import numpy as np
from flwr.app import Message, RecordDict
from numpy.typing import NDArray

from common.errors import FederationError
from common.privacy.accounting.plan import EventKind
from common.privacy.ledger.contributions import Contribution, Purpose, vector_digest
from common.privacy.ledger.heads import Head
from common.privacy.ledger.journal import JournalKind
from common.wire.contributions import accepted_contribution
from common.wire.heads import RECEIPT, JournalNote, read_head, with_note
from common.wire.messages import Prepared
from server.run.exchange import Exchange
from server.run.journal import Journal

RECEIPT_SECONDS = 60.0


class Countersigning:
    """The heads of the round that goes on, and the way to the journal."""

    def __init__(
        self,
        journal: Journal | None,
        may_renew: Callable[[str], bool] = lambda _merchant: False,
        setup: str = "",
    ) -> None:
        """Make a countersigner at `journal`.

        Args:
            journal: The server's; None keeps none.
            may_renew: Whether a merchant's ledger may come under another key than before.
            setup: Digest of the run's settings and basis, which the nodes sign with each vector.
        """
        self._journal, self._setup = journal, setup
        self._may_renew = may_renew
        self._heads: dict[str, Head] = {}
        self._contributions: dict[str, Contribution] = {}
        self._signers: dict[str, str] = {}  # of ledgers that this run has seen, charged or not

    def address(self, content: RecordDict, merchant: str | None) -> RecordDict:
        """Add the journal's key and the merchant's last receipt to a request."""
        if self._journal is None:
            return content
        receipt = None if merchant is None else self._journal.last.get(merchant)
        return with_note(content, JournalNote(self._journal.signer, receipt))

    def check_head(self, prepared: Prepared, content: RecordDict) -> None:
        """Check the head that a newly prepared node tells, and note the canaries it committed to.

        Raises:
            FederationError: if it has none, or is older or another than the journal has.
        """
        if self._journal is None:
            return
        head = read_head(content)
        self._check(prepared.merchant, head, charged=False)
        self._journal.join(prepared.merchant, head)
        self._journal.commit(prepared.merchant, prepared.canaries_commitment)

    def take(self, merchant: str, content: RecordDict) -> None:
        """Check the head of a reply that was charged for, and hold it until the round is closed.

        Raises:
            FederationError: as `check_head`; the reply is then not used.
        """
        if self._journal is None:
            return
        head = read_head(content)
        self._check(merchant, head, charged=True)
        self._heads[merchant] = head

    def take_vector(
        self,
        merchant: str,
        content: RecordDict,
        vector: NDArray[np.float32],
        number: int,
        adapter: str = "",
        *,
        kind: EventKind = "train",
    ) -> None:
        """Check that a reply's vector is signed by the key of its head, and hold the signature.

        Args:
            merchant: Who sent it; its head has been taken.
            content: The reply.
            vector: What it holds, decoded.
            number: The round; 0 is what comes before the first.
            adapter: Digest of the adapter that was sent; empty before the first round.
            kind: What the vector is.

        Raises:
            FederationError: `contribution` if there is no signature or it is of something else; the
                reply is then not used.
        """
        if self._journal is None or self._journal.plan.dp_model != "local":
            return  # what does not carry all of its noise is not signed, as it may not be shown
        run_id, plan = self._journal.run_id, self._journal.plan
        purpose = Purpose(kind, run_id, number, plan.digest, self._setup, adapter)
        signer = self._signers.get(merchant, "")
        expected = Contribution(merchant, purpose, vector_digest(vector), signer)
        self._contributions[merchant] = accepted_contribution(content, expected)

    def signer_of(self, merchant: str) -> str:
        """Return the key, hex, of the ledger that a merchant has shown in this run; else empty."""
        return self._signers.get(merchant, "")

    def refuse(self, merchant: str, reason: str) -> None:
        """Put on the journal that a node was refused, or has refused, and why."""
        if self._journal is not None:
            told = (merchant,) if merchant else ()
            self._journal.append("refusal", participants=told, reason=reason)

    def _check(self, merchant: str, head: Head, *, charged: bool) -> None:
        """Check a head, and that the merchant has one ledger key in this run from its first on."""
        if self._journal is None:
            return
        may_renew = self._may_renew(merchant)
        self._journal.check(merchant, head, charged=charged, may_renew=may_renew)
        if self._signers.setdefault(merchant, head.signer) != head.signer and not may_renew:
            raise FederationError(
                f"The ledger key of {merchant} changed within the run.", field="signer"
            )
        self._signers[merchant] = head.signer

    @property
    def next_entry(self) -> int:
        """The number of the journal's next entry; 0 where there is no journal."""
        return 0 if self._journal is None else self._journal.next_number

    def close(
        self,
        kind: JournalKind,
        number: int,
        participants: Sequence[str],
        adapter: str = "",
        reason: str = "",
    ) -> None:
        """Put a round on the journal and countersign its heads, whatever came of the round.

        Args:
            kind: Of the round.
            number: From 1; 0 before the first.
            participants: Whose reply was used.
            adapter: Digest of the adapter after it.
            reason: Why a secure sum failed, a public code; empty where it did not.
        """
        if self._journal is not None:
            self._journal.append(
                kind,
                round_number=number,
                heads=self._heads,
                participants=participants,
                adapter=adapter,
                reason=reason,
                contributions=[
                    self._contributions[name].to_json()
                    for name in sorted(participants)
                    if name in self._contributions
                ],
            )
        self._heads, self._contributions = {}, {}

    def deliver(self, exchange: Exchange, merchants: dict[int, str], *, wait: bool) -> None:
        """Send nodes their last receipts; whether they answer changes nothing.

        Args:
            exchange: The way to the nodes.
            merchants: Names by node.
            wait: Whether the run is over, so that nodes can fetch them for as long as this waits.
        """
        if self._journal is None:
            return
        sent = [
            Message(self.address(RecordDict(), merchant), node, RECEIPT, ttl=RECEIPT_SECONDS)
            for node, merchant in merchants.items()
            if merchant in self._journal.last
        ]
        if wait:
            exchange.ask(sent, RECEIPT_SECONDS)
            return
        for message in sent:
            exchange.tell(message)
