"""The forms of queries: what those have in common that differ in the values alone they ask for.

A value decides about a rewriting only where a rule names it, or compares by more than equality.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from bson import ObjectId

from lazymig.query.tree import And, Leaf, Node, Not, Opaque, Or
from lazymig.raw.paths import root
from lazymig.rules.rewrite.effects import Computed
from lazymig.rules.rewrite.steps import Step
from lazymig.updates.knowledge import Value

__all__ = ["Forms", "filled"]

# Operators to which a value is one of those that they name, or is not, or whose answer does not
# depend on it within its type.
_BY_EQUALITY: Final = frozenset({"$eq", "$exists", "$in", "$type"})

# More values make a query of its own.
_MOST: Final = 4
_PLACES: Final[Mapping[type, tuple[Any, ...]]] = {
    str: tuple(f"\ue000 lazymig {number}" for number in range(_MOST)),
    ObjectId: tuple(ObjectId(f"{number:04x}" + "e0" * 10) for number in range(_MOST)),
}
_ALL_PLACES: Final = frozenset().union(*_PLACES.values())


class Forms:
    """The forms of queries through some steps."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._named: frozenset[Any] = _ALL_PLACES.union(*map(_named_by, steps))
        # None where any path may be compared.
        self._compared: frozenset[str] | None = frozenset()
        for step in steps:
            for roots in _compared_by(step.condition):
                known = self._compared
                self._compared = None if roots is None or known is None else known | roots

    def of(self, query: Mapping[str, Any]) -> tuple[dict[str, Any], dict[Any, Any]] | None:
        """Return a query with a place for each value, and the values by their places.

        :return: None for a query whose rewriting may depend on its values.
        """
        if self._compared is None or len(query) > _MOST:
            return None
        places: dict[Any, Any] = {}
        form: dict[str, Any] = {}
        for name, value in query.items():
            if name.startswith("$") or root(name) in self._compared:
                return None
            kind = type(value)
            if kind not in _PLACES or value in self._named:
                return None
            if kind is str and value.startswith("$"):
                return None
            if value not in places:
                places[value] = _PLACES[kind][len(places)]
            form[name] = places[value]
        return form, {place: value for value, place in places.items()}


def filled(form: Any, values: Mapping[Any, Any]) -> Any:
    """Return a copy of what was made of a form, with the values in their places.

    :raises ValueError: a place has become a part of another text.
    """
    if isinstance(form, Mapping):
        return {name: filled(value, values) for name, value in form.items()}
    if isinstance(form, list):
        return [filled(value, values) for value in form]
    if type(form) in _PLACES:
        if form in values:
            return values[form]
        if isinstance(form, str) and "\ue000" in form:
            raise ValueError
    return form


def _compared_by(node: Node) -> Iterator[frozenset[str] | None]:
    """Yield the first components of paths that are compared otherwise than by equality."""
    if isinstance(node, (And, Or)):
        for part in node.parts:
            yield from _compared_by(part)
    elif isinstance(node, Not):
        yield from _compared_by(node.part)
    elif isinstance(node, Opaque):
        yield None if node.reads is None else frozenset(map(root, node.reads))
    elif isinstance(node, Leaf) and node.operator not in _BY_EQUALITY:
        yield frozenset({node.path[0]})


def _named_by(step: Step) -> frozenset[Any]:
    """Return the values that a step names."""
    named = list(_scalars(step.target))
    for effect in (step.effects or {}).values():
        if isinstance(effect, Value):
            named += _scalars(effect.value)
        elif isinstance(effect, Computed):
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
    elif type(value) in _PLACES:
        yield value
