"""From a finished run to the records that results.json holds of it."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import JsonValue

from client.recommending.expected_benefit import GAIN_FILE, Gain, GainBySize, SizeGain
from client.shop.dataset import MerchantData
from common.privacy.accounting.accountants import epsilon_pld
from common.release.manifest import Manifest, MeasuredOn
from common.release.statement import NeighboursCost
from common.release.statement_page import season_share
from common.settings.run import RunSettings
from server.run.checkpoint import RoundRecord
from simulations.data.datasets import summarise_dataset
from simulations.data.partition import PartitionKind
from simulations.data.shop import Shop
from simulations.federation.runner import FinishedRun
from simulations.options import SimulationOptions
from simulations.report.epsilon_figure import epsilon_figure
from simulations.report.terminal import label_of
from simulations.results.measures import SpreadMetric
from simulations.results.schema import (
    Dataset,
    ReleaseReference,
    Round,
    SeasonCost,
    popularity_curve,
)
from simulations.results.sections import EpsilonCurve, GateRecord, HeldOut, SizeGains


@dataclass(frozen=True)
class Beside:
    """What is found beside the table of models, by its name in results.json."""

    gate: GateRecord | None = None
    held_out: HeldOut | None = None
    epsilon_curve: EpsilonCurve | None = None
    by_size: tuple[SizeGains, ...] = ()

    @property
    def may_publish(self) -> bool:
        """Whether nothing stands against a release."""
        return self.gate is None or self.gate.passed

    def files(self, measured_on: MeasuredOn) -> dict[str, bytes]:
        """Return what goes into the release folder of it, by file name.

        The gate judges on public data. The curve and the gain by size are of the test shoppers, so
        they stay behind where these are a shop's own (`nothing`).
        """
        curve = None if measured_on == "nothing" else self.epsilon_curve
        by_size = None if measured_on == "nothing" else gain_by_size(self.by_size, measured_on)
        files = {
            f"{name.replace('_', '-')}.json": one.model_dump_json(indent=2).encode() + b"\n"
            for name, one in (("gate", self.gate), ("epsilon_curve", curve))
            if one is not None
        }
        if by_size is not None:
            files[GAIN_FILE] = by_size.model_dump_json(indent=2).encode() + b"\n"
        if curve is not None:
            files["epsilon-curve.svg"] = epsilon_figure(curve).svg.encode()
        return files


def gain_by_size(
    sizes: Sequence[SizeGains], measured_on: Literal["simulated", "public"]
) -> GainBySize | None:
    """Return what a release tells of the fused model's gain by size; None without a size."""

    def gain(size: SizeGains, metric: SpreadMetric) -> Gain:
        found = next(
            (one for one in size.gains if (one.model, one.metric) == ("fused", metric)), None
        )
        if found is None:
            return Gain(mean=None, low=None, high=None)
        return Gain(mean=found.mean, low=found.low, high=found.high)

    if not sizes:
        return None
    return GainBySize(
        measured_on=measured_on,
        sizes=tuple(
            SizeGain(
                size=one.size,
                merchants=one.merchants,
                cases=one.cases,
                alone=label_of(one.alone),
                ndcg=gain(one, "ndcg@10"),
                tail_recall=gain(one, "tail_recall@10"),
            )
            for one in sizes
        ),
    )


def round_record(record: RoundRecord, curve: dict[int, tuple[float, float]]) -> Round:
    """Return a round of results.json."""
    ndcg, tail = curve.get(record.round_number, (None, None))
    finite = record.epsilon is not None and np.isfinite(record.epsilon)
    return Round(
        round=record.round_number,
        epsilon=record.epsilon if finite else None,
        update_norm=record.update_norm,
        bytes_up=record.bytes_up,
        bytes_down=record.bytes_down,
        seconds=record.seconds,
        participants=record.participants,
        ndcg=ndcg,
        tail_recall=tail,
    )


def dataset_record(
    data: MerchantData, shops: Sequence[Shop], how: PartitionKind, *, synthetic: bool
) -> Dataset:
    """Return what was learnt from and tested on."""
    keys = np.concatenate([shop.data.catalogue.text_keys for shop in shops])
    sales = np.concatenate([shop.past.item_counts() for shop in shops])
    texts, place = np.unique(keys, return_inverse=True)
    return Dataset(
        name=data.name,
        synthetic=synthetic,
        shoppers=sum(summarise_dataset(shop.data).shoppers for shop in shops),
        items=len(texts),
        interactions=sum(len(shop.past) for shop in shops),
        cases=sum(len(shop.test_cases.shoppers) for shop in shops),
        split=split_words(data),
        partition=how,
        popularity_curve=popularity_curve(np.bincount(place, weights=sales).astype(np.int64)),
    )


def settings_record(
    settings: RunSettings,
    options: SimulationOptions,
    merchants: int,
    how: PartitionKind,
    chosen: Sequence[str],
) -> dict[str, JsonValue]:
    """Return all settings; under `auto` the names of those that the rule chose."""
    auto = {"auto": ",".join(chosen)} if options.auto else {}
    return {**settings.to_flat(), "merchants": merchants, **_dealt(options, how), **auto}


def _dealt(options: SimulationOptions, how: PartitionKind) -> dict[str, JsonValue]:
    """Return how merchants were made, as far as it is not what it always was."""
    dealt: dict[str, JsonValue] = {"partition": how}
    if how == "dirichlet":
        dealt["alpha"] = options.alpha
    if how == "kinds":
        dealt["kinds"] = options.kinds
    if (sizes := options.sizes_of(how)) != "equal":
        dealt["sizes"] = sizes
    return dealt


def split_words(data: MerchantData) -> str:
    """Return how the test was cut off."""
    rule = data.split_rule
    if rule.kind == "leave_last_out":
        return "leave-last-out: each shopper's last item (the data has an order, but no clock)"
    day = datetime.fromtimestamp(rule.test_from / 1e6, UTC).date().isoformat()
    return f"global in time: test from {day}"


def season_cost(run: FinishedRun, cost: NeighboursCost | None) -> SeasonCost | None:
    """Return what the run's season is and costs; None where it took none.

    Args:
        run: The federation's.
        cost: What its plan alone costs; None without a guarantee.
    """
    season, plan = run.season, run.plan
    if season is None:
        return None
    promised = cost is not None and plan.takes_season
    return SeasonCost(
        ends=tuple(datetime.fromtimestamp(end / 1e6, UTC).isoformat() for end in season.ends),
        merchants=season.merchants,
        noise_multiplier=plan.season_noise_multiplier,
        noise_std=season.noise_std,
        share=season_share(plan, cost.add_or_remove) if promised and cost is not None else None,
        epsilon=epsilon_pld((plan.event("season"),), plan.delta) if promised else None,
    )


def release_reference(manifest: Manifest) -> ReleaseReference:
    """Return which release came of it."""
    return ReleaseReference(
        version=manifest.version,
        digest=manifest.digest,
        signing_key=manifest.signing_key,
        adapter_digest=manifest.adapter.digest,
    )


def commit() -> str:
    """Return the checkout's commit, or nothing where this is not a checkout."""
    git = shutil.which("git")
    if git is None:
        return ""
    asked = [git, "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603 - fixed arguments
    return answer.stdout.strip() if answer.returncode == 0 else ""
