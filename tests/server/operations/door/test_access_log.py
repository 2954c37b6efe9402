"""The access log begins anew before it is too long, and nginx is told."""

import os
import signal

import pytest

from server.operations.door import access_log
from server.operations.door.access_log import KEPT, prepare_access_log, rotate_access_log
from tests.support.doors import operator
from tests.support.flower_engine import free_port


@pytest.fixture
def server(tmp_path):
    made = operator(tmp_path / "server", free_port())
    made.proxy_run.mkdir(parents=True)
    prepare_access_log(made)
    return made


@pytest.fixture
def told(monkeypatch):
    signals = []
    monkeypatch.setattr(os, "kill", lambda *what: signals.append(what))
    return signals


def test_a_short_one_is_left(server, told):
    assert not rotate_access_log(server, 7)
    assert told == []


def test_a_long_one_begins_anew_and_five_are_kept(server, told, monkeypatch):
    monkeypatch.setattr(access_log, "MOST_BYTES", 3)
    for number in range(KEPT + 3):
        server.access_log.write_text(f"line {number}")
        assert rotate_access_log(server, 7)
    assert told == [(7, signal.SIGUSR1)] * (KEPT + 3)
    assert server.access_log.read_text() == ""
    assert len(list(server.proxy_run.glob("access.log.*"))) == KEPT
    assert (server.proxy_run / "access.log.1").read_text() == f"line {KEPT + 2}"
    for path in server.proxy_run.glob("access.log*"):
        assert path.stat().st_mode & 0o777 == 0o640
