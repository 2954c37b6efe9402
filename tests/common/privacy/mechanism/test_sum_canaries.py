"""Canaries of a run whose server sees sums: what the sums prove of the noise and of epsilon."""

import dataclasses
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import PrivacyError
from common.privacy.mechanism.canaries import CANARY_NORM
from common.privacy.mechanism.empirical_bound import audit_canaries, audit_sums, noise_of_all
from common.privacy.mechanism.fixed_point import NoisyIntegers
from common.privacy.mechanism.shares import protect_share
from common.privacy.mechanism.sum_canaries import CanarySums, owned_canaries
from tests.support.privacy_bugs import plant
from tests.support.sum_runs import CANARIES, CLAIM, SHOPS, run_of_sums, shared_plan

MODULE = sys.modules[__name__]
DRAWS = "draws = discrete_gaussians(source, self.noise.variance, self.noise.width)"


def alarm(bound):
    return bound.blocking > CLAIM or bound.noise.refuted


def spoil(change):
    """Change the draws of every party's share."""
    return lambda patch: plant(patch, NoisyIntegers, "noised", (DRAWS, f"{DRAWS}\n    {change}"))


FAULTS = {
    "half of every share": spoil("draws //= 2"),
    "three quarters of every share": spoil("draws = draws * 3 // 4"),
    "none on every second number": spoil("draws[::2] = 0"),
    "one side": spoil("draws = np.abs(draws)"),
    "as if the noise were added once": spoil("draws = draws // 8"),
}


@given(st.integers(1, 20), st.integers(1, 600))
def test_each_column_has_one_owner_and_each_merchant_as_many_but_one(merchants, canaries):
    names = [f"m{number:02d}" for number in range(merchants)]
    owned = np.array([owned_canaries(names[::-1], name, canaries) for name in names])
    assert (owned.sum(axis=0) == 1).all()
    assert owned.sum(axis=1).max() - owned.sum(axis=1).min() <= 1
    assert not owned_canaries(names, "a stranger", canaries).any()


def test_an_honest_run_does_not_alarm_whoever_is_missing():
    for seed, missing in enumerate(
        (lambda _: (), lambda number: SHOPS[number % 8 : number % 8 + 2], lambda _: SHOPS[6:])
    ):
        sums, records = run_of_sums(seed, steps=20, missing=missing)
        bound = audit_sums(sums, records)
        assert not alarm(bound)
        assert noise_of_all(sums, records).chance > 1e-3
        assert noise_of_all(sums, records).deviation == pytest.approx(1, abs=0.05)
        assert (bound.canaries, bound.steps, bound.noise.draws) == (
            CANARIES,
            20,
            20 * (CANARIES - bound.included),
        )
    assert bound.noise.deviation == pytest.approx(1, abs=0.05)  # two missing: as counted


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_with_a_fault_in_every_share_alarms(fault, monkeypatch):
    FAULTS[fault](monkeypatch)
    assert alarm(audit_sums(*run_of_sums(1)))


def test_two_that_add_no_noise_are_spared_and_seen():
    """Epsilon was counted without them. That it is no better is shown, and not refused."""
    idle = iter(range(10_000))

    def protect(clipped, charge, noise):
        share = protect_share(clipped, charge, noise)
        if next(idle) % 8 >= 6:
            object.__setattr__(share, "integers", np.zeros_like(share.integers))
        return share

    sums, records = run_of_sums(3, protect)
    assert not alarm(audit_sums(sums, records))
    assert noise_of_all(sums, records).refuted


def test_a_clip_that_does_nothing_shows(monkeypatch):
    """The virtual shoppers' rows are four times C long, and the sums show it."""
    sums, records = run_of_sums(2)
    told, inside = sums.known(records)
    gap = sums.columns[:, inside].mean() - sums.columns[:, told & ~inside].mean()
    extra = (CANARY_NORM - 1) * gap
    longer = dataclasses.replace(sums, columns=sums.columns + np.float32(extra) * inside)
    assert (
        audit_sums(longer, records).mean_difference > 3 * audit_sums(sums, records).mean_difference
    )


def test_columns_whose_owner_reveals_nothing_are_left_out():
    sums, records = run_of_sums(1, steps=5)
    del records[SHOPS[0]]
    bound = audit_sums(sums, records)
    assert bound.canaries == CANARIES - CANARIES // 8
    assert audit_sums(sums, {}).noise.deviation is None


def test_what_belongs_to_another_run_is_refused():
    sums, records = run_of_sums(1, steps=5)
    ash = records[SHOPS[0]]
    for changed, field in (
        (dataclasses.replace(ash, revealed=False), "canaries"),
        (dataclasses.replace(ash, run_id="9"), "canaries"),
        (dataclasses.replace(ash, plan=shared_plan(6).to_json()), "canaries"),
        (dataclasses.replace(ash, merchant=SHOPS[1]), "canaries"),
    ):
        with pytest.raises(PrivacyError) as caught:
            audit_sums(sums, {**records, SHOPS[0]: changed})
        assert caught.value.field == field
    with pytest.raises(PrivacyError, match="adds alone"):
        audit_canaries(ash)
    local = dataclasses.replace(shared_plan(5), dp_model="local", spared=0).to_json()
    with pytest.raises(PrivacyError, match="share"):
        audit_sums(dataclasses.replace(sums, plan=local), {})


def test_a_sum_of_too_few_proves_that_the_claim_is_false():
    sums, records = run_of_sums(1, steps=5, missing=lambda number: SHOPS[5:] if number == 3 else ())
    with pytest.raises(PrivacyError, match="fewer than the 6"):
        audit_sums(sums, records)


def test_columns_come_back_from_their_bytes_and_from_no_others():
    sums, _ = run_of_sums(1, steps=3)
    again = CanarySums.from_bytes(sums.to_bytes())
    assert again.to_bytes() == sums.to_bytes()
    assert (again.roster, again.run_id, again.plan) == (sums.roster, sums.run_id, sums.plan)
    assert np.array_equal(again.survivors, sums.survivors)
    for content in (b"", b"{}", sums.to_bytes()[:-1], sums.to_bytes() + b" "):
        with pytest.raises(PrivacyError):
            CanarySums.from_bytes(content)
    for changes in (
        {"roster": sums.roster[::-1]},
        {"roster": sums.roster[:-1]},
        {"columns": sums.columns[:2]},
        {"columns": np.full_like(sums.columns, np.nan)},
        {"survivors": np.zeros_like(sums.survivors)},
    ):
        with pytest.raises(PrivacyError):
            dataclasses.replace(sums, **changes)
    with pytest.raises(PrivacyError, match="stranger"):
        sums.observed(4, ["nobody"], np.zeros(CANARIES), 1.0)
    with pytest.raises(PrivacyError, match="count"):
        sums.observed(4, SHOPS, np.zeros(3), 1.0)


@pytest.mark.statistical
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", FAULTS)
def test_99_of_100_runs_with_a_fault_in_every_share_alarm(fault, monkeypatch):
    FAULTS[fault](monkeypatch)
    rate = np.mean([alarm(audit_sums(*run_of_sums(seed))) for seed in range(200)])
    print(f"{fault}: {rate:.3f}")  # noqa: T201 - a measurement
    assert rate >= 0.99


@pytest.mark.statistical
@pytest.mark.timeout(1800)
def test_no_honest_run_alarms_and_few_look_short_of_anybodys_noise():
    runs = [run_of_sums(seed) for seed in range(200)]
    assert not any(alarm(audit_sums(*one)) for one in runs)
    shown = np.mean([noise_of_all(*one).chance < 0.01 for one in runs])
    print(f"honest: short of somebody's share in {shown:.3f}")  # noqa: T201 - a measurement
    assert shown <= 0.05
