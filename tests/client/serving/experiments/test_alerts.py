import json
from datetime import date

import numpy as np
import pytest

from client.serving.feedback.daily_rows import DAY, daily_figures
from client.serving.feedback.store import NewEvent
from tests.support.served import Counter, event
from tests.support.stores import list_row

START = 20_000  # the first day


@pytest.fixture
def counter(tmp_path):
    found = Counter(tmp_path)
    yield found
    found.store.close()


def trade(counter, day, clicked, *, items=12):
    """One day's lists of ten items in the store, with so many clicks among 120 seen."""
    rows = [list_row(f"{day:016x}{place:016x}", day * DAY + place) for place in range(items)]
    for row in rows:
        counter.store.lists.add(row)
    pairs = [(row["recommendation_id"], f"item-{place}") for row in rows for place in range(10)]
    counter.store.add_events(
        [
            NewEvent(f"{kind}-{name}-{item}", kind, day * DAY + 60, item, "shopper-1", name)
            for kind, some in (("impression", pairs), ("click", pairs[:clicked]))
            for name, item in some
        ]
    )


def test_a_fall_of_clicks_is_told_by_the_route_the_gauge_and_the_log(counter):
    random = np.random.default_rng(1)
    lines = []
    for day in range(START, START + 50):
        fallen = day >= START + 40
        trade(counter, day, int(random.integers(5, 15) if fallen else random.integers(30, 50)))
        counter.service.now = lambda day=day: (day + 1) * DAY + DAY // 2
        lines += counter.service.look()
    [line] = lines
    assert line.startswith("alert: ctr fell to 0.")
    [alert] = counter.ask("GET", "/v1/alerts").json()["alerts"]
    assert (alert["figure"], alert["direction"], alert["active"]) == ("ctr", "fell", True)
    found = (date.fromisoformat(alert["day"]) - date(1970, 1, 1)).days
    assert START + 40 <= found < START + 50
    page = counter.ask("GET", "/metrics").text
    assert 'fedtail_drift{figure="ctr"} 1.0' in page
    assert 'fedtail_drift{figure="coverage"} 0.0' in page
    assert "shopper-" not in line + page + json.dumps(alert)


def test_a_day_is_added_up_once_it_is_over_and_only_once(counter):
    assert counter.service.look() == []
    assert daily_figures(counter.store.engine) == []
    trade(counter, START, 12)
    counter.service.now = lambda: (START + 1) * DAY - 1
    counter.service.look()
    assert daily_figures(counter.store.engine) == []
    counter.service.now = lambda: (START + 3) * DAY + DAY // 2
    counter.service.look()
    counter.service.look()
    first, *rest = daily_figures(counter.store.engine)
    assert [one.day for one in (first, *rest)] == [START, START + 1, START + 2]
    assert (first.lists, first.listed, first.tail_listed, first.different) == (12, 120, 60, 10)
    assert (first.seen, first.clicked, first.bought, first.rankable) == (120, 12, 0, 60)
    assert all(one.lists == one.seen == 0 for one in rest)
    counter.send(event(1))
