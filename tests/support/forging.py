"""A finished run's exported files, and what somebody who holds all the keys could make of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from common.audit.layout import CONTRIBUTIONS, JOURNAL, LEDGERS, PARENT, PUBLIC_KEY, RELEASE
from common.identity.signing_key import SigningKey
from common.privacy.accounting.accountants import epsilon_pld, epsilon_prv, epsilon_rdp
from common.privacy.accounting.claim import epsilon_claimed
from common.privacy.ledger.canonical_json import write_line
from common.privacy.ledger.entry import GENESIS, spent_events
from common.privacy.ledger.export import read_ledger
from common.privacy.ledger.heads import Head, Receipt
from common.privacy.ledger.journal import read_journal
from common.privacy.ledger.signing_key import load_key
from common.release.build import build_release
from common.release.manifest import CANARIES_FILE, STATEMENT_FILE, Claims, parse_manifest
from common.release.statement_draft import journal_record, ledger_cost, ledger_record, run_cost
from common.release.statement_page import statement_page

ACCOUNTANTS = {"pld": epsilon_pld, "prv": epsilon_prv, "rdp": epsilon_rdp}
EXPORTED = (RELEASE, PUBLIC_KEY, JOURNAL, LEDGERS, CONTRIBUTIONS)


def export(simulated, to):
    """Copy what an auditor is given into a folder of its own."""
    to.mkdir(parents=True)
    for name in (*EXPORTED, *([PARENT] if (simulated / PARENT).exists() else [])):
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

    def ledger_file(self, node):
        return self.folder / LEDGERS / f"{node}.jsonl"

    def entries(self, node):
        return list(read_ledger(self.ledger_file(node).read_bytes()))

    def journal_entries(self):
        return list(read_journal((self.folder / JOURNAL).read_bytes()))

    def release(self, change=lambda document: None, *, page=None, key=None, **files):
        """Change the manifest's document, a file of the release or its page; sign it anew.

        A file that is None is taken out.
        """
        place, manifest = self.folder / RELEASE, self.manifest
        document = {
            name: value
            for name, value in json.loads(manifest.to_bytes()).items()
            if name in Claims.model_fields
        }
        change(document)
        claims = Claims.model_validate_json(json.dumps(document))
        content = {name: (place / name).read_bytes() for name in manifest.files} | files
        content = {name: one for name, one in content.items() if one is not None}
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

    @property
    def journal_key(self):
        return SigningKey.load(self.simulated / "checkpoints" / "federated" / "journal.key")

    def node_key(self, node):
        return load_key(
            self.simulated / "merchants" / node / "node" / "ledger.sqlite", create=False
        )

    def retell(self, nodes):
        """Sign the heads on the journal anew as their ledgers are now, of nodes whose key is held.

        Each follows the one before it, as an honest node's does.
        """
        held = {node: (self.entries(node), self.node_key(node)) for node in nodes}

        def told(entries):
            last = {}
            for entry in entries:
                receipts = []
                for genuine in entry.read_receipts():
                    receipt, node = genuine, genuine.head.merchant
                    if node in held:
                        head = _head(entry, *held[node], last.get(node, ""))
                        receipt = Receipt.give(head, self.journal_key)
                    last[node] = receipt.head.hash
                    receipts.append(receipt.to_json())
                yield replace(entry, receipts=tuple(receipts))

        self.journal(lambda entries: list(told(entries)))

    def claim(self, entries=None):
        """Claim of each merchant what its exported ledger comes to, or so many entries of it.

        No reader takes a claim that its own canaries disprove, so nothing below their proof is
        claimed: how low that is differs from draw to draw.
        """
        plan = self.manifest.privacy.privacy_plan
        delta = plan.delta
        merchants, ledgers = {}, {}
        for name, one in self.manifest.privacy.ledgers.items():
            held = self.entries(one.node)[:entries]
            ledgers[name] = ledger_record(one.node, held[-1].signer, held).model_dump()
            events = spent_events(held)
            told = {kind: count(events, delta) for kind, count in ACCOUNTANTS.items()}
            audit = self.manifest.privacy.merchants[name].audit
            least = 0.0 if audit is None else audit.blocking
            claimed = epsilon_claimed(plan.events(), events, delta)
            merchants[name] = {
                "epsilon": max(claimed, least),
                "accountants": told,
                "ledger": ledger_cost(events, delta).model_dump(),
            }
        self.statement(
            run=run_cost(plan).model_dump(),
            ledgers=ledgers,
            merchants=lambda before: {
                name: {**before[name], **one} for name, one in merchants.items()
            },
        )

    def no_canaries(self, **settings):
        """Leave all canaries out, and say other settings."""

        def change(document):
            document["adapter"]["settings"] |= settings
            for one in document["privacy"]["merchants"].values():
                one["audit"] = None

        self.release(change, **{CANARIES_FILE: None})

    def journal(self, change):
        """Change the list of entries; number, chain and sign them anew, and name them."""
        path, key = self.folder / JOURNAL, self.journal_key
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
        path, key = self.ledger_file(node), self.node_key(node)
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


def _head(entry, ledger, key, covers):
    """The head of a ledger as it stood after a round of the journal."""
    same = [one.number for one in ledger if (one.kind, one.round_number) == _round(entry)]
    held = ledger[: same[0] if same else len(ledger)]
    head = Head(
        merchant=held[-1].merchant,
        number=len(held),
        hash=held[-1].hash,
        signer=held[-1].signer,
        spent=spent_events(held),
        covers=covers,
    )
    return head.signed(key.sign(head.message()))


def _round(entry):
    return entry.kind, entry.round_number


def found(report):
    """Each finding's file, entry and field."""
    return [(one.file, one.entry, one.field) for check in report.checks for one in check.findings]


def named(report, file, field):
    return any((one[0], one[2]) == (file, field) for one in found(report))


def by_name(report, start):
    return [check for check in report.checks if check.name.startswith(start)]
