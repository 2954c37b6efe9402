"""What a forger does to an exported run, with the keys it holds: the means of the forgery suite."""

import shutil
from dataclasses import replace

import numpy as np

from common.adapter import AdapterState
from common.audit.layout import RELEASE
from common.privacy.mechanism.canaries import pack_records, unpack_records
from common.release.manifest import ADAPTER_FILE, CANARIES_FILE
from server.releases.publish import audited_bound

CANARIES = f"{RELEASE}/{CANARIES_FILE}"
OPERATOR, ONE, ALL = (), ("first",), ("first", "second")  # whose keys, beside the operator's


def is_round(*numbers):
    return lambda one: one.kind == "train" and one.round_number in numbers


def is_histogram(one):
    return one.kind == "popularity"


def drop(gone):
    return lambda entries: [one for one in entries if not gone(one)]


def fraud(forger, keys, *, journal=None, ledger=None, entries=None):
    """Change journal and ledgers, as far as the keys go, and make all the rest fit."""
    nodes = [forger.nodes[ALL.index(one)] for one in keys]
    if ledger is not None:
        for node in nodes:
            forger.ledger(node, ledger)
    if journal is not None:
        forger.journal(journal)
    if nodes:
        forger.retell(nodes)
    forger.claim(entries)


def named_early(count, *, without_canaries=False):
    """Name an early, genuine entry of each ledger, and claim what lies before it."""

    def forge(forger, keys):
        if without_canaries:
            forger.no_canaries(audit_canaries=0)
        fraud(forger, keys, entries=count)

    return forge


def journal_of(change):
    return lambda forger, keys: fraud(forger, keys, journal=change)


def ledgers_of(change):
    return lambda forger, keys: fraud(forger, keys, ledger=change)


def everywhere(gone, *rounds):
    """Take entries out of journal and ledgers, and steps of these rounds out of the canaries."""

    def forge(forger, keys):
        fraud(forger, keys, journal=drop(gone), ledger=drop(gone))
        if rounds:
            blind(forger, rounds)

    return forge


def blind(forger, rounds):
    """Show canaries that did not watch some rounds, and the bounds that they come to."""
    records = unpack_records((forger.folder / CANARIES).read_bytes())
    for node, one in records.items():
        kept = ~np.isin(one.rounds, rounds)
        records[node] = replace(
            one, rounds=one.rounds[kept], canaries=one.canaries[kept], updates=one.updates[kept]
        )
    delta = forger.manifest.privacy.privacy_plan.delta

    def change(document):
        told = document["privacy"]
        for name, one in told["merchants"].items():
            record = records[told["ledgers"][name]["node"]]
            one["audit"] = audited_bound(record, delta).model_dump()

    forger.release(change, **{CANARIES_FILE: pack_records(records.values())})


def changed(which, **fields):
    """Change fields of some entries; a callable is given the entry."""

    def change(entries):
        return [replace(one, **fields_of(one)) if which(one) else one for one in entries]

    def fields_of(one):
        return {name: value(one) if callable(value) else value for name, value in fields.items()}

    return change


def doubled(entries):
    return [one for entry in entries for one in ([entry] * (2 if is_round(2)(entry) else 1))]


def swapped(entries):
    first, second = (next(one for one in entries if is_round(n)(one)) for n in (1, 2))
    order = {first.number: second, second.number: first}
    return [order.get(one.number, one) for one in entries]


def histogram_last(entries):
    return [*drop(is_histogram)(entries), *(one for one in entries if is_histogram(one))]


def stale_heads(entries):
    """Show the heads of round 1 again with every later round."""
    early = next(one.receipts for one in entries if is_round(1)(one))
    return changed(is_round(2, 3), receipts=early)(entries)


def cut_ledgers(forger, keys):
    """Hand over ledgers cut after round 1, and the heads of then with each later round."""
    for node in forger.nodes:
        path = forger.ledger_file(node)
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    fraud(forger, keys, journal=stale_heads)


def emptied(forger, keys):
    fraud(forger, keys)
    forger.ledger_file(forger.nodes[0]).write_bytes(b"")


def exchanged(forger, keys):
    fraud(forger, keys)
    first, second = (forger.ledger_file(node) for node in forger.nodes)
    held = first.read_bytes()
    shutil.copy(second, first)
    second.write_bytes(held)


def no_ledger(forger, keys):
    fraud(forger, keys)
    forger.ledger_file(forger.nodes[0]).unlink()


def less_of(merchants):
    """Take canaries of so many merchants out of the release and out of the statement."""

    def forge(forger, keys):
        records = unpack_records((forger.folder / CANARIES).read_bytes())
        nodes = forger.nodes[:merchants]
        kept = [one for node, one in records.items() if node not in nodes]
        gone = {name for name, one in forger.manifest.privacy.ledgers.items() if one.node in nodes}

        def change(document):
            for name in gone:
                document["privacy"]["merchants"][name]["audit"] = None

        forger.release(change, **{CANARIES_FILE: pack_records(kept) if kept else None})

    return forge


def without_merchant(everywhere_but):
    """Leave the first merchant out of the statement, and of all rounds but some."""

    def forge(forger, keys):
        less_of(1)(forger, keys)
        node = forger.nodes[0]
        name = next(n for n, one in forger.manifest.privacy.ledgers.items() if one.node == node)

        def absent(entry):
            if everywhere_but(entry) or entry.kind == "run":
                return [entry]
            others = tuple(one for one in entry.participants if one != node)
            receipts = tuple(
                one.to_json() for one in entry.read_receipts() if one.head.merchant != node
            )
            left = replace(entry, participants=others, receipts=receipts)
            return [left] if others else []

        forger.journal(lambda entries: [one for entry in entries for one in absent(entry)])
        forger.statement(
            merchants=lambda held: {one: held[one] for one in held if one != name},
            ledgers=lambda held: {one: held[one] for one in held if one != name},
        )
        forger.ledger_file(node).unlink()

    return forge


def of_plan(**fields):
    """Say that the run had another plan, in the statement alone."""

    def forge(forger, keys):
        def change(document):
            told = document["privacy"]
            told["plan"] |= fields
            for one in told["merchants"].values():
                one |= {name: told["plan"][name] for name in ("steps", "noise_multiplier")}

        forger.release(change)
        fraud(forger, keys)

    return forge


def of_plan_on_journal(**fields):
    """Say so on the journal too."""

    def forge(forger, keys):
        old = forger.manifest.privacy.privacy_plan
        new = replace(old, **fields)
        forger.journal(
            changed(lambda one: one.kind == "run", plan=new.to_json(), plan_digest=new.digest)
        )
        forger.journal(changed(lambda one: True, plan_digest=new.digest))
        of_plan(**fields)(forger, keys)

    return forge


def shorter(forger, keys):
    """Release what the last but one round came to, as if it were the end."""
    middle = next(one.adapter for one in forger.journal_entries() if is_round(2)(one))
    forger.release(lambda document: document["adapter"].update(digest=middle))
    fraud(forger, keys)


def other_adapter(forger, keys):
    """Release an adapter that no round came to, under its right digest."""
    held = AdapterState.from_bytes((forger.folder / RELEASE / ADAPTER_FILE).read_bytes())
    nudged = held.with_vector(held.flatten() + 1)
    only_b = {name: one for name, one in nudged.tensors.items() if ".lora_B." in name}
    digest = AdapterState(only_b).digest
    forger.release(
        lambda document: document["adapter"].update(digest=digest),
        **{ADAPTER_FILE: nudged.to_bytes()},
    )
    fraud(forger, keys)


def another_run(forger, keys):
    forger.statement(run_ids=["2"])
    fraud(forger, keys)


def canaries_of_another_run(forger, keys):
    records = unpack_records((forger.folder / CANARIES).read_bytes())
    node = forger.nodes[0]
    records[node] = replace(records[node], run_id="2")
    forger.release(**{CANARIES_FILE: pack_records(records.values())})
    fraud(forger, keys)


def recovered_for_nothing(entries):
    """A recovery without cost, in the place of every charge but the histogram's."""
    free = replace(
        entries[1],
        kind="recovery",
        run_id="",
        steps=0,
        sample_rate=1.0,
        noise_multiplier=0.0,
        plan_digest="",
        dp_model="",
        recovers="ab" * 32,
    )
    return [*entries[:2], free]


def one_round_called_the_first(forger, keys):
    """Of three rounds keep the last, and call it the first and only one."""
    fraud(forger, keys, journal=drop(is_round(1, 2)), ledger=drop(is_round(1, 2)))
    first = changed(is_round(3), round_number=1)
    fraud(forger, keys, journal=first, ledger=first)


def rounds_of_others(entries):
    return changed(is_round(2), run_id="2")(entries)


def unattended(forger, keys):
    """Say that nobody took part in the second round, and charge nobody."""
    nobody = changed(is_round(2), participants=(), receipts=())
    fraud(forger, keys, journal=nobody, ledger=drop(is_round(2)))


def early_of_one(forger, keys):
    """Name an early entry of one ledger alone, the dearer one's."""
    name, one = next(iter(forger.manifest.privacy.ledgers.items()))
    held = forger.entries(one.node)[:3]
    told = {"node": one.node, "entries": 3, "hash": held[-1].hash, "signer": one.signer}
    forger.statement(ledgers=lambda ledgers: {**ledgers, name: told})


def larger_delta(forger, keys):
    """State every epsilon at a delta that makes it small."""

    def change(document):
        told = document["privacy"]
        for one in (told["plan"], *told["merchants"].values()):
            one["delta"] = 0.05

    forger.release(change)
    fraud(forger, keys)
