"""The page: whole in itself, safe whatever names it is given, and true to the report."""

from html.parser import HTMLParser

import pytest

from common.audit.audits import audit_run
from common.audit.findings import (
    Check,
    CurvePoint,
    Finding,
    MerchantAudit,
    Report,
)
from common.audit.layout import PUBLIC_KEY
from common.audit.page import BAR, HEIGHT, WIDTH, bars, growths, render_page

POINTS = tuple(CurvePoint(entry=n, time=1000.0 + n, epsilon=n / 2) for n in (1, 2, 5))
NASTY = "<script>alert(1)</script>\"'&"


def merchant(name="Ash", **changes):
    fields = {"claimed": 2.5, "delta": 1e-5, "pld": 2.5, "lower": 1.0, "curve": POINTS}
    return MerchantAudit(name=name, node="00", **{**fields, **changes})


def report(**changes):
    fields = {
        "kind": "run",
        "target": "out",
        "created": "2026-11-24T10:30:00+00:00",
        "verdict": "passed",
        "accountants": {"first": "PLD by one", "second": "PRV by two"},
        "keys": {},
        "checks": (),
        "merchants": (merchant(),),
    }
    return Report(**{**fields, **changes})


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def test_the_page_of_a_run_asks_for_nothing_and_runs_nothing(honest):
    page = render_page(audit_run(honest, honest / PUBLIC_KEY))
    found = Tags(page)
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert not [value for name, value in found.attributes if name in {"src", "href", "onclick"}]
    assert "default-src 'none'" in page
    assert found.tags.count("polyline") == 2
    for said in ("What is not protected", "Claim against lower bound", "ε over time", "Passed"):
        assert said in page


def test_names_are_escaped_wherever_they_stand():
    finding = Finding(file=NASTY, entry=1, field=NASTY, message=NASTY)
    check = Check(name=NASTY, subject=NASTY, status="failed", detail=NASTY, findings=(finding,))
    page = render_page(
        report(
            target=NASTY,
            verdict="failed",
            keys={NASTY: NASTY},
            checks=(check,),
            merchants=(merchant(NASTY),),
            not_protected=(NASTY,),
        )
    )
    assert "script" not in Tags(page).tags
    assert "Failed" in page


def test_what_is_unknown_is_left_out_and_not_drawn_as_nought():
    page = render_page(report(merchants=(MerchantAudit(name="Ash", node="00"),)))
    assert "polyline" not in page
    assert "—" in page
    assert growths((MerchantAudit(name="Ash", node="00"),)) == []
    assert bars((MerchantAudit(name="Ash", node="00"),)) == []


def test_a_bar_is_as_long_as_its_epsilon_and_a_mark_beyond_shows():
    drawn = bars((merchant("Ash", claimed=2.0, lower=1.0), merchant("Birch", claimed=2.0, lower=8)))
    assert [one.claim for one in drawn] == pytest.approx([BAR / 4, BAR / 4])
    assert [one.lower for one in drawn] == pytest.approx([BAR / 8, BAR])


def test_the_line_steps_at_each_entry_and_rises_to_the_last_epsilon():
    (drawn,) = growths((merchant(),))
    points = [tuple(map(float, pair.split(","))) for pair in drawn.line.split()]
    across, down = [x for x, _ in points], [y for _, y in points]
    assert across == sorted(across)
    assert down == sorted(down, reverse=True)
    assert (across[0], across[-1], down[0]) == (0, WIDTH, HEIGHT)
    assert down[-1] == pytest.approx(drawn.claim, abs=0.06)
    assert {WIDTH / 4} <= set(across)  # the second of the points is the second of five entries
    assert drawn.first == "1970-01-01"  # a ledger knows the day and no more


@pytest.mark.parametrize("time", [0.0, 1e300, -1e300])
def test_a_clock_out_of_all_bounds_is_shown_raw(time):
    point = CurvePoint(entry=1, time=time, epsilon=1.0)
    (drawn,) = growths((merchant(curve=(point,)),))
    assert drawn.first == drawn.last
    assert ("1970" in drawn.first) == (time == 0)
