"""Characters that a terminal obeys, or does not show, spelled out."""

from __future__ import annotations

import re
from typing import Final
from unicodedata import category

__all__ = ["LONGEST_TEXT", "LONGEST_VALUE", "clipped", "cut", "in_one_line", "printable", "shown"]

# Controls, and what is not seen but changes what is: directions of writing, line separators.
_SPELLED_OUT: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

_LAYOUT: Final = frozenset("\n\t")

LONGEST_TEXT: Final = 4_000
"""The characters of a line of a report: a name that somebody has stored may have millions."""

LONGEST_VALUE: Final = 300
"""The characters of a name or value from the database that a report shows."""

# Between other characters than ASCII's, scripts and emoji are written with them.
_JOINER: Final = re.compile(r"(?<=[^\x00-\x7f])([\u200c\u200d])(?=[^\x00-\x7f])")


def printable(text: str) -> str:
    """Return the text with codes for what a terminal would obey, except newlines and tabs."""
    if text.isprintable():
        return text
    # Every second part is a joiner.
    parts = _JOINER.split(text)
    parts[::2] = ["".join(map(_shown, part)) for part in parts[::2]]
    return "".join(parts)


def in_one_line(text: str) -> str:
    """Return the printable text in one line, with single blanks."""
    return printable(" ".join(text.split()))


def shown(value: str, longest: int = LONGEST_VALUE) -> str:
    """Return a name or value from the database as terminals and pages show it.

    It is printable and cut, by default at 300 characters. What breaks lines is spelled out, too, so
    that no name looks like lines of a report.
    """
    text = printable(clipped(value, longest))
    return text.replace("\n", "\\n").replace("\t", "\\t")


def clipped(text: str, longest: int) -> str:
    """Return the text; the end of one of more than `longest` characters is left out, and said."""
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"


def cut(text: str, longest: int) -> str:
    """Return the text, with dots for its end if it has more characters than `longest`."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _shown(character: str) -> str:
    if character.isprintable() or character in _LAYOUT:
        return character
    code = ord(character)
    if category(character) not in _SPELLED_OUT and not _is_noncharacter(code):
        return character
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _is_noncharacter(code: int) -> bool:
    """Return whether Unicode has set a code aside for good; HTML holds no such character."""
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
