import logging

import pytest

from client.serving.http.gate import MOST_BODY_BYTES, Rate
from tests.support.served import Counter, event


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    found = Counter(tmp_path_factory.mktemp("gate"))
    yield found
    found.store.close()


LISTS, EVENTS = "/v1/recommendations", "/v1/events"
EXPERIMENTS = "/v1/experiments"
ROUTES = [
    ("POST", LISTS),
    ("POST", f"{LISTS}/batch"),
    ("POST", f"{LISTS}/{'0' * 32}/next"),
    ("POST", "/v1/items/item-1/similar"),
    ("POST", EVENTS),
    ("PUT", "/v1/items/item-1"),
    ("PATCH", "/v1/items/item-1"),
    ("DELETE", "/v1/items/item-1"),
    ("PUT", "/v1/stock"),
    ("DELETE", "/v1/shoppers/shopper-1"),
    ("PUT", f"{EXPERIMENTS}/a"),
    ("GET", f"{EXPERIMENTS}/a"),
    ("GET", EXPERIMENTS),
    ("POST", f"{EXPERIMENTS}/a/stop"),
    ("GET", "/v1/alerts"),
    ("GET", "/v1/online"),
    ("GET", "/v1/release"),
    ("GET", "/v1/budget"),
    ("GET", "/metrics"),
]
NO_KEYS = ["none", "ft_", "ft_00000000_x", "é", "' OR 1=1 --", "x" * 10_000]


@pytest.mark.parametrize("key", NO_KEYS)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nothing_is_done_without_a_key(counter, method, path, key):
    header = {"X-API-Key": key.encode()} if len(key) % 2 else {}
    header["Authorization"] = f"Bearer {key}".encode()
    answer = counter.ask(method, path, key=b"", headers=header, content=b"[" * 100)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_key_opens_what_it_is_for(counter, method, path):
    needed = {"POST": "serve", "PUT": "admin", "PATCH": "admin", "DELETE": "admin", "GET": "admin"}
    scope = "events" if path == EVENTS else needed[method]
    scope = "admin" if path.startswith(EXPERIMENTS) else scope
    for other in {"serve", "events", "admin"} - {scope}:
        answer = counter.ask(method, path, key=counter.keys.new("one", [other]), json=WHOLE[path])
        assert answer.status_code == 403
    key = counter.keys.new("one", [scope])
    answer = counter.ask(method, path, key=key, headers={"X-Unused": "1"}, json=WHOLE[path])
    assert answer.status_code < 300 or answer.status_code == 404


WHOLE = {path: {} for _, path in ROUTES} | {
    f"{LISTS}/batch": {"requests": [{}]},
    EVENTS: {"events": [event(1)]},
    "/v1/items/item-1": {"title": "Jug"},
    "/v1/stock": {"items": []},
    f"{EXPERIMENTS}/a": {"baseline": "own", "challenger": "release"},
    f"{EXPERIMENTS}/a/stop": {"serve": "release"},
}


def test_a_revoked_key_is_refused_at_once(counter):
    key = counter.keys.new("one", ["serve"])
    assert counter.ask("POST", LISTS, key=key, json={}).status_code == 200
    counter.keys.revoke(key[3:11])
    assert counter.ask("POST", LISTS, key=key, json={}).status_code == 401


HOSTILE = [
    "' OR '1'='1",
    "1; DROP TABLE events; --",
    "item-1' UNION SELECT value FROM settings --",
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "$(reboot)",
    "%s%s%n",
    "\u202egnp.exe",
    "item-1 ",
    "ITEM-1",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_ids_are_ids_and_nothing_more(counter, text):
    from urllib.parse import quote

    path = quote(text, safe="")
    assert counter.ask("DELETE", f"/v1/items/{path}").status_code in {404, 422}
    assert counter.ask("POST", f"/v1/items/{path}/similar", json={}).status_code in {404, 422}
    assert counter.ask("POST", f"{LISTS}/{path}/next", json={}).status_code in {404, 422}
    rule = counter.ask("POST", LISTS, json={"filters": {"deny": [text]}})
    assert rule.status_code == 422
    assert counter.ask("GET", "/v1/online", params={"surface": text}).status_code == 422
    assert counter.ask("GET", "/v1/online", params={"bucket": text}).status_code == 422
    assert counter.ask("POST", LISTS, json={"surface": text}).status_code == 422
    assert counter.recommend(shopper_id=text)["fallback"] == "unknown_shopper"
    assert counter.recommend(count=60)["items"]


WRONG_BODIES = [
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"count": ' + b"9" * 5000 + b"}",
    b'{"count": 0}',
    b'{"count": 501}',
    b'{"count": "5"}',
    b'{"count": 1.5}',
    b'{"count": true}',
    b'{"tail_boost": NaN}',
    b'{"tail_boost": Infinity}',
    b'{"tail_boost": 2.1}',
    b'{"tail_boost": -1}',
    b'{"explain": "yes"}',
    b'{"shopper_id": ""}',
    b'{"shopper_id": 7}',
    b'{"shopper_id": "a\\u0000b"}',
    b'{"shopper_id": "\\ud800"}',
    b'{"shopper_id": "a", "history": []}',
    b'{"history": {}}',
    b'{"history": [{"item_id": "a", "time": "2026-01-01T00:00:00Z"}, {"item_id": "b"}]}',
    b'{"history": [{"item_id": "a", "time": "2026-01-01"}]}',
    b'{"history": [{"item_id": "a", "extra": 1}]}',
    b'{"surface": "Home Page"}',
    b'{"unknown": 1}',
    b'{"filters": {"unknown": 1}}',
    b'{"filters": {"categories": ["no such"]}}',
    b'{"filters": {"deny": "item-1"}}',
    b'{"__proto__": {}}',
]


@pytest.mark.parametrize("body", WRONG_BODIES, ids=range(len(WRONG_BODIES)))
def test_a_malformed_list_request_is_a_problem(counter, body):
    answer = counter.ask("POST", LISTS, content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert len(answer.content) < 10_000


@pytest.mark.parametrize("body", [b"", b"{}", b'{"events": {}}', b'{"events": []}', b"[1]"])
def test_a_malformed_batch_of_events_is_a_problem(counter, body):
    answer = counter.ask("POST", EVENTS, content=body)
    assert 400 <= answer.status_code < 500


def test_too_many_events_are_a_problem(counter):
    answer = counter.ask("POST", EVENTS, json={"events": [event(1)] * 1001})
    assert answer.status_code == 422


def test_a_body_that_is_too_large_is_not_read(counter):
    body = b'{"count": 1' + b" " * MOST_BODY_BYTES + b"}"
    assert counter.ask("POST", LISTS, content=body).status_code == 413
    lie = {"Content-Length": "10"}
    assert counter.ask("POST", LISTS, content=body, headers=lie).status_code == 413

    async def parts():
        for _ in range(40):
            yield b" " * 65536

    assert counter.ask("POST", LISTS, content=parts()).status_code == 413
    for wrong in ("-1", "1e3", "9" * 30, "²"):
        answer = counter.ask("POST", LISTS, headers={"Content-Length": wrong.encode()})
        assert answer.status_code in {400, 413}


@pytest.mark.parametrize("method", ["GET", "PUT", "TRACE", "FOO"])
def test_a_wrong_method_or_path_is_a_problem(counter, method):
    assert counter.ask(method, LISTS).status_code == 405
    assert counter.ask(method, "/v2/recommendations").status_code == 404
    assert counter.ask(method, "/v1/../keys.json").status_code == 404


def test_a_key_may_ask_so_often_and_no_more(tmp_path):
    counter = Counter(tmp_path, rate=Rate(per_second=0.001, burst=3))
    found = [counter.ask("POST", LISTS, json={}).status_code for _ in range(5)]
    assert found == [200, 200, 200, 429, 429]
    refused = counter.ask("POST", LISTS, json={})
    assert int(refused.headers["retry-after"]) > 900
    other = counter.keys.new("other", ["serve"])
    assert counter.ask("POST", LISTS, key=other, json={}).status_code == 200
    counter.store.close()


def test_no_log_line_holds_an_id_of_a_shopper_an_item_or_a_list(counter, caplog):
    caplog.set_level(logging.DEBUG)
    listed = counter.recommend(shopper_id="shopper-7")
    counter.ask("DELETE", "/v1/shoppers/shopper-8")
    counter.ask("POST", "/v1/items/item-1/similar", json={})
    counter.ask("POST", f"{LISTS}/{listed['recommendation_id']}/next", json={})
    counter.ask("GET", "/v1/shoppers/shopper-9?x=shopper-9")
    lines = [line for line in caplog.messages if "key=" in line]
    assert len(lines) == 5
    assert "DELETE /v1/shoppers/{shopper_id:path} 204" in "\n".join(lines)
    for secret in ("shopper-", "item-1", listed["recommendation_id"], counter.key):
        assert secret not in "\n".join(lines)


def test_a_failure_of_ours_is_a_problem_without_its_message(counter, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("shopper-7 has a secret")

    monkeypatch.setattr("client.serving.http.list_routes.serve_list", fail)
    answer = counter.ask("POST", LISTS, json={})
    assert answer.status_code == 500
    assert "secret" not in answer.text + caplog.text
    assert "RuntimeError" in caplog.text


def test_metrics_have_no_id_among_their_labels(counter):
    listed = counter.recommend(shopper_id="shopper-7", surface="home")
    for number in range(60):
        counter.recommend(surface=f"s{number}", count=1)
    page = counter.ask("GET", "/metrics").text
    assert 'fedtail_recommendations_total{bucket="head",surface="home",variant="release"}' in page
    assert 'surface="other"' in page
    assert 'surface="s59"' not in page
    assert 'fedtail_release_info{release="2026.11.24"} 1.0' in page
    for secret in ("shopper-", "item-", listed["recommendation_id"], counter.key[3:11]):
        assert secret not in page
