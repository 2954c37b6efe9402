import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.serving.page.charts import sales_curve, scale_to
from client.serving.page.reach import Bin

BINS = st.lists(
    st.builds(
        Bin, st.integers(1, 500), st.floats(0, 1e6), st.floats(0, 1), st.sampled_from(["head"])
    ),
    max_size=60,
)


@settings(max_examples=40)
@given(BINS)
def test_every_column_lies_in_the_box_and_none_on_another(bins):
    curve = sales_curve(bins)
    end = 0.0
    for bar in curve.bars:
        assert bar.x >= end - 1e-6
        end = bar.x + bar.width
        assert bar.width > 0
        assert -1e-9 <= bar.y <= curve.height
        assert bar.y + bar.height == pytest.approx(curve.height)
    assert end <= curve.width + 1e-6
    assert all(-1e-9 <= y <= curve.height for y, _ in curve.lines)


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), max_size=9))
def test_a_scale_holds_every_value_and_its_ticks_are_even(values):
    scale = scale_to(values)
    assert scale.top >= max(values, default=0) * (1 - 1e-9)  # but for rounding
    assert scale.ticks[0] == 0
    assert scale.ticks[-1] == pytest.approx(scale.top)
    assert 3 <= len(scale.ticks) <= 6
    for value in values:
        assert 0 <= scale.at(value) <= 100


def test_a_whisker_stands_where_its_numbers_do():
    found = scale_to([0.4]).whisker(0.1, 0.2, 0.4)
    assert (found.low, found.middle, found.high) == pytest.approx((25, 50, 100))
