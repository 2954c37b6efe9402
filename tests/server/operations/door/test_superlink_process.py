"""What a refused request leaves behind is freed within a second, however little else is made."""

import gc
import sys
import threading
import weakref

import pytest
from flwr.superlink import cli

from server.operations.door import superlink_process
from server.operations.door.superlink_process import SECONDS, STARTED_SECONDS, collect
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

    monkeypatch.setattr(superlink_process, "collect", collects)
    monkeypatch.setattr(superlink_process, "flower_superlink", serves)
    superlink_process.main()
    assert [one.daemon for one in threads] == [True]  # it ends with the server
