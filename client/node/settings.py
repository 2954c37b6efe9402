"""Where this node's shop lies: the only code that knows in which way the app is run.

    deployment   the merchant starts its SuperNode with --node-config 'data="/path/to/shop"'
    simulation   Flower gives a partition number, the run gives `federation`: a folder with one
                 sub-folder a merchant

Everything after `node_settings` sees a folder and a name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from common.errors import FederationError, PolicyError, SettingsError
from common.privacy.accounting.plan import PrivacyPlan
from common.wire.messages import Scalar


@dataclass(frozen=True)
class NodeSettings:
    """One merchant's place on this machine.

    Attributes:
        merchant: Its name in the federation.
        data: The folder with its catalogue and events.
        state: The folder for what the node writes, the privacy ledger first of all.
        cache: The folder for encodings of public text; simulated merchants share one.
        simulated: Whether one person runs the whole federation on this machine.
    """

    merchant: str
    data: Path
    state: Path
    cache: Path
    simulated: bool


def node_settings(
    node_config: Mapping[str, Scalar], run_config: Mapping[str, Scalar]
) -> NodeSettings:
    """Return where the shop lies, from what Flower gives a node.

    In deployment the run's own settings are not looked at: an operator cannot point a merchant's
    node at another folder.

    Raises:
        SettingsError: if neither way of running is configured, or a folder is missing.
    """
    if "data" in node_config:
        data = _folder(node_config["data"], "data")
        merchant = str(node_config.get("merchant", data.name))
        state = Path(str(node_config.get("state", data / "node")))
        return NodeSettings(merchant, data, state, state / "cache", simulated=False)
    if "partition-id" not in node_config:
        raise SettingsError(
            "The node's configuration has no `data`; start the SuperNode with "
            "--node-config 'data=\"/path/to/shop\"'.",
            field="data",
        )
    return _simulated(node_config, run_config)


def _simulated(node_config: Mapping[str, Scalar], run_config: Mapping[str, Scalar]) -> NodeSettings:
    federation = _folder(run_config.get("federation", ""), "federation")
    folder = federation.stat()  # its links are its sub-folders; a moment alone may be two's
    shops = _listed(federation, (folder.st_mtime_ns, folder.st_nlink))
    place, count = int(node_config["partition-id"]), int(node_config.get("num-partitions", 0))
    if count != len(shops):
        raise SettingsError(
            f"The federation folder holds {len(shops)} merchants and Flower simulates {count} "
            f"nodes; set num-supernodes to {len(shops)}.",
            field="federation",
        )
    data = shops[place]
    cache = Path(str(run_config.get("cache") or federation / ".cache"))
    return NodeSettings(data.name, data, data / "node", cache, simulated=True)


@lru_cache(maxsize=1)
def _listed(federation: Path, changed: tuple[int, int]) -> tuple[Path, ...]:  # noqa: ARG001 - another list
    """Return `merchant_folders`, once for all messages of a run: there may be thousands."""
    return tuple(merchant_folders(federation))


def merchant_folders(federation: Path) -> list[Path]:
    """Return a simulated federation's merchants: its visible sub-folders, by number, then name."""
    shown = [
        path for path in federation.iterdir() if path.is_dir() and not path.name.startswith(".")
    ]
    return sorted(shown, key=_by_number)


def _by_number(folder: Path) -> tuple[int, str]:
    digits = re.match(r"[0-9]{1,9}", folder.name)
    return int(digits[0]) if digits else 0, folder.name


def _folder(value: Scalar, field: str) -> Path:
    path = Path(str(value)).expanduser()
    if not value or not path.is_dir():
        raise SettingsError(f"`{field}` must name a folder that exists.", field=field)
    return path.resolve()


def check_refresh(plan: PrivacyPlan, settings: Mapping[str, Scalar]) -> None:
    """Refuse a plan with rounds under the settings of a refresh, and one without under others.

    Raises:
        FederationError: field `refresh_of`.
    """
    if plan.trains == bool(settings.get("refresh_of", "")):
        raise FederationError(
            "The plan has rounds and the settings are a refresh's, or the other way about.",
            field="refresh_of",
        )


def check_dp_model(plan: PrivacyPlan, settings: NodeSettings) -> None:
    """Refuse a plan whose updates leave bare, unless nobody else is there to see them.

    Raises:
        PolicyError: if the node is a real one, and the plan has it add neither its own noise nor a
            share that leaves under a mask.
    """
    if plan.dp_model not in {"local", "distributed"} and not settings.simulated:
        raise PolicyError(
            f"The plan's DP model is {plan.dp_model}: what leaves this node would not be "
            "protected. Only a simulation may do that.",
            field="dp_model",
        )
