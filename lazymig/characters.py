"""Characters that a terminal obeys, or does not show, spelled out."""

from __future__ import annotations

import re
from typing import Final
from unicodedata import category

__all__ = ["cut", "in_one_line", "printable"]

# Controls, and what is not seen but changes what is: directions of writing, line separators.
_SPELLED_OUT: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

_LAYOUT: Final = frozenset("\n\t")

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


def cut(text: str, longest: int) -> str:
    """Return the text, with dots for its end if it has more characters than `longest`."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _shown(character: str) -> str:
    if character.isprintable() or character in _LAYOUT:
        return character
    if category(character) not in _SPELLED_OUT:
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
