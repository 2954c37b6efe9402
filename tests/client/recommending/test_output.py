import json
import re

import pytest
from rich.console import Console

from client.recommending.explanation import Explanation, HistoryPart
from client.recommending.output import explained_list, list_json, list_table
from client.recommending.recommender import Recommended
from tests.support.shops import make_catalogue

SHOP = make_catalogue(6)
FOR_ANYBODY = {"sales", "season", "not", "popularity"}  # the first words of their rows


def recommended(
    *,
    trend=0.0,
    cold_start=0.0,
    popularity=0.0,
    season=0.0,
    federated_season=0.0,
    parts=((1.25, 0.5), (-0.25, 0.125)),
):
    history = tuple(HistoryPart(place, *part) for place, part in enumerate(parts))
    score = sum(part.total for part in history) + trend + cold_start + popularity
    score += season + federated_season
    why = Explanation(
        item=5,
        score=score,
        history=history,
        collaborative=sum(part.collaborative for part in history),
        text=sum(part.text for part in history),
        trend=trend,
        cold_start=cold_start,
        popularity=popularity,
        season=season,
        federated_season=federated_season,
        text_weight=1.0,
    )
    return Recommended(SHOP.items[5], why, why.because(SHOP), None)


def lines(page):
    console = Console(width=160, color_system=None)
    with console.capture() as captured:
        console.print(page)
    return [line.split() for line in captured.get().splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("one", "row"),
    [
        (recommended(trend=0.75), ["sales", "trend", "0.75"]),
        (recommended(trend=-0.75), ["sales", "trend", "-0.75"]),
        (recommended(season=0.75), ["season", "here", "0.75"]),
        (recommended(federated_season=-0.25), ["season", "elsewhere", "-0.25"]),
        (recommended(cold_start=0.5), ["not", "sold", "yet", "0.50"]),
        (recommended(popularity=2, parts=()), ["popularity", "2.00"]),
    ],
)
def test_what_does_not_depend_on_the_history_has_a_row_by_its_name(one, row):
    shown = lines(explained_list([one], SHOP, "Title"))
    assert row in shown
    assert shown[-1][-1] == f"{one.score:.2f}"
    assert sum(line[0] in FOR_ANYBODY for line in shown) == 1
    [line] = [line for line in lines(list_table([one], "Title")) if "item-5" in line]
    score, shop, text = (float(cell) for cell in line if re.fullmatch(r"-?\d+\.\d\d", cell))
    assert score == pytest.approx(shop + text, abs=0.011)


def test_what_adds_nothing_has_no_row():
    shown = lines(explained_list([recommended()], SHOP, "Title"))
    assert not any(line[0] in FOR_ANYBODY for line in shown)


def test_the_json_names_what_is_added_for_anybody_apart():
    names = ("trend", "cold_start", "popularity", "season", "federated_season")
    for added in ({name: 0.75} for name in names):
        one = recommended(**added)
        [shown] = json.loads(list_json([one], SHOP, "1"))["recommendations"]
        parts = shown["parts"]
        assert {name: parts[name] for name in names if parts[name]} == added
        assert sum(parts.values()) == shown["score"]
        for name in ("collaborative", "text"):
            assert sum(one[name] for one in shown["history"]) == parts[name]
