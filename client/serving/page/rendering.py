"""Pages from templates, in the language and the colours that the browser's cookies ask for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from fastapi import Request
from fastapi.responses import HTMLResponse

from client.serving.feedback.online import Rate
from client.serving.http.gate import PAGE
from client.serving.page.texts import LANGUAGES, Language, Texts, chosen_language, texts
from common.pages import page_environment

LANGUAGE_COOKIE = "fedtail_language"
THEME_COOKIE = "fedtail_theme"
Theme = Literal["auto", "light", "dark"]
THEMES: tuple[Theme, ...] = get_args(Theme)
_TEMPLATES = page_environment(__file__)


@dataclass(frozen=True)
class Look:
    """How a browser wants the page."""

    language: Language
    theme: Theme

    @classmethod
    def of(cls, request: Request) -> "Look":
        """Return what the cookies say, else what the browser does."""
        accepted = request.headers.get("accept-language", "")
        theme = request.cookies.get(THEME_COOKIE, "auto")
        return cls(
            chosen_language(request.cookies.get(LANGUAGE_COOKIE), accepted),
            theme if theme in THEMES else "auto",
        )


def render(
    request: Request,
    template: str,
    values: Mapping[str, Any],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """Return a page or a part of one.

    Args:
        request: What is answered.
        template: Its file.
        values: What it asks for, beside the words and the look.
        status: Of HTTP.
        headers: Further ones.
    """
    look = Look.of(request)
    t = texts(look.language)
    content = _TEMPLATES.get_template(template).render(
        t=t,
        look=look,
        languages=LANGUAGES,
        themes=THEMES,
        page=PAGE,
        path=request.url.path,
        fragment=is_fragment(request),
        f=Formats(t),
        **values,
    )
    return HTMLResponse(content, status, headers=dict(headers or {}))


def is_fragment(request: Request) -> bool:
    """Whether a part of a page is asked for, to be put into one that is there."""
    return request.headers.get("hx-request") == "true"


class Formats:
    """Numbers as a person reads them; what is not known is a dash."""

    def __init__(self, t: Texts) -> None:
        self._t = t

    def count(self, value: float) -> str:
        """Return a whole number with separators."""
        return f"{value:,.0f}"

    def percent(self, value: float | None, digits: int | None = None) -> str:
        """Return a share in percent, with two digits that matter unless told otherwise."""
        if value is None or not math.isfinite(value):
            return "–"
        if digits is None:
            digits = 0 if value >= 0.995 or value == 0 else 1 if value >= 0.0995 else 2
        return f"{100 * value:.{digits}f}%"

    def interval(self, rate: Rate) -> str:
        """Return a rate's 95% interval."""
        if rate.low is None or rate.high is None:
            return "–"
        digits = 2 if rate.high < 0.0995 else 1
        return f"{100 * rate.low:.{digits}f}–{100 * rate.high:.{digits}f}%"

    def number(self, value: float | None, digits: int = 2) -> str:
        """Return a number with so many digits after the point."""
        return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"

    def signed(self, value: float | None, digits: int = 2) -> str:
        """Return a number with its sign; a true minus, which is as wide as a plus."""
        if value is None or not math.isfinite(value):
            return "–"
        return f"{value:+.{digits}f}".replace("-", "−")

    def moment(self, seconds: float) -> str:
        """Return a moment, seconds since 1970, by this machine's clock."""
        return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
