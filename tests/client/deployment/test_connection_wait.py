"""The process that knocks: what it prints, when it tries again and when it stops."""

import os
import subprocess

import pytest

from client.deployment.connection_wait import (
    Answer,
    connection_wait_command,
    read_answers,
    wait_for_connection,
)
from common.errors import EnrolmentError, FederationError
from tests.support.doors import node_of, operator
from tests.support.flower_engine import free_port

AWAY = FederationError("The server is away.", field="server")
OUT = EnrolmentError("Put out.", field="node_key")


@pytest.fixture
def node(tmp_path):
    return node_of(operator(tmp_path / "server", free_port()), tmp_path)


@pytest.fixture
def server(monkeypatch):
    """Let the server answer as told, one connection check after the other."""
    answers = []

    def check_connection(_folder, _now):
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    monkeypatch.setattr("client.deployment.connection_check.check_connection", check_connection)
    monkeypatch.setattr("client.deployment.connection_wait.RETRY_SECONDS", 0.0)
    return answers


def test_a_server_that_lets_the_node_in_is_asked_once(server, node, capsys):
    server += [None, None]
    assert wait_for_connection(node, os.getppid())
    assert len(server) == 1
    assert not capsys.readouterr().out


def test_a_server_that_is_away_is_asked_again_and_that_is_said_once(server, node, capsys):
    server += [AWAY, AWAY, AWAY, None]
    assert wait_for_connection(node, os.getppid())
    assert not server
    said = read_answers(capsys.readouterr().out)
    assert said == [Answer("The server is away.", "server", final=False)]


def test_a_server_that_never_will_is_asked_no_more(server, node, capsys):
    server += [AWAY, OUT, None]
    assert not wait_for_connection(node, os.getppid())
    assert len(server) == 1
    assert read_answers(capsys.readouterr().out)[-1] == Answer("Put out.", "node_key", final=True)


def test_nobody_knocks_for_a_starter_that_is_gone(server, node):
    server += [None]
    assert not wait_for_connection(node, os.getppid() + 1)
    assert len(server) == 1


def test_what_is_no_answer_or_not_whole_is_left_out():
    text = 'a warning\n{"message": "m", "field": "f", "final": true}\n{"other": 1}\n{"mess'
    assert read_answers(text) == [Answer("m", "f", final=True)]
    assert read_answers("") == []


def test_a_real_process_says_that_nobody_is_there(node):
    """On a port where nothing listens; it goes on until it is stopped."""
    with subprocess.Popen(
        connection_wait_command(node.root), stdout=subprocess.PIPE, text=True
    ) as one:
        (answer,) = read_answers(one.stdout.readline())
        assert one.poll() is None
        one.terminate()
    assert (answer.field, answer.final) == ("server", False)
    assert "does not answer" in answer.message
