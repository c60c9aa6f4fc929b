"""What a terminal would obey, or not show, is spelled out."""

from __future__ import annotations

import sys
from unicodedata import category

import pytest

from lazymig.characters import clipped, cut, in_one_line, printable, shown

# With joiners between their characters.
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"


def test_no_character_is_obeyed() -> None:
    """Each control, sign of direction, separator, surrogate and noncharacter is shown as a code."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        text = printable(f"a{character}b")
        is_noncharacter = code % 0x10000 >= 0xFFFE or 0xFDD0 <= code < 0xFDF0
        is_obeyed = category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        if is_noncharacter or (is_obeyed and character not in "\n\t"):
            assert text.isascii()
            assert text[1:-1].startswith(("\\x", "\\u", "\\U"))
            assert int(text[3:-1], 16) == code
        else:
            assert text == f"a{character}b"


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
    ("value", "text"),
    [
        ("plain", "plain"),
        ("a\n\nlazymig: all is done", r"a\n\nlazymig: all is done"),
        ("tab\tbell\x07\u202e", r"tab\tbell\x07\u202e"),
        ("x" * 300, "x" * 300),
        ("é" * 1234, "é" * 300 + "… (1,234 characters)"),
        ("\n" * 5000, r"\n" * 300 + "… (5,000 characters)"),
    ],
)
def test_a_value_is_one_short_line(value: str, text: str) -> None:
    """A value breaks no line, commands no terminal, and is cut; shown again it is the same."""
    assert shown(value) == text
    assert shown(shown(value), 1000) == text


def test_a_text_is_clipped_where_it_may_be() -> None:
    """What is left out of a long text is said, and the text keeps its lines."""
    assert clipped("a\nb" * 10, 4) == "a\nba… (30 characters)"
    assert clipped("a\nb", 3) == "a\nb"


@pytest.mark.parametrize(
    ("text", "short"), [("", ""), ("12345678", "12345678"), ("123456789", "12345...")]
)
def test_long_texts_are_cut(text: str, short: str) -> None:
    """A text keeps to the length that it may have, and dots show that something is left out."""
    assert cut(text, 8) == short
