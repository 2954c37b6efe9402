import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from client.recommending.expected_benefit import (
    GAIN_FILE,
    GainBySize,
    gain_json,
    gain_table,
    read_gain_by_size,
)
from common.errors import ReleaseError

UNKNOWN = {"mean": None, "low": None, "high": None}


def size(shoppers, mean, **changes):
    gain = {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}
    return {
        "size": shoppers,
        "merchants": 3,
        "cases": 40,
        "alone": "Frozen text, fused",
        "ndcg": gain,
        "tail_recall": UNKNOWN,
        **changes,
    }


def content(**changes):
    sizes = [size(30, 0.02), size(300, 0.005, alone="EASE [with] titles"), size(1000, -0.001)]
    return json.dumps({"measured_on": "simulated", "sizes": sizes, **changes}).encode()


def test_a_release_without_the_file_says_nothing():
    assert read_gain_by_size({}) is None
    assert gain_json(None, 40) is None


@given(st.integers(0, 10_000))
def test_the_nearest_size_by_ratio_speaks_for_a_shop(shoppers):
    found = read_gain_by_size({GAIN_FILE: content()}).at(shoppers).size
    # 95 and 548 lie half way by ratio.
    assert found == (30 if shoppers < 95 else 300 if shoppers < 548 else 1000)


def test_the_table_marks_the_shops_own_size_and_shows_a_loss_as_one():
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(gain_table(read_gain_by_size({GAIN_FILE: content()}), 250))
    shown = capture.get()
    words = " ".join(shown.split())
    [mine] = [line for line in shown.splitlines() if "→" in line]
    assert "about 300" in mine
    assert "EASE [with] titles" in mine, "what a release says is no markup"
    for told in ("made-up shops", "This shop has 250 shoppers", "-0.0010", "undefined"):
        assert told in words


def test_a_program_gets_the_same():
    found = gain_json(read_gain_by_size({GAIN_FILE: content()}), 250)
    assert (found["shoppers"], found["nearest_size"]) == (250, 300)
    assert (
        GainBySize.model_validate_json(content()).sizes[0].ndcg.mean
        == found["sizes"][0]["ndcg"]["mean"]
    )


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (b"{", "the document"),
        (content(sizes=[]), "sizes"),
        (content(measured_on="nothing"), "measured_on"),
        (content(more=1), "more"),
        (content(sizes=[size(0, 0.1)]), "size"),
    ],
)
def test_another_file_is_refused_by_field(broken, told):
    with pytest.raises(ReleaseError, match=told):
        read_gain_by_size({GAIN_FILE: broken})
