"""The tree of a query compiled to a predicate: how answers combine, and the way of a path.

Answers are True, False or None (unknown).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lazymig.query import checks
from lazymig.query.checks import Judge, Test
from lazymig.query.evaluating import compile_expression
from lazymig.query.operators import OPERATORS, asks_elements
from lazymig.query.tree import And, Compare, Denial, Node, Not, Opaque, Or
from lazymig.raw.values import (
    HIDDEN,
    MISSING,
    bracket,
    field,
    is_array,
    is_document,
)

__all__ = ["at_path", "is_exact", "judge_of", "test_of"]


def judge_of(node: Node) -> Judge:
    """Build the predicate that a document answers; or one value, for questions without a path.

    :raises ValueError: MongoDB would refuse an operand; the message names path and operator.
    """
    if isinstance(node, Compare):
        test = test_of(node)
        return at_path(node.path, test) if node.path else test.check
    if isinstance(node, (Denial, Not)):
        return _negated(judge_of(node.part))
    if isinstance(node, Opaque):
        return _evaluated(node) or (lambda _: None)
    assert isinstance(node, (And, Or))
    judges = tuple(map(judge_of, node.parts))
    if len(judges) == 1:
        return judges[0]
    return _all_of(judges) if isinstance(node, And) else _any_of(judges)


def test_of(leaf: Compare) -> Test:
    """Return what a question asks of one value.

    :raises ValueError: MongoDB would refuse the operand.
    """
    found = leaf.test
    if found is None:
        build = OPERATORS[leaf.operator].test
        if leaf.inner is not None:
            found = _element_test(leaf, leaf.inner)
        else:
            assert build is not None
            found = build(leaf)
        object.__setattr__(leaf, "test", found)
    return found


def is_exact(node: Node) -> bool:
    """Return whether no part of a tree is always left to MongoDB."""
    if isinstance(node, Compare):
        return test_of(node).judged
    if isinstance(node, Not):
        return is_exact(node.part)
    if isinstance(node, Opaque):
        return _evaluated(node) is not None
    return isinstance(node, (And, Or)) and all(map(is_exact, node.parts))


def _evaluated(node: Opaque) -> Judge | None:
    return compile_expression(node.value) if node.name == "$expr" else None


def _element_test(leaf: Compare, inner: Node) -> Test:
    on_values = asks_elements(leaf.operand)
    with checks.at(leaf.path if on_values else ()):
        matches = judge_of(inner) if on_values else _on_inner_document(judge_of(inner))

    def check(value: Any) -> bool | None:
        if not is_array(value):
            return None if bracket(value) is None else False
        return _some(map(matches, value))

    return Test("element", check, spreads=False, judged=is_exact(inner))


def _on_inner_document(judge: Judge) -> Judge:
    """Build the predicate on an array's element; an array is a document of numbered fields."""

    def on_inner(value: Any) -> bool | None:
        if is_document(value):
            return judge(value)
        if is_array(value):
            return judge({str(index): item for index, item in enumerate(value)})
        return None if bracket(value) is None else False

    return on_inner


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


def at_path(names: tuple[str, ...], test: Test) -> Judge:
    """Build the predicate that a document answers by what stands at a path."""
    if len(names) == 1:
        return _at_field(names[0], test)
    walk = _PathWalk(names, test)
    if len(names) == 2 and not names[1].isdecimal():
        return _one_below(*names, walk)
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


def _one_below(parent: str, name: str, walk: _PathWalk) -> Judge:
    """Take the short way through plain sub-documents and lists of them, else the long one.

    A list of sub-documents, which no screen looks into, takes less than half of the time so.
    """
    in_plain = _at_field(name, walk.test)

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
class _PathWalk:
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
            for answer in self._through_element(element, position, named=here == index)
        )

    def _through_element(
        self, element: Any, position: int, *, named: bool
    ) -> Iterable[bool | None]:
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
