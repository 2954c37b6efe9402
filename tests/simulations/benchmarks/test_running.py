"""Each case runs in a process of its own, and whatever stands among the cases is one."""

import pytest

from common.errors import InputError
from simulations.benchmarks.rows import Row
from simulations.benchmarks.running import about, all_cases, chosen, is_long, run_case


def test_case_runs_in_a_process_of_its_own(capfd):
    done = run_case("tests.support.bench_case")
    assert done.case == "bench_case"
    assert done.rows == (
        Row(what="nothing", figure=1.5, unit="times", target=2, seconds=3, peer_seconds=2),
    )
    assert done.machine.cores >= 1
    assert "bench_case: nothing: 1.5 times; target at most 2" in capfd.readouterr().err


def test_case_that_fails_says_why_and_yields_nothing(capfd):
    assert run_case("tests.support.bench_case_failing") is None
    said = capfd.readouterr().err
    assert "bench_case_failing: wrk is not in PATH" in said
    assert "Traceback" not in said


def test_long_cases_run_when_they_are_named_or_asked_for():
    known = all_cases()
    usual = chosen([], long=False)
    assert known["load"] not in usual
    assert known["steps"] in usual
    assert chosen([], long=True) == list(known.values())
    assert chosen(["load"], long=False) == [known["load"]]


def test_unknown_case_is_refused_with_the_names_that_there_are():
    with pytest.raises(InputError, match=r"no case of this name; there are .*steps") as raised:
        chosen(["step"], long=False)
    assert raised.value.field == "step"


def test_each_case_says_what_it_measures():
    for module in all_cases().values():
        assert about(module)
    assert is_long(all_cases()["load"])
