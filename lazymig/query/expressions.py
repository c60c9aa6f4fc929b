"""The paths that aggregation expressions name: one reader for queries, pipelines and sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["HIDDEN", "Unnamed", "constant_text", "expression_paths", "named_path"]

HIDDEN: Final = frozenset({"$getField", "$where"})
"""The operators that may read fields which no string beginning with `$` names.

`$getField` does unless it has an `input`: a field of that is below the paths that are named there.
"""

_SORTING: Final = frozenset({"$bottom", "$bottomN", "$top", "$topN"})


class Unnamed(Exception):
    """An expression reads the whole document, or fields that it does not name."""


def constant_text(expression: Any) -> str | None:
    """Return the string that an expression is, whatever the document; None: it is none."""
    if isinstance(expression, Mapping) and expression.keys() == {"$literal"}:
        expression = expression["$literal"]
    elif isinstance(expression, str) and expression.startswith("$"):
        return None
    return expression if isinstance(expression, str) else None


def named_path(text: str) -> str | None:
    """Return the path that a string in an expression names; None: it names none.

    Other variables than `$$ROOT` and `$$CURRENT` name what their definition has named already.

    :raises Unnamed: the string stands for the whole document, or for an operator of `HIDDEN`.
    """
    if text in HIDDEN:
        raise Unnamed
    if not text.startswith("$$"):
        return text[1:] if text.startswith("$") else None
    variable, _, path = text[2:].partition(".")
    if variable not in {"ROOT", "CURRENT"}:
        return None
    if not path:
        raise Unnamed
    return path


def expression_paths(expression: Any) -> frozenset[str] | None:
    """Return the dotted paths that an expression, or anything that holds some, reads.

    None: it does not say which. What is a literal is not read.
    """
    try:
        return frozenset(_paths(expression))
    except Unnamed:
        return None


def _paths(expression: Any) -> Iterator[str]:
    if isinstance(expression, str):
        path = named_path(expression)
        if path is not None:
            yield path
    elif isinstance(expression, Mapping):
        for name, value in expression.items():
            if name in HIDDEN and not _names_its_input(name, value):
                raise Unnamed
            if name in _SORTING and isinstance(value, Mapping):
                # What they sort by are the names of fields.
                yield from value.get("sortBy") or ()
            if name != "$literal":
                yield from _paths(value)
    elif isinstance(expression, (list, tuple)):
        for item in expression:
            yield from _paths(item)


def _names_its_input(operator: str, argument: Any) -> bool:
    """Return whether an operator says what it reads a field of, and not the document itself."""
    return operator == "$getField" and isinstance(argument, Mapping) and "input" in argument
