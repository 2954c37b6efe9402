"""Honest runs of any names, sizes and DP models: federated, signed and exported, never evaluated.

Everything is the real thing, from ledgers to release; only the shops and the BERT are tiny.
"""

import functools
from contextlib import contextmanager
from unittest.mock import patch

from client.node.settings import merchant_folders
from client.privacy.policy import POLICY_FILE
from common.audit.layout import PUBLIC_KEY
from server.releases.publish import audited_bounds, merchant_privacy
from simulations.data.shop import Shop
from simulations.federation import runner
from simulations.federation.comparisons import Trainer
from simulations.federation.folders import spent_by_merchant
from simulations.federation.in_process_grid import InProcessGrid
from simulations.federation.runner import Watch, run_federation
from simulations.pipeline.publish import publish, run_statement, told_metrics
from tests.support.shops import make_settings, make_shop

# Latin, also outside ASCII; Chinese; Cyrillic; Arabic; Devanagari with joined marks; one é as one
# letter and as two; a flag of two symbols and a family of seven; numbers whose order by letter is
# another than by value; names that differ in case alone; names that break tables, paths and lines.
NAMES = (
    "Ålesund & Co", "Zoë's", "ash", "Ash", "ASH", "Merchant 10", "Merchant 2", "Merchant 1",
    "茶叶店", "红木家具", "Чайная лавка", "чайная лавка", "متجر الشاي", "مكتبة", "चाय की दुकान",
    "Caf\u00e9", "Cafe\u0301", "\U0001f1f3\U0001f1f4 flags",
    "👨\u200d👩\u200d👧\u200d👦", "🫖", "a/b", "..", ".hidden", "back\\slash", 'say "hi"', "it's",
    "two\nlines", "tab\tbed", "| pipe |", "<b>bold</b>", "`code`", "$(x)", "İstanbul", "istanbul",
    "straße", "strasse", "-", "0", " blank ", "x" * 120, "\u202eright to left", "{{ 1 }}",
)  # fmt: skip


class StoppedError(Exception):
    """A run was stopped on purpose."""


class HonestRun:
    """One federation's folder, to be run, stopped, gone on with, and exported."""

    def __init__(self, out, base_model, names, *, cache, shoppers=14, **settings):
        self.out = out
        self.shops = [
            Shop.of(make_shop(name, items=30, shoppers=shoppers, seed=place))
            for place, name in enumerate(names)
        ]
        small = {"rounds": 2, "negatives": 8, "audit_canaries": 32, "size_bracket": 10}
        self.settings = make_settings(base_model=str(base_model), **small | settings)
        self.trainer = Trainer(out, cache, self.settings)
        self.starts, self.refusing = 0, ()  # whose policy does not allow the run

    @property
    def folders(self):
        return merchant_folders(self.out / "merchants")

    @contextmanager
    def _numbered(self):
        """A run's number of its own at each start, as Flower gives it."""
        self.starts += 1
        grid = functools.partial(InProcessGrid, run_id=self.starts)
        with patch.object(runner, "InProcessGrid", grid):
            yield

    def train(self, *, stop_after=None):
        """Run to the end, or until so many rounds are done."""

        def on_round(record, _adapter):
            if record.round_number == stop_after:
                raise StoppedError

        merchants = self.out / "merchants"
        job = self.trainer._prepared(self.shops, merchants, self.settings, "federated")
        for place in self.refusing:
            policy = self.folders[place] / POLICY_FILE
            policy.write_text('dp_models = ["another"]\n'.replace("another", self.other), "utf-8")
        with self._numbered():
            try:
                watch = Watch(on_round=on_round)
                return run_federation(merchants, job.settings, job.folder, job.cache, watch)
            except StoppedError:
                return None

    @property
    def other(self):
        """A DP model that this run does not have."""
        return "central" if self.settings.noise == "local" else "local"

    def export(self, run):
        """Publish the run as `fedtail simulate` does; return the folder and the key to audit by."""
        plan, merchants = run.plan, run.federation
        spent = spent_by_merchant(self.shops, merchants, plan.delta)
        bounds = audited_bounds(plan, run.audits, run.canary_sums)
        privacy = {
            name: merchant_privacy(plan, one, bounds.get(place.name))
            for (name, one), place in zip(spent.items(), self.folders, strict=True)
        }
        statement = run_statement(self.out, run, self.settings, self.shops, privacy)
        publish(
            self.out,
            run,
            self.settings,
            self.shops,
            statement,
            metrics=told_metrics("simulated", "made up", {}),
            code_version="tests",
        )
        return self.out, self.out / PUBLIC_KEY
