import socket

import pytest

import client.serving.opening
from client.serving.opening import _free_port, open_page
from client.serving.run import Serving
from client.serving.worker import Worker
from common.errors import InputError

HOST = "127.0.0.1"


@pytest.fixture
def serving(tmp_path):
    return Serving(*[tmp_path] * 4, "sqlite://", *[tmp_path] * 2)


@pytest.fixture
def busy():
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_a_port_that_is_taken_is_passed_over(busy):
    assert busy < _free_port(HOST, busy) < busy + 20


def test_where_no_port_is_free_the_option_is_named(busy, monkeypatch):
    monkeypatch.setattr(client.serving.opening, "_PORTS", 1)
    with pytest.raises(InputError, match="--port"):
        _free_port(HOST, busy)


@pytest.mark.parametrize("stale", [True, False])
def test_one_command_fits_if_that_is_due_then_serves_and_says_where(
    serving, busy, monkeypatch, stale
):
    monkeypatch.setattr(Worker, "fit_if_stale", lambda _: stale)
    monkeypatch.setattr(client.serving.opening, "_has_screen", lambda: False)
    given, lines = [], []

    def serve(served, tell):
        given.append(served)
        served.ready("http://127.0.0.1:1/page/enter?ticket=t")
        tell("ended")

    monkeypatch.setattr(client.serving.opening, "run_service", serve)
    open_page(Serving(**{**vars(serving), "port": busy}), lines.append, browser=True)
    [served] = given
    assert served.port > busy
    assert ("Fitted." in lines) == stale
    assert any("ticket=t" in line for line in lines)


def test_a_browser_is_opened_on_a_screen_alone(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not client.serving.opening._has_screen()
    monkeypatch.setenv("DISPLAY", ":0")
    assert client.serving.opening._has_screen()


def test_a_browser_waits_until_the_service_listens(busy, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    client.serving.opening._browse("http://there", (HOST, busy))
    assert opened == ["http://there"]
