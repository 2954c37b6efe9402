"""Honest runs pass their audit, whatever the merchants are called and however the run went."""

import random
import shutil

import pytest

from client.node.participant import MerchantWork
from client.privacy.budget import LEDGER_FILE, open_ledger
from client.privacy.receipts import receipts_path
from client.privacy.recovery import recover
from common.audit.audits import audit_run
from common.audit.layout import JOURNAL
from common.errors import FederationError
from common.privacy.ledger.journal import read_journal
from tests.support.forging import by_name, found
from tests.support.honest_runs import NAMES, HonestRun


@pytest.fixture
def run_of(tiny_bert, tmp_path):
    """Make a run with merchants of these names."""

    def make(names, **settings):
        return HonestRun(tmp_path / "out", tiny_bert, names, cache=tmp_path / "cache", **settings)

    return make


def audited(run, finished):
    folder, key = run.export(finished)
    report = audit_run(folder, key)
    assert found(report) == []
    assert report.verdict == "passed"
    assert not [one for one in report.checks if one.status == "skipped"]
    return report


def test_merchants_in_another_order_than_the_alphabets_pass(run_of):
    names = (
        "茶叶店",
        "Merchant 2",
        "متجر الشاي",
        "Cafe\u0301",
        "Caf\u00e9",
        "Merchant 10",
        "a/b\n|",
    )
    assert list(names) != sorted(names)
    run = run_of(names, rounds=1)
    report = audited(run, run.train())
    assert sorted(one.name for one in report.merchants) == sorted(names)


@pytest.mark.parametrize("noise", ["central", "none"])
def test_other_dp_models_pass(run_of, noise):
    run = run_of(("Zoë's", "ash"), noise=noise, rounds=1)
    audited(run, run.train())


@pytest.mark.parametrize("rule", ["trimmed_mean", "median", "capped_mean"])
def test_a_run_by_another_rule_is_made_again_by_that_rule(run_of, rule):
    run = run_of(("Zoë's", "ash", "茶叶店"), aggregation=rule, rounds=1)
    report = audited(run, run.train())
    (told,) = by_name(report, "Adapter: made again from the contributions, to the bit")
    assert told.status == "passed"


def test_a_run_that_was_stopped_refused_and_recovered_passes(run_of, tmp_path):
    """One merchant never takes part; one is refused for a round, as its ledger rolled back."""
    run = run_of(("Zoë's", "ash", "茶叶店"), rounds=4, shoppers=10)
    run.refusing = (2,)
    assert run.train(stop_after=1) is None
    node = run.folders[1] / "node"
    backup = shutil.copytree(node, tmp_path / "backup")
    assert run.train(stop_after=2) is None
    for path in (node / LEDGER_FILE, receipts_path(node / LEDGER_FILE)):
        shutil.copy(backup / path.name, path)
    assert run.train(stop_after=3) is None
    journal = run.out / "checkpoints" / "federated" / JOURNAL
    entries = read_journal(journal.read_bytes())
    refused = [one.participants for one in entries if one.kind == "refusal"]
    assert [named for named in refused if named] == [(node.parent.name,)]
    assert refused.count(()) == 3  # who never took part has told no name, in each of three starts
    ledger = open_ledger(node / LEDGER_FILE, node.parent.name)
    assert recover(ledger, entries)
    report = audited(run, run.train())
    assert {one.name for one in report.merchants} == {"Zoë's", "ash"}
    (told,) = by_name(report, "Journal: every round that the plan demands")
    assert told.detail == "4 of 4 rounds, 2 merchants"


def test_a_run_whose_node_was_lost_before_the_first_round_passes(run_of, monkeypatch):
    """It had committed to canaries, and is in no round that they could be seen in."""
    run = run_of(("Zoë's", "ash", "茶叶店"), rounds=2)

    def away(act):
        def asked(work, *arguments):
            if work._ledger.merchant == run.folders[1].name:
                raise FederationError("It is away.", field="node")
            return act(work, *arguments)

        return asked

    for name in ("train", "revealed_canaries"):
        monkeypatch.setattr(MerchantWork, name, away(getattr(MerchantWork, name)))
    finished = run.train()
    assert set(finished.audits) == {run.folders[0].name, run.folders[2].name}
    audited(run, finished)


SIZES = (*[*range(1, 11)] * 3, 12, 12, 14, 15, 16, 18, 20, 25, 30, 40)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "count"), tuple(enumerate(SIZES)))
def test_forty_honest_runs_pass(run_of, seed, count):
    """1 to 40 merchants of any names, in any order; stopped, refused, each DP model."""
    rng = random.Random(seed)
    names = rng.sample(NAMES, count)
    noise = ("local", "local", "central", "none")[seed % 4]
    run = run_of(names, noise=noise, rounds=rng.choice((1, 2, 3)), shoppers=rng.choice((10, 16)))
    if noise != "central" and count >= 3 and seed % 3 == 0:
        run.refusing = (rng.randrange(count),)
    if run.settings.rounds > 1 and seed % 2:
        assert run.train(stop_after=rng.randrange(1, run.settings.rounds)) is None
    report = audited(run, run.train())
    assert len(report.merchants) == count - len(run.refusing)
