"""The way of update operators to their paths: what MongoDB does at each parent.

A parent may be missing, null, a scalar, a sub-document or an array. The paths of one update make a
tree, since they may share parents; no path ends on the way of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from lazymig.query.expressing import Expression
from lazymig.query.tree import Node
from lazymig.rules.showing.elements import (
    ElementCase,
    Filters,
    cases_of,
    filters_of,
    is_positional,
    leaf_of,
)
from lazymig.rules.showing.leaves import NewValue, Unshown
from lazymig.rules.showing.logic import (
    EMPTY,
    all_hold,
    any_holds,
    chosen,
    has_type,
    is_array,
    is_missing,
    negated,
    with_field,
)
from lazymig.rules.showing.rows import ROWS
from lazymig.updates.knowledge import implies_presence

__all__ = ["shown_fields"]

# An array is filled with nulls up to an index beyond its end.
_GREATEST_INDEX: Final = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class _End:
    """The end of one path.

    `leaf`: what becomes of the value, which a path or a variable holds. `creates`: whether
    something is put where nothing is. `blocked`: whether a way through what has no such field is
    refused. `barred`: whether one through an array is, index or not. The latter three are total
    expressions over the whole document. `moves`: what is there is refused in an array.
    """

    leaf: Callable[[str], NewValue]
    creates: Expression
    blocked: Expression
    barred: Expression = False
    moves: bool = False


@dataclass(slots=True, eq=False)
class _Place:
    """A parent: what is done below it, by the next component of the paths."""

    children: dict[str, _Place | _End] = field(default_factory=dict)

    @property
    def is_positional(self) -> bool:
        """Whether it is an array, elements of which are meant."""
        return any(map(is_positional, self.children))

    def ends(self) -> Iterator[_End]:
        """All ends of paths below; the way to an array is one that has to be there."""
        if self.is_positional:
            yield _ARRAY_EXPECTED
            return
        for child in self.children.values():
            yield from _ends(child)


def _ends(node: _Place | _End) -> Iterator[_End]:
    if isinstance(node, _End):
        yield node
    else:
        yield from node.ends()


_ARRAY_EXPECTED: Final = _End(NewValue, creates=True, blocked=True)


def shown_fields(
    target: Node,
    update: Mapping[str, Any],
    array_filters: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[dict[str, Expression], Expression, Expression]:
    """Return what the operators of a well-formed update make of the top-level fields.

    :param target: finds the documents that are updated; nothing is said of others.
    :return: the new values of the fields that are written, over the document before, nothing where
        a field goes; where they are exact; where MongoDB refuses the update.
    :raises Unshown: an operator, or a path, for which there are no expressions.
    """
    tree = _Place()
    for operator, fields in update.items():
        for path, operand in fields.items():
            if operator == "$rename":
                _put(tree, path, _source())
                _put(tree, operand, _destination(target, path))
            elif operator != "$setOnInsert" or "$[" in path:
                # Nothing is upserted, but an array that is named has to be there.
                _put(tree, path, _end(operator, operand))
    walk = _Walk(filters_of(array_filters))
    leaves = {
        name: walk.leaf(child, f"${name}", in_array=False) for name, child in tree.children.items()
    }
    values = {name: leaf.value for name, leaf in leaves.items()}
    exact = all_hold(leaf.exact for leaf in leaves.values())
    return values, exact, any_holds(leaf.refused for leaf in leaves.values())


def _put(tree: _Place, path: str, end: _End) -> None:
    *parents, last = path.split(".")
    if path.startswith("$"):
        raise Unshown(f"writes '{path}', a field that no stage can name")
    if "$" in (*parents, last):
        raise Unshown(f"writes the element that the query has found ('{path}')")
    for name in parents:
        inner = tree.children.setdefault(name, _Place())
        assert isinstance(inner, _Place)
        tree = inner
    tree.children[last] = end


# --- The ends of paths ----------------------------------------------------------------------


def _end(operator: str, operand: Any) -> _End:
    row = ROWS.get(operator)
    if row is None:
        raise Unshown(f"uses {operator}, of which no stage gives the result")

    def leaf(value: str) -> NewValue:
        made = row.leaf(value, operand)
        if row.creates or made.value == "$$REMOVE":
            return made
        absent = is_missing(value)
        return NewValue(
            chosen(absent, "$$REMOVE", made.value),
            any_holds([absent, made.exact]) if made.exact is not True else True,
            all_hold([negated(absent), made.refused]) if made.refused is not False else False,
        )

    return _End(leaf, creates=row.creates, blocked=not row.goes_nowhere)


def _source() -> _End:
    """What is moved away; nothing happens where nothing is there."""
    return _End(lambda _value: NewValue("$$REMOVE"), creates=False, blocked=True, moves=True)


def _destination(target: Node, source: str) -> _End:
    """What is moved there; whether its parents are documents matters where something is."""
    moved = f"${source}"
    is_moved: Expression = True
    # An array on the way to the source is refused, or has nothing for it.
    if not implies_presence(target, tuple(source.split("."))):
        ways = [has_type(parent, "object") for parent in _parents(moved)]
        is_moved = all_hold([*ways, negated(is_missing(moved))])
    return _End(
        lambda value: NewValue(chosen(is_moved, moved, value)),
        creates=is_moved,
        blocked=is_moved,
        barred=is_moved,
    )


def _parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


# --- The way to them ------------------------------------------------------------------------


class _Walk:
    """The walk over one tree; each variable has a name of its own."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self._numbers = count(1)

    def leaf(self, node: _Place | _End, value: str, *, in_array: bool) -> NewValue:
        """What becomes of a value, which a path or a variable holds."""
        if isinstance(node, _End):
            if node.moves and in_array:
                return NewValue("$$REMOVE", refused=negated(is_missing(value)))
            return node.leaf(value)
        if node.is_positional:
            return self._elements(node, value)
        creates = any_holds(end.creates for end in node.ends())
        blocked = any_holds(end.blocked for end in node.ends())
        # It has fields, or gets some.
        opens = (
            has_type(value, "object", "missing")
            if creates is True
            else any_holds([has_type(value, "object"), all_hold([is_missing(value), creates])])
        )
        within = self._in_document(node, value, creates=creates, in_array=in_array)
        nowhere = blocked if creates is True else all_hold([negated(is_missing(value)), blocked])
        # Where it is refused, nobody asks for a value.
        alone = NewValue(
            within.value
            if creates is True and blocked is True
            else chosen(opens, within.value, value),
            chosen(opens, within.exact, otherwise=True),
            chosen(opens, within.refused, nowhere),
        )
        indexes = {name: index for name in node.children if (index := _index(name)) is not None}
        if not indexes:
            return alone
        array = self._in_array(node, value, indexes)
        listed = is_array(value)
        return NewValue(
            chosen(listed, array.value, alone.value),
            chosen(listed, array.exact, alone.exact),
            chosen(listed, array.refused, alone.refused),
        )

    def _elements(self, node: _Place, value: str) -> NewValue:
        """What becomes of an array, elements of which are named by positions or filters."""
        if not all(map(is_positional, node.children)):
            raise Unshown("writes elements of an array in two ways, which MongoDB refuses")
        variable = f"e{next(self._numbers)}"
        cases = []
        for names, condition in cases_of(node.children, self._filters, f"$${variable}"):
            merged = _merged([node.children[name] for name in names])
            leaf = None if merged is None else self.leaf(merged, f"$${variable}", in_array=True)
            cases.append(ElementCase(condition, leaf))
        return leaf_of(value, variable, cases)

    def _in_document(
        self, node: _Place, value: str, *, creates: Expression, in_array: bool
    ) -> NewValue:
        document: Expression = value if creates is False else {"$ifNull": [value, EMPTY]}
        exact: list[Expression] = []
        refused: list[Expression] = []
        for name, child in node.children.items():
            if name.startswith("$"):
                raise Unshown(f"writes a field whose name begins with a dollar ('{name}')")
            inner = self.leaf(child, f"{value}.{name}", in_array=in_array)
            document = with_field(document, name, inner.value)
            exact.append(inner.exact)
            refused.append(inner.refused)
        return NewValue(document, all_hold(exact), any_holds(refused))

    def _in_array(self, node: _Place, value: str, indexes: Mapping[str, int]) -> NewValue:
        """What becomes of an array, some of whose elements are named by their indexes."""
        exact: list[Expression] = []
        refused = [end.barred for end in node.ends()]
        branches: list[Expression] = []
        size: Expression = {"$size": value}
        longest = size
        for name, child in node.children.items():
            index = indexes.get(name)
            if index is None:
                refused += [end.blocked for end in _ends(child)]
                continue
            variable = f"e{next(self._numbers)}"
            inner = self.leaf(child, f"$${variable}", in_array=True)
            given = {variable: {"$arrayElemAt": [value, index]}}

            def over(part: Expression, given: Any = given) -> Expression:
                return part if isinstance(part, bool) else {"$let": {"vars": given, "in": part}}

            creates = any_holds(end.creates for end in _ends(child))
            within = {"$lt": [index, size]}
            if index > _GREATEST_INDEX:
                exact.append(any_holds([within, negated(creates)]))
            exact.append(over(inner.exact))
            refused.append(over(inner.refused))
            if creates is not False:
                longest = {"$max": [longest, chosen(creates, index + 1, 0)]}
            branches.append({"case": {"$eq": ["$$n", index]}, "then": over(inner.value)})
        element = {"$arrayElemAt": [value, "$$n"]}
        changed = {"$switch": {"branches": branches, "default": element}}
        numbers = {"$range": [0, longest]}
        return NewValue(
            {"$map": {"input": numbers, "as": "n", "in": changed}},
            all_hold(exact),
            any_holds(refused),
        )


def _merged(nodes: Sequence[_Place | _End]) -> _Place | _End | None:
    """What several paths do to one element, all of which stand for it; None: they conflict."""
    first, *others = nodes
    if not others:
        return first
    merged = _Place()
    for node in nodes:
        if isinstance(node, _End):
            return None
        for name, child in node.children.items():
            both = child
            if name in merged.children:
                found = _merged([merged.children[name], child])
                if found is None:
                    return None
                both = found
            merged.children[name] = both
    return merged


def _index(name: str) -> int | None:
    """Return which element of an array a name stands for, leading zeros or not."""
    return int(name) if name.isascii() and name.isdecimal() and len(name) < 10 else None
