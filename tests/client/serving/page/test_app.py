import httpx

from client.serving.page.app import _STATIC
from tests.support.visits import PageCounter, Visitor


def test_an_address_that_is_not_there_gets_a_page(visitor):
    answer = visitor.get("/page/nowhere")
    assert answer.status_code == 404
    assert "There is no such page." in answer.text
    assert visitor.ask("DELETE", "/page/models").status_code == 405


def test_what_fails_by_itself_is_told_without_its_message(tmp_path, monkeypatch):
    counter = PageCounter(tmp_path)

    def fail(*_):
        raise RuntimeError("shopper-3")

    monkeypatch.setattr(counter.worker, "budget", fail)
    answer = Visitor(counter).get("/page/data/worker")
    assert answer.status_code == 500
    assert "The service failed." in answer.text
    assert "shopper-3" not in answer.text
    counter.store.close()


def test_the_pages_own_files_are_served_and_no_others(visitor):
    for path in sorted(_STATIC.rglob("*.*")):
        answer = visitor.get(f"/page/static/{path.relative_to(_STATIC).as_posix()}")
        assert answer.status_code == 200
        assert answer.content == path.read_bytes()
    for outside in ("../app.py", "%2e%2e/app.py", "..%2fapp.py", "/etc/hostname", ""):
        assert visitor.get(f"/page/static/{outside}").status_code in {404, 405}


def test_the_page_opens_no_route_of_the_interface(counter, visitor):
    """A session is for the page alone: the interface asks for a key, also of a browser."""
    for path in ("/v1/budget", "/metrics", "/v1/release"):
        assert visitor.get(path).status_code == 401
    key = {"X-API-Key": counter.key}
    stranger = Visitor(counter, signed_in=False)
    assert stranger.get("/page/models", headers=key).status_code == 303


def test_foreign_files_keep_their_licences():
    vendor = _STATIC / "vendor"
    assert "Zero-Clause BSD" in (vendor / "htmx-LICENSE.txt").read_text()
    assert "SIL Open Font License" in (vendor / "inter-LICENSE.txt").read_text()
    assert {path.name for path in vendor.iterdir()} == {
        "htmx-2.0.11.min.js",
        "htmx-LICENSE.txt",
        "inter-5.3.0-greek.woff2",
        "inter-5.3.0-latin.woff2",
        "inter-LICENSE.txt",
    }


def test_no_log_line_holds_an_id(counter, visitor, caplog):
    with caplog.at_level("INFO"):
        visitor.post("/page/lists", {"shopper": "shopper-3"})
        visitor.get("/page/results?days=7")
    said = "\n".join(record.getMessage() for record in caplog.records if "fedtail" in record.name)
    assert "POST /page/lists 200" in said
    assert "shopper-3" not in said
    assert isinstance(visitor.cookies, httpx.Cookies)
