"""Gaussian noise from a cryptographic stream, and the one step that makes a sum safe to send.

Random bits are AES-256 in counter mode under a key from the operating system, so that seeing
noised sums tells nothing about the noise in others. A draw adds two Box-Muller transforms of
53-bit uniforms, so that nobody can go through the floating-point numbers the generator can make
(Mironov 2012; Holohan, Braghin 2021). It is then rounded to the grid of the clipped sum, and the
two add up exactly: the low-order bits, which such attacks read, say nothing about the data. What
remains is that a draw approximates a Gaussian to 53 bits and ends at 12 standard deviations.
"""

import hashlib
import secrets
from dataclasses import InitVar, dataclass
from functools import cached_property

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from common.errors import PrivacyError
from common.privacy.accounting.plan import DpModel, EventKind
from common.privacy.ledger.ledger import Charge
from common.privacy.mechanism.clipping import ClippedSum, grid

_MADE_HERE = object()


class NoiseSource:
    """A stream of random numbers: `secure()` for use, `for_tests()` where it must repeat."""

    def __init__(self, key: bytes, *, seeded: bool) -> None:
        """Start the stream of a 32-byte key that is never used for anything else."""
        self._stream = Cipher(AES(key), CTR(bytes(16))).encryptor()
        self._canary_key = hashlib.sha256(b"fedtail canaries" + key).digest()
        self.seeded = seeded

    @classmethod
    def secure(cls) -> "NoiseSource":
        """Return a source under a fresh 256-bit key from the operating system."""
        return cls(secrets.token_bytes(32), seeded=False)

    @classmethod
    def for_tests(cls, seed: int, *labels: str | int) -> "NoiseSource":
        """Return a source that repeats: whoever knows the seed can take the noise away.

        Args:
            seed: The run's seed.
            labels: What this stream is for (merchant, round, use): different labels give
                independent streams, so that no noise is ever added twice.
        """
        text = repr(("fedtail test noise", seed, *labels))
        return cls(hashlib.sha256(text.encode()).digest(), seeded=True)

    @cached_property
    def canaries(self) -> "NoiseSource":
        """The stream for the canaries' coins, under a key of its own.

        What is drawn here moves nothing in this stream, and whoever guesses coins from the canaries
        learns nothing about a shopper's.
        """
        return NoiseSource(self._canary_key, seeded=self.seeded)

    def words(self, count: int) -> NDArray[np.uint64]:
        """Return `count` independent uniform 64-bit words."""
        return np.frombuffer(self._stream.update(bytes(8 * count)), dtype="<u8").astype(np.uint64)

    def gaussians(self, count: int) -> NDArray[np.float64]:
        """Return `count` independent standard normals: float64 [count]."""
        words = (self.words(4 * count) >> np.uint64(11)).reshape(4, count)
        radii = np.sqrt(-2 * np.log((words[:2] + np.uint64(1)) * 2.0**-53))  # of (0, 1]
        normals = radii * np.cos((2 * np.pi * 2.0**-53) * words[2:])
        return np.asarray(normals.sum(axis=0) / np.sqrt(2))


@dataclass(frozen=True, eq=False)
class ProtectedSum:
    """A clipped sum with its noise in it: what may leave the node. Only `protect` makes one.

    Attributes:
        vector: float64 [d], multiples of the grid.
        kind: What was summed.
        round_number: Of the charge it was made under.
        plan_digest: The plan that fixed clip and noise.
        divisor: The plan's public divisor, q times the declared shoppers; 1 where nothing is
            sampled, in histogram and season.
        canaries: float64 [m], the canaries with their noise, taken off `vector`.
    """

    vector: NDArray[np.float64]
    kind: EventKind
    round_number: int
    plan_digest: str
    divisor: float
    canaries: NDArray[np.float64]
    made_by: InitVar[object] = None

    def __post_init__(self, made_by: object) -> None:
        if made_by is not _MADE_HERE:
            raise PrivacyError(
                "A ProtectedSum comes from protect only: nothing else adds the plan's noise.",
                field="protected",
            )

    def averaged(self) -> NDArray[np.float64]:
        """Return the sum over the public divisor: float64 [d]."""
        return self.vector / self.divisor


def protect(clipped: ClippedSum, charge: Charge, noise: NoiseSource) -> ProtectedSum:
    """Add the plan's noise to a clipped sum, using up one step of its charge.

    An empty sum gets noise like any other: whether anybody was sampled is itself private.

    Raises:
        PrivacyError: if the charge is used up, if the sum was clipped at another bound than the
            plan's, if the plan shares its noise, or if the noise repeats and the ledger does not
            say so.

    Formal guarantee:
        With a secure source and rows taken by `poisson_sample`, one call is the Poisson-subsampled
        Gaussian mechanism of `charge.plan.event(charge.entry.kind)`, one release of it: sum plus
        rounded draw equals the rounding of sum plus draw, as the sum is on the grid, and rounding
        is post-processing. With DP model `central` it is 1/merchants of that noise's variance and
        says nothing on its own; with `none` there is no guarantee.

        With canaries the sum lies in an order P that was fixed apart from data and noise. The
        draws z are independent and alike, so P^-1 (P x + z) = x + P^-1 z is distributed as x + z,
        for each P and exactly, as P rounds nothing. Whoever later sees canaries and P sees draws
        of their own, four words of the stream each, which tell nothing of the draws on shoppers'
        numbers: canaries and orders may be told after the run.
    """
    plan = charge.plan
    kind = use_charge(clipped, charge, noise, dp_models=("local", "central", "none"))
    step = grid(clipped.max_grad_norm)
    # One draw over one vector: nothing here knows which numbers are canaries.
    normals = noise.gaussians(clipped.vector.size)
    draws = normals * plan.noise_std(kind)
    noised = clipped.vector + np.rint(draws / step) * step
    vector, canaries = clipped.separate(noised)
    return ProtectedSum(
        vector=vector,
        canaries=canaries,
        kind=kind,
        round_number=charge.entry.round_number,
        plan_digest=charge.entry.plan_digest,
        divisor=plan.divisor if kind == "train" else 1.0,
        made_by=_MADE_HERE,
    )


def use_charge(
    clipped: ClippedSum, charge: Charge, noise: NoiseSource, *, dp_models: tuple[DpModel, ...]
) -> EventKind:
    """Check that a charge pays for noise on this sum, and use up one step of it.

    Args:
        clipped: What is about to get noise.
        charge: Its entry is on disk.
        noise: Where the noise comes from.
        dp_models: The DP models that the caller's noise is for.

    Returns:
        The kind of what is released.

    Raises:
        PrivacyError: as `protect`.
    """
    plan, kind = charge.plan, charge.entry.kind
    if kind not in ("train", "popularity", "season"):
        raise PrivacyError("This ledger entry pays for no release.", field="kind")
    if plan.dp_model not in dp_models:
        raise PrivacyError(
            f"The plan's DP model is {plan.dp_model}; this noise is for {', '.join(dp_models)}. A "
            "share of distributed noise protects nothing by itself, and leaves under a mask only.",
            field="dp_model",
        )
    if clipped.max_grad_norm != plan.clip_norm(kind):
        raise PrivacyError(
            f"The sum was clipped at {clipped.max_grad_norm:g}; the plan's noise is for "
            f"{plan.clip_norm(kind):g}.",
            field="max_grad_norm",
        )
    if noise.seeded and not charge.entry.seeded_noise:
        raise PrivacyError(
            "Noise from a fixed seed protects nobody. It is for tests, and only under a charge "
            "that records it.",
            field="seeded_noise",
        )
    charge.use_step()
    return kind
