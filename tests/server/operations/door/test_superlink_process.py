"""What a refused request leaves behind is freed within a second, however little else is made."""

import gc
import sys
import threading
import weakref

import pytest
from flwr.proto.message_pb2 import ObjectTree
from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.superlink import cli

from server.operations.door import superlink_process
from server.operations.door.superlink_process import SECONDS, STARTED_SECONDS, collect, take_again
from server.operations.supervisor import superlink_command
from tests.support.doors import operator
from tests.support.flower_engine import free_port


class Body(bytearray):
    """A request's, which can be watched."""


def refuse(body):
    """As a handler does that looks at the body and says no: exception and frame hold each other."""
    kept = None
    try:
        int(body)
    except ValueError as error:
        kept = error
    return kept is not None


class OverError(Exception):
    """The process has ended."""


def test_a_refused_body_is_freed_and_what_was_there_before_is_not_looked_at_again():
    slept, watched = [], []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 2:
            assert gc.get_freeze_count() > 1000
            body = Body(10)
            assert refuse(body)
            watched.append(weakref.ref(body))
            del body
            assert watched[0]() is not None  # only the collector can free it
        if len(slept) == 3:
            raise OverError

    gc.disable()
    try:
        with pytest.raises(OverError):
            collect(sleep)
    finally:
        gc.enable()
        gc.unfreeze()
    assert slept == [STARTED_SECONDS, SECONDS, SECONDS]
    assert watched[0]() is None


def test_it_is_flowers_own_command():
    assert superlink_process.flower_superlink is cli.flower_superlink


def test_the_servers_superlink_is_this_one_and_it_collects_while_it_serves(tmp_path, monkeypatch):
    command = superlink_command(operator(tmp_path / "server", free_port()))
    assert command[:4] == [sys.executable, "-P", "-m", superlink_process.__name__]
    begun, threads = threading.Event(), []

    def collects():
        threads.append(threading.current_thread())
        begun.set()

    def serves():
        assert begun.wait(10.0)

    taken = []
    monkeypatch.setattr(superlink_process, "take_again", taken.append)
    monkeypatch.setattr(superlink_process, "collect", collects)
    monkeypatch.setattr(superlink_process, "flower_superlink", serves)
    superlink_process.main()
    assert [one.daemon for one in threads] == [True]  # it ends with the server
    assert taken == [SqlLinkState]


TREE = ObjectTree(object_id="head", children=[ObjectTree(object_id="piece")])


def flowers_state(known):
    """What Flower does of it: a head whose request is gone is refused, a piece is taken once."""

    class State:
        def __init__(self):
            self.object_store, self.pending = dict(known), set()

        def store_message_and_object_tree(self, _message, _tree, _session):
            return False, []

        def preregister_object_tree(self, tree, _session):
            names = [tree.object_id, *(one.object_id for one in tree.children)]
            self.pending = {name for name in names if self.object_store.get(name) == b""}
            return sorted(self.pending)

        def store_object(self, _run, _session, name, content):
            if name not in self.pending:
                return False
            self.pending.remove(name)
            self.object_store[name] = content
            return True

    take_again(State)
    return State()


def test_a_head_that_is_sent_again_is_told_which_pieces_are_still_missing():
    state = flowers_state({"head": b"h", "piece": b""})
    assert state.store_message_and_object_tree(None, TREE, "s") == (True, ["piece"])
    assert state.store_object(1, "s", "piece", b"p")


@pytest.mark.parametrize(
    "known", [{}, {"head": b"h"}, {"head": b"h", "piece": b"p"}, {"head": b""}, {"piece": b""}]
)
def test_a_head_that_is_whole_never_came_or_names_what_is_new_stays_refused(known):
    """Else a node could have names without number kept for heads that are refused."""
    assert flowers_state(known).store_message_and_object_tree(None, TREE, "s") == (False, [])


def test_a_piece_that_is_sent_again_is_taken_and_another_under_its_name_is_not():
    state = flowers_state({"piece": b"p"})
    assert state.store_object(1, "s", "piece", b"p")
    assert not state.store_object(1, "s", "piece", b"other")
    assert not state.store_object(1, "s", "unknown", b"p")


def test_flower_has_what_is_changed():
    assert {"store_message_and_object_tree", "store_object", "preregister_object_tree"} <= set(
        dir(SqlLinkState)
    )
