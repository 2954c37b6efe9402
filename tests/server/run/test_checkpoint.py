import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.adapter import AdapterState
from common.errors import InputError
from common.federation.aggregation import Popularity
from common.federation.optimiser import OptimiserState
from server.run import checkpoint as module
from server.run.checkpoint import (
    VERSION,
    Checkpoint,
    RoundRecord,
    read_checkpoint,
    write_checkpoint,
)

RECORD = RoundRecord(1, 0.5, 10, 20, 3, 1, 0.1, 2.5, None)


def checkpoint_of(number=1, seed=0, *, popularity=True):
    rng = np.random.default_rng(seed)
    keys = np.array([1, 2**64 - 1], dtype=np.uint64)
    return Checkpoint(
        round_number=number,
        adapter=AdapterState({"a.b": rng.normal(size=(2, 3)).astype(np.float32)}),
        optimiser=OptimiserState(rng.normal(size=6), float(rng.random()), number),
        popularity=Popularity(keys, np.array([0.25, 0.75])) if popularity else None,
        history=(RECORD,) * number,
        plan_digest="plan",
        settings_digest="settings",
    )


def same(one, other):
    return (
        one.adapter.digest == other.adapter.digest
        and one.optimiser.momentum.tobytes() == other.optimiser.momentum.tobytes()
        and one.optimiser.second_moment == other.optimiser.second_moment
        and one.optimiser.steps == other.optimiser.steps
        and one.history == other.history
        and (one.round_number, one.plan_digest, one.settings_digest)
        == (other.round_number, other.plan_digest, other.settings_digest)
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.integers(0, 5), st.integers(0, 2**32 - 1), st.booleans())
def test_what_is_read_is_what_was_written(tmp_path, number, seed, popularity):
    written = checkpoint_of(number, seed, popularity=popularity)
    write_checkpoint(tmp_path, written)
    read = read_checkpoint(tmp_path)
    assert same(read, written)
    assert (read.popularity is None) == (not popularity)
    if popularity:
        np.testing.assert_array_equal(read.popularity.text_keys, written.popularity.text_keys)
        np.testing.assert_array_equal(read.popularity.probability, written.popularity.probability)
    assert len(list(tmp_path.iterdir())) == 2  # the one before is gone


def test_a_run_without_privacy_can_be_kept(tmp_path):
    record = replace(RECORD, epsilon=float("inf"))
    write_checkpoint(tmp_path, replace(checkpoint_of(), history=(record,)))
    assert read_checkpoint(tmp_path).history == (record,)


def test_an_empty_folder_has_no_checkpoint(tmp_path):
    assert read_checkpoint(tmp_path) is None


@pytest.mark.parametrize("failing", [1, 2])
def test_a_crash_while_writing_leaves_the_one_before(tmp_path, monkeypatch, failing):
    write_checkpoint(tmp_path, checkpoint_of(1))
    calls = []
    write = module.write_atomic

    def crash(path, content):
        calls.append(path)
        if len(calls) == failing:
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(module, "write_atomic", crash)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path, checkpoint_of(2))
    assert same(read_checkpoint(tmp_path), checkpoint_of(1))


def damage_json(**changes):
    def damage(folder):
        facts = json.loads((folder / "checkpoint.json").read_text())
        for name, value in changes.items():
            if value is None:
                del facts[name]
            else:
                facts[name] = value
        (folder / "checkpoint.json").write_text(json.dumps(facts))

    return damage


def flip_a_bit(folder):
    (path,) = folder.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        lambda folder: next(folder.glob("*.safetensors")).unlink(),
        lambda folder: (folder / "checkpoint.json").write_text("{"),
        lambda folder: (folder / "checkpoint.json").write_text("[]"),
        damage_json(version=VERSION - 1),
        damage_json(history=None),
        damage_json(history=[{}]),
        damage_json(optimiser=3),
        damage_json(tensors="../../etc/passwd"),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    write_checkpoint(tmp_path, checkpoint_of())
    damage(tmp_path)
    with pytest.raises(InputError):
        read_checkpoint(tmp_path)
