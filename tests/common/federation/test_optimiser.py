import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.errors import SettingsError
from common.federation.optimiser import (
    AdamScalar,
    OptimiserState,
    Sgd,
    learning_rate,
    make_optimiser,
)

GRADIENTS = arrays(np.float64, (5, 3), elements=st.floats(-10, 10))


def run(optimiser, gradients, rate=0.1):
    state, vector = OptimiserState.empty(gradients.shape[1]), np.ones(gradients.shape[1])
    for gradient in gradients:
        state, vector = optimiser.step(state, vector, gradient, rate)
    return state, vector


def run_torch(optimiser_of, gradients):
    parameter = torch.nn.Parameter(torch.ones(gradients.shape[1], dtype=torch.float64))
    optimiser = optimiser_of([parameter])
    for gradient in gradients:
        parameter.grad = torch.from_numpy(gradient.copy())
        optimiser.step()
    return parameter.detach().numpy()


@given(GRADIENTS, st.sampled_from([0.0, 0.5, 0.9]))
def test_sgd_equals_torch(gradients, momentum):
    expected = run_torch(lambda p: torch.optim.SGD(p, lr=0.1, momentum=momentum), gradients)
    np.testing.assert_allclose(run(Sgd(momentum), gradients)[1], expected, atol=1e-9)


@given(arrays(np.float64, (5, 1), elements=st.floats(0.01, 10) | st.floats(-10, -0.01)))
def test_on_one_number_scalar_adam_equals_torch(gradients):
    expected = run_torch(
        lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.9, 0.99), eps=1e-12), gradients
    )
    np.testing.assert_allclose(run(AdamScalar(0.9, 0.99), gradients)[1], expected, atol=1e-8)


@given(arrays(np.float64, 4, elements=st.floats(0.1, 10)))
def test_the_first_step_of_scalar_adam_keeps_the_direction(gradient):
    _, vector = run(AdamScalar(), gradient[None, :])
    moved = 1 - vector
    np.testing.assert_allclose(moved, 0.1 * gradient / np.sqrt(np.mean(gradient**2)), rtol=1e-9)


@given(
    arrays(np.float64, (5, 1), elements=st.floats(0.01, 10) | st.floats(-10, -0.01)),
    st.sampled_from([1e-8, 0.015, 3.0]),
)
def test_tau_is_torchs_epsilon(gradients, tau):
    expected = run_torch(
        lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.9, 0.99), eps=tau), gradients
    )
    found = run(AdamScalar(0.9, 0.99, tau), gradients)[1]
    np.testing.assert_allclose(found, expected, atol=1e-8)


@given(arrays(np.float64, (6, 4), elements=st.floats(-1e-3, 1e-3)), st.floats(1e-4, 1))
def test_far_below_the_tau_a_step_is_a_multiple_of_the_gradient(gradients, share):
    """What an adapter learns must not grow because there is less noise to divide by."""
    optimiser = AdamScalar(tau=1e3)
    whole, less = (1 - run(optimiser, scaled)[1] for scaled in (gradients, share * gradients))
    np.testing.assert_allclose(less, share * whole, rtol=1e-4, atol=1e-15)


@given(GRADIENTS, st.sampled_from([Sgd(0.9), AdamScalar(), AdamScalar(tau=0.015)]))
def test_all_memory_is_in_the_state(gradients, optimiser):
    state, vector = run(optimiser, gradients[:3])
    kept = OptimiserState(state.momentum.copy(), state.second_moment, state.steps)
    for gradient in gradients[3:]:
        kept, vector = optimiser.step(kept, vector, gradient, 0.1)
    assert vector.tobytes() == run(optimiser, gradients)[1].tobytes()


def test_a_gradient_of_zero_does_not_divide_by_zero():
    assert np.isfinite(run(AdamScalar(), np.zeros((2, 3)))[1]).all()


def test_schedules():
    assert [learning_rate("constant", 0.5, number, 4) for number in (1, 4)] == [0.5, 0.5]
    cosine = [learning_rate("cosine", 1.0, number, 4) for number in range(1, 6)]
    expected = [1, 0.5 + 0.25 * 2**0.5, 0.5, 0.5 - 0.25 * 2**0.5, 0]
    np.testing.assert_allclose(cosine, expected, atol=1e-12)


def test_settings_out_of_bounds_are_refused():
    for call in (
        lambda: Sgd(1.0),
        lambda: Sgd(-0.1),
        lambda: AdamScalar(beta1=1.0),
        lambda: AdamScalar(beta2=1.5),
        lambda: AdamScalar(tau=0.0),
        lambda: make_optimiser("adam"),
    ):
        with pytest.raises(SettingsError):
            call()
    assert make_optimiser("sgd", momentum=0.5) == Sgd(0.5)
    assert make_optimiser("adam_scalar", beta1=0.5, tau=0.1) == AdamScalar(0.5, 0.99, 0.1)
