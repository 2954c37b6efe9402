"""Every word of the page, in each language it speaks: `texts/LANGUAGE.toml`."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal, cast

Language = Literal["en", "zh"]
LANGUAGES: Mapping[Language, str] = {"en": "English", "zh": "中文"}  # each named in itself
_FOLDER = Path(__file__).parent / "texts"


class Texts:
    """The words of one language, by section and name."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self.known = _read(language)

    def __call__(self, name: str, **values: object) -> str:
        """Return a text with its places filled.

        Raises:
            KeyError: if there is no such text, or a place has no value: a fault of the page.
        """
        return self.known[name].format(**values)

    def find(self, name: str) -> str | None:
        """Return a text that may be missing, such as one for a rule of a later version."""
        return self.known.get(name)


@cache
def texts(language: Language) -> Texts:
    """Return the words of a language."""
    return Texts(language)


def chosen_language(kept: str | None, accepted: str) -> Language:
    """Return the language that was chosen, else the first of the browser's that there is.

    Args:
        kept: What the cookie says.
        accepted: The header Accept-Language.
    """
    if kept in LANGUAGES:
        return cast("Language", kept)
    for part in accepted.split(","):
        tag = part.split(";")[0].strip().lower().split("-")[0]
        if tag in LANGUAGES:
            return cast("Language", tag)
    return "en"


def _read(language: Language) -> dict[str, str]:
    content = tomllib.loads((_FOLDER / f"{language}.toml").read_text(encoding="utf-8"))
    return {
        f"{section}.{name}": text
        for section, named in content.items()
        for name, text in named.items()
    }
