"""Planted bugs of a run whose noise is shared, and what must catch each: see `planted`."""

import pytest

import common.privacy.secagg.client
from client.node.secure_party import SecureParty
from common.privacy.mechanism.empirical_bound import audit_sums
from common.privacy.mechanism.fixed_point import NoisyIntegers
from common.privacy.secagg.client import SecureSumClient
from common.privacy.secagg.setup import Setup
from tests.client.node import test_secure_party, test_secure_party_once
from tests.common.privacy.mechanism import test_shares, test_sum_canaries
from tests.common.privacy.secagg import test_client, test_client_attacks
from tests.support.privacy_bugs import plant
from tests.support.secure_sums import SumTown
from tests.support.sitting import Sitting
from tests.support.sum_runs import run_of_sums

COLUMNS = "canaries of the sum"
DRAWS = "draws = discrete_gaussians(source, self.noise.variance, self.noise.width)"


def edit(owner, name, *edits):
    return lambda patch: plant(patch, owner, name, *edits)


def quiet_columns(_folder):
    assert not test_sum_canaries.alarm(audit_sums(*run_of_sums(1)))


def in_order(folder):
    with pytest.MonkeyPatch.context() as patch:
        sitting = Sitting(folder / "node")
        test_secure_party_once.test_what_leaves_is_on_disk_first_its_name_too(sitting, patch)


def _sharing(test):
    return lambda folder: test(test_shares.payer(folder))


def _sitting(test):
    def check(folder):
        test(Sitting(folder / "node"), folder)

    return check


CHECKS = {  # by the name on the page: each is given a fresh folder
    COLUMNS: quiet_columns,
    "test_a_share_drawn_has_the_variance_that_the_plan_tells": lambda _: (
        test_shares.test_a_share_drawn_has_the_variance_that_the_plan_tells("train")
    ),
    "test_no_two_shares_have_noise_in_common": _sharing(
        test_shares.test_no_two_shares_have_noise_in_common
    ),
    "test_there_is_no_share_without_an_unused_charge_of_such_a_plan": _sharing(
        test_shares.test_there_is_no_share_without_an_unused_charge_of_such_a_plan
    ),
    "test_without_its_self_mask_a_vector_is_still_under_those_with_the_others": lambda _: (
        test_client.test_without_its_self_mask_a_vector_is_still_under_those_with_the_others()
    ),
    "test_what_a_party_sends_tells_nothing_of_its_vector": lambda _: (
        test_client.test_what_a_party_sends_tells_nothing_of_its_vector()
    ),
    "test_no_secret_is_of_two_rounds_or_two_parties": lambda _: (
        test_client.test_no_secret_is_of_two_rounds_or_two_parties()
    ),
    "test_parties_that_were_asked_for_different_things_have_no_sum": lambda _: (
        test_client_attacks.test_parties_that_were_asked_for_different_things_have_no_sum(
            SumTown(test_client_attacks.PARTIES, rounds=4)
        )
    ),
    "test_what_leaves_is_on_disk_first_its_name_too": in_order,
    "test_the_ledger_alone_keeps_a_copied_party_from_a_second_mask": _sitting(
        test_secure_party_once.test_the_ledger_alone_keeps_a_copied_party_from_a_second_mask
    ),
    "test_a_plan_that_spares_fewer_than_the_protocol_is_held_to": (
        test_secure_party.test_a_plan_that_spares_fewer_than_the_protocol_is_held_to
    ),
}
SUM_BUGS = {
    "a share as if all were there": (
        edit(test_shares, "share_form", ("spared=plan.spared", "spared=0")),
        "test_a_share_drawn_has_the_variance_that_the_plan_tells",
    ),
    "half of every share": (
        edit(NoisyIntegers, "noised", (DRAWS, f"{DRAWS}\n    draws //= 2")),
        COLUMNS,
    ),
    "a share's noise used in each round": (
        edit(
            test_shares,
            "protect_share",
            ("made.noised(clipped, noise)", "made.noised(clipped, NoiseSource.for_tests(5))"),
        ),
        "test_no_two_shares_have_noise_in_common",
    ),
    "a charge for each share, paid after it": (
        edit(
            test_shares,
            "protect_share",
            (
                'use_charge(clipped, charge, noise, dp_models=("distributed",))',
                "charge.entry.kind",
            ),
        ),
        "test_there_is_no_share_without_an_unused_charge_of_such_a_plan",
    ),
    "masks left out": (
        edit(
            SecureSumClient,
            "_masked",
            ("total = vector.astype(np.uint64)", "return vector.astype(np.uint64)"),
        ),
        "test_what_a_party_sends_tells_nothing_of_its_vector",
    ),
    "masks with the others left out": (
        edit(SecureSumClient, "_masked", ("for name in member.around:", "for name in ():")),
        "test_without_its_self_mask_a_vector_is_still_under_those_with_the_others",
    ),
    "a secret used in each round": (
        edit(
            Setup,
            "__init__",
            (
                "RoundSecrets(RoundSecret(), RoundSecret())",
                "RoundSecrets(RoundSecret(int.from_bytes(self.cipher.raw[1:])), RoundSecret())",
            ),
        ),
        "test_no_secret_is_of_two_rounds_or_two_parties",
    ),
    "masks whatever was asked": (
        edit(
            common.privacy.secagg.client,
            "pair_purpose",
            ("round_number, asked, min", "round_number, '', min"),
        ),
        "test_parties_that_were_asked_for_different_things_have_no_sum",
    ),
    "a party kept in memory alone": (
        edit(
            SecureParty,
            "_within",
            ("self._keep(replace(held, party=keep(client)))", "pass"),
        ),
        "test_what_leaves_is_on_disk_first_its_name_too",
    ),
    "a charge that ends no sum": (
        edit(SecureParty, "_over", ("last = max(charged, default=0)", "last = 0")),
        "test_the_ledger_alone_keeps_a_copied_party_from_a_second_mask",
    ),
    "fewer merchants than carry the noise": (
        edit(SecureParty, "__init__", (", plan.least_merchants)", ")")),
        "test_a_plan_that_spares_fewer_than_the_protocol_is_held_to",
    ),
}
