"""The forms of queries: what those have in common that differ in the values alone they ask for.

A value decides about a rewriting only where a rule names it, or compares by more than equality.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from bson import ObjectId

from lazymig.query.tree import And, Leaf, Node, Not, Opaque, Or
from lazymig.raw.paths import root
from lazymig.rules.rewrite.effects import ComputedEffect, Copied, Moved
from lazymig.rules.rewrite.steps import Step
from lazymig.updates.knowledge import Value

__all__ = ["Forms", "filled"]

# Operators to which a value is one of those that they name, or is not, or whose answer does not
# depend on it within its type.
_BY_EQUALITY: Final = frozenset({"$eq", "$exists", "$in", "$type"})

# Those whose answer depends on the type of a value alone.
_BY_TYPE: Final = frozenset({"$exists", "$type"})

_RANGES: Final = frozenset({"$gt", "$gte", "$lt", "$lte"})

# More values make a query of its own.
_MOST: Final = 4
_MOST_LISTED: Final = 1000

# Numbers of 32 bits stand for such numbers alone: it may count what a value can be stored as.
_LEAST_INT: Final = -(1 << 31)
_LARGEST_INT: Final = (1 << 31) - 1
_FIRST_PLACE: Final = 1_911_620_341
_PLACES: Final[Mapping[type, tuple[Any, ...]]] = {
    str: tuple(f"\ue000 lazymig {number}" for number in range(_MOST)),
    ObjectId: tuple(ObjectId(f"{number:04x}" + "e0" * 10) for number in range(_MOST)),
    int: tuple(range(_FIRST_PLACE, _FIRST_PLACE + _MOST)),
}

# Two values stand for all of a list: for one alone a query is put in other words.
_LISTS: Final[Mapping[type, tuple[tuple[Any, Any], ...]]] = {
    str: tuple((f"\ue000 lazymig {n} a", f"\ue000 lazymig {n} b") for n in range(_MOST)),
    ObjectId: tuple(
        (ObjectId(f"{n:04x}" + "e1" * 10), ObjectId(f"{n:04x}" + "e2" * 10)) for n in range(_MOST)
    ),
}
_ALL_PLACES: Final[frozenset[Any]] = frozenset().union(
    *_PLACES.values(), *(pair for pairs in _LISTS.values() for pair in pairs)
)


class Forms:
    """The forms of queries through some steps."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._named: frozenset[Any] = frozenset().union(*map(_named_by, steps))
        # The first components of paths that are compared otherwise than by equality; of those that
        # are compared otherwise than by type, or are set; and of those that are computed. None
        # where any path may be.
        compared: list[frozenset[str] | None] = []
        ranked: list[frozenset[str] | None] = []
        for step in steps:
            compared += _compared_by(step.condition, _BY_EQUALITY)
            ranked += _compared_by(step.condition, _BY_TYPE)
        computed = _roots_with(steps, ComputedEffect)
        self._compared = _with_moved(compared, steps)
        self._ranked = _with_moved([*ranked, computed, _roots_with(steps, Value)], steps)
        self._computed = _with_moved([*compared, computed], steps)

    def of(self, query: Mapping[str, Any]) -> tuple[dict[str, Any], dict[Any, Any]] | None:
        """Return a query with a place for each value, and the values by their places.

        :return: None for a query whose rewriting may depend on its values.
        """
        if self._compared is None or len(query) > _MOST:
            return None
        places: dict[Any, Any] = {}
        values: dict[Any, Any] = {}
        form: dict[str, Any] = {}
        for name, value in query.items():
            if name.startswith("$") or root(name) in self._compared:
                return None
            if type(value) is dict:
                if len(query) > 1:
                    # One value may be one of those that are listed, or lie in the range.
                    return None
                return self._of_condition(name, value)
            if value is None or type(value) is bool:
                form[name] = value
                continue
            if not self._stands_for_any(name, value):
                return None
            if value not in places:
                place = places[value] = _PLACES[type(value)][len(places)]
                values[place] = value
            form[name] = places[value]
        return form, values

    def _stands_for_any(self, name: str, value: Any) -> bool:
        """Return whether any value that no rule names could be in the place of this one."""
        kind = type(value)
        if kind not in _PLACES or value in self._named or value in _ALL_PLACES:
            return False
        if kind is str:
            return not value.startswith("$")
        if kind is int:
            small = _LEAST_INT <= value <= _LARGEST_INT
            return small and self._computed is not None and root(name) not in self._computed
        return True

    def _of_condition(
        self, name: str, condition: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[Any, Any]] | None:
        if len(condition) != 1:
            return None
        ((operator, operand),) = condition.items()
        if operator in _RANGES:
            ranked = self._ranked is None or root(name) in self._ranked
            if ranked or not self._stands_for_any(name, operand):
                return None
            place = _PLACES[type(operand)][0]
            return {name: {operator: place}}, {place: operand}
        if operator != "$in" or type(operand) is not list or not 1 < len(operand) <= _MOST_LISTED:
            return None
        kind = type(operand[0])
        if kind not in _LISTS or not all(
            type(value) is kind and self._stands_for_any(name, value) for value in operand
        ):
            return None
        pair = _LISTS[kind][0]
        return {name: {operator: list(pair)}}, {pair: operand}


def filled(form: Any, values: Mapping[Any, Any]) -> Any:
    """Return a copy of what was made of a form, with the values in their places.

    :raises ValueError: a place has become a part of something else.
    """
    if isinstance(form, Mapping):
        return {name: filled(value, values) for name, value in form.items()}
    if isinstance(form, list):
        if len(form) == 2 and type(form[0]) is type(form[1]) in _LISTS and tuple(form) in values:
            return list(values[tuple(form)])
        return [filled(value, values) for value in form]
    if type(form) in _PLACES:
        if form in values:
            return values[form]
        if form in _ALL_PLACES or (isinstance(form, str) and "\ue000" in form):
            raise ValueError
    return form


def _compared_by(node: Node, plain: frozenset[str]) -> Iterator[frozenset[str] | None]:
    """Yield the first components of paths that are compared by other operators than these."""
    if isinstance(node, (And, Or)):
        for part in node.parts:
            yield from _compared_by(part, plain)
    elif isinstance(node, Not):
        yield from _compared_by(node.part, plain)
    elif isinstance(node, Opaque):
        yield None if node.reads is None else frozenset(map(root, node.reads))
    elif isinstance(node, Leaf) and node.operator not in plain:
        yield frozenset({node.path[0]})


def _roots_with(steps: Sequence[Step], kind: Any) -> frozenset[str]:
    """Return the first components of the paths at which a step leaves something of a kind."""
    return frozenset(
        root(path)
        for step in steps
        for path, effect in (step.effects or {}).items()
        if isinstance(effect, kind)
    )


def _with_moved(
    given: Sequence[frozenset[str] | None], steps: Sequence[Step]
) -> frozenset[str] | None:
    """Return all of these roots, and those that a step moves something to from one of them."""
    if None in given:
        return None
    roots = set[str]().union(*(one for one in given if one is not None))
    moves = [
        (root(effect.source), root(path))
        for step in steps
        for path, effect in (step.effects or {}).items()
        if isinstance(effect, (Copied, Moved))
    ]
    size = -1
    while size < len(roots):
        size = len(roots)
        roots.update(place for source, place in moves if source in roots)
    return frozenset(roots)


def _named_by(step: Step) -> frozenset[Any]:
    """Return the values that a step names."""
    named = list(_scalars(step.target))
    for effect in (step.effects or {}).values():
        if isinstance(effect, Value):
            named += _scalars(effect.value)
        elif isinstance(effect, ComputedEffect):
            named += _scalars(effect.total)
    return frozenset(named)


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield name
            yield from _scalars(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _scalars(item)
    elif isinstance(value, (str, ObjectId, int, float)):
        # True is 1, and 1.0 is 1, be it for MongoDB or for Python alone.
        yield value
