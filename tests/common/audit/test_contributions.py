"""An adapter is what the signed contributions come to, to the bit, or the audit names what is not.

The operator holds the keys of release and journal and signs all of it anew; where merchants work
with it, theirs too.
"""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from client.node.settings import merchant_folders
from client.privacy.policy import POLICY_FILE
from common.adapter import AdapterState
from common.audit.audits import audit_release, audit_run
from common.audit.layout import CONTRIBUTIONS, JOURNAL, PUBLIC_KEY, RELEASE
from common.federation.contribution_files import read_round, write_round
from common.privacy.ledger.contributions import (
    Contribution,
    contributions_file,
    read_contributions,
    vector_digest,
)
from common.privacy.ledger.journal import read_journal
from common.privacy.ledger.signing_key import load_key
from common.release.manifest import ADAPTER_FILE, CONTRIBUTIONS_FILE, MANIFEST_FILE
from common.settings.run import RunSettings
from simulations.federation.folders import policy_text
from simulations.federation.runner import run_federation
from tests.support.forging import by_name, found, named
from tests.support.frauds import CANARIES

MANIFEST = f"{RELEASE}/{MANIFEST_FILE}"
LISTED = f"{RELEASE}/{CONTRIBUTIONS_FILE}"
ROUND_2 = f"{CONTRIBUTIONS}/round-00002.safetensors"
HISTOGRAM = f"{CONTRIBUTIONS}/popularity.safetensors"
REBUILT = "Adapter: made again"


def entries_of(forger):
    return read_journal((forger.folder / JOURNAL).read_bytes())


def last_number(forger):
    return max(one.number for one in entries_of(forger) if one.kind == "train")


def relist(forger, adapter=None):
    """Put the list that the journal has into the release, as its writer does."""
    manifest = forger.manifest
    digest = adapter or manifest.adapter.digest
    plan, runs = manifest.privacy.privacy_plan, manifest.privacy.run_ids
    listed = contributions_file(entries_of(forger), digest, plan.digest, runs)
    forger.release(**{CONTRIBUTIONS_FILE: listed})


def publish_adapter(forger, vector):
    """Release another B under the run's papers: its file, its digest and the journal's last round.

    Returns the entry of the journal that says so.
    """
    place = forger.folder / RELEASE
    tensors = load((place / ADAPTER_FILE).read_bytes())
    trained = AdapterState({name: one for name, one in tensors.items() if ".lora_B." in name})
    other = trained.with_vector(vector(trained.flatten().astype(np.float64)))

    def change(document):
        document["adapter"]["digest"] = other.digest

    number = last_number(forger)
    forger.release(change, **{ADAPTER_FILE: save(tensors | dict(other.tensors))})
    forger.journal(
        lambda held: [
            replace(one, adapter=other.digest) if one.number == number else one for one in held
        ]
    )
    relist(forger)
    return number


def change_round(forger, number, change):
    """Change the journal's entry of a round of training; 0 is the histogram."""
    kind = "train" if number else "popularity"

    def changed(held):
        return [
            change(one) if (one.kind, one.round_number) == (kind, number) else one for one in held
        ]

    forger.journal(changed)
    relist(forger)
    return next(
        one.number for one in entries_of(forger) if (one.kind, one.round_number) == (kind, number)
    )


def change_vectors(forger, number, change):
    folder = forger.folder / CONTRIBUTIONS
    vectors = read_round(folder, number)
    write_round(folder, number, change(vectors))


def messages(report, field):
    return [one.message for check in report.checks for one in check.findings if one.field == field]


# ------------------------------------------------------------------------------------ honest
def test_an_honest_run_is_made_again_to_the_bit(honest):
    report = audit_run(honest, honest / PUBLIC_KEY)
    (rebuilt,) = by_name(report, REBUILT)
    assert report.passed
    assert rebuilt.status == "passed"
    assert rebuilt.detail.startswith("3 rounds, 96 numbers")


def test_a_release_alone_shows_that_each_merchant_signed(honest, tmp_path):
    folder = shutil.copytree(honest, tmp_path / "run") / RELEASE
    assert by_name(audit_release(folder), "Contributions: the release")[0].status == "passed"


# --------------------------------------------------------------------------- another adapter
@pytest.mark.parametrize(
    "vector",
    [
        pytest.param(np.zeros_like, id="untrained"),
        pytest.param(lambda mine: mine[::-1], id="of another run"),
        pytest.param(lambda mine: mine + 1e-7 * (np.arange(mine.size) == 5), id="nudged by 1e-7"),
    ],
)
def test_an_adapter_that_the_contributions_do_not_come_to_is_named(forger, vector):
    number = publish_adapter(forger, vector)
    report = audit_run(forger.folder, forger.key)
    assert (JOURNAL, number, "adapter") in found(report)
    assert (MANIFEST, None, "adapter.digest") in found(report)


def trained_without_noise(forger, tmp_path):
    """Return the adapter of the same run on the same shoppers, without noise."""
    manifest, place = forger.manifest, tmp_path / "free"
    settings = RunSettings.from_flat({**manifest.adapter.settings, "noise": "none"})
    merchants = forger.simulated / "merchants"
    shutil.copytree(merchants, place, ignore=shutil.ignore_patterns("node"))
    for merchant in merchant_folders(place):
        (merchant / POLICY_FILE).write_bytes(policy_text(settings.plan(2)))
    return run_federation(place, settings, tmp_path / "run-free", tmp_path / "cache").adapter


def test_the_adapter_of_the_run_without_noise_is_not_the_private_runs(forger, tmp_path):
    free = trained_without_noise(forger, tmp_path)
    number = publish_adapter(forger, lambda _mine: free.flatten())
    report = audit_run(forger.folder, forger.key)
    assert (JOURNAL, number, "adapter") in found(report)
    assert (MANIFEST, None, "adapter.digest") in found(report)


def test_an_adapter_that_no_round_came_to_is_named(forger):
    """The operator leaves the journal and changes the release alone."""
    tensors = load((forger.folder / RELEASE / ADAPTER_FILE).read_bytes())
    other = {name: -one if ".lora_B." in name else one for name, one in tensors.items()}
    digest = AdapterState({name: one for name, one in other.items() if ".lora_B." in name}).digest

    def change(document):
        document["adapter"]["digest"] = digest

    forger.release(change, **{ADAPTER_FILE: save(other)})
    report = audit_run(forger.folder, forger.key)
    assert named(report, MANIFEST, "adapter.digest")
    assert named(report, JOURNAL, "adapter")


@pytest.mark.parametrize(
    ("name", "value"), [("learning_rate", 0.02), ("momentum", 0.5), ("tau", 0.5)]
)
def test_a_changed_setting_of_the_step_is_named(forger, name, value):
    def change(document):
        document["adapter"]["settings"][name] = value

    forger.release(change)
    report = audit_run(forger.folder, forger.key)
    assert named(report, MANIFEST, "setup")
    assert named(report, MANIFEST, "adapter.digest")


def test_a_changed_setting_of_the_nodes_is_named(forger):
    def change(document):
        document["adapter"]["settings"]["temperature"] = 0.5

    forger.release(change)
    report = audit_run(forger.folder, forger.key)
    assert found(report) == [(MANIFEST, None, "setup")]


# ------------------------------------------------------------------------- other contributions
def test_two_merchants_vectors_swapped_are_both_named(forger):
    first, second = forger.nodes
    change_vectors(forger, 2, lambda held: {first: held[second], second: held[first]})
    report = audit_run(forger.folder, forger.key)
    assert found(report) == [(ROUND_2, None, "digest")] * 2
    assert [first in one or second in one for one in messages(report, "digest")] == [True, True]
    assert all("round 2" in one for one in messages(report, "digest"))


def test_two_merchants_signatures_swapped_are_named(forger):
    first, second = forger.nodes

    def swap(entry):
        one, two = read_contributions(entry)
        swapped = [replace(one, merchant=second), replace(two, merchant=first)]
        return replace(entry, contributions=tuple(each.to_json() for each in swapped))

    number = change_round(forger, 2, swap)
    report = audit_run(forger.folder, forger.key)
    assert (JOURNAL, number, "contributions.signer") in found(report)


def test_another_rounds_vector_is_named(forger):
    first = forger.nodes[0]
    earlier = read_round(forger.folder / CONTRIBUTIONS, 1)[first]
    change_vectors(forger, 2, lambda held: {**held, first: earlier})
    report = audit_run(forger.folder, forger.key)
    assert found(report) == [(ROUND_2, None, "digest")]
    assert first in messages(report, "digest")[0]


def test_another_rounds_vector_with_its_signature_is_named(forger):
    first = forger.nodes[0]
    earlier = read_round(forger.folder / CONTRIBUTIONS, 1)[first]
    change_vectors(forger, 2, lambda held: {**held, first: earlier})
    old = next(
        one
        for entry in entries_of(forger)
        if (entry.kind, entry.round_number) == ("train", 1)
        for one in entry.contributions
        if Contribution.from_json(one).merchant == first
    )

    def change(entry):
        kept = [one for one in entry.contributions if Contribution.from_json(one).merchant != first]
        return replace(entry, contributions=(old, *kept))

    number = change_round(forger, 2, change)
    report = audit_run(forger.folder, forger.key)
    assert (JOURNAL, number, "contributions.round_number") in found(report)
    assert (JOURNAL, number, "adapter") in found(report)


@pytest.mark.parametrize("number", [0, 2])
def test_a_contribution_left_out_is_named(forger, number):
    first = forger.nodes[0]
    change_vectors(
        forger, number, lambda held: {name: one for name, one in held.items() if name != first}
    )
    report = audit_run(forger.folder, forger.key)
    assert found(report) == [(ROUND_2 if number else HISTOGRAM, None, "contribution")]
    assert first in messages(report, "contribution")[0]


def test_a_merchant_dropped_from_a_round_is_found_by_what_follows(forger):
    """Vector, signature and name are gone: the mean over the others is another adapter's."""
    first = forger.nodes[0]
    change_vectors(
        forger, 2, lambda held: {name: one for name, one in held.items() if name != first}
    )

    def drop(entry):
        kept = [one for one in entry.contributions if Contribution.from_json(one).merchant != first]
        others = tuple(name for name in entry.participants if name != first)
        return replace(entry, participants=others, contributions=tuple(kept))

    number = change_round(forger, 2, drop)
    report = audit_run(forger.folder, forger.key)
    assert (JOURNAL, number, "adapter") in found(report)


def test_a_round_that_was_made_to_fit_is_found_by_what_the_merchants_signed_next(forger):
    """The journal names the adapter that the changed round comes to; nobody trained on that one."""
    number = change_round(forger, 2, lambda entry: replace(entry, adapter="0" * 64))
    report = audit_run(forger.folder, forger.key)
    assert (JOURNAL, number, "adapter") in found(report)
    assert (JOURNAL, number + 1, "contributions.adapter") in found(report)


def test_unsigned_contributions_are_named(forger):
    first = forger.nodes[0]

    def unsign(entry):
        told = [Contribution.from_json(one) for one in entry.contributions]
        cut = [replace(one, signature="") if one.merchant == first else one for one in told]
        return replace(entry, contributions=tuple(one.to_json() for one in cut))

    number = change_round(forger, 2, unsign)
    assert (JOURNAL, number, "contributions.signature") in found(
        audit_run(forger.folder, forger.key)
    )

    number = change_round(forger, 2, lambda one: replace(one, contributions=one.contributions[1:]))
    report = audit_run(forger.folder, forger.key)
    assert (JOURNAL, number, "contributions") in found(report)
    assert "nothing is signed" in messages(report, "contributions")[0]


def test_a_run_that_signed_nothing_does_not_pass(forger):
    forger.journal(lambda held: [replace(one, contributions=()) for one in held])
    relist(forger)
    report = audit_run(forger.folder, forger.key)
    assert named(report, JOURNAL, "contributions")
    assert named(report, LISTED, "contributions")


def test_a_merchant_who_signs_another_vector_cannot_make_the_adapter_of_it(forger):
    """The operator and one merchant together: its later vector is signed and not what was used."""
    first = forger.nodes[0]
    change_vectors(forger, 2, lambda held: {**held, first: held[first] * np.float32(0.5)})
    vector = read_round(forger.folder / CONTRIBUTIONS, 2)[first]
    key = load_key(forger.simulated / "merchants" / first / "node" / "ledger.sqlite", create=False)

    def again(one):
        if one.merchant != first:
            return one
        other = replace(one, digest=vector_digest(vector))
        return other.signed(key.sign(other.message()))

    def change(entry):
        told = [again(Contribution.from_json(one)) for one in entry.contributions]
        return replace(entry, contributions=tuple(one.to_json() for one in told))

    number = change_round(forger, 2, change)
    report = audit_run(forger.folder, forger.key)
    sealed, rebuilt = found(report)[:2]
    assert sealed == (CANARIES, None, "seal")
    assert rebuilt == (JOURNAL, number, "adapter")
    assert by_name(report, "Contributions: the vectors")[0].status == "passed"


def test_a_missing_file_and_a_missing_round_are_named(forger):
    (forger.folder / ROUND_2).unlink()
    assert found(audit_run(forger.folder, forger.key)) == [(ROUND_2, None, "file")]
    forger.journal(
        lambda held: [one for one in held if (one.kind, one.round_number) != ("train", 2)]
    )
    assert (JOURNAL, None, "round_number") in found(audit_run(forger.folder, forger.key))


def test_a_list_that_leaves_one_out_is_named(forger):
    content = (forger.folder / LISTED).read_bytes().splitlines(keepends=True)
    forger.release(**{CONTRIBUTIONS_FILE: b"".join(content[1:])})
    assert found(audit_run(forger.folder, forger.key)) == [(LISTED, None, "contributions")]


def test_a_vector_that_is_not_finite_is_named(forger):
    first = forger.nodes[0]
    change_vectors(forger, 2, lambda held: {**held, first: held[first] * np.float32(np.inf)})
    assert found(audit_run(forger.folder, forger.key)) == [(ROUND_2, None, "file")]
