"""Where this machine encodes and trains: one value, chosen by whoever starts a process.

It is a fact of the machine, like how many cores it has, and no setting of a run: no message and no
file that leaves a node names it. A process hands it to those it starts, in the environment. A model
is put there once, when it is loaded, and what is computed with it follows the model.

What is exact stays where it was: sums, noise, the basis' decompositions and all that a server or an
auditor computes again are numpy's or on the processor (docs/adr/0073-a-device.md).
"""

import functools
import os
import re
from typing import TYPE_CHECKING, Final

from common.errors import SettingsError

if TYPE_CHECKING:
    import torch

DEVICE: Final = "FEDTAIL_DEVICE"  # in the environment
_DEFAULT: Final = "cpu"
_NAME = re.compile(r"auto|cpu|mps|cuda(:[0-9]{1,3})?")


def use_device(name: str | None) -> None:
    """Have this process and those it starts use a device; None leaves what the environment says.

    torch is not loaded: whether the machine has it is found where it is used first.

    Raises:
        SettingsError: field `device`, if it is no name of one.
    """
    if name is not None:
        os.environ[DEVICE] = check_device(name)


def device_environment(configured: str) -> dict[str, str]:
    """Return what tells a process that is started: the environment's word, else what is configured.

    Raises:
        SettingsError: field `device`, if it is no name of one.
    """
    return {DEVICE: check_device(os.environ.get(DEVICE) or configured or _DEFAULT)}


def chosen_device() -> "torch.device":
    """Return the device of this process.

    Raises:
        SettingsError: field `device`, if it is no name of one, or the machine has none such.
    """
    return _found(check_device(os.environ.get(DEVICE) or _DEFAULT))


def cache_mark(device: "torch.device") -> str:
    """Return what the name of a cached encoding has behind it: nothing for the processor.

    Devices round differently. Under one name, what a run computes would depend on which device
    came first.
    """
    return "" if device.type == _DEFAULT else f"-{device.type}"


def hardware(device: "torch.device") -> str:
    """Return what computes: the instructions torch uses, or the name of the card."""
    import torch  # noqa: PLC0415 - the starter of a node asks for a name and loads no torch

    if device.type == "cuda":
        return f"{torch.version.cuda} {torch.cuda.get_device_name(device)}"
    return str(device) if device.type != _DEFAULT else torch.backends.cpu.get_cpu_capability()


def check_device(name: str) -> str:
    """Return `name`.

    Raises:
        SettingsError: field `device`, if it is no name of one.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"device is {name!r}; it must be auto, cpu, cuda, cuda:N or mps.", field="device"
        )
    return name


@functools.cache
def _found(name: str) -> "torch.device":
    import torch  # noqa: PLC0415 - as in `hardware`

    there = _there()
    wanted = there[-1] if name == "auto" else name
    if wanted not in {*there, "cuda" if "cuda:0" in there else _DEFAULT}:
        raise SettingsError(
            f"device is {name!r}, which this machine's torch does not have; it has "
            f"{', '.join(there)}.",
            field="device",
        )
    if wanted != _DEFAULT:
        # A row must come out the same again, or one shopper's absence moves the others' gradients.
        # cuBLAS promises that with this buffer only, and reads it when it is loaded.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True)
        torch.set_float32_matmul_precision("highest")
    return torch.device(wanted)


def _there() -> list[str]:
    """Return the devices of this machine, the one that `auto` takes last."""
    import torch  # noqa: PLC0415 - as in `hardware`

    there = [_DEFAULT]
    if torch.backends.mps.is_available():
        there.append("mps")
    return there + [f"cuda:{number}" for number in reversed(range(torch.cuda.device_count()))]
