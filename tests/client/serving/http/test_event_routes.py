import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.event import listens_for

from tests.support.served import Counter, event
from tests.support.small_disks import fill, mounted


@pytest.fixture
def counter(tmp_path):
    found = Counter(tmp_path)
    yield found
    found.store.close()


def rows(counter, what="*"):
    with counter.store.engine.connect() as connection:
        query = text(f"SELECT {what} FROM events ORDER BY event_id")  # noqa: S608 -- ours
        return [dict(row) for row in connection.execute(query).mappings()]


def test_an_event_is_kept_once_whoever_sends_it_again(counter):
    first = counter.send(event(1), event(2), event(1))
    assert first == {"accepted": 2, "duplicates": 1, "rejected": []}
    again = counter.send(event(2), event(3))
    assert again == {"accepted": 1, "duplicates": 1, "rejected": []}
    assert [row["event_id"] for row in rows(counter)] == ["e-1", "e-2", "e-3"]


@settings(max_examples=8)
@given(batches=st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=8), max_size=5))
def test_any_batches_leave_each_event_once(tmp_path_factory, batches):
    counter = Counter(tmp_path_factory.mktemp("events"))
    accepted = sum(
        counter.send(*[event(number) for number in batch])["accepted"] for batch in batches
    )
    kept = [row["event_id"] for row in rows(counter)]
    assert accepted == len(kept) == len({number for batch in batches for number in batch})
    counter.store.close()


def test_only_an_item_that_was_in_the_list_is_credited_to_it(counter):
    listed = counter.recommend(shopper_id="shopper-3", surface="home", count=3)
    name = listed["recommendation_id"]
    inside, outside = listed["items"][1], "item-59"
    assert outside not in {one["item_id"] for one in listed["items"]}
    answer = counter.send(
        event(1, item=inside["item_id"], recommendation_id=name, position=9),
        event(2, item=outside, recommendation_id=name),
        event(3, item=inside["item_id"], recommendation_id="0" * 32),
    )
    assert answer["accepted"] == 3
    credited, *others = rows(counter)
    assert credited["recommendation_id"] == name
    # The list itself says where the item stood, not the client.
    assert (credited["position"], credited["surface"]) == (2, "home")
    assert (credited["bucket"], credited["variant"]) == (inside["bucket"], "release")
    for other in others:
        assert other["recommendation_id"] is other["position"] is other["bucket"] is None


def test_an_unknown_item_is_rejected_and_not_created(counter):
    answer = counter.send(event(1, item="item-3"), event(2, item="never heard of"))
    assert answer["accepted"] == 1
    assert answer["rejected"] == [{"index": 1, "reason": "item_id: the shop has no such item"}]
    assert counter.ask("GET", "/v1/release").json()["items"] == 60


SECRET = "a-secret-value"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (event(1, kind=SECRET), "type"),
        (event(1, time="yesterday"), "time"),
        (event(1, time="2026-09-01T10:00:00"), "time"),
        (event(1, time="2999-01-01T00:00:00Z"), "time"),
        (event(1, time="2150-01-01T00:00:00Z"), "future"),
        (event(1, position=0), "position"),
        (event(1, position="1"), "position"),
        (event(1, recommendation_id=SECRET), "recommendation_id"),
        (event(1, more=SECRET), "more"),
        (event(1, item="a\x00b"), "item_id"),
        (event(1, item="x" * 300), "item_id"),
        (event(1, shopper_id=[SECRET]), "shopper_id"),
        (event(1, kind="refund"), "order_id"),
        ({}, "event_id"),
        (SECRET, "Event"),
        (None, "Event"),
        ([[SECRET]], "Event"),
    ],
)
def test_a_malformed_event_is_rejected_alone_and_not_repeated(counter, wrong, reason):
    answer = counter.send(event(8), wrong, event(9))
    assert answer["accepted"] == 2
    [rejected] = answer["rejected"]
    assert rejected["index"] == 1
    assert reason in rejected["reason"]
    assert SECRET not in rejected["reason"]


def test_a_full_disk_is_told_and_reads_go_on(counter):
    """SQLite refuses more pages, as it does on a full disk."""
    listed = counter.recommend(shopper_id="shopper-3")
    counter.store.lists.flush()

    @listens_for(counter.store.engine, "checkout")
    def full(connection, *_):
        connection.execute("PRAGMA max_page_count=1")  # SQLite takes what there is for the most

    big = [event(number, shopper_id="s" * 250) for number in range(900)]
    refused = counter.ask("POST", "/v1/events", json={"events": big})
    assert refused.status_code == 503
    assert "full" in refused.json()["detail"]
    assert "sss" not in refused.text
    assert refused.headers["retry-after"]
    assert rows(counter) == []
    assert counter.recommend(shopper_id="shopper-3")["items"] == listed["items"]
    assert counter.ask("GET", "/v1/online").status_code == 200


def test_a_disk_that_is_really_full_loses_nothing_that_was_acknowledged(tmp_path):
    """With no room lists go on and events get 503; with room again they are taken."""
    with mounted(tmp_path / "disk", 4096) as disk:
        full = Counter(disk)
        first = full.send(*(event(number) for number in range(20)))
        filler = fill(disk)
        kept, refused = first["accepted"], None
        for batch in range(100):  # what SQLite had set aside for its log takes some more
            events = [event(f"{batch}-{one}", shopper_id="s" * 250) for one in range(50)]
            refused = full.ask("POST", "/v1/events", json={"events": events})
            if refused.status_code != 202:
                break
            kept += refused.json()["accepted"]
        assert refused.status_code == 503
        assert "sss" not in refused.text
        assert full.recommend(shopper_id="shopper-3")["items"]
        assert full.ask("GET", "/health/ready").status_code == 503
        filler.unlink()
        assert full.send(event("last"))["accepted"] == 1
        assert len(rows(full)) == kept + 1
        full.store.close()


def test_clicks_and_purchases_are_counted_with_their_intervals(counter):
    sent = []
    for number in range(20):
        listed = counter.recommend(surface="home" if number % 2 else "basket", count=2)
        more = {"recommendation_id": listed["recommendation_id"]}
        for place, one in enumerate(listed["items"]):
            sent.append(event(f"i{number}-{place}", "impression", one["item_id"], **more))
        first = listed["items"][0]["item_id"]
        if number < 10:
            sent.append(event(f"c{number}", "click", first, **more))
            sent.append(event(f"d{number}", "click", first, **more))  # a second click is one click
        if number < 3:
            bought = event(f"p{number}", "purchase", first, order_id=f"o{number}", **more)
            sent.append(bought)
    sent.append(event("r", "refund", sent[0]["item_id"], order_id="o0"))
    counter.send(*sent)
    found = counter.ask("GET", "/v1/online").json()
    assert found["impressions"] == 40
    assert found["clicks"]["count"] == 10
    assert found["clicks"]["rate"] == 0.25
    # Wilson's interval of 10 in 40, by hand.
    assert found["clicks"]["low"] == pytest.approx(0.1419, abs=1e-4)
    assert found["clicks"]["high"] == pytest.approx(0.4019, abs=1e-4)
    assert found["conversions"]["count"] == 2
    home = counter.ask("GET", "/v1/online", params={"surface": "home"}).json()
    assert home["impressions"] == 20
    assert home["clicks"]["count"] == 5
    nothing = counter.ask("GET", "/v1/online", params={"from": "2027-01-01T00:00:00Z"}).json()
    assert nothing["impressions"] == 0
    assert nothing["clicks"]["rate"] is None
