"""Conditions on strings that raise for none, not even for one that is not UTF-8.

Such strings exist in old collections, and several operators on characters raise for them, which
fails a query whatever stands beside. So strings are looked at by bytes, and what is asked otherwise
is asked only of those that consist of known characters. No comparison follows a collation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from lazymig.rules.translating.scope import Scope
from lazymig.rules.translating.symbols import literal

__all__ = [
    "DIGITS",
    "begins_with",
    "ends_with",
    "holds",
    "is_field_name",
    "is_one_of",
    "require_ascii",
    "require_letters",
    "require_match",
]

DIGITS: Final = "0123456789"

# `$trim` looks for each character from the first of these on.
_FREQUENT: Final = " etaoinsrhldcumfpgwybvkxjqz0123456789.,-/:@_ETAOINSRHLDCUMFPGWYBVKXJQZ"
_ASCII: Final = _FREQUENT + "".join(sorted(set(map(chr, range(128))) - set(_FREQUENT)))
# Latin, Greek and Cyrillic, with their punctuation.
_LETTERS: Final = _ASCII + "".join(
    map(chr, (*range(0xA0, 0x250), *range(0x2010, 0x2028), 0x20AC, *range(0x370, 0x500)))
)


def require_ascii(scope: Scope, text: Any) -> None:
    """Require a string of ASCII characters."""
    scope.require(_consists_of(text, _ASCII))


def require_letters(scope: Scope, text: Any) -> None:
    """Require a string of Latin, Greek and Cyrillic characters."""
    scope.require(_consists_of(text, _LETTERS))


def require_match(scope: Scope, text: Any, regex: str, most: int, letters: str) -> None:
    """Require that a pattern finds a string, which can have `most` characters, of these alone.

    The fewer `letters` there are, the less is asked of the server: it reads them each time.
    """
    scope.require({"$lte": [{"$strLenBytes": text}, most]})
    scope.require(_consists_of(text, letters))
    scope.require({"$regexMatch": {"input": text, "regex": regex}})


def _consists_of(text: Any, letters: str) -> Any:
    others = {"$trim": {"input": text, "chars": literal(letters)}}
    # `$eq` would take characters for nothing that a collation ignores.
    return {"$eq": [{"$strLenBytes": others}, 0]}


def holds(text: Any, part: str) -> Any:
    """Return whether a string holds another one."""
    return {"$gte": [{"$indexOfBytes": [text, literal(part)]}, 0]}


def begins_with(text: Any, part: str) -> Any:
    """Return whether a string begins with another one."""
    return {"$eq": [{"$indexOfBytes": [text, literal(part)]}, 0]}


def ends_with(text: Any, part: str) -> Any:
    """Return whether a string ends with another one, which is not empty."""

    def at_end(one: str) -> Any:
        first = {"$max": [0, {"$subtract": [{"$strLenBytes": one}, len(part.encode())]}]}
        return {"$gte": [{"$indexOfBytes": [one, literal(part), first]}, 0]}

    return _bound(text, at_end)


def is_one_of(text: Any, constants: list[str]) -> Any:
    """Return whether a string is one of some others."""

    def same(one: str) -> Any:
        tests = [
            {
                "$and": [
                    {"$eq": [{"$strLenBytes": one}, len(constant.encode())]},
                    begins_with(one, constant),
                ]
            }
            for constant in constants
        ]
        return tests[0] if len(tests) == 1 else {"$or": tests}

    return _bound(text, same)


def is_field_name(text: Any) -> Any:
    """Return whether a string is a name that a path can have."""

    def plain(one: str) -> Any:
        odd = [begins_with(one, "$"), *(holds(one, letter) for letter in (".", "\x00"))]
        return {"$not": [{"$or": [{"$eq": [{"$strLenBytes": one}, 0]}, *odd]}]}

    return _bound(text, plain)


def _bound(text: Any, build: Callable[[str], Any]) -> Any:
    """What is built over a string, which is computed once."""
    if isinstance(text, str):
        return build(text)
    return {"$let": {"vars": {"text": text}, "in": build("$$text")}}
