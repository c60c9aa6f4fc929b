"""The marks of clauses, by which those are found that may say something new about another one.

Two clauses have a mark in common if one of them, given, may make the other one needless or
impossible; whether it does is for `context` to prove.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Final

from lazymig.query.checks import Judge
from lazymig.query.clauses import Clause, conjuncts, negated
from lazymig.query.operators import OPERATORS
from lazymig.query.predicates import judge_of
from lazymig.query.tree import And, Leaf, Not, Or

__all__ = ["Given", "asks_presence", "heeds", "judge", "needs", "says"]

_THERE, _MISSING, _TOGETHER = "there", "missing", "together"
_VALUE, _ONE_OF, _NONE_OF = "value", "one of", "none of"

# Values of one condition that have marks of their own; of more there is one mark.
_MANY: Final = 8


def asks_presence(clause: Leaf, *, exists: bool) -> bool:
    """Return whether a leaf asks for nothing but that something, or nothing, is stored."""
    return clause.operator == "$exists" and clause.denied is not exists


def judge(clause: Leaf) -> Judge:
    """Return the predicate of a leaf on a raw document.

    :raises ValueError: MongoDB would refuse the operand.
    """
    if clause.judge is None:
        clause.judge = judge_of(clause)
    return clause.judge


def needs(clause: Leaf) -> frozenset[str]:
    """Return the paths without which a leaf holds for no document: its own, or parents of it."""
    if clause.needs is None:
        clause.needs = frozenset(_needed(clause))
    return clause.needs


def _needed(clause: Leaf) -> Iterator[str]:
    if not _fails_on_nothing(clause):
        return
    # {d: [1]} has nothing at d.x, and satisfies {"d.x": {"$ne": None}}
    positive = not clause.denied and OPERATORS[clause.operator].positive
    for end in range(1, len(clause.path) + 1 if positive else 2):
        yield ".".join(clause.path[:end])


def _fails_on_nothing(clause: Leaf) -> bool:
    if clause.choices is not None:
        return clause.meets_missing is clause.denied
    try:
        return judge(clause)({}) is False
    except ValueError:
        return False


def says(clause: Clause) -> frozenset[Hashable]:
    """Return the marks of what a clause says, where it is given."""
    if clause.says is None:
        own = frozenset(_says(clause))
        clause.says = own.union(*map(says, clause.parts)) if isinstance(clause, And) else own
    return clause.says


def _says(clause: Clause) -> Iterator[Hashable]:
    yield clause.key
    if isinstance(clause, Leaf):
        if clause.choices is None:
            yield negated(clause).key
        else:
            yield from _values_said(clause.dotted, clause.choices, denied=clause.denied)
        if asks_presence(clause, exists=False):
            yield _MISSING, clause.dotted
        for path in needs(clause):
            yield _THERE, path
    elif isinstance(clause, Or):
        # It says what all of its parts say.
        if clause.parts:
            yield from says(clause.parts[0])
    elif isinstance(clause, Not):
        yield from _denied_marks(clause)


def _values_said(path: str, choices: Mapping[Hashable, Any], *, denied: bool) -> Iterator[Hashable]:
    """Yield marks of the values of a leaf.

    What is one of some values says something about a leaf that names all of them; what is not one
    of some, about one that names no others.
    """
    if path == "_cls":
        yield _VALUE, path
    elif not denied:
        yield _ONE_OF, path
        yield from ((_ONE_OF, path, value) for value in itertools.islice(choices, 1))
    elif len(choices) > _MANY:
        yield _NONE_OF, path
    else:
        yield from ((_NONE_OF, path, value) for value in choices)


def _values_heeded(path: str, choices: Mapping[Hashable, Any]) -> Iterator[Hashable]:
    if path == "_cls":
        yield _VALUE, path
        return
    if len(choices) > _MANY:
        yield _ONE_OF, path
    else:
        yield from ((_ONE_OF, path, value) for value in choices)
    yield _NONE_OF, path
    yield from ((_NONE_OF, path, value) for value in itertools.islice(choices, 1))


def _denied_marks(clause: Not) -> Iterator[Hashable]:
    """Yield marks of all that may ask for what a negation denies: of one of the parts of that.

    A part that names values is preferred: few others name the same.
    """
    parts = conjuncts(clause.part)
    if len(parts) == 1:
        yield parts[0].key
        return
    chosen = next((one for one in parts if isinstance(one, Leaf) and one.choices), parts[-1])
    yield _TOGETHER, chosen.key
    if isinstance(chosen, Leaf) and asks_presence(chosen, exists=False):
        # Nothing is there where nothing is at a parent, either.
        for end in range(1, len(chosen.path)):
            yield _TOGETHER, _MISSING, ".".join(chosen.path[:end])


def _together(part: Clause) -> Iterator[Hashable]:
    """Yield marks of what denies a part of a clause, or what follows from it."""
    yield _TOGETHER, part.key
    if isinstance(part, Leaf) and asks_presence(part, exists=False):
        yield _TOGETHER, _MISSING, part.dotted


def heeds(clause: Clause) -> frozenset[Hashable]:
    """Return the marks of what may say something new about a clause, or about a part of it."""
    if clause.heeds is None:
        own = frozenset(_heeds(clause))
        parts = clause.parts if isinstance(clause, (And, Or)) else ()
        clause.heeds = own.union(*map(heeds, parts))
    return clause.heeds


def _heeds(clause: Clause) -> Iterator[Hashable]:
    yield clause.key
    if isinstance(clause, Leaf):
        if clause.choices is not None:
            yield from _values_heeded(clause.dotted, clause.choices)
        if asks_presence(clause, exists=True) or asks_presence(clause, exists=False):
            yield _THERE, clause.dotted
        for path in needs(clause):
            yield _MISSING, path
    elif isinstance(clause, And):
        for part in clause.parts:
            yield from _together(part)
    elif isinstance(clause, Not):
        yield from heeds(clause.part)


class Given:
    """Clauses that are known to hold, found by their marks."""

    __slots__ = ("_by_mark", "unions")

    def __init__(self, clauses: Iterable[Clause] = ()) -> None:
        self._by_mark: dict[Hashable, list[Clause]] = {}
        self.unions: list[Or] = []
        self.add(clauses)

    def add(self, clauses: Iterable[Clause]) -> None:
        """Take up more of them."""
        for clause in _single(clauses):
            for mark in says(clause):
                self._by_mark.setdefault(mark, []).append(clause)
            if isinstance(clause, Or):
                self.unions.append(clause)

    def remove(self, clauses: Iterable[Clause]) -> None:
        """Take some back that were added."""
        for clause in _single(clauses):
            for mark in says(clause):
                said = self._by_mark[mark]
                if len(said) == 1:
                    del self._by_mark[mark]
                else:
                    said.remove(clause)
            if isinstance(clause, Or):
                self.unions.remove(clause)

    def concerns(self, clause: Clause) -> bool:
        """Return whether one of them may say something new about a clause, or a part of it."""
        return not self._by_mark.keys().isdisjoint(heeds(clause))

    def about(self, clause: Clause) -> Iterator[Clause]:
        """Yield those that may say something about a clause as a whole."""
        marks: Iterable[Hashable] = heeds(clause) if isinstance(clause, Leaf) else [clause.key]
        if isinstance(clause, And):
            keys = [part.key for part in clause.parts]
            marks = [clause.key, *keys]
            for part in clause.parts:
                marks.extend(_together(part))
        for mark in marks:
            yield from self._by_mark.get(mark, ())


def _single(clauses: Iterable[Clause]) -> Iterator[Clause]:
    for clause in clauses:
        yield from conjuncts(clause)
