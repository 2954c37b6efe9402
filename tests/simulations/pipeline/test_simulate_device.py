"""A federation on another device, and one whose merchants' devices round differently."""

import itertools

import pytest
import torch

import client.node.participant
from client.training.dp_trainer import PrivateTrainer
from common.audit.audits import audit_run
from common.audit.layout import PUBLIC_KEY
from common.encoder import catalogue_encoder
from common.encoder.device import DEVICE
from common.errors import SettingsError
from simulations.results.schema import load_results
from tests.support.elsewhere import ELSEWHERE
from tests.support.shops import command, simulate_small, small_options


def passes(out):
    return audit_run(out, out / PUBLIC_KEY).passed


def vectors(out):
    return {path.name: path.read_bytes() for path in (out / "contributions").iterdir()}


def test_a_whole_run_elsewhere_is_audited(simulated, device, tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue_encoder, "chosen_device", lambda: device)
    there = simulate_small(tmp_path / "out", tiny_bert)
    assert any(path.name.endswith(f"-{device.type}") for path in (tmp_path / "cache").iterdir())
    assert passes(there)
    if device == ELSEWHERE:  # where the processor computes it after all
        assert vectors(there) == vectors(simulated)


@pytest.mark.parametrize(
    "federation", [{}, {"merchants": 5, "noise": "distributed"}], ids=["local", "distributed"]
)
def test_merchants_whose_devices_round_differently_pass_one_audit(
    simulated, tiny_bert, tmp_path, monkeypatch, federation
):
    """Nothing that is compared between nodes or made again is what a device computed."""
    numbers, unlike = itertools.count(), []

    class Rounding(PrivateTrainer):
        """Of every second node: rows of other bits, and by more than any device rounds."""

        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.share = 2.0**-9 * (next(numbers) % 2)
            unlike.append(self.share)

        def projected(self, gradients):
            rows = super().projected(gradients)  # turned, as a longer row is cut to the same
            return rows * (1 + self.share * (torch.arange(rows.shape[1]) % 2))

    monkeypatch.setattr(client.node.participant, "PrivateTrainer", Rounding)
    out = simulate_small(tmp_path / "out", tiny_bert, **federation)
    assert len(set(unlike)) == 2
    assert passes(out)
    if not federation:  # else a device's rounding would have been lost on the way
        assert vectors(out) != vectors(simulated)


def test_a_device_that_is_absent_is_said_before_anything_is_written(
    tiny_bert, tmp_path, monkeypatch
):
    monkeypatch.setenv(DEVICE, "cpu")
    arguments = [*small_options(tmp_path / "out", tiny_bert), "--overwrite", "--device", "cuda:99"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept.txt").write_text("")
    done = command(arguments, tmp_path / "cache")
    assert isinstance(done.exception, SettingsError)
    assert done.exception.field == "device"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["kept.txt"]


def test_results_tell_the_device(simulated):
    assert load_results(simulated / "results.json").environment.device == "cpu"
