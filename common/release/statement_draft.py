"""Draft a release's privacy statement from what the ledgers, the journal and the canaries say."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from common.privacy.accounting.accountants import (
    MechanismEvent,
    ceiling_for,
    epsilon_pld,
    epsilon_replaced,
    merge,
)
from common.privacy.accounting.composition import MOST_MERCHANTS, epsilon_of_several
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.accounting.second_accountant import package_version
from common.privacy.accounting.shared_claim import epsilon_by_absent
from common.privacy.ledger.entry import Entry
from common.privacy.ledger.heads import Head
from common.privacy.ledger.journal import JournalEntry
from common.privacy.mechanism.empirical_bound import BLOCKING_CONFIDENCE, CONFIDENCE
from common.release.code_digest import code_digest
from common.release.statement import (
    AbsentCost,
    AuditMethod,
    JournalRecord,
    LedgerRecord,
    MerchantPrivacy,
    NeighboursCost,
    NoiseRecord,
    SeveralMerchants,
    Statement,
)

_PACKAGES = {"pld": "dp-accounting", "prv": "opacus", "rdp": "dp-accounting"}


def draft_statement(
    plan: PrivacyPlan,
    merchants: Mapping[str, MerchantPrivacy],
    ledgers: Mapping[str, LedgerRecord],
    journal: Sequence[JournalEntry],
    *,
    run_ids: Collection[str],
    seeded_noise: bool,
    sizes: Literal["declared", "counted"] = "declared",
) -> Statement:
    """Return the statement of one run.

    Args:
        plan: The run's.
        merchants: What each merchant's ledger holds and its revealed canaries prove, by name.
        ledgers: Where each of these ledgers stands, by the same names.
        journal: The server's, read and checked; empty where none was kept.
        run_ids: The run's numbers on the journal: one for each start.
        seeded_noise: Whether noise came from a fixed seed, which voids the guarantee.
        sizes: Whether size bracket and delta were declared, or counted by a simulation.

    Raises:
        ValueError: if the parts do not fit each other, or an audit disproves a claim.
    """
    return Statement(
        dp_model=plan.dp_model,
        plan=plan.told(),
        run=run_cost(plan),
        sizes=sizes,
        run_ids=tuple(sorted(set(run_ids))),
        noise=noise_record(plan, seeded=seeded_noise),
        accountants={name: package_version(package) for name, package in _PACKAGES.items()},
        merchants=merchants,
        ledgers=ledgers,
        journal=journal_record(journal) if journal else None,
        several=several_merchants(plan),
        audit=AuditMethod(confidence=CONFIDENCE, blocking_confidence=BLOCKING_CONFIDENCE),
        code_sha256=code_digest(),
        app_sha256=app_bundles(journal, plan),
        absent=absent_costs(plan),
    )


def noise_record(plan: PrivacyPlan, *, seeded: bool) -> NoiseRecord:
    """Return how the noise of a plan is made: by `protect`, or in shares by `protect_share`."""
    if plan.dp_model != "distributed":
        return NoiseRecord(seeded=seeded)
    return NoiseRecord(
        distribution="discrete gaussian",
        arithmetic="integers on the grid of the sum, modulo 2^64",
        cut_at=64,
        seeded=seeded,
    )


def absent_costs(plan: PrivacyPlan) -> tuple[AbsentCost, ...]:
    """Return epsilon of a plan by how many merchants are absent; nothing where none is shared."""
    return tuple(
        AbsentCost(absent=absent, epsilon=epsilon)
        for absent, epsilon in enumerate(epsilon_by_absent(plan))
    )


def run_cost(plan: PrivacyPlan) -> NeighboursCost | None:
    """Return what a plan alone costs, by PLD; None without noise."""
    if plan.dp_model == "none":
        return None
    events = plan.events()
    return NeighboursCost(
        add_or_remove=epsilon_pld(events, plan.delta),
        replace_one=epsilon_replaced(events, plan.delta),
    )


def ledger_cost(events: Iterable[MechanismEvent], delta: float) -> NeighboursCost:
    """Return what all on a ledger costs, however it was chosen, by the Rényi filter."""
    spent = merge(events)
    return NeighboursCost(
        add_or_remove=ceiling_for(spent, delta),
        replace_one=ceiling_for(spent, delta, replaced=True),
    )


def app_bundles(journal: Sequence[JournalEntry], plan: PrivacyPlan) -> tuple[str, ...]:
    """Return the digests of the app bundles that a journal's runs under a plan ran, sorted."""
    runs = (one for one in journal if one.kind == "run" and one.plan_digest == plan.digest)
    return tuple(sorted({one.app_digest for one in runs if one.app_digest}))


def several_merchants(plan: PrivacyPlan) -> tuple[SeveralMerchants, ...]:
    """Return epsilon of a shopper at 1 to 5 merchants of a run; nothing without noise."""
    if plan.dp_model == "none":
        return ()
    counts = range(1, MOST_MERCHANTS + 1)
    values = {count: epsilon_of_several(plan, count) for count in counts}
    return tuple(
        SeveralMerchants(merchants=count, local=local, central=central)
        for count, (local, central) in values.items()
    )


def ledger_record(node: str, signer: str, entries: Sequence[Entry]) -> LedgerRecord:
    """Return where a ledger of at least one entry stands."""
    return LedgerRecord(node=node, entries=len(entries), hash=entries[-1].hash, signer=signer)


def head_record(head: Head) -> LedgerRecord:
    """Return where a ledger stood when its node told this head: all that a server knows of it."""
    return LedgerRecord(node=head.merchant, entries=head.number, hash=head.hash, signer=head.signer)


def journal_record(entries: Sequence[JournalEntry]) -> JournalRecord:
    """Return where a journal of at least one entry stands."""
    return JournalRecord(entries=len(entries), hash=entries[-1].hash, key=entries[-1].signer)
