"""Planted privacy bugs: each check passes as the code stands, and fails with the bug in it.

Each bug is listed in docs/explanation-privacy-bugs.md with what catches it. A check is a part of
the product (the audit's canaries, the preflight) or another test of this suite, called as it is.
"""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from client.training.sensitivity_check import check_trainer, keeps_bits
from common.errors import FedtailError
from common.privacy.accounting.accountants import epsilon_pld
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.ledger import Ledger
from common.privacy.mechanism.canaries import start_record
from common.privacy.mechanism.empirical_bound import audit_canaries
from common.privacy.mechanism.noise import NoiseSource
from tests.client.node import test_participant, test_participant_before_charge
from tests.client.node.test_participant import ground
from tests.client.privacy import test_budget, test_policy
from tests.client.privacy.test_recovery import Federation
from tests.client.training import test_dp_trainer
from tests.common.audit import (
    test_audits_forgeries,
    test_contributions,
    test_countersignatures,
    test_seals,
)
from tests.common.privacy.accounting import test_claim, test_replacement
from tests.common.privacy.ledger import test_ledger
from tests.common.privacy.mechanism import test_canaries, test_noise
from tests.simulations.pipeline import test_publish
from tests.support.forging import Forger
from tests.support.planted import BUGS as ALONE
from tests.support.planted import NO_SEAL_FITS, REAL_DATA
from tests.support.planted_sums import CHECKS, COLUMNS, SUM_BUGS
from tests.support.privacy_bugs import plant
from tests.support.shops import (
    make_catalogue,
    make_interactions,
    make_plan,
    make_settings,
    make_workshop,
)
from tests.support.workshops import charge_of

__all__ = ["ground"]  # a fixture
BUGS = {**ALONE, **SUM_BUGS}

PAGE = Path(__file__).parents[1] / "docs" / "explanation-privacy-bugs.md"


# --------------------------------------------------------------------- checks
class Canaries:
    """40 steps on a small shop: canaries prove no more than its epsilon, and show its noise."""

    # Of 12 shoppers where 40 are declared, and at C = 2, so that sizes and scales show.
    plan = make_plan(
        sample_rate=0.25, noise_multiplier=2.16, max_grad_norm=2.0, steps=40, steps_per_round=40
    )

    def __init__(self, shop):
        self.shop = shop

    def __call__(self, folder):
        ledger = Ledger.open(folder / "canaries.sqlite", "ash", "f" * 64)
        charge = charge_of(ledger, self.plan)
        record = start_record("ash", "1", self.plan, 512, NoiseSource.for_tests(1, "bits"))
        adapter, source = self.shop.encoder.adapter(), NoiseSource.for_tests(2)
        arguments = (adapter, charge, source, np.random.default_rng(0), record)
        _, record = self.shop.trainer.private_round(*arguments)
        bound = audit_canaries(record.open(), 1e-5)
        assert bound.blocking <= epsilon_pld(self.plan.events()[1:], 1e-5)
        assert not bound.noise.refuted


def keeps_their_bits(shop):
    assert keeps_bits(shop.trainer, shop.encoder.adapter())


@pytest.fixture(scope="module")
def small(tiny_model):
    return make_workshop(tiny_model, make_catalogue(60), make_interactions(60, 12), make_settings())


AUDITS = {  # by the test's name: each is given a forger of an honest run's files
    "test_a_forged_run_is_refused_and_what_gives_it_away_is_named": lambda forger: (
        test_audits_forgeries.test_a_forged_run_is_refused_and_what_gives_it_away_is_named(
            forger, "the second round taken out"
        )
    ),
    "test_invented_canaries_are_named_by_merchant_and_round": (
        test_seals.test_invented_canaries_are_named_by_merchant_and_round
    ),
    NO_SEAL_FITS: (
        test_seals.test_an_update_without_noise_cannot_stand_under_the_private_runs_papers
    ),
    "test_unsigned_contributions_are_named": (
        test_contributions.test_unsigned_contributions_are_named
    ),
}


@pytest.fixture
def audits(simulated, honest):
    """Every check of exported files by its name: call it with a fresh folder."""

    def call(check):
        return lambda folder: check(Forger(simulated, shutil.copytree(honest, folder / "run")))

    return {name: call(check) for name, check in AUDITS.items()}


@pytest.fixture
def checks(small, workshop, ground, audits, tmp_path):
    """Every check by its name on the page: call it with a fresh folder."""
    training, noise = test_dp_trainer, test_noise

    def ledger_in(folder):
        return Ledger.open(folder / "ledger.sqlite", "ash", "f" * 64)

    def disk(folder):
        path = folder / "on-disk.sqlite"
        opened = Ledger.open(path, "shop", "data")
        test_ledger.test_the_entry_is_on_disk_when_the_charge_exists(path, opened)

    return {
        **audits,
        **CHECKS,
        "test_a_claim_must_reach_to_the_last_charge_of_the_run_wherever_the_statement_stops": (
            lambda folder: (
                test_countersignatures.test_a_claim_must_reach_to_the_last_charge_of_the_run_wherever_the_statement_stops(
                    Federation(folder / "federation"), 4
                )
            )
        ),
        "test_a_ledger_of_more_is_claimed_by_the_filter": lambda _: (
            test_claim.test_a_ledger_of_more_is_claimed_by_the_filter("another plan")
        ),
        "test_at_four_for_one_removed_it_is_above_seven_for_one_replaced": lambda _: (
            test_replacement.test_at_four_for_one_removed_it_is_above_seven_for_one_replaced()
        ),
        REAL_DATA: test_publish.test_data_are_a_shops_own_unless_said_to_be_public,
        "canaries": Canaries(small),
        "preflight": lambda _: check_trainer(small.trainer, small.encoder.adapter(), make_plan()),
        "self-check": lambda _: keeps_their_bits(small),
        "test_an_empty_sample_still_gets_noise_and_uses_the_charge_up": lambda folder: (
            training.test_an_empty_sample_still_gets_noise_and_uses_the_charge_up(
                workshop, ledger_in(folder)
            )
        ),
        "test_no_shopper_is_read_before_the_charge": lambda folder: (
            test_participant_before_charge.test_no_shopper_is_read_before_the_charge(ground, folder)
        ),
        "test_a_round_is_noise_on_the_clipped_sum_over_the_public_divisor": lambda folder: (
            training.test_a_round_is_noise_on_the_clipped_sum_over_the_public_divisor(
                workshop, ledger_in(folder)
            )
        ),
        "test_a_charge_pays_for_one_round": lambda folder: (
            training.test_a_charge_pays_for_one_round(workshop, ledger_in(folder))
        ),
        "test_the_ceiling_holds_and_little_is_wasted": lambda folder: (
            test_budget.test_the_ceiling_holds_and_little_is_wasted(folder / "b.sqlite")
        ),
        "test_every_import_is_an_entry_and_none_opens_a_new_budget": lambda folder: (
            test_budget.test_every_import_is_an_entry_and_none_opens_a_new_budget(
                folder / "b.sqlite"
            )
        ),
        "test_an_app_runs_only_if_it_is_the_installed_one_or_listed": lambda _: (
            test_policy.test_an_app_runs_only_if_it_is_the_installed_one_or_listed()
        ),
        "test_orders_are_new_in_each_step_round_and_run_and_are_committed_to": lambda _: (
            test_canaries.test_orders_are_new_in_each_step_round_and_run_and_are_committed_to()
        ),
        "test_secure_streams_differ_and_test_streams_repeat": lambda _: (
            noise.test_secure_streams_differ_and_test_streams_repeat()
        ),
        "test_the_entry_is_on_disk_when_the_charge_exists": disk,
        "test_leaving_a_shopper_out_changes_nothing_but_the_two_protected_vectors": lambda folder: (
            test_participant.test_leaving_a_shopper_out_changes_nothing_but_the_two_protected_vectors(
                ground, folder
            )
        ),
    }


# ----------------------------------------------------------------------- bugs
@pytest.fixture(scope="module")
def passed():
    """The names of the checks that have passed without a bug: each needs to do so once."""
    return set()


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught_by_a_check_that_passes_without_it(
    bug, checks, passed, tmp_path, monkeypatch
):
    planted, name = BUGS[bug]
    folders = [tmp_path / side for side in ("clean", "bug")]
    for folder in folders:
        folder.mkdir()
    if name not in passed:
        checks[name](folders[0])
        passed.add(name)
    with monkeypatch.context() as patch:
        planted(patch)
        with pytest.raises((AssertionError, FedtailError, pytest.fail.Exception)):
            checks[name](folders[1])


def test_a_bug_whose_place_is_gone_is_not_planted_silently(monkeypatch):
    with pytest.raises(AssertionError, match="0 times"):
        plant(monkeypatch, PrivacyPlan, "noise_std", ("no such code", "pass"))


def test_every_bug_is_on_the_page_with_what_catches_it():
    rows = re.findall(
        r"^\| ([^|]+?) \| [^|]+ \| ([^|]+?) \|$", PAGE.read_text("utf-8"), re.MULTILINE
    )
    listed = {name: caught.strip("`") for name, caught in rows if name not in {"bug", "---"}}
    assert listed == {name: caught for name, (_, caught) in BUGS.items()}


def test_the_page_names_tests_that_exist():
    written = "".join(path.read_text("utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    caught = {name for _, name in BUGS.values()} - {"canaries", COLUMNS, "preflight", "self-check"}
    assert len(BUGS) >= 12
    assert {name for name in caught if f"def {name}(" not in written} == set()
