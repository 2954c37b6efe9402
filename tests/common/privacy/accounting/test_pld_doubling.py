import math

from hypothesis import given
from hypothesis import strategies as st

from common.privacy.accounting.pld import repeated


@given(st.integers(1, 5000))
def test_it_is_so_many_in_few_steps(count):
    steps = []

    def add(one, other):
        steps.append(1)
        return one + other

    assert repeated(3, count, add) == 3 * count
    assert len(steps) <= 2 * math.log2(count) + 1e-9
