"""The matcher of a query, compiled once to a predicate on raw documents; and the paths it reads.

The answers are those of MongoDB 6.0's `find` under the simple collation; what cannot be
judged exactly in memory is unknown (None), and MongoDB is asked. BSON undefined, symbol and
DBPointer, all deprecated, are decoded by PyMongo as null, string and DBRef, and judged as such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lazymig.query.checks import Judge
from lazymig.query.operators import (
    LOGICAL,
    TOP_OPERATORS,
    is_expression,
    is_reference,
    operator_paths,
    parse,
)
from lazymig.query.predicates import is_exact, judge_of
from lazymig.query.screens import screen_of
from lazymig.query.tree import Node
from lazymig.raw.values import is_array

__all__ = ["Matcher", "compile_judge", "compile_query", "copied", "query_paths"]


@dataclass(frozen=True, slots=True)
class Matcher:
    """A compiled query.

    `tree` is what was parsed, `reads` are its paths (see `query_paths`). `judge` takes a raw
    document and answers whether it matches; None: MongoDB must be asked. `screen` takes a batch and
    gives the indexes of the documents that `judge` might answer True or None for: never too few, at
    times too many. `exact` is False when some part of the query is never judged in memory.
    """

    query: Mapping[str, Any]
    tree: Node
    reads: frozenset[str] | None
    judge: Callable[[Mapping[str, Any]], bool | None]
    screen: Callable[[Sequence[Mapping[str, Any]]], list[int]]
    exact: bool


def compile_query(query: Mapping[str, Any]) -> Matcher:
    """Compile a MongoDB query in database field names.

    The query is copied, never changed. A value of a type that is no BSON is allowed: what
    depends on it is unknown.

    :raises ValueError: MongoDB would refuse the query; the message names path and operator.
    """
    own = copied(query)
    tree = parse(own)
    judge, exact = judge_of(tree), is_exact(tree)
    return Matcher(own, tree, query_paths(own), judge, screen_of(tree, judge), exact)


def compile_judge(query: Mapping[str, Any]) -> Judge:
    """Compile a query to the `judge` of its `Matcher` alone, for a document or two.

    :raises ValueError: MongoDB would refuse the query; the message names path and operator.
    """
    return judge_of(parse(query))


def copied(value: Any) -> Any:
    """Copy the containers of a query."""
    if isinstance(value, Mapping):
        return {name: copied(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [copied(item) for item in value]
    return value


# --- The paths a query reads ------------------------------------------------------------


class _CannotTell(Exception):
    """The query reads paths that it does not name."""


def query_paths(query: Mapping[str, Any]) -> frozenset[str] | None:
    """Give the dotted paths that a well-formed query reads; None: it does not say which.

    `$where`, `$text`, `$jsonSchema` and expressions over the whole document do not say.
    """
    try:
        return frozenset(_paths(query, ""))
    except _CannotTell:
        return None


def _paths(query: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in query.items():
        if name in LOGICAL:
            for part in value:
                yield from _paths(part, prefix)
        elif name in TOP_OPERATORS:
            named = operator_paths(name, value)
            if named is None:
                raise _CannotTell
            yield from named
        elif not name.startswith("$") or is_reference(name):
            yield prefix + name
            yield from _inner_paths(prefix + name, value)


def _inner_paths(path: str, condition: Any) -> Iterator[str]:
    if not is_expression(condition):
        return
    for operator, operand in condition.items():
        if operator == "$not":
            yield from _inner_paths(path, operand)
        elif operator == "$all" and is_array(operand):
            for item in operand:
                yield from _inner_paths(path, item)
        elif operator == "$elemMatch" and isinstance(operand, Mapping):
            yield from _paths(operand, path + ".")
            yield from _inner_paths(path, operand)
