"""Turn a file's bytes into UTF-8, and say what to do when they are of another encoding."""

import codecs

from common.errors import InputError

_LONGEST_EXAMPLE = 20  # characters of a word that an error shows


def is_wide(encoding: str) -> bool:
    """Tell whether characters take two or four bytes each, so that a newline is not one byte."""
    return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


def known_encoding(name: str) -> str:
    """Return `name`.

    Raises:
        InputError: if Python knows no such text encoding.
    """
    try:
        codecs.lookup(name)
        "x".encode(name)  # some codecs, such as base64, are no encodings of text
    except (LookupError, ValueError):
        raise InputError(
            f"The encoding is {name!r}, which Python does not know; use utf-8, cp1252, gb18030, "
            "utf-16 or another.",
            field="encoding",
        ) from None
    return name


def as_utf8(name: str, content: bytes, encoding: str) -> bytes:
    """Return `content` as UTF-8 without a byte order mark.

    Raises:
        InputError: if it is of another encoding, naming the line and an encoding that fits, or
            holds a NUL byte.
    """
    codec = codecs.lookup(encoding).name
    try:
        text = content.decode("utf-8-sig" if codec == "utf-8" else codec)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{name}: line {line} is not valid {codec} (byte {error.start}). "
            f"{'Export it again.' if is_wide(codec) else _advice(content, error.start)}",
            field="encoding",
        ) from None
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise InputError(
            f"{name}: line {line} holds a NUL byte, so this is no text file, or damaged, or "
            'UTF-16 without a mark; export it again as UTF-8, or set encoding = "utf-16-le".',
            field="file",
        )
    return text.removeprefix("\ufeff").encode()


def has_c1_controls(text: bytes) -> bool:
    """Tell whether UTF-8 `text` holds controls of the C1 range, as cp1252 read as latin-1 does."""
    return any(bytes([0xC2, code]) in text for code in range(0x80, 0xA0) if code != 0x85)


def _advice(content: bytes, place: int) -> str:
    """Say which encoding the line at `place` would make sense in, and how a word would then read.

    No more than a word: the line may be a shopper's.
    """
    start = content.rfind(b"\n", 0, place) + 1
    end = content.find(b"\n", place)
    line = content[start : len(content) if end < 0 else end].strip()
    fits = []
    for encoding, usual in (("gb18030", _is_chinese), ("cp1252", _is_western)):
        try:
            shown = line.decode(encoding)
        except UnicodeDecodeError:
            continue
        if usual(shown):
            word = _word(shown, len(content[start:place].lstrip().decode(encoding, "replace")))
            fits.append(f'as "{encoding}" it reads {word!r}')
    if fits:
        return f"Name its encoding in the mapping or with --encoding: {' and '.join(fits)}."
    return (
        'Save the file as UTF-8, or name its encoding in the mapping, such as encoding = "gb18030" '
        'or "cp1252".'
    )


def _word(line: str, place: int) -> str:
    """Return the word of `line` that holds the character at `place`."""
    start = next((at + 1 for at in range(place - 1, -1, -1) if not line[at].isalnum()), 0)
    end = next((at for at in range(place + 1, len(line)) if not line[at].isalnum()), len(line))
    return line[start:end][:_LONGEST_EXAMPLE]


def _is_chinese(text: str) -> bool:
    """Tell whether all of `text` beyond ASCII is common in Chinese."""
    beyond = [one for one in text if not one.isascii()]
    return all("\u4e00" <= one <= "\u9fff" or "\u3000" <= one <= "\u303f" or
               "\uff00" <= one <= "\uff60" for one in beyond)  # fmt: skip


def _is_western(text: str) -> bool:
    """Tell whether the letters of `text` beyond ASCII stand beside others, as accents do."""
    beyond = [one for one in text if not one.isascii()]
    return sum(one.isascii() for one in text) >= len(beyond)
