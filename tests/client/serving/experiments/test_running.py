"""The test in the service: it decides by itself, tells all, and a restart changes nothing."""

import numpy as np
import pytest
from sqlalchemy import text

from client.serving.experiments.design import DAY
from client.serving.feedback.experiment_rows import counted_shoppers
from client.serving.feedback.store import NewEvent
from client.serving.http.context import Service
from tests.support.served import NOW, Counter
from tests.support.stores import list_row

BODY = {"baseline": "own", "challenger": "release", "window_days": 1, "guardrails": {}}


@pytest.fixture
def counter(tmp_path):
    found = Counter(tmp_path)
    found.ask("PUT", "/v1/experiments/autumn", json=BODY)
    yield found
    found.store.close()


def trade(store, shoppers=600, better="release", *, start=NOW):
    """One list of ten for each of many shoppers; the better arm is clicked twice as often."""
    random, events = np.random.default_rng(1), []
    for place in range(shoppers):
        name, arm = f"{place:032x}", ("own", "release")[place % 2]
        who = f"someone-{place}"
        store.lists.add(list_row(name, start + place, who, variant=arm, experiment="autumn"))
        clicks = random.random(10) < (0.3 if arm == better else 0.15)
        events += [
            NewEvent(f"{place}-{item}-{kind}", kind, start + place + 5, f"item-{item}", who, name)
            for item in range(10)
            for kind in ("impression", *(["click"] if clicks[item] else []))
        ]
    store.add_events(events)


@pytest.mark.parametrize("better", ["release", "own"])
def test_once_it_is_decided_all_get_the_better_arm_also_after_a_restart(counter, better):
    trade(counter.store, better=better)
    assert counter.service.look() == []  # no shopper's window is over
    counter.service.now = lambda: NOW + 2 * DAY
    why = "better" if better == "release" else "worse"
    [line] = counter.service.look()
    assert line == f"experiment autumn ended: {better} for all ({why})"
    for _ in range(2):
        for who in ("shopper-3", "shopper-4", "shopper-5", "unknown"):
            answer = counter.recommend(shopper_id=who)
            assert answer["variant"] == better
            assert counter.store.find_list(answer["recommendation_id"])["experiment"] is None
        told = counter.ask("GET", "/v1/experiments/autumn").json()
        assert (told["state"], told["winner"], told["reason"]) == ("stopped", better, why)
        assert told["figures"]["effect"]["low"] is not None
        counter.app.state.service = Service(counter.live, counter.store, counter.worker)
    assert "someone" not in line + str(told)


def test_a_shopper_counts_once_and_only_within_their_window(counter):
    store = counter.store
    told = [
        # list, time of it, event, time of it
        ("a" * 32, 0, "click", 10),
        ("b" * 32, DAY - 1, "click", DAY - 1),
        ("b" * 32, DAY - 1, "purchase", DAY + 1),  # after the window
        ("c" * 32, DAY, "click", DAY),  # a list after it
    ]
    for name, time in {(one[0], one[1]) for one in told}:
        store.lists.add(list_row(name, time, "anna", experiment="autumn"))
    store.lists.flush()
    store.add_events(
        [
            NewEvent(str(number), kind, time, "item-1", "anna", name, "o")
            for number, (name, _, kind, time) in enumerate(told)
        ]
    )
    assert counted_shoppers(store.engine, "autumn", DAY, DAY - 1) == {}
    found = counted_shoppers(store.engine, "autumn", DAY, DAY)["release"]
    assert [one.tolist() for one in found] == [[2], [2], [0], [2]]
    assert counted_shoppers(store.engine, "winter", DAY, DAY) == {}


def test_who_is_forgotten_leaves_the_test(counter):
    trade(counter.store, 10)
    counter.store.lists.flush()
    counter.store.erase_shopper("someone-3", NOW)
    found = counted_shoppers(counter.store.engine, "autumn", DAY, NOW + 2 * DAY)
    assert sum(len(one.seen) for one in found.values()) == 9


def test_the_table_of_experiments_holds_no_shopper(counter):
    trade(counter.store)
    counter.service.now = lambda: NOW + 2 * DAY
    counter.service.look()
    with counter.store.engine.connect() as connection:
        for table in ("experiments", "daily_figures"):
            rows = connection.execute(text(f"SELECT * FROM {table}")).all()  # noqa: S608 -- ours
            assert rows
            assert "someone" not in str(rows)
            assert "shopper-" not in str(rows)
