import os
import signal
import stat
import sys
import threading
import time

import pytest

from common.errors import InputError
from common.processes import (
    flower_environment,
    interruptible,
    serving,
    start_child,
    stopping,
    wait_for_end,
)

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""


def say(text):
    return [sys.executable, "-c", f"print({text!r})"]


def test_output_goes_to_a_file_of_its_owner_and_the_one_before_is_kept(tmp_path):
    log = tmp_path / "log" / "a.log"
    for text in ("first", "second"):
        child = start_child("a", say(text), log)
        assert wait_for_end([child]) is child
        assert (child.ended, child.last_output()) == (0, f"{text}\n")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert log.with_name("a.log.1").read_text() == "first\n"


def test_a_command_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot be started"):
        start_child("a", [str(tmp_path / "nothing")], tmp_path / "a.log")


def test_all_are_stopped_however_the_block_ends_also_those_that_will_not(tmp_path, monkeypatch):
    monkeypatch.setattr("common.processes.STOP_SECONDS", 0.5)
    children = [
        start_child("tame", SLEEP, tmp_path / "tame.log"),
        start_child("stubborn", [sys.executable, "-c", STUBBORN], tmp_path / "stubborn.log"),
    ]
    while "up" not in children[1].last_output():
        time.sleep(0.05)
    with pytest.raises(ZeroDivisionError), stopping(children):
        _ = 1 / 0
    assert [child.ended for child in children] == [-signal.SIGTERM, -signal.SIGKILL]


def test_the_first_to_end_is_returned(tmp_path):
    children = [
        start_child("long", SLEEP, tmp_path / "long.log"),
        start_child("short", say("x"), tmp_path / "short.log"),
    ]
    with stopping(children):
        assert wait_for_end(children).name == "short"


def test_a_service_manager_stops_as_ctrl_c_does():
    before = signal.getsignal(signal.SIGTERM)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
    with interruptible():
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            wait_for_end([])
    assert signal.getsignal(signal.SIGTERM) is before


def serve(children):
    with serving(), stopping(children):
        wait_for_end(children)


@pytest.mark.parametrize("asked", [True, False])
def test_a_service_that_was_asked_to_stop_ends_with_0(tmp_path, asked):
    """SIGTERM ends it with 0, its children stopped; Ctrl-C stays what it is to a person."""
    before, children = signal.getsignal(signal.SIGTERM), [start_child("a", SLEEP, tmp_path / "log")]
    ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` ignores it
    number = signal.SIGTERM if asked else signal.SIGINT
    timer = threading.Timer(0.5, os.kill, (os.getpid(), number))
    timer.start()
    try:
        with pytest.raises(SystemExit if asked else KeyboardInterrupt) as caught:
            serve(children)
    finally:
        signal.signal(signal.SIGINT, ctrl_c)
    if asked:
        assert caught.value.code == 0
    assert children[0].ended is not None
    assert signal.getsignal(signal.SIGTERM) is before


def test_flower_reports_nothing_installs_nothing_and_keeps_to_its_home(tmp_path):
    environment = flower_environment(tmp_path / "home")
    assert environment["FLWR_HOME"] == str(tmp_path / "home")
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    first = environment["PATH"].split(os.pathsep)[0]
    assert os.access(os.path.join(first, "flower-superlink"), os.X_OK)  # noqa: PTH118 - a PATH entry
