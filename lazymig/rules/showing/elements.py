"""The elements of an array, as a positional path finds them: `$[]` all, `$[id]` by a filter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from lazymig.query.expressing import Expression, expressed
from lazymig.query.operators import parse
from lazymig.rules.showing.leaves import NewValue, Unshown
from lazymig.rules.showing.logic import all_hold, chosen, is_array
from lazymig.updates.update import filter_identifiers

__all__ = ["EVERY", "ElementCase", "answered", "cases_of", "filters_of", "is_positional", "leaf_of"]

EVERY: Final = "$[]"

# Each of them doubles the cases.
_MOST_FILTERS: Final = 4

Filters = Mapping[str, Mapping[str, Any]]
"""Array filters by the component of a path that stands for what they find."""


@dataclass(frozen=True, slots=True, eq=False)
class ElementCase:
    """What becomes of the elements that a condition is true of; None: MongoDB refuses it."""

    condition: Expression
    leaf: NewValue | None


def is_positional(name: str) -> bool:
    """Return whether a component of a path stands for elements of an array."""
    return name.startswith("$[")


def filters_of(array_filters: Sequence[Mapping[str, Any]] | None) -> Filters:
    """Return well-formed array filters by the component that stands for what they find."""
    return {f"$[{next(filter_identifiers(one))}]": one for one in array_filters or ()}


def cases_of(names: Iterable[str], filters: Filters, element: str) -> Iterator[tuple[Any, ...]]:
    """Yield which of some positional components stand for an element, and when.

    The first that holds counts; if none does, no component stands for the element.

    :param element: a variable that holds it.
    :return: pairs: the components together, and a total expression.
    :raises Unshown: an array filter has no expression.
    """
    always = [name for name in names if name == EVERY]
    asked = [name for name in names if name != EVERY]
    if len(asked) > _MOST_FILTERS:
        raise Unshown(f"asks more than {_MOST_FILTERS} array filters at one place")
    conditions = {
        name: answered({name[2:-1]: element}, filters[name], "filters elements") for name in asked
    }
    for size in reversed(range(len(asked) + 1)):
        for found in combinations(asked, size):
            if found or always:
                yield (*always, *found), all_hold(conditions[name] for name in found)


def leaf_of(value: str, variable: str, cases: Sequence[ElementCase]) -> NewValue:
    """Return what becomes of an array; MongoDB refuses whatever else is there, or is missing.

    :param variable: the name of the variable that holds an element in the cases.
    """
    listed = is_array(value)

    def of_each(part: Callable[[NewValue], Expression], refused: Expression, default: Any) -> Any:
        result = default
        for case in reversed(cases):
            made = refused if case.leaf is None else part(case.leaf)
            result = chosen(case.condition, made, result)
        return result

    def mapped(result: Expression) -> Expression:
        return {"$map": {"input": value, "as": variable, "in": result}}

    changed = of_each(lambda leaf: leaf.value, None, f"$${variable}")
    exact = of_each(lambda leaf: leaf.exact, True, True)
    if exact is not True:
        exact = chosen(listed, {"$allElementsTrue": [mapped(exact)]}, True)
    refused = of_each(lambda leaf: leaf.refused, True, False)
    if refused is not False:
        refused = {"$anyElementTrue": [mapped(refused)]}
    return NewValue(mapped(changed), exact, chosen(listed, refused, otherwise=True))


def answered(
    document: Expression, query: Mapping[str, Any], what: str = "pulls elements"
) -> Expression:
    """Return whether a document answers a query, which is total.

    :param document: a variable, or a document of expressions.
    :param what: the words for what the query is for.
    :raises Unshown: no expression says it.
    """
    try:
        found = expressed(parse(query), document if isinstance(document, str) else "$$given")
    except ValueError as error:
        raise Unshown(f"{what} by a condition that MongoDB refuses ({query!r}): {error}") from None
    if found is None:
        raise Unshown(f"{what} by a condition that only MongoDB can judge ({query!r})")
    if isinstance(document, str):
        return found
    return {"$let": {"vars": {"given": document}, "in": found}}
