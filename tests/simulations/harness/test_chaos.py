"""Killing a node at random: a few kills for real, and checks that see each promise broken."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.privacy.policy import POLICY_FILE
from common.adapter import AdapterState
from common.errors import LedgerError, PrivacyError
from common.privacy.ledger.ledger import Ledger
from common.settings.run import RunSettings
from simulations.harness.chaos import Outcome, check, entries_of_copy
from simulations.harness.chaos_child import ENDED, MERCHANT, Ground, read_marks, steps_on_disk
from tests.support.ledgers import pay

ROOT = Path(__file__).parents[3]


@pytest.fixture
def ground(tmp_path):
    """A shop whose ledger holds three steps, and marks of three draws, each paid for before."""
    adapter = AdapterState({"b": np.zeros((2, 2), dtype=np.float32)})
    marks = tmp_path / "marks.log"
    made = Ground(tmp_path / "shop", tmp_path, marks, b"", RunSettings(), adapter)
    made.data.mkdir()
    (made.data / POLICY_FILE).write_text("max_epsilon = 8.0\n")
    ledger = Ledger.open(made.ledger, MERCHANT, "f" * 64)
    for number in (1, 2, 3):
        pay(ledger, number)
    draw(made, 1, 2, 3)
    return made


def draw(ground, *steps):
    with ground.marks.open("a") as marks:
        marks.writelines(f"drawing noise\t{number}.0\t{number}\n" for number in steps)


def test_an_honest_history_passes(ground):
    outcome = Outcome()
    check(ground, outcome)
    assert (len(outcome.entries), outcome.draws) == (3, 3)
    assert steps_on_disk(ground.ledger) == 3


def test_a_draw_before_its_entry_is_seen(ground):
    draw(ground, 3)  # the fourth draw, with three steps on disk
    with pytest.raises(PrivacyError) as caught:
        check(ground, Outcome())
    assert caught.value.field == "draws"


def test_a_draw_whose_entry_is_gone_is_seen(ground):
    draw(ground, 4)  # it saw four steps, and three are left
    with pytest.raises(PrivacyError) as caught:
        check(ground, Outcome())
    assert caught.value.field == "draws"


def test_an_entry_that_changed_is_seen(ground):
    outcome = Outcome()
    check(ground, outcome)
    changed = replace(outcome.entries[1], round_number=9)
    outcome.entries = (outcome.entries[0], changed, outcome.entries[2])
    with pytest.raises(PrivacyError) as caught:
        check(ground, outcome)
    assert caught.value.field == "entries"


def test_a_budget_that_is_overdrawn_is_seen(ground):
    (ground.data / POLICY_FILE).write_text("max_epsilon = 0.5\n")
    with pytest.raises(PrivacyError) as caught:
        check(ground, Outcome())
    assert caught.value.field == "max_epsilon"


def test_a_broken_chain_is_seen(ground):
    content = ground.ledger.read_bytes()
    assert content.count(b'"round_number":2') == 1
    ground.ledger.write_bytes(content.replace(b'"round_number":2', b'"round_number":7'))
    with pytest.raises(LedgerError):
        entries_of_copy(ground)


@pytest.mark.slow
def test_five_kills_break_no_promise(tmp_path):
    """In a process of its own: a fork wants one without the threads of other tests."""
    command = [
        sys.executable,
        "-m",
        "simulations.harness.chaos",
        "--kills",
        "5",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "training ended by refusal" in " ".join(done.stdout.split())
    marks = read_marks(tmp_path / "marks.log")
    assert sum(mark.steps is not None for mark in marks) > 5
    assert marks[-1].phase == ENDED
