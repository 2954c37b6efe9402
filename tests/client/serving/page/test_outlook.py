import json
import threading

import pytest

from client.serving.page.outlook import THREAD, BenefitJob, decide
from common.errors import InputError
from tests.support.served import made_benefit, made_cost


def job(folder, measure):
    return BenefitJob(measure, folder / "benefit.json")


def ended(job, digest="a"):
    """What the job says once its thread is done."""
    for thread in threading.enumerate():
        if thread.name == THREAD:
            thread.join(5)
    return job.now(digest)


def brought(folder, verdict):
    found = job(folder, lambda: json.dumps(made_benefit(verdict)))
    found.start("a")
    return ended(found).brought


@pytest.mark.parametrize(
    ("verdict", "join", "reason"),
    [
        ("join", True, "brings"),
        ("stay solo", False, "no_gain"),
        ("cannot tell", False, "cannot_tell"),
    ],
)
def test_the_advice_follows_the_verdict_where_the_budget_lasts(tmp_path, verdict, join, reason):
    found = decide(made_cost(), brought(tmp_path, verdict))
    assert (found.join, found.reason) == (join, reason)


def test_a_budget_that_is_spent_outweighs_every_gain(tmp_path):
    gain = brought(tmp_path, "join")
    assert decide(made_cost(fits=False), gain).reason == "budget"
    assert decide(made_cost(fits=False), None).join is False
    assert decide(made_cost(refused="too little noise"), gain).reason == "policy"


def test_the_gains_over_both_ways_without_others_are_kept_apart(tmp_path):
    found = brought(tmp_path, "join")
    assert found.gains["ndcg@10"].mean == 0.1
    assert found.gains_over_frozen["ndcg@10"].mean == 0.02


def test_without_a_measure_there_is_no_advice():
    assert decide(made_cost(), None).join is None


def test_a_measure_is_kept_for_its_model_and_its_owner_alone(tmp_path):
    found = job(tmp_path, lambda: json.dumps(made_benefit()))
    assert found.now("a").state == "idle"
    found.start("a")
    assert ended(found).state == "done"
    assert job(tmp_path, lambda: "").now("a").brought == found.now("a").brought
    assert job(tmp_path, lambda: "").now("b").state == "idle"
    assert (tmp_path / "benefit.json").stat().st_mode & 0o777 == 0o600


def test_it_measures_once_at_a_time_and_says_that_it_does(tmp_path):
    go, calls = threading.Event(), []

    def measure():
        calls.append(1)
        go.wait(5)
        return json.dumps(made_benefit())

    found = job(tmp_path, measure)
    found.start("a")
    found.start("a")
    assert found.now("a").state == "running"
    go.set()
    assert ended(found).state == "done"
    assert calls == [1]


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (InputError("1 shopper(s); at least 2 are needed."), "at least 2"),
        (MemoryError(), "MemoryError"),
        (ValueError("shopper-3"), "ValueError"),
    ],
)
def test_a_failure_is_told_and_the_next_try_may_go_well(tmp_path, failure, said):
    failing = [failure]

    def measure():
        if failing:
            raise failing.pop()
        return json.dumps(made_benefit())

    found = job(tmp_path, measure)
    found.start("a")
    told = ended(found)
    assert told.state == "failed"
    assert said in told.error
    assert "shopper-3" not in told.error
    found.start("a")
    assert ended(found).state == "done"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"model_digest": "a", "benefit": 3}'])
def test_a_file_that_cannot_be_read_is_measured_again(tmp_path, content):
    (tmp_path / "benefit.json").write_bytes(content)
    assert job(tmp_path, lambda: "").now("a").state == "idle"
