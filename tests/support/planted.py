"""What each planted privacy bug changes, and which check must catch it."""

import client.privacy.budget
import client.training.dp_trainer
import common.audit.journaled_run
import common.audit.seals
import common.privacy.accounting.accountants
import common.privacy.mechanism.clipping
from client.node.participant import MerchantWork
from client.privacy.policy import Policy
from client.training.dp_trainer import PrivateTrainer
from client.training.examples import ShopperExamples
from client.training.shopper_gradients import PackedGradients
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.contributions import Contribution
from common.privacy.ledger.ledger import Charge, Ledger
from common.privacy.mechanism.canaries import CanaryRecord
from common.privacy.mechanism.noise import NoiseSource
from common.wire import messages
from simulations.options import SimulationOptions
from tests.client.node.test_participant import ground
from tests.client.privacy import test_budget
from tests.common.audit import (
    test_countersignatures,
)
from tests.common.privacy.accounting import test_claim
from tests.support.privacy_bugs import plant

__all__ = ["ground"]  # a fixture


NO_SEAL_FITS = "test_an_update_without_noise_cannot_stand_under_the_private_runs_papers"
REAL_DATA = "test_data_are_a_shops_own_unless_said_to_be_public"


def unclipped_rows(patch):
    """Clip each token's part, and the shopper's sum of them not at all."""
    each = "each = torch.einsum('td,tr->tdr', back[start:end], tokens.reduced[start:end])"
    plant(
        patch,
        PackedGradients,
        "of",
        (
            "own = torch.mm(back[start:end].T, tokens.reduced[start:end])",
            f"{each}; own = (each / each.norm(dim=(1, 2), keepdim=True).clamp_min(1)).sum(dim=0)",
        ),
    )
    plant(
        patch,
        PrivateTrainer,
        "clipped_sum",
        ("self._part_rows(part, candidates),", "self._part_rows(part, candidates) / 1000,"),
        (
            "return total",
            "object.__setattr__(total, 'vector', total.vector * 1000)\n    return total",
        ),
    )


def loss_leaves(patch):
    """Send a number of the shoppers as a metric, and allow it."""
    plant(
        patch,
        MerchantWork,
        "public_metrics",
        (
            "self._policy.check_metrics(metrics)",
            "metrics['loss'] = float(self._data.interactions.shopper_count)",
        ),
    )
    patch.setattr(messages, "ALLOWED_METRICS", messages.ALLOWED_METRICS | {"loss"})


def edit(owner, name, *edits):
    return lambda patch: plant(patch, owner, name, *edits)


FIRST_USE = "np.sort(np.unique(batch.history_item, return_index=True)[1])"
SHARED = f"np.argmax(batch.history_item[:, None] == batch.history_item[{FIRST_USE}], axis=1)"
NORMALS = "normals = noise.gaussians(clipped.vector.size)"
CENTRED = """found = torch.cat(projected, dim=1)
    return found - found.mean(dim=0)"""
REAL = """    self._trainer._merchant.examples = ShopperExamples(
        self._data.interactions, self._settings)
"""
NUDGED = """found = torch.cat(projected, dim=1)
    return found * (1 + 2.0**-23 * (len(found) % 2))"""
NOISE = "draws = normals * plan.noise_std(kind)"
BUGS = {  # by the name it has on the page: what plants it, and what must catch it
    "noise halved": (edit(PrivacyPlan, "noise_std", ("else full", "else full / 2")), "canaries"),
    "noise not scaled by C": (
        edit(PrivacyPlan, "noise_std", (" * self.clip_norm(kind)", "")),
        "canaries",
    ),
    "a hundredth of the noise on the adapter": (
        edit(
            client.training.dp_trainer,
            "protect",
            (NOISE, f"{NOISE}\n    draws[: len(draws) - clipped.canaries] /= 100"),
        ),
        "canaries",
    ),
    "noise forgotten on a range": (
        edit(
            client.training.dp_trainer,
            "protect",
            (NOISE, f"{NOISE}\n    draws[: len(draws) // 50] = 0"),
        ),
        "canaries",
    ),
    "noise only where the sum is not zero": (
        edit(client.training.dp_trainer, "protect", (NOISE, f"{NOISE} * (clipped.vector != 0)")),
        "canaries",
    ),
    "noise of one sign": (
        edit(client.training.dp_trainer, "protect", (NOISE, f"{NOISE}\n    draws = np.abs(draws)")),
        "canaries",
    ),
    "the same noise in each step": (
        edit(
            client.training.dp_trainer,
            "protect",
            (NORMALS, NORMALS.replace("noise.", "NoiseSource.for_tests(5).")),
        ),
        "canaries",
    ),
    "canaries in places of their own": (
        edit(CanaryRecord, "order", ("np.argsort(words)", "np.arange(len(words))")),
        "test_orders_are_new_in_each_step_round_and_run_and_are_committed_to",
    ),
    "noise per step forgotten": (
        edit(
            client.training.dp_trainer,
            "protect",
            (NOISE, f"{NOISE} * (charge._left == charge.entry.steps - 1)"),
        ),
        "canaries",
    ),
    "no clip": (
        edit(
            common.privacy.mechanism.clipping,
            "_clip_rows",
            ("factors = limit / np.maximum(norms, limit)", "factors = np.ones_like(norms)"),
        ),
        "canaries",
    ),
    "q from the data's size": (
        edit(
            client.training.dp_trainer,
            "poisson_sample",
            ("int(plan.sample_rate * 2.0**64)", "int(plan.divisor / max(shoppers, 11) * 2.0**64)"),
        ),
        "canaries",
    ),
    "clip after the sum": (
        edit(
            client.training.dp_trainer,
            "clip_and_sum",
            ("_clip_rows(rows, ", "_clip_rows(rows.sum(axis=0, keepdims=True), "),
        ),
        "preflight",
    ),
    "clip per row instead of per shopper": (unclipped_rows, "preflight"),
    "chance by a shopper's place in the data": (
        edit(ShopperExamples, "draw", ("self._streams[one]", "int(one)")),
        "preflight",
    ),
    "in-batch negatives": (
        edit(
            PrivateTrainer,
            "shopper_gradients",
            (
                "(batch, candidates)\n",
                "(batch, self.candidates(torch.from_numpy(np.unique(batch.target_item))))\n",
            ),
        ),
        "preflight",
    ),
    "loss averaged over the batch": (
        edit(PackedGradients, "of", ("losses.sum()", "losses.mean()")),
        "preflight",
    ),
    "a statistic over the batch": (
        edit(
            PrivateTrainer,
            "projected",
            ("return torch.cat(projected, dim=1)", CENTRED),
        ),
        "preflight",
    ),
    "the last bit of a batch mate": (
        edit(
            PrivateTrainer,
            "projected",
            ("return torch.cat(projected, dim=1)", NUDGED),
        ),
        "self-check",
    ),
    "shared item encoder": (
        edit(
            PackedGradients,
            "of",
            ("packed(batch.history_item, b", f"packed(batch.history_item[{FIRST_USE}], b"),
            ("from_norm(seen, tokens), batch)", f"from_norm(seen, tokens)[{SHARED}], batch)"),
            (
                "searchsorted(batch.history_shopper,",
                f"searchsorted(batch.history_shopper[{FIRST_USE}],",
            ),
        ),
        "preflight",
    ),
    "preflight on real shoppers": (
        edit(
            MerchantWork,
            "_step",
            (
                "check_popularity(popularity)\n",
                "check_popularity(popularity)\n" + REAL,
            ),
        ),
        "test_no_shopper_is_read_before_the_charge",
    ),
    "shoppers read before the charge": (
        edit(
            MerchantWork,
            "prepare",
            ("made_up_shoppers(len(self._data.catalogue))", "self._data.interactions"),
        ),
        "test_no_shopper_is_read_before_the_charge",
    ),
    "empty batch skipped": (
        edit(client.training.dp_trainer, "protect", (NOISE, f"{NOISE} * (clipped.shoppers > 0)")),
        "test_an_empty_sample_still_gets_noise_and_uses_the_charge_up",
    ),
    "divisor from the data": (
        edit(
            client.training.dp_trainer,
            "protect",
            ("plan.divisor if", "float(max(clipped.shoppers, 1)) if"),
        ),
        "test_a_round_is_noise_on_the_clipped_sum_over_the_public_divisor",
    ),
    "accountant reset each round": (
        edit(
            client.privacy.budget,
            "spent_events",
            ("for entry in entries", "for entry in entries[:0]"),
        ),
        "test_the_ceiling_holds_and_little_is_wasted",
    ),
    "a charge that pays twice": (
        edit(Charge, "use_step", ("self._left -= 1", "self._left -= 0")),
        "test_a_charge_pays_for_one_round",
    ),
    "seed fixed": (
        edit(NoiseSource, "secure", ("secrets.token_bytes(32)", "bytes(32)")),
        "test_secure_streams_differ_and_test_streams_repeat",
    ),
    "ledger written after training": (
        edit(Ledger, "_write", ('connection.execute("COMMIT")', "pass")),
        "test_the_entry_is_on_disk_when_the_charge_exists",
    ),
    "a missing round skipped": (
        edit(
            common.audit.journaled_run,
            "_demand_rounds",
            ("if entry.round_number > expected:", "if entry.round_number > plan.rounds:"),
        ),
        "test_a_forged_run_is_refused_and_what_gives_it_away_is_named",
    ),
    "an early entry accepted": (
        edit(
            test_countersignatures,
            "check_coverage",
            ("if reach > record.entries:", "if reach > len(ledger.entries):"),
        ),
        "test_a_claim_must_reach_to_the_last_charge_of_the_run_wherever_the_statement_stops",
    ),
    "an unsigned contribution accepted": (
        edit(
            Contribution,
            "fault",
            ('"" if self.authentic else "signature"', '""'),
        ),
        "test_unsigned_contributions_are_named",
    ),
    "any canaries beside an update": (
        edit(
            common.audit.seals,
            "_fault",
            ("record.seal(vector) == one.seal", "bool(record.seal(vector))"),
        ),
        "test_invented_canaries_are_named_by_merchant_and_round",
    ),
    "any update beside the canaries": (
        edit(
            common.audit.seals,
            "_fault",
            (
                'return "the canaries shown are bound to other updates than this one."',
                'return ""',
            ),
        ),
        NO_SEAL_FITS,
    ),
    "PLD for runs chosen on the way": (
        edit(
            test_claim,
            "epsilon_claimed",
            ("if fixed_beforehand(plan, merged):", "if True:"),
        ),
        "test_a_ledger_of_more_is_claimed_by_the_filter",
    ),
    "one replaced at the price of one removed": (
        edit(
            common.privacy.accounting.accountants,
            "_epsilon_replaced",
            ("epsilon_of_replacement(map(astuple, events), delta)", "_epsilon_pld(events, delta)"),
        ),
        "test_at_four_for_one_removed_it_is_above_seven_for_one_replaced",
    ),
    "exact figures in a release": (
        edit(
            SimulationOptions,
            "measured_on",
            ('"public" if self.public_data else "nothing"', '"public"'),
        ),
        REAL_DATA,
    ),
    "a budget for each import": (
        edit(
            test_budget,
            "open_for_use",
            (
                "ledger = Ledger.open(path, merchant)",
                "ledger = Ledger.open(path.with_name(f'{import_id}.sqlite'), merchant)",
            ),
        ),
        "test_every_import_is_an_entry_and_none_opens_a_new_budget",
    ),
    "an empty list lets any code in": (
        edit(
            Policy,
            "check_app",
            ("digest in self.app_digests:", "not self.app_digests or digest in self.app_digests:"),
        ),
        "test_an_app_runs_only_if_it_is_the_installed_one_or_listed",
    ),
    "metrics leaving unprotected": (
        loss_leaves,
        "test_leaving_a_shopper_out_changes_nothing_but_the_two_protected_vectors",
    ),
}
