"""A refresh has a fresh season and its parent's adapter, or the audit names what is another.

The operator holds the keys of release and journal and signs all of it anew; where merchants work
with it, theirs too.
"""

import shutil

import numpy as np
import pytest
from safetensors.numpy import save

from common.adapter import AdapterState
from common.arrays import load_arrays
from common.audit.audits import audit_release, audit_run
from common.audit.layout import CONTRIBUTIONS, JOURNAL, MANIFEST, PARENT, RELEASE
from common.errors import ReleaseError
from common.identity.signing_key import PublicKey
from common.privacy.accounting.accountants import ceiling_for, epsilon_pld
from common.privacy.ledger.contributions import contributions_file
from common.privacy.ledger.entry import spent_events
from common.release.manifest import (
    ADAPTER_FILE,
    BASIS_FILE,
    CONTRIBUTIONS_FILE,
    SEASON_FILE,
)
from common.release.parent import differences
from common.release.verify import verify_by_digest, verify_release
from common.season import Season
from server.run import strategy
from tests.support.forging import Forger, by_name, export, found, named
from tests.support.frauds import ALL, changed, fraud
from tests.support.honest_runs import HonestRun
from tests.support.refreshed_runs import FIRST_END, RefreshedRun, honest_then_refreshed

pytestmark = pytest.mark.attack

FILE = f"{RELEASE}/{SEASON_FILE}"
PARENTS = "Parent: all but the season"


def is_season(one):
    return one.kind == "season"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def runs(tiny_bert, cache, tmp_path_factory):
    """A run of two merchants, and a refresh of its season a month later."""
    return honest_then_refreshed(tmp_path_factory.mktemp("runs"), tiny_bert, cache)


@pytest.fixture
def forger(runs, tmp_path):
    earlier, later = runs
    return Forger(earlier.out, export(later.out, tmp_path / "run"))


def audited(forger):
    return audit_run(forger.folder, forger.key)


def season_of(folder):
    return Season.from_bytes((folder / RELEASE / SEASON_FILE).read_bytes())


def messages(report):
    return [finding.message for check in report.checks for finding in check.findings]


def relist(forger):
    """Put the list that the journal has into the release, as its writer does."""
    manifest = forger.manifest
    plan, runs = manifest.privacy.privacy_plan, manifest.privacy.run_ids
    listed = contributions_file(
        forger.journal_entries(), manifest.adapter.digest, plan.digest, runs
    )
    forger.release(**{CONTRIBUTIONS_FILE: listed})


def told_of(forger):
    """The refresh's own numbers on the journal."""
    return set(forger.manifest.privacy.run_ids)


# ------------------------------------------------------------------------------------ honest
def test_an_honest_refresh_passes_and_so_does_its_parent(runs, forger):
    earlier, later = runs
    report = audited(forger)
    assert found(report) == []
    assert report.passed
    parent = audit_run(earlier.out, forger.key)
    assert found(parent) == []
    assert parent.passed  # though journal and ledgers have gone on
    key = PublicKey.load(forger.key)
    new, old = (verify_release(one.out / RELEASE, key) for one in (later, earlier))
    assert differences(new, old) == {}
    assert new.files[SEASON_FILE] != old.files[SEASON_FILE]
    assert new.season.ends > old.season.ends


@pytest.mark.parametrize("value", [{"a": [1]}, [1], None])
def test_a_setting_that_is_none_is_a_finding_and_no_crash(forger, value):
    """A signed manifest may hold any JSON there; what an auditor runs must come to its end."""
    forger.release(lambda document: document["adapter"]["settings"].update(odd=value))
    report = audited(forger)
    assert report.verdict == "failed"
    assert "settings" in {one.field for check in report.checks for one in check.findings}


def test_each_shopper_of_both_pays_both(forger):
    """The claim is the filter's over all of the ledger: above either run alone, by PLD too."""
    statement = forger.manifest.privacy
    for name, told in statement.merchants.items():
        entries = forger.entries(statement.ledgers[name].node)
        spent = spent_events(entries)
        assert [one.kind for one in entries if one.event] == [
            "popularity", "season", "train", "train", "season",
        ]  # fmt: skip
        assert told.epsilon == pytest.approx(ceiling_for(spent, told.delta), rel=2e-3)
        assert epsilon_pld(spent, told.delta) > 4.0 - 1e-3
        assert statement.run.add_or_remove == pytest.approx(0.5, abs=1e-3)


def test_the_page_says_that_nothing_was_trained(runs):
    page = (runs[1].out / RELEASE / "STATEMENT.md").read_text()
    assert "A refresh: nothing was trained." in page
    assert "It is all of this run's cost, ε = 0.5" in page


@pytest.mark.slow
def test_of_shared_noise_too(tiny_bert, cache, tmp_path):
    """Six merchants, whose sum alone is seen, before and now."""
    shared = {"noise": "distributed", "min_merchants": 6}
    earlier, later = honest_then_refreshed(
        tmp_path, tiny_bert, cache, names=tuple("abcdef"), **shared
    )
    report = audit_run(later.out, earlier.out / "operator.pub")
    assert found(report) == []
    assert report.passed
    assert sorted(path.name for path in (later.out / CONTRIBUTIONS).iterdir()) == [
        "framing.safetensors",
        "season.sum",
    ]


# -------------------------------------------------------------------------------- the parent
def test_without_the_parent_the_audit_says_what_is_missing(forger):
    named_ = forger.manifest.parent
    shutil.rmtree(forger.folder / PARENT)
    report = audited(forger)
    assert not report.passed
    (said,) = messages(report)
    assert f"the adapter of release {named_}, which is not here" in said
    assert "--parent" in said


def test_the_parent_may_lie_elsewhere(runs, forger):
    shutil.rmtree(forger.folder / PARENT)
    assert audit_run(forger.folder, forger.key, runs[0].out / RELEASE).passed


def test_a_release_alone_says_that_its_parent_was_not_looked_at(runs, forger):
    place = forger.folder / RELEASE
    (check,) = by_name(audit_release(place, forger.key), PARENTS)
    assert check.status == "skipped"
    assert "--parent" in check.detail
    (check,) = by_name(audit_release(place, forger.key, runs[0].out / RELEASE), PARENTS)
    assert check.status == "passed"


def test_another_release_in_the_parents_place(runs, forger):
    shutil.rmtree(forger.folder / PARENT)
    report = audit_run(forger.folder, forger.key, runs[1].out / RELEASE)
    assert "is not that of the release" in messages(report)[0]


def other_adapter(forger):
    """A nudged adapter, with its right digest in the manifest."""
    held = AdapterState.from_bytes((forger.folder / RELEASE / ADAPTER_FILE).read_bytes())
    tensors = {name: one + np.float32(".lora_B." in name) for name, one in held.tensors.items()}
    only_b = {name: one for name, one in tensors.items() if ".lora_B." in name}
    digest = AdapterState(only_b).digest
    forger.release(
        lambda document: document["adapter"].update(digest=digest),
        **{ADAPTER_FILE: AdapterState(tensors).to_bytes()},
    )
    return digest


@pytest.mark.parametrize("keys", [(), ALL])
def test_another_adapter_as_the_parents(forger, keys):
    """Manifest, journal and the release's list all follow it; the parent does not."""
    digest, numbers = other_adapter(forger), told_of(forger)
    mine = lambda one: is_season(one) and one.run_id in numbers  # noqa: E731 - said once
    fraud(forger, keys, journal=changed(mine, adapter=digest))
    relist(forger)
    report = audited(forger)
    assert named(report, RELEASE, ADAPTER_FILE)
    assert named(report, RELEASE, "adapter.digest")
    (check,) = by_name(report, PARENTS)
    assert check.status == "failed"


def test_another_adapter_that_the_journal_does_not_have(forger):
    other_adapter(forger)
    assert named(audited(forger), JOURNAL, "adapter")


def test_another_basis(forger):
    """The season was taken in the parent's: each merchant signed for that one."""
    arrays = load_arrays((forger.folder / RELEASE / BASIS_FILE).read_bytes())
    arrays["mean"] = arrays["mean"] + np.float32(1)
    forger.release(**{BASIS_FILE: save(arrays)})
    report = audited(forger)
    assert named(report, RELEASE, BASIS_FILE)
    assert named(report, MANIFEST, "setup")


def test_other_settings_of_the_ranking(forger):
    forger.release(lambda document: document["adapter"]["settings"].update(history_decay=0.5))
    report = audited(forger)
    assert named(report, RELEASE, "adapter.settings.history_decay")
    assert named(report, MANIFEST, "setup")


def test_another_release_as_the_parent(forger, tiny_bert, cache, tmp_path):
    """Its folder is at hand and has another adapter; merchants gave a season for the first one."""
    values = {"audit_canaries": 0, "season_ends": FIRST_END, "learning_rate": 0.5}
    other = HonestRun(tmp_path, tiny_bert, ("ash", "birch"), cache=cache, **values)
    other.export(other.train())
    release = verify_release(other.out / RELEASE, PublicKey.load(other.out / "operator.pub"))

    def renamed(document):
        document["parent"] = release.manifest.digest
        document["adapter"]["settings"]["refresh_of"] = release.manifest.digest

    forger.release(renamed)
    report = audit_run(forger.folder, forger.key, other.out / RELEASE)
    assert named(report, MANIFEST, "setup")
    assert named(report, RELEASE, "adapter.digest")


@pytest.mark.parametrize("missing", ["parent", "refresh_of"])
def test_a_refresh_that_names_no_parent_is_not_verified(forger, missing):
    def unnamed(document):
        if missing == "parent":
            document["parent"] = None
        else:
            del document["adapter"]["settings"]["refresh_of"]

    forger.release(unnamed)
    with pytest.raises(ReleaseError, match="for which release"):
        verify_release(forger.folder / RELEASE, PublicKey.load(forger.key))
    assert not audited(forger).passed


def test_a_digest_is_all_that_a_parent_is_trusted_by(runs):
    place = runs[0].out / RELEASE
    digest = verify_release(place, PublicKey.load(runs[0].out / "operator.pub")).manifest.digest
    assert verify_by_digest(place, digest).manifest.digest == digest
    with pytest.raises(ReleaseError, match="is not that of"):
        verify_by_digest(place, "0" * 64)


# -------------------------------------------------------------------------- a smuggled round
def test_a_release_with_rounds_that_calls_itself_a_refresh_is_not_verified(runs, tmp_path):
    earlier = runs[0]
    forger = Forger(earlier.out, export(earlier.out, tmp_path / "run"))
    forger.release(lambda document: document["adapter"]["settings"].update(refresh_of="0" * 64))
    with pytest.raises(ReleaseError, match="rounds of its own"):
        verify_release(forger.folder / RELEASE, PublicKey.load(forger.key))


@pytest.mark.parametrize("kind", ["train", "popularity"])
def test_a_round_under_a_refreshs_plan_is_found_on_the_journal(forger, kind):
    """The season's entry called something else, beside it: whatever it says that it took."""
    from dataclasses import replace

    numbers = told_of(forger)

    def smuggled(entries):
        mine = next(one for one in entries if is_season(one) and one.run_id in numbers)
        place = entries.index(mine)
        round_ = replace(mine, kind=kind, round_number=int(kind == "train"), receipts=())
        return [*entries[:place], round_, *entries[place:]]

    fraud(forger, (), journal=smuggled)
    report = audited(forger)
    assert named(report, JOURNAL, "kind")


# --------------------------------------------------------------------------- another's season
def test_a_season_that_ends_when_its_parents_does(forger, monkeypatch):
    monkeypatch.setattr("common.audit.season._last_end", lambda _: 7)
    assert named(audited(forger), RELEASE, "season_ends")


def test_the_parents_season_in_the_refreshs_place(runs, forger):
    old = season_of(runs[0].out)
    forger.release(**{SEASON_FILE: old.to_bytes()})
    report = audited(forger)
    assert named(report, FILE, "vectors")
    assert named(report, FILE, "season_ends")


def test_the_parents_season_called_a_later_one(runs, forger):
    """Ends and noise are the refresh's; the merchants' signed vectors come to another."""
    old, new = season_of(runs[0].out), season_of(forger.folder)
    lie = Season(old.vectors, new.ends, new.noise_std, new.merchants)
    forger.release(**{SEASON_FILE: lie.to_bytes()})
    assert named(audited(forger), FILE, "vectors")


def test_what_was_signed_for_the_training_replayed(runs, forger):
    """The merchants' own signatures of the first season, with its vectors and their sum."""
    earlier, numbers = runs[0], told_of(forger)
    signed = next(one for one in forger.journal_entries() if is_season(one))
    shutil.copy(
        earlier.out / CONTRIBUTIONS / "season.safetensors",
        forger.folder / CONTRIBUTIONS / "season.safetensors",
    )
    mine = lambda one: is_season(one) and one.run_id in numbers  # noqa: E731 - said once
    forger.journal(changed(mine, contributions=signed.contributions))
    relist(forger)
    old, new = season_of(earlier.out), season_of(forger.folder)
    lie = Season(old.vectors, new.ends, new.noise_std, new.merchants)
    forger.release(**{SEASON_FILE: lie.to_bytes()})
    report = audited(forger)
    assert named(report, JOURNAL, "contributions.run_id")


def test_a_claim_of_the_refresh_alone(forger):
    """The ledger holds the training as well."""
    cost = forger.manifest.privacy.run.add_or_remove
    forger.statement(
        merchants=lambda held: {name: {**one, "epsilon": cost} for name, one in held.items()}
    )
    assert named(audited(forger), MANIFEST, "epsilon")


# ----------------------------------------------------------------------- stopped, and again
def test_a_refresh_that_was_killed_is_charged_twice_and_says_so(runs, tmp_path):
    """Killed between the nodes' answers and the checkpoint: they are asked, and charged, again."""
    earlier, before = runs[0], seasons_charged(runs[1].out)
    later = RefreshedRun(tmp_path / "later", earlier, season_ends="1970-12-01")

    class KilledError(Exception):
        pass

    def killed(*_):
        raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strategy, "write_checkpoint", killed)
        with pytest.raises(KilledError):
            later.refresh()
    later.export(later.refresh())
    report = audit_run(later.out, earlier.out / "operator.pub")
    assert found(report) == []
    assert report.passed
    later.export(later.refresh())  # it is done: nobody is asked
    assert seasons_charged(later.out) == {node: count + 2 for node, count in before.items()}
    forger = Forger(earlier.out, later.out)
    for name, told in forger.manifest.privacy.merchants.items():
        spent = spent_events(forger.entries(forger.manifest.privacy.ledgers[name].node))
        assert told.epsilon == pytest.approx(ceiling_for(spent, told.delta), rel=2e-3)


def seasons_charged(folder):
    forger = Forger(folder, folder)
    return {node: sum(map(is_season, forger.entries(node))) for node in forger.nodes}


def test_a_refresh_of_a_refresh_keeps_the_first_adapter(runs, tmp_path):
    """Its parent is the release that trained: no chain has to be followed."""
    earlier, later = runs
    again = RefreshedRun(tmp_path / "again", earlier, of=later.out, season_ends="1971-01-01")
    again.export(again.refresh())
    report = audit_run(again.out, earlier.out / "operator.pub")
    assert found(report) == []
    told = verify_release(again.out / RELEASE, PublicKey.load(again.out / "operator.pub"))
    first = verify_release(earlier.out / RELEASE, PublicKey.load(earlier.out / "operator.pub"))
    assert told.manifest.parent == first.manifest.digest
