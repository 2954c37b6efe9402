"""A finished run's exported files, and what somebody who holds all the keys could make of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from common.audit.layout import JOURNAL, LEDGERS, PUBLIC_KEY, RELEASE
from common.identity.signing_key import SigningKey
from common.privacy.ledger.canonical_json import write_line
from common.privacy.ledger.entry import GENESIS
from common.privacy.ledger.export import read_ledger
from common.privacy.ledger.journal import read_journal
from common.privacy.ledger.signing_key import load_key
from common.release.build import build_release
from common.release.manifest import STATEMENT_FILE, Claims, parse_manifest
from common.release.statement_draft import journal_record, ledger_record
from common.release.statement_page import statement_page

EXPORTED = (RELEASE, PUBLIC_KEY, JOURNAL, LEDGERS)


def export(simulated, to):
    """Copy what an auditor is given into a folder of its own."""
    to.mkdir(parents=True)
    for name in EXPORTED:
        here = simulated / name
        (shutil.copytree if here.is_dir() else shutil.copy)(here, to / name)
    return to


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


class Forger:
    """Changes exported files and signs them anew, as their owners could."""

    def __init__(self, simulated: Path, folder: Path):
        self.simulated, self.folder = simulated, folder
        self.key = simulated / PUBLIC_KEY  # as an auditor has it, on another way

    @property
    def manifest(self):
        return parse_manifest((self.folder / RELEASE / "manifest.json").read_bytes())

    @property
    def nodes(self):
        return [path.stem for path in sorted((self.folder / LEDGERS).glob("*.jsonl"))]

    def release(self, change=lambda document: None, *, page=None, key=None, **files):
        """Change the manifest's document, a file of the release or its page; sign it anew."""
        place, manifest = self.folder / RELEASE, self.manifest
        document = {
            name: value
            for name, value in json.loads(manifest.to_bytes()).items()
            if name in Claims.model_fields
        }
        change(document)
        claims = Claims.model_validate_json(json.dumps(document))
        content = {name: (place / name).read_bytes() for name in manifest.files} | files
        content[STATEMENT_FILE] = page or statement_page(claims.privacy).encode()
        key = key or SigningKey.load(self.simulated / "operator.key")
        build_release(place, content, claims, key, replace=True)

    def statement(self, **changes):
        """Change fields of the statement; a callable is given the field as it was."""

        def change(document):
            for name, value in changes.items():
                held = document["privacy"]
                held[name] = value(held[name]) if callable(value) else value

        self.release(change)

    def journal(self, change):
        """Change the list of entries; number, chain and sign them anew, and name them."""
        path = self.folder / JOURNAL
        key = SigningKey.load(self.simulated / "checkpoints" / "federated" / "journal.key")
        lines, entries, prior = [], [], GENESIS
        for number, one in enumerate(change(list(read_journal(path.read_bytes()))), 1):
            entry = replace(one, number=number, prior=prior)
            signature = key.sign(bytes.fromhex(entry.hash)).hex()
            lines.append(write_line((entry.body(), entry.hash, signature)))
            entries.append(entry)
            prior = entry.hash
        path.write_bytes(b"".join(lines))
        self.statement(journal=journal_record(entries).model_dump())

    def ledger(self, node, change):
        """The same for a merchant's ledger."""
        path = self.folder / LEDGERS / f"{node}.jsonl"
        key = load_key(self.simulated / "merchants" / node / "node" / "ledger.sqlite", create=False)
        lines, entries, prior = [], [], GENESIS
        for number, one in enumerate(change(list(read_ledger(path.read_bytes()))), 1):
            entry = replace(one, number=number, prior=prior)
            signature = key.sign(bytes.fromhex(entry.hash)).hex()
            lines.append(write_line((entry.body(), entry.hash, signature)))
            entries.append(entry)
            prior = entry.hash
        path.write_bytes(b"".join(lines))
        signer = key.public_key().public_bytes_raw().hex()
        told = ledger_record(node, signer, entries).model_dump()
        self.statement(
            ledgers=lambda held: {
                name: told if one["node"] == node else one for name, one in held.items()
            }
        )


def found(report):
    """Each finding's file, entry and field."""
    return [(one.file, one.entry, one.field) for check in report.checks for one in check.findings]


def named(report, file, field):
    return any((one[0], one[2]) == (file, field) for one in found(report))


def by_name(report, start):
    return [check for check in report.checks if check.name.startswith(start)]
