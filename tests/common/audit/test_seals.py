"""Canaries belong to the updates that they were noised with: what was sealed is what is shown."""

from dataclasses import replace

import numpy as np
import pytest

from common.audit.audits import audit_run
from common.audit.layout import CONTRIBUTIONS, JOURNAL
from common.federation.contribution_files import read_round
from common.privacy.ledger.contributions import Contribution, contributions_file, vector_digest
from common.privacy.mechanism.canaries import CanaryRecord, pack_records, unpack_records
from common.release.manifest import CONTRIBUTIONS_FILE
from server.releases.publish import audited_bound
from tests.common.audit.test_contributions import change_vectors
from tests.support.forging import by_name
from tests.support.frauds import CANARIES, is_round

SEALED = "Canaries: each update was sealed"


def show(forger, node, record):
    """Show other canaries of one merchant, with the bounds that they come to."""
    records = unpack_records((forger.folder / CANARIES).read_bytes()) | {node: record}
    plan = forger.manifest.privacy.privacy_plan

    def change(document):
        told = document["privacy"]
        for name, one in told["merchants"].items():
            if told["ledgers"][name]["node"] == node:
                one["audit"] = audited_bound(record, plan.delta).model_dump()

    forger.release(change, **{"canaries.safetensors": pack_records(records.values())})


def commit(forger, node, record):
    """Put the commitment to other canaries in the place of the one on the journal."""

    def change(entries):
        return [
            replace(one, commitment=record.commitment)
            if one.kind == "canaries" and one.participants == (node,)
            else one
            for one in entries
        ]

    forger.journal(change)


def resigned(forger, node, number, **changes):
    """Sign one merchant's contribution of a round anew, by its own key."""
    key = forger.node_key(node)

    def told(text):
        one = Contribution.from_json(text)
        if one.merchant != node:
            return text
        other = replace(one, **changes)
        return other.signed(key.sign(other.message())).to_json()

    forger.journal(
        lambda entries: [
            replace(one, contributions=tuple(map(told, one.contributions)))
            if is_round(number)(one)
            else one
            for one in entries
        ]
    )


def faults(forger):
    """What the check of seals finds, in words."""
    (check,) = by_name(audit_run(forger.folder, forger.key), SEALED)
    assert {one.field for one in check.findings} <= {"seal"}
    return [one.message for one in check.findings]


def one_fault(forger):
    found = faults(forger)
    assert len(found) == 1
    return found[0]


def genuine(forger):
    node = forger.nodes[0]
    return node, unpack_records((forger.folder / CANARIES).read_bytes())[node]


def test_an_honest_run_seals_every_update(forger):
    (check,) = by_name(audit_run(forger.folder, forger.key), SEALED)
    assert (check.status, check.detail) == ("passed", "6 updates sealed")


def test_invented_canaries_are_named_by_merchant_and_round(forger):
    """New noise in every step, as strong as was claimed: nothing else in the record is wrong."""
    node, record = genuine(forger)
    rng = np.random.default_rng(0)
    sigma = forger.manifest.privacy.privacy_plan.noise_multiplier
    invented = rng.normal(0, sigma, record.canaries.shape).astype(np.float32)
    show(forger, node, replace(record, canaries=invented))
    found = faults(forger)
    assert len(found) == 4  # each of three rounds, and that nothing at all was sealed with them
    assert all(f"{node!r}, round {number}: " in found[number - 1] for number in (1, 2, 3))
    assert all("not those that were sealed" in one for one in found[:3])


def test_one_step_that_was_changed_is_found_in_its_round_alone(forger):
    node, record = genuine(forger)
    canaries = record.canaries.copy()
    canaries[1] *= np.float32(1.01)
    show(forger, node, replace(record, canaries=canaries))
    found = one_fault(forger)
    assert f"{node!r}, round 2: " in found


def test_canaries_of_another_run_belong_to_other_updates(forger):
    """Genuine ones, bound to that run's updates, under this run's number and on its journal."""
    node, record = genuine(forger)
    other = CanaryRecord.from_bytes(replace(record, nonce="ab" * 32).to_bytes())
    for place in range(len(other.rounds)):
        held = other.updates.copy()
        held[place] = np.random.default_rng(place).integers(0, 256, 32)
        other = replace(other, updates=held)
    show(forger, node, other)
    commit(forger, node, other)
    found = faults(forger)
    assert len(found) == 4
    assert all("bound to other updates" in one for one in found[:3])


def test_an_update_without_noise_cannot_stand_under_the_private_runs_papers(forger):
    """The merchant signs another vector with the old seal; the canaries are the genuine ones."""
    node, _ = genuine(forger)
    change_vectors(forger, 2, lambda held: {**held, node: held[node] * np.float32(0.01)})
    bare = read_round(forger.folder / CONTRIBUTIONS, 2)[node]
    resigned(forger, node, 2, digest=vector_digest(bare))
    found = one_fault(forger)
    assert f"{node!r}, round 2: the canaries shown are bound to other updates" in found


@pytest.mark.parametrize("seal", ["", "ab" * 32])
def test_no_seal_and_another_seal_are_found(forger, seal):
    node, _ = genuine(forger)
    resigned(forger, node, 3, seal=seal)
    found = one_fault(forger)
    assert ("no canaries were sealed" in found) == (seal == "")
    assert f"{node!r}, round 3: " in found


def test_the_operator_alone_cannot_change_a_seal(forger):
    """Without the merchant's key its signature is over another one."""
    node, _ = genuine(forger)

    def told(text):
        one = Contribution.from_json(text)
        return replace(one, seal="").to_json() if one.merchant == node else text

    forger.journal(
        lambda entries: [
            replace(one, contributions=tuple(map(told, one.contributions))) for one in entries
        ]
    )
    journal, manifest = forger.journal_entries(), forger.manifest
    listed = contributions_file(
        journal,
        manifest.adapter.digest,
        manifest.privacy.privacy_plan.digest,
        manifest.privacy.run_ids,
    )
    forger.release(**{CONTRIBUTIONS_FILE: listed})
    report = audit_run(forger.folder, forger.key)
    wrong = [(one.file, one.field) for check in report.checks for one in check.findings]
    assert (JOURNAL, "contributions.signature") in wrong


def test_canaries_that_were_sealed_must_be_shown(forger):
    """Even where the settings are made to say that nobody asked for them."""
    forger.no_canaries(audit_canaries=0)
    found = faults(forger)
    assert len(found) == 6
    assert all("are not shown" in one for one in found)
