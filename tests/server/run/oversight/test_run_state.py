"""What a run says of itself is written at once, and with pauses where that takes long."""

import json

import pytest

from server.run.oversight import run_state
from server.run.oversight.run_state import PAUSES, NodeNote, StateFile, read_state


class Clock:
    """Stands still but for what is added: each writing takes `taken` seconds."""

    def __init__(self, monkeypatch, taken):
        self.now, self.writings, dumps = 100.0, 0, json.dumps

        def slow(*values, **named):
            self.now, self.writings = self.now + taken, self.writings + 1
            return dumps(*values, **named)

        monkeypatch.setattr(run_state.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(run_state.json, "dumps", slow)


def names(folder):
    return [one.merchant for one in read_state(folder).nodes]


def test_each_change_is_written_at_once_where_that_is_quick(tmp_path, monkeypatch):
    clock, file = Clock(monkeypatch, 0.001), StateFile(tmp_path)
    for number in range(5):
        file.node(NodeNote(f"shop {number}", "in"))
        assert len(names(tmp_path)) == number + 1
    assert clock.writings == 5


def test_a_long_writing_is_followed_by_a_pause_and_nothing_is_lost(tmp_path, monkeypatch):
    clock, file = Clock(monkeypatch, 0.1), StateFile(tmp_path)
    for number in range(1000):
        file.node(NodeNote(f"shop {number:04}", "in"))
    assert clock.writings == 1
    assert names(tmp_path) == ["shop 0000"]
    file.wait(["shop 0003"], answered=1, needed=2, seconds=60)
    clock.now += PAUSES * 0.1
    file.wait(["shop 0003"], answered=1, needed=2, seconds=60)  # the same again: it was not told
    assert len(names(tmp_path)) == 1000
    assert read_state(tmp_path).waits_for == ("shop 0003",)
    file.wait(["shop 0003"], answered=1, needed=2, seconds=60)
    assert clock.writings == 2


@pytest.mark.parametrize("phase", ["train", "ended"])
def test_a_phase_is_written_whenever_it_begins(tmp_path, monkeypatch, phase):
    clock, file = Clock(monkeypatch, 0.1), StateFile(tmp_path)
    file.node(NodeNote("shop", "in"))
    file.node(NodeNote("another", "in"))
    file.enter(phase, 3)
    assert clock.writings == 2
    assert names(tmp_path) == ["another", "shop"]
    assert read_state(tmp_path).phase == phase
