"""Canaries: virtual shoppers of known gradient that pass the same code as the real ones.

m coordinates are appended to the sum. Virtual shopper j has a gradient in coordinate j alone and a
secret bit, which says whether it is in the data. It is sampled, clipped, summed and noised with the
real shoppers, and its coordinate is stripped before the update is used. The bits are committed to
before training and revealed after it: whoever then guesses them better from the canaries than
epsilon allows has found a bug (`common.privacy.mechanism.empirical_bound` does the sums).
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from scipy.sparse import csr_matrix

from common.errors import PrivacyError
from common.privacy.accounting.plan import PrivacyPlan

if TYPE_CHECKING:  # the coordinator and an auditor read records without torch
    from common.privacy.mechanism.noise import NoiseSource

# A virtual gradient is this many times C long. The clip cuts it to C, so that an honest run looks
# as if it were C, and a run whose clip is broken does not.
CANARY_NORM = 4.0
MOST_CANARIES = 65_536
_FORMAT = "fedtail-canaries-1"
_HEADER_BYTES = 8


@dataclass(frozen=True, eq=False)
class CanaryRecord:
    """What one merchant's canaries showed in one run: all that the bound is computed from.

    Until it is revealed it holds a secret and belongs to the node. Nothing in it is of a shopper.

    Attributes:
        merchant: Whose node.
        run_id: The run.
        plan: The privacy plan, as its JSON.
        bits: bool [m], whether virtual shopper j is in the data.
        nonce: 64 hex digits, so that nobody can try bits against the commitment.
        rounds: int64 [T], the round of each step, in the order in which noise was drawn. A round
            cut short and repeated stands there twice, as on the ledger.
        canaries: float32 [T, m], each step's noised canaries in units of C.
        revealed: Whether bits and nonce have left the node. No step is added after that.
    """

    merchant: str
    run_id: str
    plan: str
    bits: NDArray[np.bool_]
    nonce: str
    rounds: NDArray[np.int64]
    canaries: NDArray[np.float32]
    revealed: bool = False

    def __post_init__(self) -> None:
        steps, width = len(self.rounds), len(self.bits)
        if self.canaries.shape != (steps, width) or not np.isfinite(self.canaries).all():
            raise PrivacyError(
                "The canaries are not one finite number a step and bit.", field="canaries"
            )
        if not 1 <= width <= MOST_CANARIES:
            raise PrivacyError(f"There must be 1 to {MOST_CANARIES} canaries.", field="canaries")

    @property
    def commitment(self) -> str:
        """SHA-256 over merchant, run, plan, nonce and bits: 64 hex digits, told before training."""
        text = json.dumps([_FORMAT, self.merchant, self.run_id, self.plan, self.nonce])
        return hashlib.sha256(text.encode() + np.packbits(self.bits).tobytes()).hexdigest()

    def included(self, sampled: NDArray[np.bool_], max_grad_norm: float) -> csr_matrix:
        """Return the gradients [k, m] of the virtual shoppers in the data that were sampled."""
        place = np.flatnonzero(self.bits & sampled)
        length = np.full(len(place), CANARY_NORM * max_grad_norm)
        return csr_matrix((length, (np.arange(len(place)), place)), (len(place), len(self.bits)))

    def observed(
        self, round_number: int, canaries: NDArray[np.float64], max_grad_norm: float
    ) -> "CanaryRecord":
        """Return the record with one more step: `canaries` [m] as `protect` returned them.

        Raises:
            PrivacyError: if the record is revealed, or the canaries are not as many as the bits.
        """
        if self.revealed:
            raise PrivacyError("The canaries of this run are revealed already.", field="canaries")
        row = (canaries / max_grad_norm).astype(np.float32)
        return replace(
            self,
            rounds=np.append(self.rounds, np.int64(round_number)),
            canaries=np.concatenate([self.canaries, row.reshape(1, -1)]),
        )

    def open(self) -> "CanaryRecord":
        """Return the record as it may leave the node."""
        return replace(self, revealed=True)

    def to_bytes(self) -> bytes:
        """Return the record as safetensors; the same record is the same bytes."""
        facts = {
            "format": _FORMAT,
            "merchant": self.merchant,
            "run_id": self.run_id,
            "plan": self.plan,
            "nonce": self.nonce,
            "revealed": self.revealed,
        }
        tensors: dict[str, NDArray[Any]] = {
            "bits": self.bits.astype(np.uint8),
            "canaries": np.ascontiguousarray(self.canaries, dtype=np.float32),
            "rounds": self.rounds.astype(np.int64),
        }
        return save_tensors(tensors, {"facts": json.dumps(facts, sort_keys=True)})

    @classmethod
    def from_bytes(cls, content: bytes) -> "CanaryRecord":
        """Read `to_bytes`.

        Raises:
            PrivacyError: if it is not such a record.
        """
        try:
            tensors, facts = load_tensors(content), _facts(content)
            record = cls(
                merchant=facts["merchant"],
                run_id=facts["run_id"],
                plan=facts["plan"],
                bits=tensors["bits"] == 1,
                nonce=facts["nonce"],
                rounds=tensors["rounds"],
                canaries=tensors["canaries"],
                revealed=facts["revealed"] is True,
            )
            same = record.to_bytes() == content
        except (SafetensorError, ValueError, KeyError, TypeError, IndexError) as error:
            raise PrivacyError(
                "The record of canaries is not readable.", field="canaries"
            ) from error
        if not same:
            raise PrivacyError("The record of canaries is not in its own form.", field="canaries")
        return record


def pack_records(records: Iterable[CanaryRecord]) -> bytes:
    """Return several merchants' records as one safetensors file, each by its merchant's name."""
    tensors = {one.merchant: np.frombuffer(one.to_bytes(), np.uint8) for one in records}
    return save_tensors(dict(sorted(tensors.items())))


def unpack_records(content: bytes) -> dict[str, CanaryRecord]:
    """Read `pack_records`.

    Raises:
        PrivacyError: if it is not such a file, or a record in it is not one.
    """
    try:
        tensors = load_tensors(content)
    except (SafetensorError, ValueError) as error:
        raise PrivacyError("The file of canaries is not readable.", field="canaries") from error
    records = {
        name: CanaryRecord.from_bytes(tensor.tobytes()) for name, tensor in sorted(tensors.items())
    }
    if any(name != one.merchant for name, one in records.items()):
        raise PrivacyError("A record of canaries stands under another name.", field="canaries")
    return records


def _facts(content: bytes) -> dict[str, Any]:
    """Return the facts in the header of a safetensors file that has been loaded."""
    size = int.from_bytes(content[:_HEADER_BYTES], "little")
    header = json.loads(content[_HEADER_BYTES : _HEADER_BYTES + size])
    facts: dict[str, Any] = json.loads(header["__metadata__"]["facts"])
    return facts


def start_record(
    merchant: str, run_id: str, plan: PrivacyPlan, canaries: int, source: "NoiseSource"
) -> CanaryRecord:
    """Return a record before its first step: fair coins and a nonce from `source`.

    Args:
        merchant: Whose node.
        run_id: The run.
        plan: The run's plan.
        canaries: m, how many.
        source: Secret until the record is revealed, and used for nothing else.
    """
    return CanaryRecord(
        merchant=merchant,
        run_id=run_id,
        plan=plan.to_json(),
        bits=source.words(canaries) >> np.uint64(63) == 1,
        nonce=source.words(4).tobytes().hex(),
        rounds=np.empty(0, np.int64),
        canaries=np.empty((0, canaries), np.float32),
    )
