import pytest

from client.serving.page.security import own_path
from tests.support.visits import Visitor

PATHS = ["/page/", "/page/sign-in", "/page/static/page.css", "/page/nowhere", "/page/reach"]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_says_what_a_browser_may_do_with_it(visitor, path):
    headers = visitor.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy  # no foreign host
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cache-control"] == ("no-cache" if "static" in path else "no-store")


@pytest.mark.parametrize(
    "path",
    ["/page/", "/page/lists", "/page/results", "/page/training", "/page/models", "/page/data"],
)
def test_no_page_holds_a_script_a_style_or_a_foreign_address(visitor, path):
    text = visitor.get(path).text
    assert " style=" not in text
    assert "<style" not in text
    assert " onclick" not in text
    assert "javascript:" not in text
    assert "//" not in text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/page/look", "/page/sign-in", "/page/models/roll-back"])
def test_a_form_of_another_site_does_nothing(visitor, path, headers):
    answer = visitor.post(path, {"language": "zh"}, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"}],
)
def test_a_form_of_this_page_is_taken(visitor, headers):
    assert visitor.post("/page/lists", {}, headers=headers).status_code == 200


@pytest.mark.parametrize("csrf", ["", "x", "é"])
def test_a_form_without_the_sessions_secret_does_nothing(visitor, csrf):
    answer = visitor.post("/page/models/roll-back", {"digest": "x"}, csrf=csrf or "no")
    assert answer.status_code == 403
    assert "older visit" in answer.text


def test_the_secret_of_another_session_is_none(counter, visitor):
    other = Visitor(counter).csrf()
    assert visitor.post("/page/training/measure", {}, csrf=other).status_code == 403


@pytest.mark.parametrize("content", [b"\xff\xfe", b"&".join(b"a=%d" % n for n in range(300))])
def test_what_is_no_form_is_refused(visitor, content):
    assert visitor.ask("POST", "/page/look", content=content).status_code == 400


def test_a_large_body_is_refused_before_anybody_signs_in(counter):
    stranger = Visitor(counter, signed_in=False)
    assert stranger.ask("POST", "/page/sign-in", content=b"k" * 70_000).status_code == 413


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/page/models", "/page/models"),
        ("/page/results?days=7", "/page/results"),
        ("/page", "/page"),
        ("/pages", "/page/"),
        ("//evil.example/page/", "/page/"),
        ("https://evil.example/page/", "/page/"),
        ("/page/\\evil", "/page/%5Cevil"),
        ("/page/../v1", "/page/"),
        ("", "/page/"),
    ],
)
def test_a_way_back_is_a_path_of_the_page(path, kept):
    assert own_path(path) == kept
