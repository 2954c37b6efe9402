"""Canaries: virtual shoppers of known gradient that pass the same code as the real ones.

The sum gets m more coordinates. Virtual shopper j has a gradient in coordinate j alone and a
secret bit, which says whether it is in the data. It is sampled, clipped, summed and noised with the
real shoppers. When noise is added, canaries and adapter lie in one vector in a secret order, new in
each step, so that a fault of the noise meets both; after it the canaries are taken out. Bits and
orders are committed to before training and revealed after it: whoever then guesses the bits better
from the canaries than epsilon allows has found a bug
(`common.privacy.mechanism.empirical_bound` does the sums), and so has whoever finds less noise in
those that are out than was claimed (`common.privacy.mechanism.measured_noise`).
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
_FORMAT = "fedtail-canaries-2"
_HEADER_BYTES = 8
_DIGEST_BYTES = 32


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
        order_key: 64 hex digits, from which each step's order comes.
        rounds: int64 [T], the round of each step, in the order in which noise was drawn. A round
            cut short and repeated stands there twice, as on the ledger.
        canaries: float32 [T, m], each step's noised canaries in units of C.
        updates: uint8 [T, 32], SHA-256 of the update that each step went into; zeros until that
            has been made.
        revealed: Whether bits and nonce have left the node. No step is added after that.
    """

    merchant: str
    run_id: str
    plan: str
    bits: NDArray[np.bool_]
    nonce: str
    order_key: str
    rounds: NDArray[np.int64]
    canaries: NDArray[np.float32]
    updates: NDArray[np.uint8]
    revealed: bool = False

    def __post_init__(self) -> None:
        steps, width = len(self.rounds), len(self.bits)
        if self.canaries.shape != (steps, width) or not np.isfinite(self.canaries).all():
            raise PrivacyError(
                "The canaries are not one finite number a step and bit.", field="canaries"
            )
        if self.updates.shape != (steps, _DIGEST_BYTES) or self.updates.dtype != np.uint8:
            raise PrivacyError("There is not one digest of an update a step.", field="updates")
        if not 1 <= width <= MOST_CANARIES:
            raise PrivacyError(f"There must be 1 to {MOST_CANARIES} canaries.", field="canaries")

    @property
    def commitment(self) -> str:
        """SHA-256 over merchant, run, plan, nonce, order key and bits; told before training.

        64 hex digits.
        """
        fixed = [_FORMAT, self.merchant, self.run_id, self.plan, self.nonce, self.order_key]
        text = json.dumps(fixed)
        return hashlib.sha256(text.encode() + np.packbits(self.bits).tobytes()).hexdigest()

    def included(self, sampled: NDArray[np.bool_], max_grad_norm: float) -> csr_matrix:
        """Return the gradients [k, m] of the virtual shoppers in the data that were sampled."""
        place = np.flatnonzero(self.bits & sampled)
        length = np.full(len(place), CANARY_NORM * max_grad_norm)
        one_a_row = np.arange(len(place) + 1)
        return csr_matrix((length, place, one_a_row), (len(place), len(self.bits)))

    @property
    def _unbound(self) -> int:
        """How many steps at the end of the record are bound to no update: the round's so far."""
        bound = np.flatnonzero(self.updates.any(axis=1))
        return len(self.rounds) - (int(bound[-1]) + 1 if len(bound) else 0)

    def order(self, own: int, round_number: int) -> NDArray[np.int64]:
        """Return where `own` numbers of the adapter and then the canaries lie in the next step.

        SHAKE-256 of the key, the round and the step in it gives one 64-bit word a number; the order
        is the one that sorts them. It depends on no shopper, no coin and no noise.

        Args:
            own: d, how many numbers are the adapter's.
            round_number: The step's. A round that is repeated has its orders again.

        Returns:
            int64 [d + m], a permutation.
        """
        size = own + len(self.bits)
        text = json.dumps([_FORMAT, "order", self.order_key, round_number, self._unbound])
        words = np.frombuffer(hashlib.shake_256(text.encode()).digest(8 * size), dtype="<u8")
        return np.argsort(words)

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
            updates=np.concatenate([self.updates, np.zeros((1, _DIGEST_BYTES), np.uint8)]),
        )

    def bound_to(self, update: NDArray[np.float32]) -> "CanaryRecord":
        """Return the record with its latest steps bound to the update [d] that they went into.

        These are the steps at the end of the record that are bound to none.
        """
        updates = self.updates.copy()
        updates[len(updates) - self._unbound :] = _digest(update)
        return replace(self, updates=updates)

    def seal(self, update: NDArray[np.float32]) -> str:
        """Return SHA-256 over an update's digest and all that its steps' canaries showed.

        64 hex digits. A node that signs it beside the update can show no other canaries later, and
        these beside no other update. It tells nothing before the record is revealed, as it covers
        the nonce. A step that was repeated to the bit counts once (`distinct_steps`).

        Raises:
            PrivacyError: if no step is bound to this update.
        """
        digest = _digest(update)
        steps = [at for at in self._first_places() if (self.updates[at] == digest).all()]
        if not steps:
            raise PrivacyError("No canaries are bound to this update.", field="updates")
        text = json.dumps([_FORMAT, "seal", self.commitment, self.nonce])
        told = self.rounds[steps].astype("<i8").tobytes()
        told += self.canaries[steps].astype("<f4").tobytes()
        return hashlib.sha256(text.encode() + digest.tobytes() + told).hexdigest()

    def distinct_steps(self) -> NDArray[np.float32]:
        """Return the canaries [t, m] of each step once, where a step was repeated to the bit.

        A test with noise from a fixed seed repeats a round that was cut short, update and all.
        Secret noise never does; noise that comes again in another step or order stays.
        """
        return self.canaries[self._first_places()]

    def _first_places(self) -> list[int]:
        """Return where each distinct step stands first, in order."""
        whole = [
            (number, update.tobytes(), row.tobytes())
            for number, update, row in zip(
                self.rounds.tolist(), self.updates, self.canaries, strict=True
            )
        ]
        first = {step: place for place, step in reversed(list(enumerate(whole)))}
        return sorted(first.values())

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
            "order_key": self.order_key,
            "revealed": self.revealed,
        }
        tensors: dict[str, NDArray[Any]] = {
            "bits": self.bits.astype(np.uint8),
            "canaries": np.ascontiguousarray(self.canaries, dtype=np.float32),
            "rounds": self.rounds.astype(np.int64),
            "updates": np.ascontiguousarray(self.updates),
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
                order_key=facts["order_key"],
                rounds=tensors["rounds"],
                canaries=tensors["canaries"],
                updates=tensors["updates"],
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


def _digest(update: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return SHA-256 of an update's numbers as little-endian float32: uint8 [32]."""
    content = np.ascontiguousarray(update, dtype="<f4").tobytes()
    return np.frombuffer(hashlib.sha256(content).digest(), np.uint8)


def _facts(content: bytes) -> dict[str, Any]:
    """Return the facts in the header of a safetensors file that has been loaded."""
    size = int.from_bytes(content[:_HEADER_BYTES], "little")
    header = json.loads(content[_HEADER_BYTES : _HEADER_BYTES + size])
    facts: dict[str, Any] = json.loads(header["__metadata__"]["facts"])
    return facts


def start_record(
    merchant: str,
    run_id: str,
    plan: PrivacyPlan,
    canaries: int,
    source: "NoiseSource",
    *,
    orders: "NoiseSource | None" = None,
) -> CanaryRecord:
    """Return a record before its first step: fair coins, a nonce and a key from `source`.

    Args:
        merchant: Whose node.
        run_id: The run.
        plan: The run's plan.
        canaries: m, how many.
        source: Secret until the record is revealed, and used for nothing else.
        orders: As secret; the order key's own source, where a test repeats a run with other bits.
    """
    return CanaryRecord(
        merchant=merchant,
        run_id=run_id,
        plan=plan.to_json(),
        bits=source.words(canaries) >> np.uint64(63) == 1,
        nonce=source.words(4).tobytes().hex(),
        order_key=(orders or source).words(4).tobytes().hex(),
        rounds=np.empty(0, np.int64),
        canaries=np.empty((0, canaries), np.float32),
        updates=np.empty((0, _DIGEST_BYTES), np.uint8),
    )
