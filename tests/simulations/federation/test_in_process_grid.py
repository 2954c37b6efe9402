import time

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

from client.app import app as fedtail_app
from common.errors import SettingsError
from server.run.cohort import Quorum
from server.run.strategy import FedtailStrategy
from simulations.federation.in_process_grid import InProcessGrid
from tests.support.fake_node import federation, make_setup, shops

__all__ = ["federation", "shops"]  # fixtures


def counting_app():
    """An app that counts its calls in the context, and touches what it was sent."""
    app = ClientApp()

    @app.query("count")
    def count(message, context):
        kept = context.state.get("kept", ConfigRecord({"calls": 0}))
        kept["calls"] += 1
        context.state["kept"] = kept
        message.content["sent"]["text"] = "changed by the node"
        if kept["calls"] == message.content["sent"].get("fail_at"):
            raise ValueError("the text of an exception")
        facts = ConfigRecord({"calls": kept["calls"], **context.node_config, **context.run_config})
        return Message(RecordDict({"facts": facts}), reply_to=message)

    @app.train()
    def train(message, context):
        time.sleep(0.05)
        return Message(RecordDict(), reply_to=message)

    return app


@pytest.fixture
def grid():
    return InProcessGrid(counting_app(), 3, {"federation": "here"}, run_id=9)


def messages_for(grid, kind="query.count", **sent):
    content = RecordDict({"sent": ConfigRecord({"text": "original", **sent})})
    return [Message(content, node, kind) for node in grid.get_node_ids()]


def facts_of(replies):
    return [dict(reply.content["facts"]) for reply in replies]


def test_each_node_has_a_context_of_its_own_that_lasts(grid):
    for calls in (1, 2, 3):
        replies = list(grid.send_and_receive(messages_for(grid)))
        assert facts_of(replies) == [
            {"calls": calls, "partition-id": place, "num-partitions": 3, "federation": "here"}
            for place in range(3)
        ]


def test_replies_come_in_the_order_of_the_messages(grid):
    messages = messages_for(grid)[::-1]
    replies = list(grid.send_and_receive(messages))
    assert [one["partition-id"] for one in facts_of(replies)] == [2, 1, 0]
    for message, reply in zip(messages, replies, strict=True):
        assert reply.metadata.src_node_id == message.metadata.dst_node_id
        assert reply.metadata.dst_node_id == message.metadata.src_node_id
        assert reply.metadata.reply_to_message_id == message.metadata.message_id != ""
        assert reply.metadata.run_id == 9


def test_a_node_shares_no_memory_with_the_sender(grid):
    messages = messages_for(grid)
    list(grid.send_and_receive(messages))
    assert messages[0].content["sent"]["text"] == "original"


def test_a_handler_that_raises_gives_flowers_error_and_keeps_no_state(grid):
    replies = list(grid.send_and_receive(messages_for(grid, fail_at=1)))
    assert all(reply.has_error() for reply in replies)
    assert replies[0].error.code == 2
    assert replies[0].error.reason == "<class 'ValueError'>:<'the text of an exception'>"
    assert facts_of(grid.send_and_receive(messages_for(grid)))[0]["calls"] == 1


def test_an_unknown_action_gives_an_error(grid):
    (reply,) = grid.send_and_receive(messages_for(grid, "query.other")[:1])
    assert reply.has_error()


def test_late_replies_are_not_delivered(grid):
    assert len(list(grid.send_and_receive(messages_for(grid, "train"), timeout=1200))) == 3
    assert list(grid.send_and_receive(messages_for(grid, "train"), timeout=0.01)) == []
    short = [
        Message(RecordDict(), node, "train", ttl=0.01, group_id="1") for node in grid.get_node_ids()
    ]
    assert list(grid.send_and_receive(short)) == []


def test_pushed_messages_are_pulled_once(grid):
    identifiers = list(grid.push_messages(messages_for(grid)))
    assert len(set(identifiers)) == 3
    assert len(list(grid.pull_messages(identifiers[1:]))) == 2
    assert len(list(grid.pull_messages(identifiers))) == 1
    assert list(grid.pull_messages(identifiers)) == []


def test_two_grids_in_one_process_keep_their_runs_apart(grid):
    other = InProcessGrid(counting_app(), 1, {}, run_id=10)
    assert messages_for(grid)[0].metadata.run_id == 9
    assert messages_for(other)[0].metadata.run_id == 10
    grid.set_run(Run.create_empty(11))
    assert grid.run.run_id == 11
    message = grid.create_message(RecordDict(), "train", 1000, "1")
    assert message.metadata.run_id == 11


def test_a_grid_without_nodes_is_refused():
    with pytest.raises(SettingsError):
        InProcessGrid(counting_app(), 0, {})


def test_a_small_federation_costs_little_time(shops, tmp_path):
    for place in range(5):
        (tmp_path / f"shop{place}").mkdir()
    took = []
    for _ in range(3):
        began = time.perf_counter()
        strategy = FedtailStrategy(make_setup(quorum=Quorum(5, 1.0, 0.0)))
        strategy.start(InProcessGrid(fedtail_app, 5, {"federation": str(tmp_path)}), num_rounds=2)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.5  # about .05 on an idle machine: preparation, popularity, two rounds


def test_a_message_is_as_old_as_its_own_way_however_many_came_before():
    ages, app = [], ClientApp()

    @app.query("ask")
    def ask(message, context):
        ages.append(time.time() - message.metadata.created_at)
        return Message(RecordDict(), reply_to=message)

    grid = InProcessGrid(app, 2, {})
    messages = [grid.create_message(RecordDict(), "query.ask", node, "") for node in (1000, 1001)]
    for message in messages:
        message.metadata.created_at -= 3600
    assert len(list(grid.send_and_receive(messages, timeout=600.0))) == 2
    assert max(ages) < 600


def test_answers_are_counted_among_those_sent_together():
    told = []
    grid = InProcessGrid(counting_app(), 3, {}, on_answer=lambda *seen: told.append(seen))
    list(grid.send_and_receive(messages_for(grid, "train")))
    list(grid.push_messages(messages_for(grid, "train")))
    assert told == [("train", place, 3) for place in (1, 2, 3)] * 2
