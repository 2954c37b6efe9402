"""The operator's view of a journal: rounds, who took part, heads, bytes, time and releases.

All of it is what the server knows anyway: plans, signed ledger heads, sizes and times. No number
of a shopper is on a server.
"""

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from common.errors import InputError
from common.privacy.accounting.accountants import epsilon_rdp
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.journal import JournalEntry, read_journal
from common.release.manifest import MANIFEST_FILE, Manifest
from server.operations.experiment import RunFolder
from server.operations.folder import ServerFolder
from server.run.checkpoint import RoundRecord, read_history
from server.run.files import JOURNAL_FILE


@dataclass(frozen=True)
class RoundView:
    """One finished round. What the journal alone does not know is None.

    Attributes:
        round_number: Counted from 1.
        time: When the journal closed it, UTC.
        merchants: Whose update was used.
        failures: How many that were asked gave none.
        seconds: Wall time.
        bytes_down: Sent to nodes.
        bytes_up: Received from them.
        epsilon: Spent by a merchant in all rounds so far, by PLD.
    """

    round_number: int
    time: str
    merchants: tuple[str, ...]
    failures: int | None
    seconds: float | None
    bytes_down: int | None
    bytes_up: int | None
    epsilon: float | None


@dataclass(frozen=True)
class RunView:
    """One run, over all its starts.

    Attributes:
        name: Its folder's, or `plan …` where the journal is all there is.
        plan: What a round costs, in words.
        started: How often it was started.
        planned: How many rounds it has.
        rounds: Those that are done.
        unfinished: Rounds that were charged for and came to nothing, by number.
        release: The version that came of it; empty where there is none.
    """

    name: str
    plan: str
    started: int
    planned: int
    rounds: tuple[RoundView, ...]
    unfinished: tuple[int, ...]
    release: str


@dataclass(frozen=True)
class MerchantView:
    """A merchant by the last head of its ledger: what all runs, also elsewhere, have cost it.

    Attributes:
        name: The merchant's.
        rounds: In how many closed rounds its update was used.
        entries: On the ledger.
        steps: Noised steps on the ledger.
        epsilon: Of all of them, by Rényi; what ledgers gate on.
        delta: For that epsilon.
        head: Hash of the last entry.
        key: The ledger's public key.
        time: When the head was countersigned, UTC.
    """

    name: str
    rounds: int
    entries: int
    steps: int
    epsilon: float
    delta: float
    head: str
    key: str
    time: str


@dataclass(frozen=True)
class RefusalView:
    """A node whose ledger was not accepted."""

    time: str
    merchant: str
    reason: str


@dataclass(frozen=True)
class ReleaseView:
    """A release in the folder of releases; its signature is for readers to check."""

    version: str
    created: str
    merchants: tuple[str, ...]


@dataclass(frozen=True)
class JournalView:
    """All of it, checked: a journal that was altered is an error.

    Attributes:
        signer: The journal's public key, hex.
        entries: How many it has.
        runs: In the order of their first start.
        merchants: By name.
        refusals: The latest last.
        releases: The latest last.
    """

    signer: str
    entries: int
    runs: tuple[RunView, ...]
    merchants: tuple[MerchantView, ...]
    refusals: tuple[RefusalView, ...]
    releases: tuple[ReleaseView, ...]

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=2)


def read_view(folder: Path) -> JournalView:
    """Read the journal of a server's folder, or of one run's, and what lies beside it.

    Raises:
        InputError: if there is no journal, or a checkpoint or release cannot be read.
        JournalError: if the journal was altered.
    """
    server = ServerFolder(folder)
    path, runs = server.journal, sorted(one for one in server.runs.glob("*") if one.is_dir())
    if not path.exists():
        path, runs = folder / JOURNAL_FILE, [folder]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{folder} has no journal; name a server's folder or a run's.", field="journal"
        ) from error
    entries = read_journal(content[: content.rfind(b"\n") + 1])  # the last may be half there
    return JournalView(
        signer=entries[0].signer if entries else "",
        entries=len(entries),
        runs=tuple(_runs(entries, runs)),
        merchants=tuple(_merchants(entries)),
        refusals=tuple(
            RefusalView(_at(one), ", ".join(one.participants), one.reason)
            for one in entries
            if one.kind == "refusal"
        ),
        releases=tuple(_releases(server.releases)),
    )


def _at(entry: JournalEntry) -> str:
    return datetime.fromtimestamp(entry.time, UTC).isoformat(timespec="seconds")


def _runs(entries: tuple[JournalEntry, ...], folders: list[Path]) -> list[RunView]:
    """Return the runs: those that have a folder by their folder's name, others by their plan."""
    folder_of = {run_id: one for one in folders for run_id in RunFolder(one).run_ids}
    alone = folders[0] if len(folders) == 1 and not folder_of else None
    grouped: dict[tuple[Path | None, str], list[JournalEntry]] = defaultdict(list)
    for entry in entries:
        grouped[folder_of.get(entry.run_id, alone), entry.plan_digest].append(entry)
    return [_run(folder, group) for (folder, _), group in grouped.items()]


def _run(folder: Path | None, entries: list[JournalEntry]) -> RunView:
    plan = PrivacyPlan.from_json(next(one.plan for one in entries if one.kind == "run"))
    history = () if folder is None else read_history(folder)
    records = {record.round_number: record for record in history}
    last = {one.round_number: one for one in entries if one.kind == "train"}
    done = {
        number: entry
        for number, entry in last.items()
        if (number in records if records else entry.adapter)
    }
    return RunView(
        name=f"plan {plan.digest[:12]}" if folder is None else folder.resolve().name,
        plan=f"a season, noise {plan.season_noise_multiplier:.3g} ({plan.dp_model}), "
        f"delta {plan.delta:.0e}"
        if not plan.trains
        else (
            f"noise {plan.noise_multiplier:.3g} times {plan.max_grad_norm:g} ({plan.dp_model}), "
            f"{plan.steps_per_round} step(s) a round, rate {plan.sample_rate:g}, "
            f"delta {plan.delta:.0e}"
        ),
        started=sum(one.kind == "run" for one in entries),
        planned=plan.rounds,
        rounds=tuple(_round(done[number], records.get(number)) for number in sorted(done)),
        unfinished=tuple(sorted(last.keys() - done.keys())),
        release="" if folder is None else RunFolder(folder).released,
    )


def _round(entry: JournalEntry, record: RoundRecord | None) -> RoundView:
    return RoundView(
        round_number=entry.round_number,
        time=_at(entry),
        merchants=entry.participants,
        failures=None if record is None else record.failures,
        seconds=None if record is None else record.seconds,
        bytes_down=None if record is None else record.bytes_down,
        bytes_up=None if record is None else record.bytes_up,
        epsilon=None if record is None else record.epsilon,
    )


def _merchants(entries: tuple[JournalEntry, ...]) -> list[MerchantView]:
    rounds = Counter(
        name for entry in entries if entry.kind == "train" for name in entry.participants
    )
    plans = [PrivacyPlan.from_json(entry.plan) for entry in entries if entry.plan]
    last = {
        receipt.head.merchant: (entry, receipt.head)
        for entry in entries
        for receipt in entry.read_receipts()
    }
    return [
        MerchantView(
            name=name,
            rounds=rounds[name],
            entries=head.number,
            steps=sum(event.count for event in head.spent),
            epsilon=epsilon_rdp(head.spent, plans[-1].delta),
            delta=plans[-1].delta,
            head=head.hash,
            key=head.signer,
            time=_at(entry),
        )
        for name, (entry, head) in sorted(last.items())
    ]


def _releases(folder: Path) -> list[ReleaseView]:
    read = []
    for path in sorted(folder.glob(f"*/{MANIFEST_FILE}")):
        try:
            manifest = Manifest.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InputError(
                f"The release in {path.parent.name} cannot be read.", field="release"
            ) from error
        names = tuple(sorted(manifest.privacy.merchants))
        read.append(ReleaseView(manifest.version, manifest.created, names))
    return sorted(read, key=lambda one: one.created)
