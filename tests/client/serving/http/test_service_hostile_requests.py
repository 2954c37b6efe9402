"""What nobody's client sends by mistake: each gets a 4xx that is a problem, on a real socket."""

import contextlib
import gzip
import json
import socket
from urllib.parse import quote

import pytest

from client.serving.http.gate import MOST_BODY_BYTES, Rate
from tests.support.served import event, listening

LISTS, EVENTS, BATCH = "/v1/recommendations", "/v1/events", "/v1/recommendations/batch"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with listening(tmp_path_factory.mktemp("hostile"), Rate(1e6, 10**6)) as (counter, port):
        before = counter.recommend(shopper_id="shopper-3")["items"]
        yield counter, port
        assert counter.recommend(shopper_id="shopper-3")["items"] == before
        assert counter.ask("GET", "/v1/release").json()["items"] == 60


def request(method, path, body=b"", headers=JSON, *, key=True, length=None):
    """The bytes of a request; KEY stands for a key of every scope."""
    lines = [f"{method} {path} HTTP/1.1", "Host: shop", *(["X-API-Key: KEY"] if key else [])]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + body


def of_json(path, *bodies, method="POST"):
    return [request(method, path, body.encode("utf-8", "surrogatepass")) for body in bodies]


def nested(opening, closing, depth):
    return opening * depth + closing * depth


MALFORMED = [
    *of_json(
        LISTS, "", "null", "[]", '"x"', "7", "{", "}", "{'count': 1}", '{"count": 1,}', "{}{}"
    ),
    *of_json(LISTS, "\ufeff{}", "{\x00}", '{"count": 01}', '{"count": +1}', '{"count": 0x10}'),
    *of_json(LISTS, '{"count": 1} x', "// x\n{}", '{"surface": "a\nb"}', '{"surface": "\\x41"}'),
    *[request("POST", LISTS, body) for body in (b"\xff", b'{"surface": "\xff"}', b"\x80{}")],
    *[request("POST", LISTS, "{}".encode(code)) for code in ("utf-7", "cp500")[1:]],
]
NUMBERS = of_json(
    LISTS,
    *(
        f'{{"{name}": {value}}}'
        for name in ("count", "tail_boost")
        for value in ("NaN", "-Infinity", "1e999", "-1", "9" * 400, "9" * 5000, '"1"x', "[1]", "{}")
    ),
    '{"count": 0}', '{"count": 501}', '{"count": 1.5}', '{"count": true}', '{"count": null}',
    '{"tail_boost": 2.0000001}', '{"tail_boost": "two"}',
)  # fmt: skip
BOMBS = [
    *of_json(LISTS, nested("[", "]", 50_000), nested('{"a":', "}", 20_000), "[" * 500_000),
    *of_json(LISTS, f'{{"filters": {nested("[", "]", 900)}}}', '{"a":' * 100_000),
    *of_json(EVENTS, "[" * 900_000, json.dumps({"events": [[]] * 1001}), '{"events": []}'),
    *of_json(BATCH, json.dumps({"requests": [{}] * 101}), '{"requests": []}', "{}"),
    *of_json(LISTS, json.dumps({"filters": {"deny": ["x"] * 10_001}})),
    *of_json(LISTS, json.dumps({"filters": {"allow": ["item-1"] * 10_001}})),
    *of_json(LISTS, json.dumps({"history": [{"item_id": "item-1"}] * 1001})),
    *of_json("/v1/stock", json.dumps({"items": [{"item_id": "a", "quantity": 1}] * 50_001})),
    request("POST", LISTS, gzip.compress(b" " * 10**7), JSON | {"Content-Encoding": "gzip"}),
    request("POST", LISTS, b" " * (MOST_BODY_BYTES + 1)),
    request("POST", LISTS, b'{"surface": "' + b"a" * 10**6 + b'"}'),
]
TWICE = of_json(
    LISTS,
    '{"count": 1, "count": 2}',
    '{"shopper_id": "a", "shopper_id": "b"}',
    '{"filters": {"deny": [], "deny": ["item-1"]}}',
    '{"history": [{"item_id": "item-1", "item_id": "item-2"}]}',
)
IDS = [
    "",
    "a\x00b",
    "\x1b[2J",
    "a\nb",
    "\ud800",
    "\udc00x",
    "x" * 257,
    7,
    None,
    [],
    {"$ne": ""},
    True,
]
SHAPES = [
    *of_json(LISTS, *(json.dumps({"history": [{"item_id": one}]}) for one in IDS)),
    *of_json(LISTS, *(json.dumps({"shopper_id": one}) for one in IDS if one is not None)),
    *of_json(LISTS, *(json.dumps({"surface": one}) for one in ("' OR 1=1", "A", "é", "a" * 33))),
    *of_json(LISTS, *(json.dumps({"filters": {"deny": [one]}}) for one in ("'; DROP", "é", "$1"))),
    *of_json(LISTS, '{"unknown": 1}', '{"__proto__": {}}', '{"constructor": 1}', '{"": 1}'),
    *of_json(LISTS, '{"shopper_id": "a", "history": []}', '{"explain": "yes"}', '{"filters": []}'),
    *of_json(LISTS, '{"history": [{"item_id": "a", "time": "2026-02-30T00:00:00Z"}]}'),
    *of_json(LISTS, '{"history": [{"item_id": "a", "time": 1e30}]}'),
    *of_json("/v1/items/x", '{"title": ""}', '{"title": "\\u0000"}', "{}", "[]", method="PUT"),
    *of_json("/v1/items/item-1", "{}", '{"title": null}', '{"price": 1}', method="PATCH"),
    *of_json("/v1/stock", '{"items": [{"item_id": "a", "quantity": -1}]}', "{}", method="PUT"),
    *of_json("/v1/stock", '{"items": [{"item_id": "a", "quantity": NaN}]}', method="PUT"),
    *of_json(EVENTS, "{}", '{"events": {}}', '{"events": null}', "[]"),
]  # fmt: skip
PATHS = [
    "/", "/v1", "/v2/recommendations", "/v1/recommendations/", "//v1/recommendations", "/%00",
    "/v1/%2e%2e/keys.json", "/v1/../keys.json", "/..%2f..%2fetc%2fpasswd", "/etc/passwd", "/%ff",
    "/v1/recommendations%00", "/v1/recommendations/%2e%2e/next", "/.git/config", "/docs",
    "/openapi.json", "/v1/items/%00/similar", "/v1/items/%0d%0aX-A:%20b/similar",
    "/v1/recommendations/' OR '1'='1/next".replace(" ", "%20"), f"/v1/items/{'a' * 300}/similar",
    f"/v1/items/{quote('../../x')}/similar", "/v1/items/" + quote("é\u202e😀") + "/similar",
    "/v1/recommendations/" + "0" * 31 + "/next", "/v1/recommendations/" + "F" * 32 + "/next",
    "/" + "a" * 60_000, "/" + "a/" * 30_000, "/?" + "a=b&" * 10_000, "*", "http://other/v1", "/%",
]  # fmt: skip
QUERIES = ["from=yesterday", "to=2026-02-30", "surface=A", "bucket=x", "from=NaN", "variant=%00"]
VERBS = ["GET", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "HEADX", "get", "PROPFIND", "CONNECT"]
KEYS = ["", "x", "ft_", "ft_00000000_x", "é", "' OR 1=1 --", "a" * 10_000, "Basic YTpi", "KEY\tx"]
FRAMES = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\r\n\r\n\r\nGET\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1 x\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
    b"GET / HTTP/1.1\r\nHo\x00st: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n",
    b"GET / HTTP/1.1\r\n: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    request("POST", LISTS, b"{}", length="-1"),
    request("POST", LISTS, b"{}", length="1e3"),
    request("POST", LISTS, b"{}", length="9" * 30),
    request("POST", LISTS, b"{}", length="0x2"),
    request("POST", LISTS, b"{}", length=1),  # what is over is no request
    request("POST", LISTS, b"{}", length=MOST_BODY_BYTES + 1),
    request("POST", LISTS, b"{}", JSON | {"Content-Length": "3"}),
    request("POST", LISTS, b"{}", JSON | {"Transfer-Encoding": "chunked"}),
    request("POST", LISTS, b"{}", JSON | {"Transfer-Encoding": "gzip"}),
    request("POST", LISTS, b"zz\r\n").replace(b"Content-Length: 4", b"Transfer-Encoding: chunked"),
    request("POST", LISTS, b"-1\r\n{}\r\n").replace(
        b"Content-Length: 8", b"Transfer-Encoding: chunked"
    ),
    request("GET", "/v1/release", headers={f"X-{place}": "a" * 1000 for place in range(80)}),
    request("GET", "/v1/release", headers={"Cookie": "a" * 70_000}),
]
KINDS = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/xml", "x"]
TABLE = {
    "malformed": MALFORMED,
    "numbers": NUMBERS,
    "bombs": BOMBS,
    "twice": TWICE,
    "shapes": SHAPES,
    "paths": [request("POST", path, b"{}") for path in PATHS],
    "queries": [request("GET", f"/v1/online?{query}") for query in QUERIES],
    "verbs": [request(verb, LISTS) for verb in VERBS],
    "keys": [request("POST", LISTS, b"{}", JSON | {"X-API-Key": one}, key=False) for one in KEYS],
    "frames": FRAMES,
    "kinds": [request("POST", LISTS, b'{"count": 1}', {"Content-Type": kind}) for kind in KINDS],
}


def test_the_table_is_long():
    assert sum(len(cases) for cases in TABLE.values()) >= 200


@pytest.mark.parametrize("kind", TABLE)
def test_it_gets_a_4xx_that_is_a_problem(served, kind):
    counter, port = served
    for place, case in enumerate(TABLE[kind]):
        answer = sent(port, case.replace(b": KEY\r\n", f": {counter.key}\r\n".encode()))
        head, _, body = answer.partition(b"\r\n\r\n")
        where = (kind, place, case[-80:], answer[:400])
        status = int(head[9:12])
        assert 400 <= status < 500, where
        assert b"content-type: application/problem+json" in head.lower(), where
        told = json.loads(body[: json_end(head)])
        assert told["status"] == status, where
        assert {"type", "title", "detail"} <= told.keys(), where
        assert len(body) < 10_000, where
    alive = sent(port, request("GET", "/health/live"))
    assert b'{"status":"ok"}' in alive


def json_end(head):
    lengths = [
        line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    ]
    return int(lengths[0])


def sent(port, content):
    """The first answer to `content`."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as line:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            line.sendall(content)
        found = b""
        while b"\r\n\r\n" not in found or len(found.partition(b"\r\n\r\n")[2]) < json_end(
            found.partition(b"\r\n\r\n")[0]
        ):
            more = line.recv(65536)
            assert more, (content[-80:], found)
            found += more
        return found


def test_a_malformed_event_among_good_ones_is_rejected_alone(served):
    counter, _ = served
    answer = counter.send(event("good"), event("bad", item="no such"))
    assert (answer["accepted"], len(answer["rejected"])) == (1, 1)
