"""What joining brings by size of merchant, over the runs of a group: rows for the page."""

from collections.abc import Iterator
from typing import Final

from simulations.results.measures import METRICS, SPREAD_METRICS
from simulations.results_page.seeds import Group
from simulations.results_page.targets import shown_difference

SIZE_HEADINGS: Final = (
    "shoppers, about",
    "seed",
    "merchants",
    "cases",
    "difference",
    *(METRICS[metric] for metric in SPREAD_METRICS),
)


def size_rows(group: Group) -> list[list[str]]:
    """Return a row for each run, size and joined model, under SIZE_HEADINGS."""
    rows = []
    for run in group.runs:
        for size in run.by_size:
            for model in dict.fromkeys(one.model for one in size.gains):
                gains = {one.metric: one for one in size.gains if one.model == model}
                shown = [
                    shown_difference(gains[metric]) if metric in gains else "not measured"
                    for metric in SPREAD_METRICS
                ]
                told = [f"{size.size:,}", f"{run.seed}", f"{size.merchants}", f"{size.cases:,}"]
                rows.append([*told, f"`{model}` − `{size.alone}`", *shown])
    return rows


def own_best_told(group: Group) -> Iterator[str]:
    """Yield at how many merchants joining is clearly worse than their own best, if measured."""
    found = [run.fairness.own_best for run in group.runs if run.fairness]
    known = [one for one in found if one is not None]
    if known:
        yield (
            f"`fused` against each merchant's own best alone, of merchants with "
            f"{known[0].min_cases} test cases or more over all seeds: "
            f"{sum(one.better for one in known)} clearly better, "
            f"{sum(one.worse for one in known)} clearly worse of "
            f"{sum(one.merchants for one in known)}.\n"
        )
