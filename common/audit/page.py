"""The audit as a page that is whole in itself: no request, no script, styles and figures inside.

Names come from whoever is audited, so Jinja2 escapes all of them; figures are drawn by the template
from the numbers that are made here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from common.audit.findings import MerchantAudit, Report
from common.pages import page_environment

TEMPLATE: Final = "audit.html.j2"
WIDTH, HEIGHT = 300.0, 120.0  # of one merchant's figure, in the drawing's own units
BAR = 620.0  # the longest bar
WORDS: Final = {"passed": "passed", "noted": "note", "skipped": "not made", "failed": "FAILED"}


@dataclass(frozen=True)
class Growth:
    """Epsilon of one merchant as it grew, in a drawing's units; `y` runs downwards.

    Attributes:
        name: The merchant's.
        line: Points of the step line, as SVG reads them.
        claim: Height of the claim; None without one.
        lower: Height of the lower bound; None without one.
        first: Day and time of the first entry.
        last: Of the last.
        said: The claim in words.
        told: The figure in words.
    """

    name: str
    line: str
    claim: float | None
    lower: float | None
    first: str
    last: str
    said: str
    told: str


@dataclass(frozen=True)
class Bar:
    """A merchant's claim and lower bound as lengths; None where there is none."""

    name: str
    claim: float | None
    lower: float | None
    claimed: float | None
    proved: float | None


def render_page(report: Report) -> str:
    """Return the page as HTML."""
    environment = page_environment(__file__)
    environment.filters["short"] = lambda value: "—" if value is None else f"{value:.3f}"
    return environment.get_template(TEMPLATE).render(
        report=report,
        words=WORDS,
        verdict=report.verdict[:1].upper() + report.verdict[1:],
        wrong=[finding for check in report.checks for finding in check.findings],
        counts={one: sum(c.status == one for c in report.checks) for one in WORDS},
        growths=growths(report.merchants),
        bars=bars(report.merchants),
        width=WIDTH,
        height=HEIGHT,
        bar=BAR,
    )


def growths(merchants: Sequence[MerchantAudit]) -> list[Growth]:
    """Return a figure for each merchant whose ledger was read; all have one scale."""
    drawn = [one for one in merchants if one.curve]
    top = 1.15 * max(
        (value for one in drawn for value in (one.curve[-1].epsilon, one.claimed or 0)), default=1
    )
    return [_growth(one, top) for one in drawn]


def bars(merchants: Sequence[MerchantAudit]) -> list[Bar]:
    """Return a bar for each merchant with a claim or a lower bound."""
    drawn = [one for one in merchants if (one.claimed, one.lower) != (None, None)]
    longest = max((value or 0 for one in drawn for value in (one.claimed, one.lower)), default=1)
    return [
        Bar(
            one.name,
            None if one.claimed is None else BAR * one.claimed / longest,
            None if one.lower is None else BAR * one.lower / longest,
            one.claimed,
            one.lower,
        )
        for one in drawn
    ]


def _growth(one: MerchantAudit, top: float) -> Growth:
    """Draw steps over the ledger's entries: of their times only the day is known."""
    began, ended = one.curve[0].time, one.curve[-1].time
    first, span = one.curve[0].entry, max(one.curve[-1].entry - one.curve[0].entry, 1)

    def across(entry: int) -> float:
        return WIDTH * (entry - first) / span

    def down(epsilon: float) -> float:
        return HEIGHT * (1 - epsilon / top)

    points, level = [(0.0, HEIGHT)], HEIGHT
    for point in one.curve:
        points.append((across(point.entry), level))
        level = down(point.epsilon)
        points.append((across(point.entry), level))
    points.append((WIDTH, level))
    return Growth(
        name=one.name,
        line=" ".join(f"{x:.1f},{y:.1f}" for x, y in points),
        claim=None if one.claimed is None else down(one.claimed),
        lower=None if one.lower is None else down(one.lower),
        first=_moment(began),
        last=_moment(ended),
        said="" if one.claimed is None else f"claimed ε = {one.claimed:.3f}",
        told=(
            f"{one.name}: epsilon grew to {one.curve[-1].epsilon:.2f} over "
            f"{one.curve[-1].entry} entries"
        ),
    )


def _moment(seconds: float) -> str:
    """Return a time as people write it, UTC; a clock that is out of all bounds is shown raw."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s"
