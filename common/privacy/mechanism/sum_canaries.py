"""Canaries of a run whose server sees sums alone: what the sums show, and whose virtual shoppers.

The vector of a training round ends in m columns for canaries, and each column belongs to one
merchant of the roster. Merchants commit to their secret bits before training as elsewhere
(`common.privacy.mechanism.canaries`); a merchant's virtual shoppers are in its own columns alone.
In those of the others it adds its share of the noise and nothing else. So in the sum each column
holds the noise of everybody and at most one virtual shopper: what an attacker sees of one shopper.
A node's secret order is undone before its vector is masked, so it is nobody else's; as each has
another, noise that a fault forgets on a part of every vector is spread over all of the sum.

Nobody holds such a column before the sum is there, so there is nothing to seal: the masked vectors
that the sum is made of are signed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from common.errors import PrivacyError
from common.privacy.mechanism.canaries import MOST_CANARIES, CanaryRecord

_FORMAT = "fedtail-sum-canaries-1"


def owned_canaries(roster: Sequence[str], merchant: str, canaries: int) -> NDArray[np.bool_]:
    """Return which columns are a merchant's, bool [m]: j is of the roster's j-th, in turns.

    Args:
        roster: The names of all that take part, in any order.
        merchant: One of them; a stranger has none.
        canaries: m.
    """
    names = sorted(roster)
    whose = np.arange(canaries) % len(names)
    return np.asarray(whose == names.index(merchant) if merchant in names else whose < 0)


@dataclass(frozen=True, eq=False)
class CanarySums:
    """What the columns of a run's sums showed, round by round. Nothing in it is secret.

    Attributes:
        run_id: The run.
        plan: The privacy plan, as its JSON.
        roster: The merchants, sorted.
        rounds: int64 [T], the round of each sum, in order.
        survivors: bool [T, N], of whom each sum was.
        columns: float32 [T, m], the canaries' columns of each sum, in units of C.
    """

    run_id: str
    plan: str
    roster: tuple[str, ...]
    rounds: NDArray[np.int64]
    survivors: NDArray[np.bool_]
    columns: NDArray[np.float32]

    def __post_init__(self) -> None:
        steps, width = len(self.rounds), self.columns.shape[-1]
        if self.columns.shape != (steps, width) or not np.isfinite(self.columns).all():
            raise PrivacyError("The columns are not one finite number a sum.", field="canaries")
        if not 1 <= width <= MOST_CANARIES:
            raise PrivacyError(f"There must be 1 to {MOST_CANARIES} canaries.", field="canaries")
        if list(self.roster) != sorted(set(self.roster)) or not self.roster:
            raise PrivacyError("The columns name each merchant once, in order.", field="roster")
        if (
            self.survivors.shape != (steps, len(self.roster))
            or not self.survivors.any(axis=1).all()
        ):
            raise PrivacyError("Each sum of columns is of some merchants.", field="survivors")

    @classmethod
    def start(cls, run_id: str, plan: str, roster: Sequence[str], canaries: int) -> "CanarySums":
        """Return the columns of a run before its first sum."""
        return cls(
            run_id,
            plan,
            tuple(sorted(roster)),
            np.zeros(0, np.int64),
            np.zeros((0, len(roster)), np.bool_),
            np.zeros((0, canaries), np.float32),
        )

    def observed(
        self,
        round_number: int,
        survivors: Sequence[str],
        columns: NDArray[np.float64],
        max_grad_norm: float,
    ) -> "CanarySums":
        """Return it with one more sum.

        Args:
            round_number: The sum's.
            survivors: The merchants whose vectors it is of.
            columns: float64 [m], the decoded sum's.
            max_grad_norm: C.

        Raises:
            PrivacyError: if there is another count of columns, or a survivor is not of the roster.
        """
        if set(survivors) - set(self.roster):
            raise PrivacyError("A sum is of a stranger.", field="survivors")
        if columns.shape != self.columns.shape[1:]:
            raise PrivacyError("A sum has another count of columns.", field="canaries")
        there = np.array([[name in survivors for name in self.roster]])
        row = (columns / max_grad_norm).astype(np.float32)
        return replace(
            self,
            rounds=np.append(self.rounds, np.int64(round_number)),
            survivors=np.concatenate([self.survivors, there]),
            columns=np.concatenate([self.columns, row.reshape(1, -1)]),
        )

    def rounds_of(self, merchant: str) -> list[int]:
        """Return the rounds whose sums a merchant is in."""
        if merchant not in self.roster:
            return []
        there = self.survivors[:, self.roster.index(merchant)]
        return [int(number) for number in self.rounds[there]]

    def known(
        self, records: Mapping[str, CanaryRecord]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which columns have a revealed owner, and which hold a virtual shopper, bool [m].

        Args:
            records: The revealed records by merchant; others than the roster's are not looked at.

        Raises:
            PrivacyError: if a record is not revealed, is of another run or plan, or has another
                count of canaries.
        """
        columns = self.columns.shape[1]
        told, inside = np.zeros(columns, np.bool_), np.zeros(columns, np.bool_)
        for name in self.roster:
            record = records.get(name)
            if record is None:
                continue
            if not record.revealed:
                raise PrivacyError("The record of canaries is not revealed.", field="canaries")
            same = (record.run_id, record.plan, len(record.bits)) == (
                self.run_id,
                self.plan,
                columns,
            )
            if not same or record.merchant != name:
                raise PrivacyError("The canaries are of another run or plan.", field="canaries")
            own = owned_canaries(self.roster, name, columns)
            told |= own
            inside |= own & record.bits
        return told, inside

    def to_bytes(self) -> bytes:
        """Return the columns as safetensors; the same columns are the same bytes."""
        facts = {
            "format": _FORMAT,
            "run_id": self.run_id,
            "plan": self.plan,
            "roster": list(self.roster),
        }
        tensors: dict[str, NDArray[Any]] = {
            "columns": np.ascontiguousarray(self.columns, dtype=np.float32),
            "rounds": self.rounds.astype(np.int64),
            "survivors": np.ascontiguousarray(self.survivors.astype(np.uint8)),
        }
        return save_tensors(tensors, {"facts": json.dumps(facts, sort_keys=True)})

    @classmethod
    def from_bytes(cls, content: bytes) -> "CanarySums":
        """Read `to_bytes`.

        Raises:
            PrivacyError: if it is not such a file, in its one form.
        """
        try:
            tensors, facts = load_tensors(content), _facts(content)
            sums = cls(
                run_id=facts["run_id"],
                plan=facts["plan"],
                roster=tuple(facts["roster"]),
                rounds=tensors["rounds"],
                survivors=tensors["survivors"] == 1,
                columns=tensors["columns"],
            )
            same = sums.to_bytes() == content
        except (SafetensorError, ValueError, KeyError, TypeError, IndexError) as error:
            raise PrivacyError(
                "The columns of canaries are not readable.", field="canaries"
            ) from error
        if not same:
            raise PrivacyError("The columns of canaries are not in their form.", field="canaries")
        return sums


def _facts(content: bytes) -> dict[str, Any]:
    size = int.from_bytes(content[:8], "little")
    facts: dict[str, Any] = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["facts"])
    return facts
