"""The parts of a compiled query: what is tested at which path, and how answers combine.

Answers are True, False or None (unknown). Reading a query's operators is matching's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from lazymig.raw.values import (
    HIDDEN,
    MISSING,
    bracket,
    field,
    is_array,
    is_document,
)

__all__ = [
    "All",
    "AnyOf",
    "At",
    "Judge",
    "Node",
    "Not",
    "Test",
    "Unjudged",
    "on_document",
    "on_value",
]

Judge: TypeAlias = Callable[[Any], "bool | None"]


@dataclass(frozen=True, slots=True)
class Test:
    """One operator on one value.

    `check` takes a value, `MISSING` or `HIDDEN`. `spreads`: an array at the end of the path
    is tested element by element as well. `judged`: False if MongoDB is always asked about
    some values of BSON types. `kind` and `operand` are for the screens.
    """

    kind: str
    check: Judge
    operand: Any = None
    spreads: bool = True
    judged: bool = True


@dataclass(frozen=True, slots=True)
class At:
    """A test at a dotted path."""

    path: str
    test: Test


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Some part holds."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Node


@dataclass(frozen=True, slots=True)
class Unjudged:
    """What is never judged in memory."""


Node: TypeAlias = "At | All | AnyOf | Not | Unjudged"


def on_document(node: Node) -> Judge:
    """Build the predicate that a document answers."""
    return _build(node, _at_path)


def on_value(node: Node) -> Judge:
    """Build the predicate that one value answers; the paths in `node` are not looked at."""
    return _build(node, lambda leaf: leaf.test.check)


def _build(node: Node, leaf: Callable[[At], Judge]) -> Judge:
    if isinstance(node, At):
        return leaf(node)
    if isinstance(node, Not):
        return _negated(_build(node.part, leaf))
    if isinstance(node, Unjudged):
        return lambda _: None
    judges = tuple(_build(part, leaf) for part in node.parts)
    if len(judges) == 1:
        return judges[0]
    return _all_of(judges) if isinstance(node, All) else _any_of(judges)


def _negated(judge: Judge) -> Judge:
    def negated(value: Any) -> bool | None:
        answer = judge(value)
        return None if answer is None else not answer

    return negated


def _all_of(judges: tuple[Judge, ...]) -> Judge:
    def all_of(value: Any) -> bool | None:
        result: bool | None = True
        for judge in judges:
            answer = judge(value)
            if answer is False:
                return False
            if answer is None:
                result = None
        return result

    return all_of


def _any_of(judges: tuple[Judge, ...]) -> Judge:
    def any_of(value: Any) -> bool | None:
        return _some(judge(value) for judge in judges)

    return any_of


def _some(answers: Iterable[bool | None]) -> bool | None:
    result: bool | None = False
    for answer in answers:
        if answer:
            return True
        if answer is None:
            result = None
    return result


# --- Paths ------------------------------------------------------------------------------


def _at_path(leaf: At) -> Judge:
    names = leaf.path.split(".")
    if len(names) == 1:
        return _at_field(leaf.path, leaf.test)
    walk = _Walk(tuple(names), leaf.test)
    if len(names) == 2 and not names[1].isdecimal():
        return _one_below(names[0], names[1], walk)
    return walk.through_document


def _at_field(name: str, test: Test) -> Judge:
    check, spreads = test.check, test.spreads

    def at_field(document: Mapping[str, Any]) -> bool | None:
        plain = type(document) is dict
        value = document.get(name, MISSING) if plain else field(document, name)
        if spreads and is_array(value):
            return _some(map(check, (*value, value)))
        return check(value)

    return at_field


def _one_below(parent: str, name: str, walk: _Walk) -> Judge:
    """Take the short way through plain sub-documents and lists of them, else the long one."""
    check, spreads = walk.test.check, walk.test.spreads

    def in_plain(document: dict[str, Any]) -> bool | None:
        value = document.get(name, MISSING)
        if spreads and is_array(value):
            return _some(map(check, (*value, value)))
        return check(value)

    def one_below(document: Mapping[str, Any]) -> bool | None:
        if type(document) is dict:
            value = document.get(parent)
            if type(value) is dict:
                return in_plain(value)
            if type(value) is list and _PLAIN_DOCUMENTS.issuperset(map(type, value)):
                return _some(map(in_plain, value))
        return walk.through_document(document)

    return one_below


_PLAIN_DOCUMENTS: Final = frozenset({dict})


@dataclass(frozen=True, slots=True)
class _Walk:
    """The way of one dotted path through documents and arrays, as the server goes it.

    A number names a field of a document, and an element of an array. A way that ends before
    the path does counts as missing below a document, and not at all below an array.
    """

    names: tuple[str, ...]
    test: Test

    def through_document(self, document: Any, position: int = 0) -> bool | None:
        check = self.test.check
        while True:
            value = field(document, self.names[position])
            position += 1
            if is_array(value):
                return self._through_array(value, position)
            if position == len(self.names):
                return check(value)
            if not is_document(value):
                return check(HIDDEN if bracket(value) is None else MISSING)
            document = value

    def _through_array(self, array: Any, position: int) -> bool | None:
        check = self.test.check
        if position == len(self.names):
            return _some(map(check, (*array, array) if self.test.spreads else (array,)))
        name = self.names[position]
        index = int(name) if name.isdecimal() and name.isascii() and str(int(name)) == name else -1
        return _some(
            answer
            for here, element in enumerate(array)
            for answer in self._through_element(element, position, here == index)
        )

    def _through_element(self, element: Any, position: int, named: bool) -> Iterable[bool | None]:
        check = self.test.check
        last = position + 1 == len(self.names)
        if is_document(element):
            yield self.through_document(element, position)
            if named:
                yield check(element) if last else self.through_document(element, position + 1)
        elif bracket(element) is None:
            yield check(HIDDEN)
            if named and last:
                yield check(element)
        elif named and last:
            yield check(element)
        elif named and is_array(element):
            yield self._through_array(element, position + 1)
