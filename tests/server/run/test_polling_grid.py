"""A grid that asks for replies more often, over one whose replies come when a test says."""

import httpx
import pytest
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

from server.run.polling_grid import PromptGrid
from simulations.federation.in_process_grid import InProcessGrid

NODES = [1000, 1001, 1002]


class Clock:
    """Time passes only while somebody sleeps."""

    def __init__(self):
        self.now, self.naps = 0.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.naps.append(seconds)
        self.now += seconds


class LateGrid(InProcessGrid):
    """Node k's reply is there half a second after node k-1's; some messages cannot be sent."""

    def __init__(self, clock, unsent=()):
        app = ClientApp()

        @app.query("ask")
        def ask(message, context):
            return Message(RecordDict(), reply_to=message)

        super().__init__(app, len(NODES), {})
        self.clock, self.looks, self.unsent, self.places = clock, [], set(unsent), {}

    def push_messages(self, messages):
        sent = []
        for message in messages:
            node = message.metadata.dst_node_id
            if node in self.unsent:
                sent.append(None)  # as Flower's grid says that it could not
                continue
            (name,) = super().push_messages([message])
            self.places[name] = NODES.index(node)
            sent.append(name)
        return sent

    def pull_messages(self, message_ids):
        (one,) = message_ids
        place = self.places[one]
        self.looks.append((self.clock.now, place))
        return super().pull_messages([one] if self.clock.now >= place / 2 else [])


def prompt(unsent=(), kind=LateGrid):
    clock = Clock()
    return PromptGrid(kind(clock, unsent), clock=clock, sleep=clock.sleep)


def ask(grid, timeout):
    messages = [Message(RecordDict(), node, "query.ask") for node in grid.get_node_ids()]
    replies = grid.send_and_receive(messages, timeout=timeout)
    return [one.metadata.src_node_id for one in replies]


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_replies_are_looked_for_every_half_second_until_all_are_there(timeout):
    grid = prompt()
    assert ask(grid, timeout) == NODES
    # What came is not asked for again.
    assert grid._grid.looks == [(0, 0), (0, 1), (0, 2), (0.5, 1), (0.5, 2), (1.0, 2)]
    assert grid._grid.clock.naps == [0.5, 0.5]


def test_what_is_late_is_left_out():
    assert ask(prompt(), 0.5) == NODES[:2]
    assert ask(prompt(), 0.0) == NODES[:1]


def test_a_message_that_could_not_be_sent_is_not_waited_for():
    assert ask(prompt(unsent=[1001]), None) == [1000, 1002]
    assert ask(prompt(unsent=NODES), None) == []


def test_an_answer_that_flower_cannot_read_takes_no_other_with_it():
    class Breaking(LateGrid):
        def pull_messages(self, message_ids):
            if self.places[message_ids[0]] == 1:
                raise ValueError("an object of no known kind")
            return super().pull_messages(message_ids)

    assert ask(prompt(kind=Breaking), None) == [1000, 1002]


def test_a_superlink_that_is_away_is_no_nodes_fault():
    class Away(LateGrid):
        def pull_messages(self, message_ids):
            raise httpx.ConnectError("away")

    with pytest.raises(httpx.ConnectError):
        ask(prompt(kind=Away), None)


def test_everything_else_is_the_grids_own():
    grid = prompt()
    inner = grid._grid
    assert grid.run is inner.run
    assert list(grid.get_node_ids()) == NODES
    message = grid.create_message(RecordDict(), "query.ask", 1000, "7", 5.0)
    assert (message.metadata.group_id, message.metadata.ttl) == ("7", 5.0)
    names = grid.push_messages([message])
    assert len(list(grid.pull_messages(names))) == 1
    other = type(inner.run).create_empty(9)
    grid.set_run(other)
    assert inner.run is other
