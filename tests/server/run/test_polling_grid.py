"""A grid that asks for replies more often, over one whose replies come when a test says."""

import pytest
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

import server.run.polling_grid
from server.run.polling_grid import PromptGrid
from simulations.federation.in_process_grid import InProcessGrid

NODES = [1000, 1001, 1002]


class LateGrid(InProcessGrid):
    """Replies of node k are there from the k-th look on; some nodes' messages cannot be sent."""

    def __init__(self, unsent=()):
        app = ClientApp()

        @app.query("ask")
        def ask(message, context):
            return Message(RecordDict(), reply_to=message)

        super().__init__(app, len(NODES), {})
        self.looks, self.unsent, self.places = [], set(unsent), {}

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
        self.looks.append({self.places[one] for one in message_ids})
        now = len(self.looks)
        return super().pull_messages([one for one in message_ids if self.places[one] < now])


def ask(grid, timeout):
    messages = [Message(RecordDict(), node, "query.ask") for node in grid.get_node_ids()]
    replies = grid.send_and_receive(messages, timeout=timeout)
    return [one.metadata.src_node_id for one in replies]


@pytest.fixture
def naps(monkeypatch):
    """Let no time pass, but write down how long was slept."""
    taken, now = [], [0.0]

    def sleep(seconds):
        taken.append(seconds)
        now[0] += seconds

    clock = type("clock", (), {"sleep": staticmethod(sleep), "monotonic": lambda: now[0]})
    monkeypatch.setattr(server.run.polling_grid, "time", clock)
    return taken


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_replies_are_looked_for_every_half_second_until_all_are_there(naps, timeout):
    grid = LateGrid()
    assert ask(PromptGrid(grid), timeout) == NODES
    assert grid.looks == [{0, 1, 2}, {1, 2}, {2}]  # what came is not asked for again
    assert naps == [0.5, 0.5]


def test_what_is_late_is_left_out(naps):
    assert ask(PromptGrid(LateGrid()), 0.6) == NODES[:2]
    assert ask(PromptGrid(LateGrid()), 0.0) == []


def test_a_message_that_could_not_be_sent_is_not_waited_for(naps):
    grid = LateGrid(unsent=[1001])
    assert ask(PromptGrid(grid), None) == [1000, 1002]
    assert ask(PromptGrid(LateGrid(unsent=NODES)), None) == []


def test_everything_else_is_the_grids_own():
    inner = LateGrid()
    grid = PromptGrid(inner)
    assert grid.run is inner.run
    assert list(grid.get_node_ids()) == NODES
    message = grid.create_message(RecordDict(), "query.ask", 1000, "7", 5.0)
    assert (message.metadata.group_id, message.metadata.ttl) == ("7", 5.0)
    names = grid.push_messages([message])
    assert len(list(grid.pull_messages(names))) == 1
    other = type(inner.run).create_empty(9)
    grid.set_run(other)
    assert inner.run is other
