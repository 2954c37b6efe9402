import pytest

from tests.support.visits import PageCounter, Visitor

PAGES = ["/page/", "/page/lists", "/page/results", "/page/training", "/page/models", "/page/data"]
PARTS = ["/page/reach", "/page/training/outlook", "/page/data/worker"]
ACTS = ["/page/lists", "/page/training/measure", "/page/models/roll-back", "/page/sign-out"]


@pytest.fixture
def stranger(counter):
    return Visitor(counter, signed_in=False)


@pytest.mark.parametrize("path", [*PAGES, *PARTS])
def test_a_stranger_sees_nothing_of_the_shop_and_is_asked_for_a_key(stranger, path):
    answer = stranger.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/page/sign-in?to=/page")
    assert answer.text == ""
    part = stranger.get(path, fragment=True)
    assert (part.status_code, part.headers["hx-redirect"]) == (401, "/page/sign-in")


@pytest.mark.parametrize("path", ACTS)
def test_a_stranger_can_do_nothing(stranger, path):
    assert stranger.post(path, {}, csrf="x").status_code == 303


def test_the_host_alone_leads_to_the_page(stranger):
    assert stranger.get("/").headers["location"] == "/page/"


def test_an_admin_key_is_taken_once_and_becomes_a_cookie_that_no_script_reads(counter, stranger):
    key = counter.keys.new("mine", ["admin"])
    answer = stranger.ask("POST", "/page/sign-in", data={"key": key, "to": "/page/models"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/page/models")
    cookie = answer.headers["set-cookie"]
    for needed in ("HttpOnly", "SameSite=strict", "Path=/page", "Max-Age=43200"):
        assert needed in cookie
    assert "Secure" not in cookie  # on loopback without TLS a browser would not keep it
    assert key not in cookie
    page = stranger.get("/page/models")
    assert page.status_code == 200
    assert key not in page.text


def test_with_tls_the_cookie_goes_over_tls_alone(counter, stranger):
    ticket = counter.sessions.ticket()
    answer = stranger.get(f"https://127.0.0.1:8080/page/enter?ticket={ticket}")
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("key", ["", "x", "ft_00000000_" + "x" * 43])
def test_a_wrong_key_is_told_plainly_and_not_repeated(tmp_path, key):
    counter = PageCounter(tmp_path)
    answer = Visitor(counter, signed_in=False).ask("POST", "/page/sign-in", data={"key": key})
    assert answer.status_code == 401
    assert "That is no admin key of this shop." in answer.text
    assert 'role="alert"' in answer.text
    assert len(key) < 12 or key not in answer.text
    counter.store.close()


def test_too_many_wrong_keys_are_told_to_wait(tmp_path):
    counter = PageCounter(tmp_path)
    visitor = Visitor(counter, signed_in=False)
    statuses = [visitor.ask("POST", "/page/sign-in", data={"key": "x"}) for _ in range(12)]
    assert [one.status_code for one in statuses][-1] == 429
    assert "retry-after" in statuses[-1].headers
    counter.store.close()


def test_a_key_for_lists_alone_does_not_open_the_page(counter, stranger):
    key = counter.keys.new("website", ["serve", "events"])
    assert stranger.ask("POST", "/page/sign-in", data={"key": key}).status_code == 401


def test_an_old_ticket_is_told(stranger):
    answer = stranger.get("/page/enter?ticket=used")
    assert answer.status_code == 401
    assert "used already" in answer.text


@pytest.mark.parametrize(
    "to",
    ["https://evil.example/page/", "//evil.example", "/v1/budget", "/page/../v1", "javascript:1"],
)
def test_nobody_is_sent_elsewhere_after_signing_in(counter, stranger, to):
    key = counter.keys.new("mine", ["admin"])
    answer = stranger.ask("POST", "/page/sign-in", data={"key": key, "to": to})
    assert answer.headers["location"] == "/page/"


def test_whoever_signs_out_has_to_sign_in_again(counter, visitor):
    assert visitor.get("/page/").status_code == 200
    kept = dict(visitor.cookies)
    assert visitor.post("/page/sign-out", {}).headers["location"] == "/page/sign-in"
    visitor.cookies.update(kept)  # a cookie that somebody kept is worth nothing
    assert visitor.get("/page/").status_code == 303


def test_language_and_colours_are_remembered_and_need_no_session(stranger):
    assert 'lang="en"' in stranger.get("/page/sign-in").text
    for name, value in (("language", "zh"), ("theme", "dark")):
        form = {name: value, "to": "/page/sign-in"}
        assert stranger.ask("POST", "/page/look", data=form).headers["location"] == "/page/sign-in"
    page = stranger.get("/page/sign-in").text
    assert 'lang="zh-Hans" data-theme="dark"' in page
    assert "管理密钥" in page
    stranger.ask("POST", "/page/look", data={"language": "xx", "theme": "<b>"})
    assert 'lang="zh-Hans" data-theme="dark"' in stranger.get("/page/sign-in").text


def test_the_first_look_is_in_the_browsers_language(counter):
    assert (
        "管理密钥" in Visitor(counter, language="zh-CN", signed_in=False).get("/page/sign-in").text
    )
