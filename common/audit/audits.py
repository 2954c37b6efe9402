"""The three audits: of a ledger, of a release, of a whole run. Files in, a report out.

No step trusts what an earlier one has not checked: without a verified release there is no statement
to hold anything to, and the checks that need one are told as not made.
"""

import math
from datetime import UTC, datetime
from pathlib import Path

from common.audit.app_bundles import check_app_bundles
from common.audit.canaries import (
    bound_of_sums,
    canaries_demanded,
    check_bound,
    check_commitment,
    committed,
    read_canaries,
    read_canary_sums,
)
from common.audit.claims import (
    check_absent,
    check_adapter,
    check_code,
    check_epsilon,
    check_run_cost,
    check_several,
    curve,
    tell_trust,
)
from common.audit.contributions import check_contributions, check_listed
from common.audit.countersignatures import (
    NamedLedger,
    check_charges,
    check_coverage,
    check_heads,
    check_journal,
)
from common.audit.evidence import (
    Evidence,
    load_public_key,
    read_bytes,
    read_evidence,
    read_release,
)
from common.audit.findings import Checklist, Kind, MerchantAudit, Report, Several, Verdict
from common.audit.journaled_run import JournaledRun, check_merchants, find_run, pinned
from common.audit.layout import JOURNAL, LEDGERS, PARENT, PUBLIC_KEY
from common.audit.season import check_parent, check_season
from common.errors import InputError
from common.privacy.accounting.accountants import epsilon_pld, epsilon_rdp
from common.privacy.accounting.second_accountant import (
    SecondOpinion,
    package_version,
    second_opinion,
)
from common.privacy.ledger.entry import Entry, spent_events
from common.privacy.ledger.export import read_ledger
from common.privacy.ledger.journal import read_journal
from common.privacy.mechanism.empirical_bound import LowerBound
from common.release.statement import Statement
from common.release.statement_page import SENTENCES
from common.release.verify import VerifiedRelease

FIRST = "PLD by"


def audit_run(folder: Path, key: Path | None = None, parent: Path | None = None) -> Report:
    """Check a run's exported files against each other, and compute every number again.

    Args:
        folder: As `common.audit.layout` says: release, operator's key, journal, ledgers.
        key: The operator's public key, got on another way. Without it the one in the folder is
            used, and nothing is more than consistent: the verdict is `not authenticated`.
        parent: Of a refresh, the release whose adapter it keeps; else the one in the folder.

    Raises:
        InputError: if the folder is none.
    """
    sheet = Checklist()
    found = read_evidence(sheet, folder, key)
    merchants: list[MerchantAudit] = []
    if found.release is not None:
        statement = found.release.manifest.privacy
        run = find_run(sheet, found.release.manifest, found.journal)
        check_merchants(sheet, statement, run)
        merchants = _merchants_of_run(sheet, found, found.release, run)
        tell_trust(sheet, statement)
        check_absent(sheet, statement)
        check_several(sheet, statement)
        check_run_cost(sheet, statement)
        check_adapter(sheet, found.release)
        check_season(sheet, found.release)
        check_parent(sheet, found.release, parent or folder / PARENT, demanded=True)
        check_contributions(sheet, found)
        check_code(sheet, found.release.manifest)
        check_app_bundles(sheet, statement, found.journal, found.ledgers)
    return _report("run", folder, sheet, found, merchants, authenticated=key is not None)


def audit_release(folder: Path, key: Path | None = None, parent: Path | None = None) -> Report:
    """Check a release alone: what it says is signed, whole, and what its own canaries prove.

    Args:
        folder: The release.
        key: As for `audit_run`; without it `operator.pub` beside the folder is used.
        parent: Of a refresh, the release whose adapter it keeps; without it that is not checked.

    Raises:
        InputError: if the folder is none.
        ReleaseError: if the key is not one.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder.", field="folder")
    sheet, found = Checklist(), Evidence(folder)
    found.release = read_release(sheet, folder, load_public_key(key or folder.parent / PUBLIC_KEY))
    merchants = []
    if found.release is not None:
        manifest = found.release.manifest
        statement, demanded = manifest.privacy, canaries_demanded(manifest)
        records = read_canaries(sheet, found.release)
        sums = bound_of_sums(sheet, found.release, records)
        for name in statement.merchants:
            record = records.get(statement.ledgers[name].node)
            bound = check_bound(sheet, name, statement, record, demanded=demanded, sums=sums)
            merchants.append(_merchant(name, statement, bound=bound))
        tell_trust(sheet, statement)
        check_absent(sheet, statement)
        check_several(sheet, statement)
        check_run_cost(sheet, statement)
        check_adapter(sheet, found.release)
        check_season(sheet, found.release)
        check_parent(sheet, found.release, parent, demanded=parent is not None)
        check_listed(sheet, found.release, None)
        with sheet.check("Epsilon: the claims against the ledgers", LEDGERS) as marks:
            marks.skip("a release holds no ledger: `fedtail audit run` checks them")
        check_code(sheet, found.release.manifest)
    return _report("release", folder, sheet, found, merchants, authenticated=key is not None)


def audit_ledger(
    file: Path, *, delta: float, journal: Path | None = None, signer: str | None = None
) -> Report:
    """Check one exported ledger, and compute what all of it has spent.

    Args:
        file: As `fedtail client export-ledger` writes it.
        delta: At which epsilon is computed.
        journal: A server's journal, whose countersigned heads it must have.
        signer: The node's public key, hex, got on another way; as the key of `audit_run`.

    Raises:
        InputError: if there is no such file.
        SettingsError: if delta does not lie between 0 and 1.
    """
    for path in (file, journal):
        if path is not None and not path.is_file():
            raise InputError(f"There is no file {path}.", field="file")
    epsilon_pld((), delta)  # a delta out of bounds is an error of whoever calls
    sheet = Checklist()
    entries: tuple[Entry, ...] = ()
    with sheet.check("Ledger: numbering, chain, hashes and signatures", file.name) as marks:
        entries = read_ledger(read_bytes(file), signer)
        marks.says(f"{len(entries)} entries")
        if not entries:
            marks.wrong("entries", "The ledger has no entry: there is nothing to check.")
    found = Evidence(file, ledgers={file.stem: entries})
    if journal is not None and entries:
        with sheet.check("Journal: numbering, chain, hashes and signatures", journal.name) as marks:
            found.journal = read_journal(read_bytes(journal))
        if found.journal is not None:
            ledger = NamedLedger("", file.name, entries[0].merchant, entries)
            plans = check_journal(sheet, found.journal)
            check_heads(sheet, ledger, found.journal)
            check_charges(sheet, ledger, found.journal, plans)
    merchants = [_whole_ledger(sheet, file, entries, delta)] if sheet.sound else []
    return _report("ledger", file, sheet, found, merchants, authenticated=signer is not None)


def _whole_ledger(
    sheet: Checklist, file: Path, entries: tuple[Entry, ...], delta: float
) -> MerchantAudit:
    """Return what a ledger has spent, by all accountants."""
    name = entries[0].merchant if entries else file.stem
    events = spent_events(entries)
    with sheet.check("Epsilon: two accountants on all entries", file.name) as marks:
        pld, other = epsilon_pld(events, delta), second_opinion(events, delta)
        if not other.accepts(pld):
            marks.wrong("accountants", f"PLD gives {pld:.4f}, {other.accountant} {other.epsilon}.")
        if math.isinf(pld):
            marks.note("there are entries without noise: epsilon is infinite")
        if any(entry.seeded_noise for entry in entries):
            marks.note("NOISE FROM A FIXED SEED was allowed: it protects nobody")
    return MerchantAudit(
        name=name,
        node=name,
        entries=len(entries),
        delta=delta,
        pld=_finite(pld),
        second=_finite(other.epsilon),
        rdp=_finite(epsilon_rdp(events, delta)),
        curve=curve(entries, delta),
    )


def _merchants_of_run(
    sheet: Checklist, found: Evidence, release: VerifiedRelease, run: JournaledRun | None
) -> list[MerchantAudit]:
    """Check each merchant's ledger, claim and canaries against the journal and each other."""
    journal, statement = found.journal, release.manifest.privacy
    plans = {} if journal is None else check_journal(sheet, journal)
    before = pinned(journal or (), statement)
    must_reveal = committed(before, statement)
    if canaries_demanded(release.manifest):
        must_reveal |= {one.node for one in statement.ledgers.values()}
    if run is not None:  # who is in no round of the adapter has no canary in it
        must_reveal &= run.trained
    records = read_canaries(sheet, release)
    sums = bound_of_sums(sheet, release, records)
    shown = None if sums is None else read_canary_sums(release)
    audited = []
    for name, told in statement.ledgers.items():
        entries, record = found.ledgers.get(told.node), records.get(told.node)
        demanded, other = told.node in must_reveal, None
        bound = check_bound(sheet, name, statement, record, demanded=demanded, sums=sums)
        charged = entries
        if entries and journal is not None:
            ledger = NamedLedger(name, f"{LEDGERS}/{told.node}.jsonl", told.node, entries)
            check_heads(sheet, ledger, journal)
            check_charges(sheet, ledger, journal, plans)
            reach = told.entries
            if run is not None:
                reach = check_coverage(sheet, ledger, told, run, before)
            charged = entries[:reach]
            if record is not None:
                check_commitment(
                    sheet, name, statement, record, journal=before, entries=entries, sums=shown
                )
        if charged:
            other = check_epsilon(sheet, name, statement, charged)
        audited.append(_merchant(name, statement, charged=charged, other=other, bound=bound))
    return audited


def _merchant(
    name: str,
    statement: Statement,
    *,
    bound: LowerBound | None,
    charged: tuple[Entry, ...] | None = None,
    other: SecondOpinion | None = None,
) -> MerchantAudit:
    """Return a merchant's claim beside what was computed."""
    one, ledger = statement.merchants[name], statement.ledgers[name]
    shown = MerchantAudit(
        name=name,
        node=ledger.node,
        entries=None if charged is None else len(charged),
        claimed=one.epsilon,
        delta=one.delta,
        second=None if other is None else _finite(other.epsilon),
        lower=None if bound is None else bound.epsilon,
        one_run=None if bound is None else bound.one_run,
        canaries=None if bound is None else bound.canaries,
    )
    if charged is None or one.delta is None:
        return shown
    events = spent_events(charged)
    return shown.model_copy(
        update={
            "pld": _finite(epsilon_pld(events, one.delta)),
            "rdp": _finite(epsilon_rdp(events, one.delta)),
            "curve": curve(charged, one.delta),
        }
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _report(
    kind: Kind,
    target: Path,
    sheet: Checklist,
    found: Evidence,
    merchants: list[MerchantAudit],
    *,
    authenticated: bool,
) -> Report:
    verdict: Verdict = "passed" if authenticated else "not authenticated"
    statement = found.statement
    second = second_opinion((), 0.5).accountant
    several = () if statement is None else statement.several
    told = () if statement is None else statement.not_protected
    return Report(
        kind=kind,
        target=str(target),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        verdict=verdict if sheet.sound else "failed",
        accountants={"first": f"{FIRST} {package_version('dp-accounting')}", "second": second},
        keys=_keys(found),
        dp_model="" if statement is None else statement.dp_model,
        checks=tuple(sheet.checks),
        merchants=tuple(merchants),
        several=tuple(
            Several(merchants=one.merchants, local=one.local, central=one.central)
            for one in several
        ),
        not_protected=tuple(SENTENCES[code] for code in told),
    )


def _keys(found: Evidence) -> dict[str, str]:
    """Return the keys that signatures were checked with, by what they sign."""
    keys = {}
    if found.manifest is not None:
        keys["release (operator, id)"] = found.manifest.signing_key
    if found.journal:
        keys[f"{JOURNAL} (server)"] = found.journal[0].signer
    for node, entries in found.ledgers.items():
        if entries:
            keys[f"{LEDGERS}/{node} (merchant)"] = entries[0].signer
    return keys
