"""All the training runs of a simulation: the federation, and what it is compared with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from client.node.settings import merchant_folders
from client.shop.dataset import MerchantData, load_merchant_data
from client.shop.interactions import Interactions
from client.shop.pointer import POINTER
from common.adapter import AdapterState
from common.catalogue import Catalogue, Item
from common.errors import InputError
from common.settings.run import RunSettings
from server.run.checkpoint import read_checkpoint
from simulations.data.shop import Shop
from simulations.federation.folders import folder_name, write_federation
from simulations.federation.parallel_runs import Job, OnRound, train_side_by_side
from simulations.federation.runner import FinishedRun, Watch, run_federation

MERCHANTS = "merchants"  # in a simulation's folder
FEDERATED = "checkpoints/federated"  # there: checkpoints and journal of the run that is released


@dataclass(frozen=True, eq=False)
class Comparison:
    """A training beside the federation: what would be if the merchants had done that instead.

    Attributes:
        name: Of its folders.
        shops: Who trains.
        settings: The run's.
    """

    name: str
    shops: Sequence[Shop]
    settings: RunSettings


@dataclass(frozen=True)
class Trainer:
    """Trains on shops, each run in a folder of its own under `folder`.

    A comparison is a run of its own on a copy of the data, with ledgers of its own.
    """

    folder: Path
    cache: Path
    settings: RunSettings

    def federated(self, shops: Sequence[Shop], watch: Watch) -> FinishedRun:
        """Train all shops together: the run that is released."""
        job = self._prepared(shops, self.folder / MERCHANTS, self.settings, "federated")
        return run_federation(job.federation, job.settings, job.folder, job.cache, watch)

    def comparisons(
        self, shops: Sequence[Shop], *, solo: bool, baselines: bool
    ) -> list[Comparison]:
        """Return what the federation is compared with, the longest training first.

        Args:
            shops: That train.
            solo: Whether each of them is trained alone, in this order, behind the others.
            baselines: Whether they are trained without noise, and in one place.
        """
        shared = [self.without_noise(shops), self.centrally(shops)] if baselines else []
        return shared + [self.solo(*each) for each in enumerate(shops) if solo]

    def without_noise(self, shops: Sequence[Shop]) -> Comparison:
        """Return the training of all shops together without any protection."""
        settings = self.settings.model_copy(update={"noise": "none"})
        return Comparison("no-noise", shops, settings)

    def centrally(self, shops: Sequence[Shop]) -> Comparison:
        """Return that on everybody's shoppers as if they were one merchant's, at one epsilon."""
        together = self.settings.size_bracket * len(shops)
        settings = self._alone().model_copy(update={"size_bracket": together})
        return Comparison("central", [one_shop(shops)], settings)

    def solo(self, place: int, shop: Shop) -> Comparison:
        """Return that of one shop alone, at the same epsilon; `place` tells like names apart."""
        return Comparison(f"solo-{place:02d}-{shop.name}", [shop], self._alone())

    def _alone(self) -> RunSettings:
        """Return the settings of one merchant: there is nobody to share the noise with."""
        if self.settings.noise != "distributed":
            return self.settings
        return self.settings.model_copy(update={"noise": "local", "min_merchants": 1})

    def at_epsilon(self, shops: Sequence[Shop], epsilon: float) -> Comparison:
        """Return that of all shops together at another budget, inf without noise."""
        noise = "local" if self.settings.noise == "none" else self.settings.noise
        settings = self.settings.model_copy(
            update={"noise": "none"}
            if math.isinf(epsilon)
            else {"noise": noise, "epsilon": epsilon}
        )
        return Comparison(f"epsilon-{epsilon!r}", shops, settings)

    def compared(
        self, comparisons: Sequence[Comparison], on_round: OnRound, processes: int | None = None
    ) -> list[AdapterState]:
        """Train all of `comparisons`, as `train_side_by_side`; return their adapters."""
        return train_side_by_side(self.jobs(comparisons), on_round, processes)

    def jobs(self, comparisons: Sequence[Comparison]) -> list[Job]:
        """Write the folders of `comparisons`; return what is to be trained."""
        jobs = []
        for one in comparisons:
            plain = "".join(letter if letter.isalnum() else "-" for letter in one.name.lower())
            folder = self.folder / "baselines" / plain
            jobs.append(self._prepared(one.shops, folder, one.settings, plain))
        return jobs

    def _prepared(
        self, shops: Sequence[Shop], folder: Path, settings: RunSettings, name: str
    ) -> Job:
        """Write a federation's folder, or see that what lies there is the same."""
        plan, checkpoints = settings.plan(len(shops)), self.folder / "checkpoints" / name
        started = read_checkpoint(checkpoints)
        if started is not None and started.plan_digest != plan.digest:
            raise InputError(
                f"{self.folder} holds a run under another privacy plan. Give another --out, or "
                "--overwrite to empty this one.",
                field="plan_digest",
            )
        check_same_merchants(shops, folder)
        write_federation(shops, folder, plan)
        return Job(folder, settings, checkpoints, self.cache)


def check_same_merchants(shops: Sequence[Shop], folder: Path) -> None:
    """Refuse to go on in a federation's folder of other merchants.

    Their adapter would pass for one that these trained: also for one that a merchant, held out now,
    had no part in.

    Raises:
        InputError: if a merchant of the folder is none of `shops`, or has other data.
    """
    wanted = {folder_name(place, shop.name): shop for place, shop in enumerate(shops)}
    held = merchant_folders(folder) if folder.exists() else []
    for path in held:
        if not (path / POINTER).exists():
            continue  # a stop came while it was written
        if path.name not in wanted or not _same_past(load_merchant_data(path), wanted[path.name]):
            raise InputError(
                f"{folder.name} holds a run of other merchants. Give another --out, or --overwrite "
                "to empty this one.",
                field="merchants",
            )


def _same_past(data: MerchantData, shop: Shop) -> bool:
    ours, theirs = data.interactions, shop.node_data
    return (
        data.catalogue.digest == shop.data.catalogue.digest
        and ours.shopper_ids == theirs.shopper_ids
        and all(
            np.array_equal(getattr(ours, name), getattr(theirs, name))
            for name in ("shopper", "item", "time")
        )
    )


def one_shop(shops: Sequence[Shop]) -> Shop:
    """Return one shop with everybody's items and shoppers; items of equal text become one."""
    places: dict[str, int] = {}
    items: list[Item] = []
    for shop in shops:
        for item in shop.data.catalogue.items:
            if item.text not in places:
                places[item.text] = len(items)
                items.append(replace(item, item_id=str(len(items))))
    parts = []
    first_shopper = 0
    for shop in shops:
        catalogue, rows = shop.data.catalogue, shop.data.interactions
        place = np.array([places[item.text] for item in catalogue.items], np.int32)
        parts.append((place[rows.item], rows.shopper + np.int32(first_shopper), rows))
        first_shopper += rows.shopper_count
    shopper_ids = tuple(
        f"{place}:{name}"
        for place, shop in enumerate(shops)
        for name in shop.data.interactions.shopper_ids
    )
    all_rows = [part[2] for part in parts]
    joined = Interactions(
        shopper_ids=shopper_ids,
        item_count=len(items),
        shopper=np.concatenate([part[1] for part in parts]),
        item=np.concatenate([part[0] for part in parts]),
        time=np.concatenate([one.time for one in all_rows]),
        basket=np.concatenate([one.basket for one in all_rows]),
        value=np.concatenate([one.value for one in all_rows]),
        timed=all_rows[0].timed,
    )
    order = np.lexsort((joined.item, joined.time, joined.shopper))
    # Two items of a shop that became one may stand in one basket: the first row of them stays.
    rows_at = np.stack([joined.shopper, joined.basket, joined.item])[:, order]
    order = order[np.sort(np.unique(rows_at, axis=1, return_index=True)[1])]
    ordered = replace(
        joined,
        shopper=joined.shopper[order],
        item=joined.item[order],
        time=joined.time[order],
        basket=joined.basket[order],
        value=joined.value[order],
    )
    data = MerchantData(
        "everybody",
        Catalogue(tuple(items)),
        ordered,
        shops[0].data.split_rule,
        catalogue_declared=all(shop.data.catalogue_declared for shop in shops),
    )
    return Shop.of(data)
