"""Regular expressions that mean the same to Python and to the server's PCRE.

Only a small syntax is translated: literals, `.`, simple classes, quantified single
characters, unrepeated groups, alternatives, `^` and `$`. All else is for MongoDB to judge.
"""

from __future__ import annotations

import re
from typing import Any, Final

__all__ = ["flags_of", "options_problem", "pattern_problem", "pattern_source", "translate"]

_FLAG_LETTERS: Final = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
_LETTERS: Final = frozenset("imsxu")
# `m` is left out: only Python's `^` matches after a newline that ends the string.
_JUDGED_FLAGS: Final = re.IGNORECASE | re.DOTALL | re.UNICODE

_COMMON_SYNTAX: Final = re.compile(
    r"""
    (?:
        (?:
            [^\\^$.|?*+()\[\]{}\x00]                    # a literal
          | \\[!"#%&'(),./:;<=>@\[\]^_`{|}~$*+?\-\\ ]   # an escaped one
          | \\[dDwWsStnr]
          | \.
          | \[\^?(?:[A-Za-z0-9](?:-[A-Za-z0-9])?|[ _.,:;/@\#%!?*+=]|\\[-dws.\]\[\\/])+\]
        )
        (?:(?:[*+?]|\{\d{1,3}(?:,\d{0,3})?\})\??)?
      | \^ | \$(?![*+?{]) | \\b(?![*+?{]) | \\A(?![*+?{])
      | \((?:\?:)? | \)(?![*+?{]) | \|
    )*
    """,
    re.VERBOSE,
)
# What Python and PCRE both refuse, in a pattern without constructs of their own.
_BOTH_REFUSE: Final = (
    "missing )",
    "unbalanced parenthesis",
    "unterminated character set",
    "nothing to repeat",
    "multiple repeat",
    "bad character range",
    "min repeat greater than max repeat",
)
_OWN_CONSTRUCT: Final = re.compile(r"\(\?|\(\*|\\|\[[:.=]|\[\^?\]|\{,|[*+?}]\+")
_ESCAPES_NOTHING: Final = re.compile(r"(?<!\\)(?:\\\\)*\\\Z")


def pattern_source(pattern: Any) -> tuple[str, int] | None:
    """Give a pattern's text and Python flags; None: its bytes are not UTF-8."""
    if isinstance(pattern, str):
        return pattern, 0
    text = pattern.pattern
    if isinstance(text, bytes):
        try:
            return text.decode(), pattern.flags
        except UnicodeDecodeError:
            return None
    return text, pattern.flags


def options_problem(options: str) -> str | None:
    """Say what the server finds wrong with `$options`, or None."""
    unknown = sorted(set(options) - _LETTERS)
    return f"has the unknown options {unknown}; use letters of 'imsx'" if unknown else None


def pattern_problem(text: str, flags: int) -> str | None:
    """Say what the server finds wrong with a pattern, as far as it can be told, or None."""
    if "\x00" in text:
        return "contains a null byte, which MongoDB refuses; take it out"
    if flags & re.LOCALE:
        return "has the flag re.LOCALE, which MongoDB does not know; leave it out"
    if _ESCAPES_NOTHING.search(text):
        return "ends with a backslash; escape it with another one"
    return None if _OWN_CONSTRUCT.search(text) else _refused_by_both(text)


def _refused_by_both(text: str) -> str | None:
    try:
        re.compile(text)
    except (re.error, OverflowError) as error:
        if str(error).startswith(_BOTH_REFUSE):
            return f"is no regular expression ({error}); correct the pattern"
    return None


def flags_of(options: str) -> int:
    """Give the Python flags that the letters of `$options` stand for."""
    flags = 0
    for letter in options:
        flags |= _FLAG_LETTERS.get(letter, 0)
    return flags


def translate(text: str, flags: int) -> re.Pattern[str] | None:
    """Give a Python pattern whose `search` decides as the server does; None: there is none.

    With `re.IGNORECASE` it decides so on ASCII strings only.
    """
    if flags & ~_JUDGED_FLAGS or not _COMMON_SYNTAX.fullmatch(text):
        return None
    if flags & re.IGNORECASE and not text.isascii():
        return None
    try:
        # PCRE's \d \w \s \b know ASCII only, unless told otherwise.
        return re.compile(text, (flags & ~re.UNICODE) | re.ASCII)
    except re.error:
        return None
