"""Faults of the noise in the real code, below the clip: which of them the canaries show.

An alarm is what refuses a release: the bound on epsilon at 99.99% above the claim, or noise with a
chance below 1 in 10,000. Shown, and not refused, is the bound at 95% above the claim, or noise with
a chance below 1 in 100.
"""

import sys

import numpy as np
import pytest

from common.privacy.mechanism.measured_noise import SHOWN_CHANCE
from common.privacy.mechanism.noise import NoiseSource, protect
from tests.support.canary_runs import CANARIES, CLAIM, audited_run
from tests.support.privacy_bugs import plant

STEPS, NUMBERS, RUNS = 40, 6144, 200
MODULE = sys.modules[__name__]
NORMALS = "normals = noise.gaussians(clipped.vector.size)"
DRAWS = "draws = normals * plan.noise_std(kind)"
APART = "vector, canaries = clipped.separate(noised)"
RETURNED = "return np.asarray(normals.sum(axis=0) / np.sqrt(2))"


def in_source(spoil):
    after = f"draws = normals.sum(axis=0) / np.sqrt(2)\n{spoil}\nreturn draws"
    return lambda patch: plant(
        patch, NoiseSource, "gaussians", (RETURNED, after.replace("\n", "\n    "))
    )


def in_protect(old, new):
    return lambda patch: plant(patch, MODULE, "protect", (old, new.replace("\n", "\n    ")))


FAULTS = {
    "half everywhere": in_protect(DRAWS, f"{DRAWS} / 2"),
    "half on the first d, in the source": in_source(f"draws[:{NUMBERS}] /= 2"),
    "half on the first d, in protect": in_protect(DRAWS, f"{DRAWS}\ndraws[:{NUMBERS}] /= 2"),
    "half on the first d, taken away after": in_protect(
        APART, f"noised[:{NUMBERS}] -= np.rint(draws[:{NUMBERS}] / 2 / step) * step\n{APART}"
    ),
    "half on half of the numbers": in_protect(DRAWS, f"{DRAWS}\ndraws[:{NUMBERS // 2}] /= 2"),
    "half on every second number": in_protect(DRAWS, f"{DRAWS}\ndraws[::2] /= 2"),
    "a hundredth on the first d": in_protect(DRAWS, f"{DRAWS}\ndraws[:{NUMBERS}] /= 100"),
    "none on a range": in_protect(DRAWS, f"{DRAWS}\ndraws[3000:3100] = 0"),
    "none in one step of forty": in_protect(DRAWS, f"{DRAWS} * (charge._left != 7)"),
    "none where the sum is zero": in_protect(DRAWS, f"{DRAWS} * (clipped.vector != 0)"),
    "one side": in_protect(DRAWS, f"{DRAWS}\ndraws = np.abs(draws)"),
    "the same in each step": in_protect(
        NORMALS, NORMALS.replace("noise.gaussians", "NoiseSource.for_tests(5).gaussians")
    ),
}
# The code that takes them apart knows which is which, and so does code that reads the order.
UNSEEN = in_protect(
    APART,
    "own = clipped.order[:-clipped.canaries]\n"
    f"noised[own] -= np.rint(draws[own] / 2 / step) * step\n{APART}",
)


def audits(folder, runs):
    """Audit so many runs with whatever is planted."""
    return [
        audited_run(folder, seed, protect, steps=STEPS, numbers=NUMBERS) for seed in range(runs)
    ]


def alarm(bound):
    return bound.blocking > CLAIM or bound.noise.refuted


def shown(bound):
    return bound.epsilon > CLAIM or bound.noise.chance < SHOWN_CHANCE


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_with_a_fault_alarms(fault, tmp_path, monkeypatch):
    FAULTS[fault](monkeypatch)
    assert alarm(audits(tmp_path, 1)[0])


def test_honest_runs_do_not_alarm(tmp_path):
    assert not any(alarm(bound) for bound in audits(tmp_path, 3))


def test_code_that_reads_the_order_escapes(tmp_path, monkeypatch):
    UNSEEN(monkeypatch)
    assert not alarm(audits(tmp_path, 1)[0])


@pytest.mark.statistical
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", FAULTS)
def test_99_of_100_runs_with_a_fault_alarm(fault, tmp_path, monkeypatch):
    FAULTS[fault](monkeypatch)
    bounds = audits(tmp_path, RUNS)
    noise = np.mean([bound.noise.refuted for bound in bounds])
    epsilon = np.mean([bound.blocking > CLAIM for bound in bounds])
    print(f"{fault}: by the noise {noise:.3f}, by epsilon {epsilon:.3f}")  # noqa: T201 - a measurement
    assert np.mean([alarm(bound) for bound in bounds]) >= 0.99


@pytest.mark.statistical
@pytest.mark.timeout(1800)
def test_honest_runs_are_shown_in_at_most_5_of_100_and_never_refused(tmp_path):
    bounds = audits(tmp_path, RUNS)
    rate = np.mean([shown(bound) for bound in bounds])
    print(f"honest: shown {rate:.3f}; {CANARIES} canaries")  # noqa: T201 - a measurement
    assert rate <= 0.05
    assert not any(alarm(bound) for bound in bounds)
