"""The step is the same to the bit, whoever answers first and however numbers are added."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.adapter import AdapterState
from common.federation.descent import Descent
from common.federation.optimiser import AdamScalar, OptimiserState, Sgd
from tests.support.shops import make_settings

SIZE = 5
UPDATES = st.dictionaries(
    st.text(min_size=1, max_size=5),
    arrays(np.float32, SIZE, elements=st.floats(-1e6, 1e6, width=32)),
    min_size=1,
    max_size=4,
)
START = AdapterState({"b": np.zeros(SIZE, dtype=np.float32)})


@given(UPDATES, st.randoms(use_true_random=False))
def test_the_order_of_arrival_is_not_in_the_step(updates, random):
    shuffled = list(updates.items())
    random.shuffle(shuffled)
    descent = Descent(AdamScalar(), 0.1, "cosine", 3)
    one = descent.step(START, OptimiserState.empty(SIZE), 2, updates)
    other = descent.step(START, OptimiserState.empty(SIZE), 2, dict(shuffled))
    assert one.adapter.digest == other.adapter.digest
    assert one.optimiser.momentum.tobytes() == other.optimiser.momentum.tobytes()
    assert one.optimiser.second_moment == other.optimiser.second_moment


@given(arrays(np.float64, 50, elements=st.floats(-1e3, 1e3)), st.permutations(range(50)))
def test_the_order_of_summation_is_not_in_the_second_moment(gradient, order):
    """The exact sum, rounded once: of no machine's order of adding."""
    state = OptimiserState.empty(50)
    one, _ = AdamScalar().step(state, np.zeros(50), gradient, 0.1)
    other, _ = AdamScalar().step(state, np.zeros(50), gradient[order], 0.1)
    assert one.second_moment == other.second_moment
    exact = float(sum(Fraction(x) for x in np.square(gradient).tolist()))
    assert math.isclose(one.second_moment, (1 - 0.99) * exact / 50, rel_tol=1e-15)


def test_no_update_takes_no_step():
    step = Descent(Sgd(), 0.1, "constant", 3).step(START, OptimiserState.empty(SIZE), 1, {})
    assert (step.adapter.digest, step.participants) == (START.digest, 0)


def test_a_runs_settings_name_its_descent():
    settings = make_settings(optimiser="sgd", momentum=0.3, learning_rate=0.2, schedule="cosine")
    assert Descent.of(settings) == Descent(Sgd(0.3), 0.2, "cosine", settings.rounds)
    settings = make_settings(optimiser="adam_scalar", momentum=0.7, tau=0.2)
    assert Descent.of(settings).optimiser == AdamScalar(beta1=0.7, tau=0.2)
