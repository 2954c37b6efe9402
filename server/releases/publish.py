"""Make the signed release of a finished run, from what the server has: never from a shop.

What each merchant's shoppers were charged is told by the heads of their ledgers, which they signed
and the journal countersigned.
"""

import importlib.metadata
import json
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path

from common.adapter import AdapterState
from common.catalogue import read_catalogue
from common.encoder.catalogue_encoder import cached_base_model
from common.encoder.public_basis import PublicBasis
from common.encoder.release_files import model_files
from common.errors import FederationError, ReleaseError
from common.files import write_atomic
from common.identity.signing_key import SigningKey
from common.privacy.accounting.accountants import AccountantReport, account
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.heads import Receipt
from common.privacy.ledger.journal import JournalEntry, last_receipts, read_journal
from common.privacy.mechanism.canaries import CanaryRecord, pack_records
from common.privacy.mechanism.empirical_bound import audit_canaries
from common.release.build import build_release
from common.release.manifest import (
    CANARIES_FILE,
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
    MerchantPrivacy,
    check_audits,
)
from common.release.statement_draft import draft_statement, head_record
from common.release.statement_page import statement_page
from common.settings.lora_targets import LoraTargets
from common.settings.run import RunSettings
from server.run.checkpoint import read_checkpoint
from server.run.files import CATALOGUE_FILE
from server.run.outcome import read_outcome

LATEST = "latest.json"


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
    """Sign the release of a run that has ended, and show it to everybody.

    Args:
        run: The run's folder.
        settings: The run's.
        run_ids: Flower's numbers of the run: it has one for each start.
        now: When.
        journal: The server's journal, a file.
        releases: The folder that everybody may read.
        key: Signs the release.

    Raises:
        FederationError: if the run has rounds left, or no merchant's ledger is in the journal.
        ReleaseError: if the audit of a merchant disproves its claim, or the parts do not fit.
    """
    checkpoint, outcome, plan = read_checkpoint(run), read_outcome(run), settings.plan()
    if checkpoint is None or checkpoint.round_number < plan.rounds:
        raise FederationError("The run has rounds left.", field="rounds")
    if checkpoint.plan_digest != plan.digest:
        raise ReleaseError("The checkpoint is of another plan than the settings.", field="plan")
    entries = read_journal(journal.read_bytes())
    receipts = participants(entries, run_ids)
    if not receipts:
        raise FederationError("No merchant of this run is in the journal.", field="journal")
    privacy = {
        name: merchant_privacy(
            plan, account(receipt.head.spent, plan.delta), outcome.audits.get(name)
        )
        for name, receipt in receipts.items()
    }
    model = cached_base_model(settings.base_model)
    basis = PublicBasis.from_bytes(outcome.basis)
    files = model_files(checkpoint.adapter, basis, settings, model)
    audits = audits_of(receipts, outcome.audits)
    if audits:
        files = {**files, CANARIES_FILE: pack_records(audits)}
    check_release_audits(privacy)
    ledgers = {name: head_record(receipt.head) for name, receipt in receipts.items()}
    statement = draft_statement(
        plan, privacy, ledgers, entries, run_ids=run_ids, seeded_noise=settings.seeded_noise
    )
    claims = Claims(
        version=version_at(now),
        created=now.isoformat(timespec="seconds"),
        base_model=BaseModelRecord(name=settings.base_model, weights_sha256=model.digest),
        catalogues={"public": read_catalogue(run / CATALOGUE_FILE).digest},
        adapter=adapter_record(checkpoint.adapter, settings, model.depth),
        privacy=statement,
        metrics=MetricsRecord(measured_on="public", data="nothing was measured", values={}),
        code_version=_code_version(),
    )
    manifest = build_release(
        releases / claims.version,
        {**files, STATEMENT_FILE: statement_page(statement).encode()},
        claims,
        key,
    )
    told = json.dumps({"version": manifest.version, "digest": manifest.digest})
    write_atomic(releases / LATEST, told.encode() + b"\n")
    return manifest


def participants(entries: tuple[JournalEntry, ...], run_ids: frozenset[str]) -> dict[str, Receipt]:
    """Return the last receipt of each merchant whose reply a run used, by name."""
    used = (
        one for one in entries if one.run_id in run_ids and one.kind not in {"refusal", "joined"}
    )
    names = {name for entry in used for name in entry.participants}
    receipts = last_receipts(entries)
    return {name: receipts[name] for name in sorted(names) if name in receipts}


def audits_of(
    nodes: Collection[str], audits: Mapping[str, CanaryRecord]
) -> tuple[CanaryRecord, ...]:
    """Return the revealed canaries of these nodes: whoever took no part has nothing to show."""
    return tuple(record for node, record in audits.items() if node in nodes)


def version_at(now: datetime) -> str:
    """Return the version of a release made now: the day and the second of it."""
    return now.strftime("%Y.%m.%d.") + str(now.hour * 3600 + now.minute * 60 + now.second)


def merchant_privacy(
    plan: PrivacyPlan, spent: AccountantReport, canaries: CanaryRecord | None = None
) -> MerchantPrivacy:
    """Return the record of what one merchant's ledger holds and its revealed canaries prove."""
    promised = plan.dp_model != "none"
    accountants = Accountants()  # without noise there is no finite number to state
    if promised:
        accountants = Accountants(pld=spent.pld, prv=spent.prv, rdp=spent.rdp)
    return MerchantPrivacy(
        epsilon=spent.pld if promised else None,
        delta=plan.delta if promised else None,
        accountants=accountants,
        noise_multiplier=plan.noise_multiplier,
        sample_rate=plan.sample_rate,
        steps=plan.steps,
        max_grad_norm=plan.max_grad_norm,
        audit=None if canaries is None else audited_bound(canaries, plan.delta),
    )


def audited_bound(canaries: CanaryRecord, delta: float) -> AuditedBound:
    """Return what one merchant's revealed canaries prove at `delta`."""
    bound = audit_canaries(canaries, delta)
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
        commitment=canaries.commitment,
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
