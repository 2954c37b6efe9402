"""An honest run and a refresh of it: the season of the same merchants taken anew, and exported."""

from datetime import UTC, datetime
from unittest.mock import patch

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
