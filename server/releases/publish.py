"""Make the signed release of a finished run, from what the server has: never from a shop.

What each merchant's shoppers were charged is told by the heads of their ledgers, which they signed
and the journal countersigned.
"""

import importlib.metadata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from common.adapter import AdapterState
from common.catalogue import read_catalogue
from common.encoder.catalogue_encoder import cached_base_model
from common.encoder.public_basis import PublicBasis
from common.encoder.release_files import model_files
from common.errors import FederationError, ReleaseError
from common.identity.signing_key import SigningKey
from common.privacy.accounting.accountants import AccountantReport, account
from common.privacy.accounting.claim import epsilon_claimed
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.contributions import contributions_file
from common.privacy.ledger.heads import Receipt
from common.privacy.ledger.journal import JournalEntry, last_receipts, read_journal
from common.privacy.mechanism.canaries import CanaryRecord, pack_records
from common.privacy.mechanism.empirical_bound import LowerBound, audit_canaries, audit_sums
from common.privacy.mechanism.sum_canaries import CanarySums
from common.release.build import build_release
from common.release.manifest import (
    CANARIES_FILE,
    CANARY_SUMS_FILE,
    CONTRIBUTIONS_FILE,
    SEASON_FILE,
    STATEMENT_FILE,
    AdapterRecord,
    BaseModelRecord,
    Claims,
    Manifest,
    MetricsRecord,
)
from common.release.statement import (
    Accountants,
    AuditedBound,
    AuditedNoise,
    LedgerRecord,
    MerchantPrivacy,
    Statement,
    check_audits,
)
from common.release.statement_draft import draft_statement, head_record, ledger_cost
from common.release.statement_page import statement_page
from common.season import Season
from common.settings.lora_targets import LoraTargets
from common.settings.run import RunSettings
from server.run.checkpoint import read_checkpoint
from server.run.files import CATALOGUE_FILE
from server.run.outcome import read_outcome


@dataclass(frozen=True, eq=False)
class ReleaseDraft:
    """What a run came to and what may be told of it: all that a release is made of.

    Attributes:
        adapter: The global adapter.
        basis: The frozen public tensors beside it.
        settings: The run's.
        statement: The run's privacy statement.
        audits: Opened canaries, by the name on the ledger; empty where nothing was audited.
        canary_sums: What the sums showed of them; None where the server saw no sums alone.
        journal: The server's, read and checked: what each node signed of what it sent.
        catalogues: Digest of each catalogue that was trained with, by name.
        metrics: What was measured, and on what.
        code_version: Which fedtail made it.
        more_files: Put into the release and signed with the rest, by name.
        season: The merchants' season; None where the run took none.
    """

    adapter: AdapterState
    basis: PublicBasis
    settings: RunSettings
    statement: Statement
    audits: Mapping[str, CanaryRecord]
    journal: Sequence[JournalEntry]
    catalogues: Mapping[str, str]
    metrics: MetricsRecord
    code_version: str
    more_files: Mapping[str, bytes] = field(default_factory=dict)
    season: Season | None = None
    canary_sums: CanarySums | None = None


def publish_run(
    run: Path,
    settings: RunSettings,
    run_ids: frozenset[str],
    now: datetime,
    *,
    journal: Path,
    releases: Path,
    key: SigningKey,
) -> Manifest:
    """Sign the release of a run that has ended.

    Args:
        run: The run's folder.
        settings: The run's.
        run_ids: Flower's numbers of the run: it has one for each start.
        now: When.
        journal: The server's journal, a file.
        releases: The operator's folder of releases, one a version.
        key: Signs the release.

    Raises:
        FederationError: if the run has rounds left, or no merchant's ledger is in the journal.
        ReleaseError: if the audit of a merchant disproves its claim, or the parts do not fit.
    """
    checkpoint, outcome, plan = read_checkpoint(run), read_outcome(run), settings.plan()
    if checkpoint is None or checkpoint.round_number < plan.rounds:
        raise FederationError("The run has rounds left.", field="rounds")
    if not plan.trains and checkpoint.season is None:
        raise FederationError("The refresh has not taken its season.", field="rounds")
    if checkpoint.plan_digest != plan.digest:
        raise ReleaseError("The checkpoint is of another plan than the settings.", field="plan")
    entries = read_journal(journal.read_bytes())
    receipts = participants(entries, run_ids)
    if not receipts:
        raise FederationError("No merchant of this run is in the journal.", field="journal")
    audits = {name: one for name, one in outcome.audits.items() if name in receipts}
    bounds = audited_bounds(plan, audits, outcome.canary_sums)
    privacy = {
        name: merchant_privacy(plan, account(receipt.head.spent, plan.delta), bounds.get(name))
        for name, receipt in receipts.items()
    }
    ledgers = {name: head_record(receipt.head) for name, receipt in receipts.items()}
    draft = ReleaseDraft(
        adapter=checkpoint.adapter,
        basis=PublicBasis.from_bytes(outcome.basis),
        settings=settings,
        statement=make_statement(plan, settings, privacy, ledgers, entries, run_ids=run_ids),
        audits=outcome.audits,
        journal=entries,
        catalogues={"public": read_catalogue(run / CATALOGUE_FILE).digest},
        metrics=MetricsRecord(measured_on="nothing", data="nothing was measured", values={}),
        code_version=_code_version(),
        season=checkpoint.season,
        canary_sums=outcome.canary_sums,
    )
    taken = {one.name for one in releases.iterdir()} if releases.is_dir() else set()
    now = free_moment(now, taken)
    return write_release(releases / version_at(now), draft, now, key)


def make_statement(
    plan: PrivacyPlan,
    settings: RunSettings,
    privacy: Mapping[str, MerchantPrivacy],
    ledgers: Mapping[str, LedgerRecord],
    journal: Sequence[JournalEntry],
    *,
    run_ids: Collection[str],
    sizes: Literal["declared", "counted"] = "declared",
) -> Statement:
    """Return a run's privacy statement.

    Args:
        plan: The run's.
        settings: The run's.
        privacy: What each merchant's ledger holds and its canaries prove, by name.
        ledgers: Where each of these ledgers stands, by the same names.
        journal: The server's, read and checked.
        run_ids: Flower's numbers of the run: it has one for each start.
        sizes: Whether size bracket and delta were declared, or counted by a simulation.

    Raises:
        ReleaseError: if the audit of a merchant disproves its claim.
    """
    check_release_audits(privacy)
    return draft_statement(
        plan,
        privacy,
        ledgers,
        journal,
        run_ids=run_ids,
        seeded_noise=settings.seeded_noise,
        sizes=sizes,
    )


def write_release(
    place: Path, draft: ReleaseDraft, now: datetime, key: SigningKey, *, replace: bool = False
) -> Manifest:
    """Write and sign the release folder at `place`: the one body that makes a release.

    Args:
        place: Where the folder shall be.
        draft: What goes into it.
        now: When it is made; the version is told from it.
        key: Signs it.
        replace: Whether it may take the place of an older one.

    Raises:
        ReleaseError: if the parts do not fit each other. Nothing is written then.
    """
    settings, model = draft.settings, cached_base_model(draft.settings.base_model)
    files = {**model_files(draft.adapter, draft.basis, settings, model), **draft.more_files}
    if draft.season is not None:
        files[SEASON_FILE] = draft.season.to_bytes()
    nodes = {one.node for one in draft.statement.ledgers.values()}
    audits = [record for node, record in draft.audits.items() if node in nodes]
    if audits:  # of those that took part: whoever did not has nothing to show
        files[CANARIES_FILE] = pack_records(audits)
        if draft.canary_sums is not None:
            files[CANARY_SUMS_FILE] = draft.canary_sums.to_bytes()
    plan_digest, run_ids = draft.statement.privacy_plan.digest, draft.statement.run_ids
    listed = contributions_file(draft.journal, draft.adapter.digest, plan_digest, run_ids)
    if listed:
        files[CONTRIBUTIONS_FILE] = listed
    files[STATEMENT_FILE] = statement_page(draft.statement).encode()
    claims = Claims(
        version=version_at(now),
        created=now.isoformat(timespec="seconds"),
        base_model=BaseModelRecord(name=settings.base_model, weights_sha256=model.digest),
        catalogues=draft.catalogues,
        adapter=adapter_record(draft.adapter, settings, model.depth),
        privacy=draft.statement,
        metrics=draft.metrics,
        code_version=draft.code_version,
        parent=settings.refresh_of or None,
    )
    return build_release(place, files, claims, key, replace=replace)


def participants(entries: tuple[JournalEntry, ...], run_ids: frozenset[str]) -> dict[str, Receipt]:
    """Return the last receipt of each merchant whose reply a run used, by name."""
    used = (
        one for one in entries if one.run_id in run_ids and one.kind not in {"refusal", "joined"}
    )
    names = {name for entry in used for name in entry.participants}
    receipts = last_receipts(entries)
    return {name: receipts[name] for name in sorted(names) if name in receipts}


def version_at(now: datetime) -> str:
    """Return the version of a release made now: the day and the second of it."""
    return now.strftime("%Y.%m.%d.") + str(now.hour * 3600 + now.minute * 60 + now.second)


def free_moment(now: datetime, taken: Collection[str]) -> datetime:
    """Return the first moment from `now` on, in steps of a second, whose version is not `taken`.

    So two releases of one second have a version each, and the one made later has the later.
    """
    while version_at(now) in taken:
        now += timedelta(seconds=1)
    return now


def merchant_privacy(
    plan: PrivacyPlan, spent: AccountantReport, audit: AuditedBound | None = None
) -> MerchantPrivacy:
    """Return the record of what one merchant's ledger holds and its revealed canaries prove."""
    promised = plan.dp_model != "none"
    accountants = Accountants()  # without noise there is no finite number to state
    if promised:
        accountants = Accountants(pld=spent.pld, prv=spent.prv, rdp=spent.rdp)
    claimed = epsilon_claimed(plan.events(), spent.events, plan.delta)
    return MerchantPrivacy(
        epsilon=claimed if promised else None,
        delta=plan.delta if promised else None,
        accountants=accountants,
        ledger=ledger_cost(spent.events, plan.delta) if promised else None,
        noise_multiplier=plan.noise_multiplier,
        sample_rate=plan.sample_rate,
        steps=plan.steps,
        max_grad_norm=plan.max_grad_norm,
        audit=audit,
    )


def audited_bounds(
    plan: PrivacyPlan, audits: Mapping[str, CanaryRecord], canary_sums: CanarySums | None
) -> dict[str, AuditedBound]:
    """Return what a run's revealed canaries prove, by the name on the ledger.

    With distributed noise it is one bound for all, on the sums that they are in.

    Args:
        plan: The run's.
        audits: The revealed records of those that the release tells of.
        canary_sums: What the sums showed; None where the server saw no sums alone.

    Raises:
        PrivacyError: if the records are not of these sums, or a sum is of too few merchants.
    """
    if plan.dp_model != "distributed":
        return {name: audited_bound(one, plan.delta) for name, one in audits.items()}
    if canary_sums is None or not audits:
        return {}
    bound = audit_sums(canary_sums, audits, plan.delta)
    return {name: _told_bound(bound, one.commitment) for name, one in audits.items()}


def audited_bound(canaries: CanaryRecord, delta: float) -> AuditedBound:
    """Return what one merchant's revealed canaries prove at `delta`."""
    return _told_bound(audit_canaries(canaries, delta), canaries.commitment)


def _told_bound(bound: LowerBound, commitment: str) -> AuditedBound:
    return AuditedBound(
        epsilon=bound.epsilon,
        blocking=bound.blocking,
        one_run=bound.one_run,
        canaries=bound.canaries,
        steps=bound.steps,
        noise=AuditedNoise(
            deviation=bound.noise.deviation,
            chance=bound.noise.chance,
            draws=bound.noise.draws,
            refuted=bound.noise.refuted,
        ),
        commitment=commitment,
    )


def check_release_audits(privacy: Mapping[str, MerchantPrivacy]) -> None:
    """Let a release pass if no audit disproves a merchant's claim.

    Raises:
        ReleaseError: if one does.
    """
    try:
        check_audits(privacy)
    except ValueError as error:
        raise ReleaseError(f"No release: {error}.", field="audit") from error


def adapter_record(adapter: AdapterState, settings: RunSettings, depth: int) -> AdapterRecord:
    """Return what the manifest says about the adapter."""
    targets = settings.lora_targets
    return AdapterRecord(
        method=_method(targets),
        lora_targets=tuple(targets.module_names(depth)),
        rank=targets.rank,
        alpha=float(targets.rank),
        trained_numbers=adapter.size,
        digest=adapter.digest,
        settings=settings.to_flat(),
    )


def _method(targets: LoraTargets) -> str:
    return "FFA-LoRA" if targets.aggregates_exactly else "LoRA (aggregated inexactly)"


def _code_version() -> str:
    try:
        return f"fedtail {importlib.metadata.version('fedtail')}"
    except importlib.metadata.PackageNotFoundError:
        return "fedtail, not installed"
