"""The board's report as PDF, A4, the same bytes for the same results.

ReportLab sets it; the fonts are those that matplotlib brings. Names come from merchants' tables:
they are escaped, and one whose letters the font lacks is given as a number.
"""

import io
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    Flowable,
    KeepTogether,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

from common.files import write_atomic
from simulations.report.board import Bar, BoardReport, MerchantGain, board_report
from simulations.report.svg import GREY, INK, MUTED, RULE, TEAL
from simulations.results.schema import Results

REGULAR: Final = "DejaVuSans"
BOLD: Final = "DejaVuSans-Bold"
MARGIN: Final = 18 * mm
_FRAME = 6  # points that a frame keeps free at each side
WIDTH: Final = A4[0] - 2 * MARGIN - 2 * _FRAME
MOST_MERCHANTS: Final = 12  # rows of the table; of more, those at both ends
_BAD = "#8c3b1b"
_PALE = "#eef4f4"
_PALE_BAD = "#fbf1ec"


def write_board_pdf(results: Results, path: Path) -> None:
    """Write the PDF to `path`, whole or not at all."""
    write_atomic(path, board_pdf(results))


def board_pdf(results: Results) -> bytes:
    """Return the PDF."""
    _register_fonts()
    report = board_report(results)
    held = io.BytesIO()
    document = SimpleDocTemplate(
        held,
        pagesize=A4,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=16 * mm,
        bottomMargin=18 * mm,
        title=report.title,
        author="fedtail",
        invariant=1,  # no time and no id of the moment it was made
    )
    document.build(_story(report), onFirstPage=_footer, onLaterPages=_footer)
    return held.getvalue()


# ------------------------------------------------------------------ the page
def _style(name: str, size: float, **more: Any) -> ParagraphStyle:
    given: dict[str, Any] = {"fontName": REGULAR, "leading": size * 1.42} | more
    given.setdefault("textColor", HexColor(INK))
    return ParagraphStyle(name, fontSize=size, **given)


def _story(report: BoardReport) -> list[Flowable]:
    title = _style("title", 17, fontName=BOLD, leading=21, textColor=HexColor(TEAL))
    small = _style("small", 7.6, textColor=HexColor(MUTED))
    story: list[Flowable] = [
        Paragraph(escape(_readable(report.title)), title),
        Spacer(1, 1.5 * mm),
        Paragraph(escape(_readable(report.subtitle)), small),
        Spacer(1, 4 * mm),
        _box([report.verdict], _PALE, TEAL, bold=True),
        Spacer(1, 4 * mm),
    ]
    overall = BarChart("Ranking quality, NDCG@10", report.overall)
    tail = BarChart("Found in the tail, recall@10", report.tail)
    story += [
        KeepTogether([_heading("What was gained"), overall, *_sentences(report.gains)]),
        KeepTogether([_heading("The tail"), tail, *_sentences(report.tail_sentences)]),
        KeepTogether(
            [
                _heading("Merchant by merchant"),
                *_sentences(report.merchant_sentences),
                Spacer(1, 2 * mm),
                _merchants_table(report.merchants),
            ]
        ),
        KeepTogether([_heading("Privacy"), *_sentences(report.privacy)]),
        KeepTogether(
            [
                _heading("What is not good"),
                _box([f"• {one}" for one in report.bad], _PALE_BAD, _BAD),
            ]
        ),
        Spacer(1, 4 * mm),
        Paragraph(escape(report.fine_print), small),
    ]
    return story


def _heading(text: str) -> Paragraph:
    style = _style(
        "heading", 11.5, fontName=BOLD, spaceBefore=3.5 * mm, spaceAfter=1.8 * mm,
        textColor=HexColor(TEAL),
    )  # fmt: skip
    return Paragraph(text, style)


def _sentences(lines: Sequence[str]) -> list[Flowable]:
    style = _style("body", 9, spaceAfter=1.1 * mm)
    return [Paragraph(escape(_readable(line)), style) for line in lines]


def _box(lines: Sequence[str], fill: str, edge: str, *, bold: bool = False) -> Table:
    style = _style("box", 10.5 if bold else 9, fontName=BOLD if bold else REGULAR)
    rows = [[Paragraph(escape(_readable(line)), style)] for line in lines]
    table = Table(rows, colWidths=[WIDTH])
    table.setStyle(
        TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, -1), HexColor(fill)),
                ("LINEBEFORE", (0, 0), (0, -1), 2.5, HexColor(edge)),
                ("LEFTPADDING", (0, 0), (-1, -1), 9),
                ("TOPPADDING", (0, 0), (-1, -1), 3.2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3.2),
            ]
        )
    )
    return table


def _merchants_table(merchants: Sequence[MerchantGain]) -> Table:
    body, number = _style("cell", 8.2), _style("number", 8.2, alignment=2)
    head = _style("head", 8.2, fontName=BOLD, textColor=HexColor(MUTED))
    headed = _style("headed", 8.2, fontName=BOLD, textColor=HexColor(MUTED), alignment=2)
    scale = max((abs(one.overall or 0.0) for one in merchants), default=0.0)
    rows: list[list[Flowable]] = [
        [
            Paragraph("merchant", head),
            Paragraph("shoppers", headed),
            Paragraph("gain overall", headed),
            Paragraph("", head),
            Paragraph("gain in the tail", headed),
        ]
    ]
    for place, one in _shown(merchants):
        if one is None:
            rows.append([Paragraph("…", body), *(Paragraph("", body) for _ in range(4))])
            continue
        rows.append(
            [
                Paragraph(escape(_readable(one.name, f"Merchant {place}")), body),
                Paragraph(f"{one.cases:,}", number),
                Paragraph(_number(one.overall), number),
                GainBar(one.overall, scale),
                Paragraph(_number(one.tail), number),
            ]
        )
    widths = [share * WIDTH for share in (0.32, 0.15, 0.15, 0.2, 0.18)]
    table = Table(rows, colWidths=widths, repeatRows=1)
    table.setStyle(
        TableStyle(
            [
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(RULE)),
                ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
                ("TOPPADDING", (0, 0), (-1, -1), 1.6),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 1.6),
                ("LEFTPADDING", (0, 0), (0, -1), 0),
            ]
        )
    )
    return table


def _shown(merchants: Sequence[MerchantGain]) -> list[tuple[int, MerchantGain | None]]:
    """Return the merchants that are shown with their places; None stands for those left out."""
    numbered: list[tuple[int, MerchantGain | None]] = list(enumerate(merchants, 1))
    if len(numbered) <= MOST_MERCHANTS:
        return numbered
    half = MOST_MERCHANTS // 2
    return [*numbered[:half], (0, None), *numbered[-half:]]


def _footer(canvas: Canvas, document: SimpleDocTemplate) -> None:
    canvas.saveState()
    canvas.setFont(REGULAR, 7)
    canvas.setFillColor(HexColor(MUTED))
    canvas.drawString(MARGIN + _FRAME, 10 * mm, "Made by fedtail report from results.json")
    canvas.drawRightString(A4[0] - MARGIN - _FRAME, 10 * mm, str(document.page))
    canvas.restoreState()


# ------------------------------------------------------------------ figures
class BarChart(Flowable):
    """Horizontal bars with their intervals, from zero."""

    ROW = 5.2 * mm

    def __init__(self, title: str, bars: Sequence[Bar]) -> None:
        super().__init__()
        self.title, self.bars = title, bars
        self.width, self.height = WIDTH, self.ROW * len(bars) + 7 * mm

    def draw(self) -> None:
        """Draw it where the page has room."""
        canvas, left, right = self.canv, 0.43 * WIDTH, 0.12 * WIDTH
        largest = max((max(bar.value, bar.high or 0.0) for bar in self.bars), default=0.0) or 1.0
        unit = (WIDTH - left - right) / largest
        canvas.setFont(BOLD, 8.2)
        canvas.setFillColor(HexColor(MUTED))
        canvas.drawString(0, self.height - 3.5 * mm, self.title)
        for place, bar in enumerate(self.bars):
            base = self.height - 6 * mm - (place + 1) * self.ROW
            middle = base + 0.5 * self.ROW
            canvas.setFillColor(HexColor(INK))
            canvas.setFont(BOLD if bar.together else REGULAR, 7.8)
            canvas.drawString(0, middle - 2.6, bar.name.split(":")[0] if bar.together else bar.name)
            canvas.setFillColor(HexColor(TEAL if bar.together else "#c3ccd3"))
            canvas.rect(
                left, base + 0.9 * mm, bar.value * unit, self.ROW - 1.8 * mm, stroke=0, fill=1
            )
            end = bar.value
            if bar.low is not None and bar.high is not None:
                canvas.setStrokeColor(HexColor(INK if bar.together else GREY))
                canvas.setLineWidth(0.8)
                canvas.line(left + bar.low * unit, middle, left + bar.high * unit, middle)
                for edge in (bar.low, bar.high):
                    canvas.line(left + edge * unit, middle - 1.6, left + edge * unit, middle + 1.6)
                end = max(end, bar.high)
            canvas.setFillColor(HexColor(INK))
            canvas.drawString(left + end * unit + 4, middle - 2.6, f"{bar.value:.4f}")


class GainBar(Flowable):
    """One merchant's gain, to the right of zero or to the left."""

    def __init__(self, gain: float | None, scale: float) -> None:
        super().__init__()
        self.gain, self.scale = gain, scale
        self.width, self.height = 0.2 * WIDTH - 12, 3 * mm

    def draw(self) -> None:
        """Draw it where the page has room."""
        canvas, middle = self.canv, self.width / 2
        canvas.setStrokeColor(HexColor(GREY))
        canvas.setLineWidth(0.6)
        canvas.line(middle, -1, middle, self.height + 1)
        if self.gain is None or not self.scale:
            return
        canvas.setFillColor(HexColor(TEAL if self.gain > 0 else _BAD))
        canvas.rect(middle, 0, self.gain / self.scale * middle, self.height, stroke=0, fill=1)


# ------------------------------------------------------------------ letters
def _register_fonts() -> None:
    for name in (REGULAR, BOLD):
        if name not in pdfmetrics.getRegisteredFontNames():
            place = files("matplotlib") / "mpl-data" / "fonts" / "ttf" / f"{name}.ttf"
            pdfmetrics.registerFont(TTFont(name, str(place)))


def _letters() -> frozenset[int]:
    """Return the code points that the font has."""
    face: Any = pdfmetrics.getFont(REGULAR)  # of a TrueType font, which the stubs do not know
    return frozenset(face.face.charToGlyph)


def _readable(text: str, instead: str | None = None) -> str:
    """Return a text that the font can set: other letters as a box, or the whole as `instead`."""
    known = _letters()
    if all(ord(letter) in known for letter in text):
        return text
    return instead or "".join(letter if ord(letter) in known else "□" for letter in text)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.4f}".replace("-", "−")
