"""An honest run and a refresh of it: the season of the same merchants taken anew, and exported."""

from datetime import UTC, datetime
from unittest.mock import patch

import numpy as np

from common.adapter import AdapterState
from common.audit.layout import RELEASE
from common.release.manifest import ADAPTER_FILE
from simulations.federation.refresh import EarlierRun
from simulations.federation.runner import Watch
from tests.support.honest_runs import HonestRun

FIRST_END, LATER_END = "1970-10-01", "1970-11-01"


class RefreshedRun(HonestRun):
    """A refresh of another run, with a folder of its own."""

    def __init__(self, out, earlier, *, of=None, **asked):
        self.out, self.earlier, self.starts = out, earlier, 0
        self.shops, self.trainer, self.refusing = earlier.shops, earlier.trainer, ()
        self.before = EarlierRun.open(of or earlier.out)
        values = {"epsilon": 0.5, **asked}
        self.settings = self.before.settings(LATER_END, values, len(self.shops))

    @property
    def folders(self):
        return self.earlier.folders

    def refresh(self):
        """Take the season; the same call goes on."""
        cache = self.trainer.cache
        return self.before.refreshed(self.shops, self.settings, self.out, cache, Watch())


def honest_then_refreshed(
    root, base_model, cache, *, names=("ash", "birch"), asked=None, **settings
):
    """Return a run of `names` and a refresh of it, both exported, in the same second."""
    with patch("simulations.pipeline.publish.datetime") as clock:
        clock.now.return_value = datetime.now(UTC)
        values = {"audit_canaries": 0, "season_ends": FIRST_END, **settings}
        earlier = HonestRun(root / "earlier", base_model, names, cache=cache, **values)
        earlier.export(earlier.train())
        later = RefreshedRun(root / "refreshed", earlier, **asked or {})
        later.export(later.refresh())
    return earlier, later


def give_another_adapter(forger, key=None):
    """Sign another adapter into a release, with a digest that fits it."""
    held = AdapterState.from_bytes((forger.folder / RELEASE / ADAPTER_FILE).read_bytes())
    tensors = {name: one + np.float32(".lora_B." in name) for name, one in held.tensors.items()}
    only_b = {name: one for name, one in tensors.items() if ".lora_B." in name}
    forger.release(
        lambda document: document["adapter"].update(digest=AdapterState(only_b).digest),
        key=key,
        **{ADAPTER_FILE: AdapterState(tensors).to_bytes()},
    )
