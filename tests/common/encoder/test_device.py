"""Names of devices: which are taken, what is said of the others, and that nothing is loaded."""

import os
import subprocess
import sys

import pytest
import torch

from common.encoder import device
from common.encoder.device import (
    DEVICE,
    cache_mark,
    chosen_device,
    device_environment,
    hardware,
    use_device,
)
from common.errors import SettingsError


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """An environment without a device, and with none found before."""
    monkeypatch.setenv(DEVICE, "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    device._found.cache_clear()
    yield
    device._found.cache_clear()
    torch.use_deterministic_algorithms(mode=False)


def have(monkeypatch, *there):
    monkeypatch.setattr(device, "_there", lambda: ["cpu", *there])


def test_it_is_the_processor_unless_asked(monkeypatch):
    have(monkeypatch, "cuda:0")
    assert chosen_device() == torch.device("cpu")
    monkeypatch.delenv(DEVICE)
    assert chosen_device() == torch.device("cpu")
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("name", "there", "found"),
    [
        ("auto", [], "cpu"),
        ("auto", ["mps"], "mps"),
        ("auto", ["cuda:1", "cuda:0"], "cuda:0"),
        ("cuda", ["cuda:1", "cuda:0"], "cuda"),
        ("cuda:1", ["cuda:1", "cuda:0"], "cuda:1"),
        ("mps", ["mps"], "mps"),
        ("cpu", ["mps"], "cpu"),
    ],
)
def test_a_device_that_is_there_is_taken(monkeypatch, name, there, found):
    have(monkeypatch, *there)
    use_device(name)
    assert chosen_device() == torch.device(found)
    assert torch.are_deterministic_algorithms_enabled() == (found != "cpu")
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == (found != "cpu")


@pytest.mark.parametrize(
    ("name", "there"), [("cuda", []), ("cuda", ["mps"]), ("cuda:2", ["cuda:0"]), ("mps", [])]
)
def test_a_device_that_is_absent_is_refused_with_what_there_is(monkeypatch, name, there):
    have(monkeypatch, *there)
    use_device(name)
    with pytest.raises(SettingsError) as caught:
        chosen_device()
    assert caught.value.field == "device"
    assert repr(name) in str(caught.value)
    assert "it has " + ", ".join(["cpu", *there]) in str(caught.value)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CUDA", "cpu ", "meta", "cuda:0\n"])
def test_what_is_no_device_is_refused(monkeypatch, name):
    with pytest.raises(SettingsError, match="auto, cpu, cuda, cuda:N or mps") as caught:
        use_device(name)
    assert caught.value.field == "device"
    with pytest.raises(SettingsError):
        device_environment(name)
    monkeypatch.setenv(DEVICE, name)
    with pytest.raises(SettingsError):
        chosen_device()


def test_the_environment_goes_before_what_is_configured(monkeypatch):
    assert device_environment("") == {DEVICE: "cpu"}
    assert device_environment("mps") == {DEVICE: "mps"}
    use_device("cuda")
    use_device(None)
    assert device_environment("mps") == {DEVICE: "cuda"}


def test_a_cache_of_the_processor_has_the_name_it_had():
    assert cache_mark(torch.device("cpu")) == ""
    assert cache_mark(torch.device("cuda:1")) == "-cuda"
    assert hardware(torch.device("cpu")) == torch.backends.cpu.get_cpu_capability()
    assert hardware(torch.device("mps")) == "mps"


def test_a_name_is_checked_without_torch():
    code = (
        "import sys; from common.encoder.device import use_device, device_environment;"
        "use_device('cuda'); device_environment(''); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
