"""What a terminal would obey, or not show, is spelled out."""

from __future__ import annotations

import sys
from unicodedata import category

import pytest

from lazymig.characters import cut, in_one_line, printable

# With joiners between their characters.
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"


def test_no_character_is_obeyed() -> None:
    """Each control, sign of direction, separator and surrogate of Unicode is shown as a code."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        shown = printable(f"a{character}b")
        if category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in "\n\t":
            assert shown.isascii()
            assert shown[1:-1].startswith(("\\x", "\\u", "\\U"))
            assert int(shown[3:-1], 16) == code
        else:
            assert shown == f"a{character}b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb\rc\x9bd\x00\x7f", r"a\x1b[31mb\x0dc\x9bd\x00\x7f"),
        ("a\tb\nü€", "a\tb\nü€"),
        ("invoice\u202efdp.exe", r"invoice\u202efdp.exe"),
        ("one\u2028two\u2029", r"one\u2028two\u2029"),
        ("ad\u200dmin", r"ad\u200dmin"),
        (FAMILY, FAMILY),
        (PERSIAN, PERSIAN),
        ("é\u200d\u202eü", "é\u200d\\u202eü"),
        ("\U000e0041", r"\U000e0041"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_is_read_stays_readable(text: str, shown: str) -> None:
    """Letters of every script, emoji and their joiners stay; what hides or moves text does not."""
    assert printable(text) == shown


def test_one_line_stays_one_line() -> None:
    """Whatever breaks lines is a blank."""
    assert in_one_line(" a\r\nb\u2028c\x1b[2J\x85d ") == r"a b c\x1b[2J d"


@pytest.mark.parametrize(
    ("text", "short"), [("", ""), ("12345678", "12345678"), ("123456789", "12345...")]
)
def test_long_texts_are_cut(text: str, short: str) -> None:
    """A text keeps to the length that it may have, and dots show that something is left out."""
    assert cut(text, 8) == short
