"""A run's token reaches its app, and stands in no command that others can read."""

import os
import stat
import subprocess
from pathlib import Path

from flwr.supercore.constant import TaskType
from flwr.supercore.superexec.executor.types import ExecutionSpec

from server.operations import task_launcher
from server.operations.task_launcher import NamelessTokens, launcher_command
from tests.support.doors import operator
from tests.support.flower_engine import free_port

TOKEN = "5" * 64


def test_the_token_is_in_a_file_without_a_name(monkeypatch):
    started = []

    def start(command, *, pass_fds):
        (number,) = pass_fds
        path = Path(command[command.index("--token-file") + 1])
        assert path.is_file()  # as Flower asks
        started.append((command, path.read_text()))
        assert stat.S_IMODE(os.fstat(number).st_mode) == 0o600
        assert os.fstat(number).st_nlink == 0

    monkeypatch.setattr(subprocess, "Popen", start)
    spec = ExecutionSpec(
        task_type=TaskType.SERVER_APP,
        runtime_api_address="127.0.0.1:1",
        token=TOKEN,
        insecure=False,
        root_certificates_path="authority.crt",
        runtime_dependency_install=False,
        parent_pid=None,
        suppress_output=False,
        task_id=1,
    )
    NamelessTokens().launch(spec)
    ((command, read),) = started
    assert read == TOKEN
    assert TOKEN not in " ".join(command)
    assert command[-2:] == ["--root-certificates", "authority.crt"]


def test_no_secret_stands_in_the_launchers_command(tmp_path):
    server = operator(tmp_path / "server", free_port())
    assert task_launcher.__name__ in launcher_command(server, 1)
    assert str(server.authority) in launcher_command(server, 1)
