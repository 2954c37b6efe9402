"""The operator's view: the journal read by somebody else, in tables, as JSON and as a page."""

import json
import threading

import httpx
import pytest
from typer.testing import CliRunner

from common.errors import InputError, JournalError, SettingsError
from common.privacy.accounting.accountants import epsilon_rdp
from common.privacy.ledger.entry import spent_events
from common.privacy.ledger.ledger import Ledger
from server.cli import app
from server.monitoring.journal_page import check_loopback, page_server, render_page
from server.monitoring.journal_view import read_view
from tests.support.fake_node import shops
from tests.support.ledger_node import LedgerWork, refused, town

__all__ = ["shops", "town"]  # fixtures


class Absent(LedgerWork):
    """`birch` fails in round 2."""

    def before(self, kind, number):
        if (self.merchant, kind, number) == ("birch", "train", 2):
            raise ValueError


@pytest.fixture
def folder(town):
    """A run's folder after four rounds, started twice."""
    town.shops.make = Absent
    town.run(rounds=2)
    town.run(rounds=4)
    return town.run_folder


def test_rounds_and_merchants_are_those_of_checkpoint_and_ledgers(town, folder):
    view = read_view(folder)
    (run,) = view.runs
    assert (run.name, run.started, run.planned, run.unfinished) == ("run", 2, 6, ())
    records = town.checkpoint().history
    assert [one.round_number for one in run.rounds] == [1, 2, 3, 4]
    for shown, record in zip(run.rounds, records, strict=True):
        assert len(shown.merchants) == record.participants
        assert (shown.seconds, shown.bytes_down, shown.bytes_up, shown.failures) == (
            *(record.seconds, record.bytes_down, record.bytes_up, record.failures),
        )
    assert "birch" not in run.rounds[1].merchants
    assert [one.name for one in view.merchants] == ["ash", "birch", "cedar"]
    assert [one.rounds for one in view.merchants] == [4, 3, 4]
    for one in view.merchants:
        path = town.federation / one.name / "node" / "ledger.sqlite"
        ledger = Ledger.open(path, one.name, "the shop's data")
        assert (one.entries, one.head) == ledger.head
        assert one.key == ledger.signer
        events = spent_events(ledger.entries())
        assert one.epsilon == pytest.approx(epsilon_rdp(events, 1e-3))
    assert view.entries == len(town.journal())


def test_a_round_that_was_paid_for_and_not_finished_is_shown(town, folder):
    (folder / "checkpoint.json").unlink()
    assert read_view(folder).runs[0].unfinished == ()  # the journal alone: it was closed
    entry = next(one for one in town.journal() if one.round_number == 4)
    assert entry.adapter


def test_an_altered_journal_is_an_error_and_half_a_line_is_not(folder):
    path = folder / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"half')
    assert read_view(folder).entries == whole.count(b"\n")
    path.write_bytes(whole.replace(b"cedar", b"cedaz", 1))
    with pytest.raises((JournalError, InputError)):
        read_view(folder)


def test_a_folder_without_a_journal_is_refused(tmp_path):
    with refused(InputError, "journal"):
        read_view(tmp_path)


def test_the_command_prints_tables_and_json(folder):
    done = CliRunner().invoke(app, ["journal", str(folder)], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    assert "run: 4 of 6 rounds, started 2 times" in done.output
    assert "…" not in done.output  # nothing is cut off at the width of a plain terminal
    told = json.loads(CliRunner().invoke(app, ["journal", str(folder), "--json"]).output)
    assert [one["round_number"] for one in told["runs"][0]["rounds"]] == [1, 2, 3, 4]
    assert told["merchants"][0]["head"] == read_view(folder).merchants[0].head


# --------------------------------------------------------------------- the page
@pytest.fixture
def served(folder):
    with page_server(folder, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_page_is_served_whole_and_runs_nothing(served):
    page = httpx.get(served)
    assert page.status_code == 200
    for word in ("ash", "birch", "cedar", "4 of 6 rounds", "started 2 times"):
        assert word in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    for word in ("<script", "<img", "<link", "http://", "https://", "url("):
        assert word not in page.text
    assert json.loads(httpx.get(f"{served}/journal.json").text)["entries"] > 0
    assert httpx.get(f"{served}/etc/passwd").status_code == 404
    assert httpx.post(served).status_code == 501


def test_a_name_from_elsewhere_that_leads_here_is_not_answered(served):
    assert httpx.get(served, headers={"Host": "evil.example"}).status_code == 403
    for host in ("localhost:1", "127.0.0.1", "[::1]:80"):
        assert httpx.get(served, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org", ""])  # noqa: S104 - what is refused
def test_only_the_loopback_is_bound(host, folder):
    with refused(SettingsError, "host"):
        page_server(folder, host, 0)
    for own in ("127.0.0.1", "127.1.2.3", "::1"):
        check_loopback(own)


def test_what_a_node_named_itself_is_escaped(folder):
    from dataclasses import replace

    view = read_view(folder)
    named = replace(view.merchants[0], name="<script>alert(1)</script>")
    page = render_page(replace(view, merchants=(named,)), "<b>")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;" in page
