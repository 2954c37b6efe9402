import itertools

import numpy as np
import pytest
from flwr.app import Error, Message, RecordDict
from flwr.clientapp import ClientApp
from hypothesis import given
from hypothesis import strategies as st

from common.errors import FederationError, QuorumError, SettingsError
from common.wire import messages
from common.wire.sizes import size_in_bytes
from server.run.cohort import MAX_PREPARE_ATTEMPTS, Cohort, Quorum
from server.run.exchange import Exchange
from simulations.federation.in_process_grid import InProcessGrid

REQUEST = messages.PrepareRequest(b"basis", {}, "{}")
KEYS = np.array([1, 2], dtype=np.uint64)


def app_of(answer):
    """A client app whose preparation is `answer(partition)`: a name, an error or None."""
    app = ClientApp()

    @app.query("prepare")
    def prepare(message, context):
        given_answer = answer(context.node_config["partition-id"])
        if isinstance(given_answer, Error):
            return Message(given_answer, reply_to=message)
        if given_answer is None:
            return Message(RecordDict(), reply_to=message)
        return Message(
            messages.encode_prepared(messages.Prepared(given_answer, "digest", KEYS)),
            reply_to=message,
        )

    return app


class ComingAndGoing(InProcessGrid):
    """A grid where only the nodes in `here` (by partition) are connected."""

    here = ()

    def get_node_ids(self):
        nodes = list(super().get_node_ids())
        return [nodes[place] for place in self.here]


class Ticking(Exchange):
    """Each look at the clock is a second later than the one before; nobody sleeps."""

    slept = staticmethod(lambda _: None)

    def __init__(self, grid):
        super().__init__(grid)
        self.ticks = itertools.count()

    def clock(self):
        return next(self.ticks)

    def sleep(self, seconds):
        self.slept(seconds)


def assemble(cohort, grid, minimum=1, wait=0.0):
    return cohort.assemble(Ticking(grid), Quorum(minimum, 1.0, wait))


@given(st.integers(1, 50), st.integers(1, 50), st.floats(0.01, 1))
def test_a_quorum_is_the_greater_of_minimum_and_fraction(asked, minimum, fraction):
    needed = Quorum(minimum, fraction).needed(asked)
    assert needed >= minimum
    assert needed >= fraction * asked
    assert needed == minimum or needed - 1 < fraction * asked


@pytest.mark.parametrize("values", [(0, 0.5), (1, 0.0), (1, 1.1)])
def test_a_quorum_out_of_bounds_is_refused(values):
    with pytest.raises(SettingsError):
        Quorum(*values)


def test_members_come_in_order_of_their_names_whatever_their_ids():
    names = ["cedar", "ash", "birch"]
    present = assemble(Cohort(REQUEST, 1.0), InProcessGrid(app_of(names.__getitem__), 3, {}), 3)
    assert [held.merchant for held in present.values()] == ["ash", "birch", "cedar"]
    assert list(present) == [1001, 1002, 1000]


def test_it_waits_for_nodes_and_gives_up_in_time():
    grid = ComingAndGoing(app_of("abc".__getitem__), 3, {})
    arrivals = iter([(), (0,), (0,), (0, 2)])

    def sleep(_):
        grid.here = next(arrivals)

    exchange, cohort = Ticking(grid), Cohort(REQUEST, 1.0)
    exchange.slept = sleep
    present = cohort.assemble(exchange, Quorum(2, 1.0, wait_seconds=20))
    assert [held.merchant for held in present.values()] == ["a", "c"]
    grid.here = (0,)
    with pytest.raises(QuorumError) as caught:
        assemble(cohort, grid, 2, wait=5)
    assert caught.value.field == "nodes"


def test_a_node_that_refuses_is_not_asked_again():
    asked = []

    def answer(place):
        asked.append(place)
        return Error(messages.ERROR_CODE, "policy:dp_model") if place == 0 else f"m{place}"

    grid, cohort = InProcessGrid(app_of(answer), 2, {}), Cohort(REQUEST, 1.0)
    for _ in range(3):
        assert len(assemble(cohort, grid)) == 1
    assert asked == [0, 1]
    assert cohort.refused == {1000: "policy:dp_model"}


def test_a_node_that_crashes_is_asked_a_few_times():
    asked = []

    def answer(place):
        asked.append(place)
        raise ValueError

    grid, cohort = InProcessGrid(app_of(answer), 1, {}), Cohort(REQUEST, 1.0)
    for _ in range(MAX_PREPARE_ATTEMPTS + 2):
        with pytest.raises(QuorumError):
            assemble(cohort, grid)
    assert len(asked) == MAX_PREPARE_ATTEMPTS


def test_a_reply_without_the_facts_is_a_refusal():
    cohort = Cohort(REQUEST, 1.0)
    with pytest.raises(QuorumError):
        assemble(cohort, InProcessGrid(app_of(lambda _: None), 1, {}))
    assert cohort.refused == {1000: "federation:facts"}


def test_a_merchant_may_come_back_under_a_new_node_id():
    grid, cohort = ComingAndGoing(app_of(lambda _: "ash"), 2, {}), Cohort(REQUEST, 1.0)
    grid.here = (0,)
    assert list(assemble(cohort, grid)) == [1000]
    grid.here = (1,)
    assert list(assemble(cohort, grid)) == [1001]
    grid.here = (0, 1)
    assert list(assemble(cohort, grid)) == [1001]


def test_answers_from_strangers_and_second_answers_are_not_looked_at():
    class Noisy(InProcessGrid):
        def send_and_receive(self, messages, *, timeout=None):
            messages = list(messages)
            replies = list(super().send_and_receive(messages, timeout=timeout))
            stranger = Message(RecordDict(), 1, "query.prepare")
            stranger.metadata.__dict__["_src_node_id"] = 7
            return [stranger, *replies, *replies]

    exchange = Exchange(Noisy(app_of(str), 2, {}))
    answers = exchange.ask(
        [
            Message(messages.encode_prepare(REQUEST), node, messages.PREPARE)
            for node in exchange.connected()
        ],
        1.0,
    )
    assert sorted(answers.replies) == [1000, 1001]
    down, up = exchange.take_bytes()
    assert down == 2 * size_in_bytes(messages.encode_prepare(REQUEST))
    assert up == sum(size_in_bytes(one.content) for one in answers.replies.values())
    assert exchange.take_bytes() == (0, 0)


def test_asking_nobody_sends_nothing():
    answers = Exchange(InProcessGrid(app_of(str), 1, {})).ask([], 1.0)
    assert (answers.replies, answers.errors, answers.asked) == ({}, {}, ())


def test_the_error_names_the_phase():
    with pytest.raises(FederationError) as caught:
        Quorum(2, 1.0).check(1, 2, "train")
    assert caught.value.public() == "quorum:train"


# --------------------------------------------------------- who cannot join later
@pytest.mark.parametrize(("later", "found"), [(20, 3), (10_000, 2)])
def test_all_that_are_wanted_are_waited_for_as_long_as_patience_is(later, found):
    """Two are enough, and the third comes later: within patience it is in, and else not."""
    grid = ComingAndGoing(app_of(lambda place: "abc"[place]), 3, {})
    grid.here = (0, 1)
    exchange = Ticking(grid)

    def come(_seconds):
        if next(exchange.ticks) > later:
            grid.here = (0, 1, 2)

    exchange.sleep = come
    cohort = Cohort(REQUEST, timeout=5.0)
    present = cohort.assemble(exchange, Quorum(2, 0.5, 1.0), wanted=3)
    assert len(present) == found
    assert len(cohort.assemble(exchange, Quorum(2, 0.5, 1.0))) == found  # later nobody waits
