"""A run's secure sums with all that is real but the model: see `tests.support.secure_town`."""

from collections import Counter

import numpy as np
import pytest

from common.adapter import AdapterState
from common.federation.bounds import Framing
from common.federation.descent import Descent
from common.federation.optimiser import OptimiserState
from common.federation.secure_step import mean_gradient, summed_popularity, summed_season
from server.run.checkpoint import read_checkpoint
from server.run.run_setup import plain_parts
from tests.support.fake_node import SEASON_ENDS, shops
from tests.support.secure_town import NAMES, PLAN, secure_town

__all__ = ["secure_town", "shops"]

ONCE = Counter([("popularity", 0), ("season", 0), ("train", 1), ("train", 2), ("train", 3)])
SUMS = {
    "popularity.sum": ("popularity", 0),
    "season.sum": ("season", 0),
    **{f"round-0000{number}.sum": ("train", number) for number in (1, 2, 3)},
}


LAST = ("round-00002.sum", "round-00003.sum")


def adapter_by_hand(town, rounds=(1, 2, 3)):
    """The adapter that the sums of these rounds give, step by step."""
    setup = town.setup()
    framing = Framing(plain_parts(setup.adapter))
    descent = Descent(setup.optimiser, setup.learning_rate, setup.schedule, PLAN.rounds)
    adapter, state = setup.adapter, OptimiserState.empty(setup.adapter.size)
    for number in rounds:
        total = town.sum_of(f"round-{number:05d}.sum")
        gradient, _ = mean_gradient(total, PLAN, framing)
        step = descent.step_on(adapter, state, number, gradient, total.survivors)
        adapter, state = step.adapter, step.optimiser
    return adapter


def test_each_sum_of_a_run_is_the_plain_sum_of_what_was_masked_to_the_bit(secure_town):
    run = secure_town.run()
    for name, (kind, number) in SUMS.items():
        total = secure_town.sum_of(name)
        assert total.survivors == NAMES
        assert np.array_equal(total.vector, secure_town.plain_sum(kind, number, NAMES)), name
    assert run.state.adapter.digest == adapter_by_hand(secure_town).digest
    assert [record.participants for record in run.history] == [8, 8, 8]
    assert all(secure_town.charged(name) == ONCE for name in NAMES)
    assert [one.participants for one in secure_town.journal("train")] == [NAMES] * 3


def test_popularity_and_season_are_those_of_the_sums(secure_town):
    run = secure_town.run()
    index = np.unique(np.concatenate([one.text_keys for one in run._present.values()]))
    pooled = summed_popularity(secure_town.sum_of("popularity.sum"), PLAN, index)
    assert np.array_equal(pooled.text_keys, index)
    assert np.array_equal(pooled.probability, run.state.popularity.probability)
    season = summed_season(secure_town.sum_of("season.sum"), PLAN, SEASON_ENDS)
    assert np.array_equal(season.vectors, run.state.season.vectors)
    assert (run.state.season.merchants, season.ends) == (8, SEASON_ENDS)
    assert run.state.season.noise_std == pytest.approx(PLAN.noise_std("season") * np.sqrt(8))


def test_no_masked_vector_tells_its_summand(secure_town):
    """Two runs of the same numbers have nothing of a vector in common."""
    secure_town.run()
    for masked in secure_town.transcript("round-00001.sum").masked:
        bare = secure_town.made[masked.name, "train", 1].view(np.uint64)
        assert not (masked.vector == bare).any()


# ------------------------------------------------------------------- who is missing
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("kind", "there"),
    [("train", NAMES[:6]), ("view", NAMES[:7]), ("unmask", NAMES[:7])],
)
def test_a_round_goes_on_without_those_who_are_missing_in_a_step(secure_town, kind, there, when):
    """In round 1 the last is missing, so that there are views, and one more in the step."""
    gone = {("train", 7, 1): "before", (kind, 6, 1): when}
    run = secure_town.run(rounds=1, loses=gone)
    total = secure_town.sum_of("round-00001.sum")
    assert total.survivors == there
    assert np.array_equal(total.vector, secure_town.plain_sum("train", 1, there))
    assert run.history[0].participants == len(there)
    assert secure_town.journal("train")[0].participants == there


def test_a_round_that_more_miss_than_the_plan_spares_is_given_up_and_stays_charged(secure_town):
    """The next is taken in a new setup, with those who are there then."""
    gone = {("train", place, 1): "after" for place in (5, 6, 7)}
    run = secure_town.run(loses=gone)
    assert [one.participants for one in run.history] == [0, 8, 8]
    assert all(secure_town.charged(name) == ONCE for name in NAMES)  # and once, as the plan says
    first, second, _ = secure_town.journal("train")
    assert (first.participants, first.reason, first.given_up) == ((), "quorum:train", True)
    assert first.adapter == secure_town.setup().adapter.digest != second.adapter
    assert (len(first.receipts), len(second.receipts)) == (5, 8)
    assert "quorum:train" in [one.reason for one in secure_town.journal("refusal")]
    assert run.state.adapter.digest == adapter_by_hand(secure_town, (2, 3)).digest
    rosters = {secure_town.transcript(name).roster.digest for name in ("season.sum", *LAST)}
    assert len(rosters) == 2


def test_whoever_does_not_see_the_setup_through_is_left_out_of_the_run(secure_town):
    run = secure_town.run(loses={("share", 3, 1): "after"})
    there = NAMES[:3] + NAMES[4:]
    assert secure_town.sum_of("round-00003.sum").survivors == there
    assert run.history[-1].failures == 0
    assert not secure_town.charged(NAMES[3])


# ---------------------------------------------------------------- stops and starts
@pytest.mark.parametrize("new_run", [True, False])
def test_a_run_goes_on_where_it_stopped_in_a_setup_of_its_own(secure_town, new_run):
    """Flower gives a run that goes on another number; in one process it may have the same."""
    secure_town.run(rounds=1)
    first = secure_town.transcript("round-00001.sum").roster
    run = secure_town.run(new_run=new_run)
    assert run.state.round_number == 3
    assert secure_town.transcript("round-00003.sum").roster.digest != first.digest
    assert all(secure_town.charged(name) == ONCE for name in NAMES)
    assert run.state.adapter.digest == adapter_by_hand(secure_town).digest


def test_a_stop_between_mask_and_sum_takes_the_round_again_and_charges_it_again(secure_town):
    class StopError(Exception):
        pass

    def stop(content):
        raise StopError

    with pytest.raises(StopError):
        secure_town.run(asks={("unmask", 0, 3): stop})  # after histogram and season: round 1
    run = secure_town.run(new_run=False)
    again = {**ONCE, ("train", 1): 2}
    assert secure_town.charged(NAMES[0]) == again
    assert run.state.adapter.digest == adapter_by_hand(secure_town).digest
    held = read_checkpoint(secure_town.run_folder)
    assert isinstance(held.adapter, AdapterState)
