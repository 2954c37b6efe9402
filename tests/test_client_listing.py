import json
import re

import pytest
from rich.console import Console
from shops import make_catalogue

from client.explanation import Explanation, HistoryPart
from client.listing import explained_list, list_json, list_table
from client.recommending import Recommended

SHOP = make_catalogue(6)


def recommended(*, trend=0.0, popularity=0.0, parts=((1.25, 0.5), (-0.25, 0.125))):
    history = tuple(HistoryPart(place, *part) for place, part in enumerate(parts))
    score = sum(part.total for part in history) + trend + popularity
    why = Explanation(5, score, history, trend, popularity, 1.0)
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
        (recommended(popularity=2, parts=()), ["popularity", "2.00"]),
    ],
)
def test_what_does_not_depend_on_the_history_has_a_row_by_its_name(one, row):
    shown = lines(explained_list([one], SHOP, "Title"))
    assert row in shown
    assert shown[-1][-1] == f"{one.score:.2f}"
    assert sum(line[0] in {"sales", "popularity"} for line in shown) == 1
    [line] = [line for line in lines(list_table([one], "Title")) if "item-5" in line]
    score, shop, text = (float(cell) for cell in line if re.fullmatch(r"-?\d+\.\d\d", cell))
    assert score == pytest.approx(shop + text, abs=0.011)


def test_without_trend_and_popularity_neither_has_a_row():
    shown = lines(explained_list([recommended()], SHOP, "Title"))
    assert not any(line[0] in {"sales", "popularity"} for line in shown)


def test_the_json_names_trend_and_popularity_apart():
    for trend, popularity in ((0.75, 0.0), (0.0, 2.0)):
        told = json.loads(list_json([recommended(trend=trend, popularity=popularity)], SHOP, "1"))[
            "recommendations"
        ][0]
        parts = told["parts"]
        assert (parts["trend"], parts["popularity"]) == (trend, popularity)
        history = sum(part["goes_together"] + part["text"] for part in parts["history"])
        assert history + trend + popularity == pytest.approx(told["score"], abs=1e-6)
