"""What an operator asks of a run reaches its folder, and a stop waits for the round."""

import contextlib
from types import SimpleNamespace

import pytest

from common.errors import FederationError, SettingsError
from server.operations import run_control
from server.operations.folder import ServerFolder
from server.run.oversight.orders import Orders, read_orders
from server.run.oversight.run_state import RunState, StateFile, mark_ended, read_state


class Link:
    """SuperLink with one run; `stopped` tells whether it was ended."""

    def __init__(self, folder, finished=False):
        self.folder, self.finished, self.stopped = folder, finished, False

    def runs(self):
        return [SimpleNamespace(run_id=7, folder=str(self.folder), finished=self.finished)]

    def run(self, run_id):
        return self.runs()[0]

    def stop_run(self, run_id):
        self.stopped = self.finished = True


@pytest.fixture
def link(tmp_path, monkeypatch):
    (tmp_path / "first").mkdir()
    one = Link(tmp_path / "first")
    monkeypatch.setattr(run_control, "control", lambda _: contextlib.nullcontext(one))
    registry = SimpleNamespace(nodes={"birch": None})
    monkeypatch.setattr(run_control, "read_registry", lambda _: registry)
    return one


def test_orders_add_up_in_the_runs_folder(link, tmp_path):
    server = ServerFolder(tmp_path)
    assert run_control.pause_run(server) == "first"
    run_control.evict_node(server, "birch")
    assert read_orders(link.folder) == Orders(paused=True, evicted=frozenset({"birch"}))
    run_control.resume_run(server)
    run_control.readmit_node(server, "birch")
    run_control.readmit_node(server, "birch")
    assert read_orders(link.folder) == Orders(readmitted=(("birch", 2),))
    with pytest.raises(SettingsError):
        run_control.evict_node(server, "brich")


def test_a_stop_waits_for_the_round_and_leaves_no_pause(link, tmp_path, monkeypatch):
    file = StateFile(link.folder, RunState("train", 3, 6))
    file.enter("train", 3)
    said = []

    def sleep(_):
        assert read_orders(link.folder).paused
        assert not link.stopped
        file.enter("paused", 3)

    monkeypatch.setattr(run_control.time, "sleep", sleep)
    assert run_control.stop_run(ServerFolder(tmp_path), said.append, now=False) == "first"
    assert said == ["Waiting for the end of: train, round 3. Ctrl-C leaves the run paused."]
    assert link.stopped
    assert not read_orders(link.folder).paused
    assert read_state(link.folder).phase == "ended"


def test_a_stop_at_once_asks_nothing(link, tmp_path):
    StateFile(link.folder, RunState("train", 3, 6)).enter("train", 3)
    run_control.stop_run(ServerFolder(tmp_path), [].append, now=True)
    assert link.stopped
    assert read_state(link.folder).phase == "ended"
    mark_ended(tmp_path / "nothing")  # where there is no state, there is none after


def test_without_a_run_nothing_is_asked(link, tmp_path):
    link.finished = True
    with pytest.raises(FederationError):
        run_control.pause_run(ServerFolder(tmp_path))


@pytest.mark.parametrize("content", ["", "[]", '{"paused": "maybe"}', '{"evicted": 3}'])
def test_orders_that_are_broken_ask_nothing_new(tmp_path, content):
    assert read_orders(tmp_path) == Orders()
    (tmp_path / "orders.json").write_text(content)
    assert read_orders(tmp_path) is None
