"""What a node signs of each protected vector that it sends, so that a run can be made again.

A signature by the ledger's own key binds a vector to its merchant, run, round, plan and the adapter
it was made at. The journal keeps these beside the heads, a release lists them, and the node keeps
its own: a vector that was altered, left out or taken from another round is found by each of them.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import LedgerError
from common.files import sha256_hex
from common.privacy.accounting.plan import EventKind
from common.privacy.ledger.canonical_json import canonical, read_canonical
from common.privacy.ledger.heads import accepts
from common.privacy.ledger.journal import JournalEntry

_CONTRIBUTION = b"fedtail contribution\n"  # a signature for one purpose is none for another


def vector_digest(vector: NDArray[np.float32]) -> str:
    """Return the SHA-256 of a vector's numbers as little-endian float32."""
    return sha256_hex(np.ascontiguousarray(vector, dtype="<f4").tobytes())


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a protected vector was made for: known to both sides before it is made.

    Attributes:
        kind: `train`, `popularity` or `season`.
        run_id: Flower's number of the run.
        round_number: Counted from 1; 0 for histogram and season.
        plan_digest: The plan in force.
        setup: Digest of the run's settings and basis (`common.settings.run.run_digest`).
        adapter: Digest of the adapter it was made at; empty for histogram and season.
    """

    kind: EventKind
    run_id: str
    round_number: int
    plan_digest: str
    setup: str
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class Contribution:
    """A node's word for one protected vector. No number in it depends on shoppers but the noised.

    Attributes:
        merchant: Who sends it.
        purpose: What it was made for.
        digest: Of the vector, see `vector_digest`.
        signer: The ledger's public key, hex.
        seal: Over the canaries that its steps showed, 64 hex digits (`CanaryRecord.seal`); empty
            where there are none. It covers a secret until the canaries are revealed.
        signature: Over the rest, hex.
    """

    merchant: str
    purpose: Purpose
    digest: str
    signer: str
    seal: str = ""
    signature: str = ""

    def message(self) -> bytes:
        """Return the bytes that the node signs."""
        return _CONTRIBUTION + canonical(self._told()).encode()

    def signed(self, signature: bytes) -> "Contribution":
        """Return it with a signature."""
        return replace(self, signature=signature.hex())

    @property
    def authentic(self) -> bool:
        """Whether its signer signed it."""
        return accepts(self.signer, self.signature, self.message())

    def fault(self, expected: "Contribution") -> str:
        """Return the first field that is not as expected, or `signature`; empty if all is well."""
        found, asked = self._told(), expected._told()  # noqa: SLF001 - of the same class
        pairs = {**asked.pop("purpose"), **asked}
        mine = {**found.pop("purpose"), **found}
        wrong = (name for name, value in pairs.items() if mine[name] != value)
        return next(wrong, "" if self.authentic else "signature")

    def _told(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "signature"}

    def to_json(self) -> str:
        """Return it as canonical JSON."""
        return canonical(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Contribution":
        """Read `to_json` back.

        Raises:
            LedgerError: unless it is exactly what `to_json` writes.
        """
        try:
            return read_canonical(cls, text, cls.to_json)
        except ValueError as error:
            raise LedgerError(f"A contribution is {error}.", field="contribution") from None


def read_contributions(entry: JournalEntry) -> tuple[Contribution, ...]:
    """Return what the nodes signed in a round of the journal.

    Raises:
        LedgerError: if one is not readable.
    """
    return tuple(Contribution.from_json(text) for text in entry.contributions)


def rounds_behind(
    journal: Sequence[JournalEntry], adapter: str, plan_digest: str, run_ids: Collection[str]
) -> Iterator[JournalEntry]:
    """Yield the rounds behind an adapter, the one that made it first, then season and histogram.

    Behind an adapter that a refresh kept is the season that names it, and nothing else of its run.

    A run that was resumed has several numbers, so they are found by going back: each round is the
    latest of its number, under the same plan, before the one that follows it.

    Args:
        journal: Its entries, checked.
        adapter: The adapter's digest.
        plan_digest: The plan under which it was made.
        run_ids: The run's numbers; another run of the same plan may stand between its rounds.
    """
    own = [one for one in journal if one.plan_digest == plan_digest and one.run_id in run_ids]
    made = [one for one in own if one.kind in {"train", "season"} and one.adapter == adapter]
    if not made:
        return
    numbers = range(made[-1].round_number, 0, -1)
    needed: list[tuple[str, int]] = [("train", one) for one in numbers]
    before = [("season", 0), ("popularity", 0)]  # in the order they are found; a plan may lack one
    for entry in reversed(own[: own.index(made[-1]) + 1]):
        about = (entry.kind, entry.round_number)
        if needed:
            if about == needed[0]:
                needed.pop(0)
                yield entry
        elif about in before:
            yield entry
            del before[: before.index(about) + 1]


def contributions_file(
    journal: Sequence[JournalEntry], adapter: str, plan_digest: str, run_ids: Collection[str]
) -> bytes:
    """Return the list that a release carries: what is behind its adapter, one JSON line each.

    Histogram and season come first, then round after round, each in order of merchants' names.
    """
    rounds = list(rounds_behind(journal, adapter, plan_digest, run_ids))
    texts = [text for entry in reversed(rounds) for text in entry.contributions]
    return "".join(f"{text}\n" for text in texts).encode()


def read_contributions_file(content: bytes) -> tuple[Contribution, ...]:
    """Read what `contributions_file` wrote, each signature checked.

    Raises:
        LedgerError: naming the first line that is not a signed contribution.
    """
    lines = content.split(b"\n")
    found = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            one = Contribution.from_json(line.decode())
        except (LedgerError, UnicodeDecodeError):
            raise _bad(number, "contribution") from None
        if not one.authentic:
            raise _bad(number, "signature")
        found.append(one)
    if lines[-1]:
        raise _bad(len(lines), "contribution")
    return tuple(found)


def _bad(number: int, field: str) -> LedgerError:
    return LedgerError(f"Line {number} of the contributions has a wrong {field}.", field=field)
