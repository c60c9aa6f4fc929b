"""Regular expressions that mean the same to Python and to the server's PCRE.

Only a small syntax is translated: literals, `.`, simple classes, quantified single
characters, unrepeated groups, alternatives, `^` and `$`. All else is for MongoDB to judge, and
so are strings for which the search might take long.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "Translated",
    "flags_of",
    "options_problem",
    "pattern_problem",
    "pattern_source",
    "translate",
]

_FLAG_LETTERS: Final = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
_LETTERS: Final = frozenset("imsxu")
# `m` is left out: only Python's `^` matches after a newline that ends the string.
_JUDGED_FLAGS: Final = re.IGNORECASE | re.DOTALL | re.UNICODE

# One character of a string.
_ATOM: Final = r"""(?:
    [^\\^$.|?*+()\[\]{}\x00]                    # a literal
  | \\[!"#%&'(),./:;<=>@\[\]^_`{|}~$*+?\-\\ ]   # an escaped one
  | \\[dDwWsStnr]
  | \.
  | \[\^?(?:[A-Za-z0-9](?:-[A-Za-z0-9])?|[ _.,:;/@\#%!?*+=]|\\[-dws.\]\[\\/])+\]
)"""
_TOKEN: Final = rf"""(?:
    (?P<atom>{_ATOM})(?P<times>(?:[*+?]|\{{\d{{1,3}}(?:,\d{{0,3}})?\}})\??)?
  | (?P<place>\^ | \$(?![*+?{{]) | \\b(?![*+?{{]) | \\A(?![*+?{{]))
  | (?P<open>\((?:\?:)?) | (?P<close>\)(?![*+?{{])) | (?P<bar>\|)
)"""
_TOKENS: Final = re.compile(_TOKEN, re.VERBOSE)
_COMMON_SYNTAX: Final = re.compile(f"{_TOKEN}*", re.VERBOSE)
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
    """Say what the server finds wrong with a pattern, as far as it is known, or None."""
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
    except RecursionError:
        return None
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


def translate(text: str, flags: int) -> Translated | None:
    """Give a Python pattern that decides as the server does; None: there is none.

    With `re.IGNORECASE` it decides so on ASCII strings only.
    """
    if flags & ~_JUDGED_FLAGS or not _COMMON_SYNTAX.fullmatch(text):
        return None
    if flags & re.IGNORECASE and not text.isascii():
        return None
    try:
        # PCRE's \d \w \s \b know ASCII only, unless asked otherwise.
        pattern = re.compile(text, (flags & ~re.UNICODE) | re.ASCII)
    except re.error:
        return None
    anchored, effort = _effort_of(text)
    longest = effort.longest
    if longest < 0:
        return None
    find = pattern.match if anchored else pattern.search
    return Translated(find, longest, bool(flags & re.IGNORECASE), effort.is_linear)


# --- How long a search may take -----------------------------------------------------------

# Python's search goes back and tries again, and nothing interrupts it: no other thread runs, and no
# time limit ends it. So a string is judged here only if its search is sure to end within these.
_LINEAR_STEPS: Final = 1_000_000
_STEPS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Translated:
    """A pattern of Python; asked for longer strings than `longest`, it may take too long.

    `is_linear`: the time that it takes grows as the string does, and no faster.
    """

    find: Callable[[str], Any]
    longest: int
    ascii_only: bool
    is_linear: bool

    def judge(self, value: str) -> bool | None:
        """Return whether the pattern is found in a string; None: MongoDB has to be asked."""
        if len(value) > self.longest or (self.ascii_only and not value.isascii()):
            return None
        return self.find(value) is not None


@dataclass(frozen=True, slots=True)
class _Effort:
    """The most ways to go through a pattern: `ways * length ** power`."""

    ways: int = 1
    power: int = 0

    def then(self, other: _Effort) -> _Effort:
        return _Effort(self.ways * other.ways, self.power + other.power)

    def instead(self, other: _Effort) -> _Effort:
        return _Effort(self.ways + other.ways, max(self.power, other.power))

    @property
    def is_linear(self) -> bool:
        return self.power < 2

    @property
    def longest(self) -> int:
        """The most characters that a string may have; -1 if even an empty one takes too long."""
        ratio = (_LINEAR_STEPS if self.is_linear else _STEPS) // self.ways
        if not ratio:
            return -1
        # The end of a string is a place as well.
        return int(ratio ** (1 / self.power)) - 1 if self.power else sys.maxsize


_ONCE: Final = _Effort()
_EACH_PLACE: Final = _Effort(power=1)


def _effort_of(text: str) -> tuple[bool, _Effort]:
    """Return whether a pattern is found only where a string starts, and the effort of its search.

    Each repetition of an open number is taken to try all lengths, and each alternative to be tried.
    """
    branches: list[tuple[_Effort | None, _Effort]] = [(None, _ONCE)]
    # Nothing comes after it so far: then any number of characters will do.
    last = _ONCE
    anchored, starts = True, True
    for token in _TOKENS.finditer(text):
        others, own = branches[-1]
        if starts:
            anchored &= token["place"] in ("^", "\\A")
        starts = bool(token["bar"]) and len(branches) == 1
        if token["bar"]:
            # What was the last of a branch is followed by what comes after the group.
            if len(branches) > 1:
                own = own.then(last)
            branches[-1] = (own if others is None else others.instead(own), _ONCE)
            last = _ONCE
            continue
        branches[-1], last = (others, own.then(last)), _ONCE
        if token["open"]:
            branches.append((None, _ONCE))
        elif token["close"]:
            _, whole = branches.pop()
            if others is not None:
                whole = others.instead(whole)
            outer, before = branches[-1]
            branches[-1] = (outer, before.then(whole))
        elif token["times"]:
            last = _repeated(token["times"])
    others, own = branches[-1]
    effort = own if others is None else others.instead(own)
    anchored &= bool(text)
    return anchored, effort if anchored else effort.then(_EACH_PLACE)


def _repeated(times: str) -> _Effort:
    times = times[:-1] if len(times) > 1 and times[-1] == "?" else times
    if times == "?":
        return _Effort(2)
    least, _, most = times.strip("{}").partition(",")
    if times in "*+" or (times[-2] == "," and not most):
        return _EACH_PLACE
    return _Effort(max(int(most or least) - int(least), 0) + 1)
