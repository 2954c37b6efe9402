"""A run's state on the coordinator's disk after each round, so that a stopped run goes on.

A folder holds `checkpoint.json`, which names one safetensors file and its SHA-256. The tensors
are written first under a name of their own, then the JSON file replaces the old one in one move:
a crash at any point leaves one of the two checkpoints whole.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from common.adapter import AdapterState
from common.errors import FederationError, FedtailError, InputError
from common.federation.aggregation import Popularity
from common.federation.optimiser import OptimiserState
from common.files import sha256_hex, write_atomic
from common.season import Season

POINTER = "checkpoint.json"
VERSION = 2  # 1: what the nodes sent was not signed, so no audit could make the adapter again
_AS_BY_OTHERS = "or by a version of fedtail that has others"
_ANEW = (
    "a new run, in another folder or under another name of its experiment, goes on with the ledgers"
)
_ADAPTER = "adapter/"
_MOMENTUM = "optimiser/momentum"
_KEYS = "popularity/text_keys"
_PROBABILITY = "popularity/probability"
_SEASON = "season"  # the bytes of its file


@dataclass(frozen=True)
class RoundRecord:
    """What the coordinator may show about a round: sizes, times and noised numbers.

    Attributes:
        round_number: Counted from 1.
        seconds: Wall time.
        bytes_down: Sent to nodes, preparation of newcomers included.
        bytes_up: Received from nodes.
        participants: Nodes whose update was used.
        failures: Nodes that were asked and gave no usable update.
        learning_rate: The step size.
        update_norm: L2 norm of the mean update, noise included.
        epsilon: Spent by a merchant that took part in every round so far; None where the caller
            gave no way to tell.
    """

    round_number: int
    seconds: float
    bytes_down: int
    bytes_up: int
    participants: int
    failures: int
    learning_rate: float
    update_norm: float
    epsilon: float | None


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything the next round needs, and the digests that say which run it belongs to."""

    round_number: int
    adapter: AdapterState
    optimiser: OptimiserState
    popularity: Popularity | None
    history: tuple[RoundRecord, ...]
    plan_digest: str
    settings_digest: str
    season: Season | None = None


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint to `folder` and remove the one before it; return the JSON file's path.

    Raises:
        FederationError: if it cannot be written; the one before it stays.
    """
    try:
        return _write(folder, checkpoint)
    except OSError as error:
        raise FederationError(
            f"The checkpoint of round {checkpoint.round_number} cannot be written: "
            f"{error.strerror}. The one before it is whole; the same run goes on from there.",
            field="checkpoint",
        ) from error


def _write(folder: Path, checkpoint: Checkpoint) -> Path:
    content = save(_tensors(checkpoint))
    digest = sha256_hex(content)
    name = f"checkpoint-{checkpoint.round_number:05d}-{digest[:8]}.safetensors"
    write_atomic(folder / name, content)
    facts = {
        "version": VERSION,
        "round": checkpoint.round_number,
        "tensors": name,
        "tensors_sha256": digest,
        "adapter_digest": checkpoint.adapter.digest,
        "optimiser": {
            "second_moment": checkpoint.optimiser.second_moment,
            "steps": checkpoint.optimiser.steps,
        },
        "plan_digest": checkpoint.plan_digest,
        "settings_digest": checkpoint.settings_digest,
        "history": [asdict(record) for record in checkpoint.history],
    }
    pointer = folder / POINTER
    write_atomic(pointer, json.dumps(facts, indent=2).encode())
    for old in folder.glob("checkpoint-*.safetensors"):
        if old.name != name:
            old.unlink()
    return pointer


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the checkpoint in `folder`, or None if there is none.

    Raises:
        InputError: if the JSON or the tensors are incomplete, altered or of another version.
    """
    pointer = folder / POINTER
    if not pointer.exists():
        return None
    try:
        facts = json.loads(pointer.read_bytes())
        if facts["version"] != VERSION:
            raise _broken("version", f"is of another version than {VERSION}")
        content = (folder / Path(facts["tensors"]).name).read_bytes()
        if sha256_hex(content) != facts["tensors_sha256"]:
            raise _broken("tensors", "has tensors that do not match their SHA-256")
        return _checkpoint(facts, load(content))
    except FedtailError:
        raise
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        raise _broken("checkpoint", f"cannot be read ({type(error).__name__})") from error


def read_history(folder: Path) -> tuple[RoundRecord, ...]:
    """Return the records of the rounds that a run has done; none where there is no checkpoint.

    The tensors are not looked at, so another process may be writing the next checkpoint.

    Raises:
        InputError: if the JSON is incomplete or of another version.
    """
    try:
        facts = json.loads((folder / POINTER).read_bytes())
        return _history(facts)
    except FileNotFoundError:
        return ()
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise _broken("checkpoint", f"cannot be read ({type(error).__name__})") from error


def read_matching(folder: Path, plan_digest: str, settings: str) -> Checkpoint | None:
    """Return the checkpoint in `folder` if it belongs to this plan and these settings.

    Args:
        folder: Where the run writes.
        plan_digest: The plan of the run that wants to go on.
        settings: Its `settings_digest`.

    Raises:
        InputError: if there is one and it is broken or belongs to another run: going on would mix
            two runs, and starting over would overwrite one.
    """
    checkpoint = read_checkpoint(folder)
    if checkpoint is None:
        return None
    if checkpoint.plan_digest != plan_digest:
        raise _broken("plan_digest", f"was made under another privacy plan; {_ANEW}")
    if checkpoint.settings_digest != settings:
        raise _broken("settings_digest", f"was made with other settings, {_AS_BY_OTHERS}; {_ANEW}")
    return checkpoint


def _broken(field: str, what: str) -> InputError:
    return InputError(f"The checkpoint {what}.", field=field)


def _tensors(checkpoint: Checkpoint) -> dict[str, NDArray[Any]]:
    tensors: dict[str, NDArray[Any]] = {
        _ADAPTER + name: tensor for name, tensor in checkpoint.adapter.tensors.items()
    }
    tensors[_MOMENTUM] = np.ascontiguousarray(checkpoint.optimiser.momentum)
    if checkpoint.popularity is not None:
        tensors[_KEYS] = checkpoint.popularity.text_keys
        tensors[_PROBABILITY] = checkpoint.popularity.probability
    if checkpoint.season is not None:
        tensors[_SEASON] = np.frombuffer(checkpoint.season.to_bytes(), dtype=np.uint8)
    return tensors


def _checkpoint(facts: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Checkpoint:
    adapter = {
        name.removeprefix(_ADAPTER): tensor
        for name, tensor in tensors.items()
        if name.startswith(_ADAPTER)
    }
    optimiser = facts["optimiser"]
    popularity = None
    if _KEYS in tensors:
        popularity = Popularity(tensors[_KEYS], tensors[_PROBABILITY])
    return Checkpoint(
        round_number=int(facts["round"]),
        adapter=AdapterState(adapter),
        optimiser=OptimiserState(
            tensors[_MOMENTUM], float(optimiser["second_moment"]), int(optimiser["steps"])
        ),
        popularity=popularity,
        history=_history(facts),
        plan_digest=str(facts["plan_digest"]),
        settings_digest=str(facts["settings_digest"]),
        season=Season.from_bytes(tensors[_SEASON].tobytes()) if _SEASON in tensors else None,
    )


def _history(facts: dict[str, Any]) -> tuple[RoundRecord, ...]:
    names = [field.name for field in fields(RoundRecord)]
    return tuple(
        RoundRecord(**{name: record[name] for name in names}) for record in facts["history"]
    )
