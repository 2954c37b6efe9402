"""What an auditor of a simulated run is given: journal, ledgers and contributions, as files."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from client.node.settings import merchant_folders
from client.privacy.budget import LEDGER_FILE, open_ledger
from common.audit.layout import CONTRIBUTIONS, JOURNAL, LEDGERS, PARENT
from common.files import write_atomic
from common.privacy.ledger.export import export_ledger
from common.privacy.ledger.journal import JournalEntry, read_journal
from common.release.statement import LedgerRecord
from common.release.statement_draft import ledger_record
from simulations.data.shop import Shop
from simulations.federation.comparisons import MERCHANTS
from simulations.federation.runner import FinishedRun


@dataclass(frozen=True)
class Evidence:
    """What was exported.

    Attributes:
        ledgers: Where the ledger of each merchant that took part stands, by name.
        journal: The server's, read and checked.
    """

    ledgers: dict[str, LedgerRecord]
    journal: tuple[JournalEntry, ...]


def export_evidence(folder: Path, run: FinishedRun, shops: Sequence[Shop]) -> Evidence:
    """Copy the run's journal and contributions, and write each ledger as text, beside the release.

    Of a refresh the release that it keeps the adapter of is copied too.

    Raises:
        LedgerError, JournalError: if one of them cannot be read or trusted.
    """
    shutil.rmtree(folder / LEDGERS, ignore_errors=True)
    ledgers = {}
    merchants = run.federation or folder / MERCHANTS
    for shop, place in zip(shops, merchant_folders(merchants), strict=True):
        path = place / "node" / LEDGER_FILE
        ledger = open_ledger(path, place.name)
        entries = ledger.entries()
        # A merchant that never took part has spent nothing, and nothing is said of it.
        if any(entry.event is not None for entry in entries):
            write_atomic(folder / LEDGERS / f"{place.name}.jsonl", export_ledger(path))
            ledgers[shop.name] = ledger_record(place.name, ledger.signer, entries)
    shutil.rmtree(folder / CONTRIBUTIONS, ignore_errors=True)
    if run.contributions is not None:
        shutil.copytree(run.contributions, folder / CONTRIBUTIONS)
    shutil.rmtree(folder / PARENT, ignore_errors=True)
    if run.parent is not None:
        shutil.copytree(run.parent, folder / PARENT)
    content = b"" if run.journal is None else run.journal.read_bytes()
    write_atomic(folder / JOURNAL, content)
    return Evidence(ledgers, read_journal(content))
