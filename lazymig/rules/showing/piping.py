"""The stages of an update pipeline, as expressions over the whole document.

A stage of a view or a read runs on every document, those that the rule does not concern included,
so that what a stage does by its form has to be said by expressions: the merging of sub-documents,
the way into the elements of arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from lazymig.query.expressing import Expression
from lazymig.rules.showing.logic import (
    EMPTY,
    all_hold,
    any_holds,
    chosen,
    has_type,
    is_array,
    negated,
    with_field,
)
from lazymig.rules.showing.rows import Unshown
from lazymig.rules.showing.whole import MARK, over_whole
from lazymig.updates.raising import computable
from lazymig.updates.update import SET_STAGES, assignments, unset_stage_paths

__all__ = ["Stage", "shown_stage"]

# How many arrays may lie one in the other; documents with more are named for settling.
_DEEPEST: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One stage: the top-level fields that it writes, or the whole document that it makes.

    `exact`: a total expression, false where it is not known what the stage makes of the document.
    `refused`: one that is true where MongoDB refuses it.
    """

    fields: Mapping[str, Expression] | None
    root: Expression | None = None
    exact: Expression = True
    refused: Expression = False


def shown_stage(stage: Mapping[str, Any], *, raises: bool) -> Stage:
    """Return a well-formed stage of an update pipeline as expressions.

    :param raises: whether its expressions may raise for some document.
    :raises Unshown: there are none that are known.
    """
    ((name, value),) = stage.items()
    if name in SET_STAGES:
        return _setting(list(assignments(value)), raises=raises)
    paths = unset_stage_paths(name, value)
    if paths is not None:
        return _removing(paths)
    if name in ("$replaceWith", "$replaceRoot"):
        return _replacing(value["newRoot"] if name == "$replaceRoot" else value, raises=raises)
    raise Unshown(f"has a stage {name} that names the fields which stay")


# --- Fields ---------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Tree:
    """What is written below a place, by name: an expression, or what is below the next one."""

    children: dict[str, _Tree | Expression] = field(default_factory=dict)

    def put(self, parts: Sequence[str], value: Expression) -> None:
        """Take in one more path."""
        for name in parts:
            if name.startswith("$"):
                raise Unshown(f"writes a field whose name begins with a dollar ('{name}')")
        *parents, last = parts
        place = self
        for name in parents:
            inner = place.children.setdefault(name, _Tree())
            assert isinstance(inner, _Tree)
            place = inner
        place.children[last] = value


def _setting(written: Sequence[tuple[tuple[str, ...], Any]], *, raises: bool) -> Stage:
    tree = _Tree()
    numbers = count(1)
    variables: dict[str, dict[str, Expression]] = {}
    exact: list[Expression] = []
    for parts, expression in written:
        value, known = _given(expression, raises=raises)
        exact.append(known)
        if len(parts) > 1:
            # It is computed once, and outside of what the way to its place names.
            variable = f"w{next(numbers)}"
            variables.setdefault(parts[0], {})[variable] = value
            value = f"$${variable}"
        tree.put(parts, value)
    fields: dict[str, Expression] = {}
    for name, child in tree.children.items():
        if not isinstance(child, _Tree):
            fields[name] = child
            continue
        exact.append(_is_followed(child, f"${name}"))
        changed = _changed(child, f"${name}", opens=True, depth=0)
        fields[name] = {"$let": {"vars": variables[name], "in": changed}}
    return Stage(fields, exact=all_hold(exact))


def _removing(paths: Sequence[str]) -> Stage:
    tree = _Tree()
    for path in paths:
        tree.put(path.split("."), "$$REMOVE")
    fields: dict[str, Expression] = {}
    exact: list[Expression] = []
    for name, child in tree.children.items():
        if isinstance(child, _Tree):
            exact.append(_is_followed(child, f"${name}"))
            fields[name] = _changed(child, f"${name}", opens=False, depth=0)
        else:
            fields[name] = child
    return Stage(fields, exact=all_hold(exact))


def _changed(tree: _Tree, value: str, *, opens: bool, depth: int) -> Expression:
    """What becomes of a value in which a stage writes.

    :param opens: whether what has no fields becomes a sub-document.
    """
    element = f"i{depth}"
    if depth % (_DEEPEST + 1) < _DEEPEST:
        listed: Expression = {
            "$map": {
                "input": value,
                "as": element,
                "in": _changed(tree, f"$${element}", opens=opens, depth=depth + 1),
            }
        }
    else:
        listed = value
    below = (depth // (_DEEPEST + 1) + 1) * (_DEEPEST + 1)
    has_fields = has_type(value, "object")
    document: Expression = chosen(has_fields, value, EMPTY) if opens else value
    for name, child in tree.children.items():
        inner = child
        if isinstance(child, _Tree):
            inner = _changed(child, f"{value}.{name}", opens=opens, depth=below)
        document = with_field(document, name, inner)
    alone = document if opens else chosen(has_fields, document, value)
    return chosen(is_array(value), listed, alone)


def _is_followed(tree: _Tree, value: str, level: int = 0) -> Expression:
    """Return that no array on the way lies deeper in arrays than it is followed."""
    within = all_hold(
        _is_followed(child, f"{value}.{name}")
        for name, child in tree.children.items()
        if isinstance(child, _Tree)
    )
    if level == _DEEPEST:
        return chosen(is_array(value), False, within)
    element = f"k{level}"
    each = _is_followed(tree, f"$${element}", level + 1)
    listed = {"$allElementsTrue": [{"$map": {"input": value, "as": element, "in": each}}]}
    return chosen(is_array(value), listed, within)


def _given(expression: Any, *, raises: bool) -> tuple[Expression, Expression]:
    """An expression of a stage, and where it is exact: where nothing is raised."""
    if expression == "$$REMOVE" or not isinstance(expression, (str, Mapping, list, tuple)):
        return expression, True
    value = over_whole(expression)
    if not raises:
        return value, True
    known = computable(expression)
    if known is None:
        raise Unshown(
            f"computes {_operators_in(expression)}, of which it is not known for which documents "
            "MongoDB can compute it, or whose value may be another one tomorrow"
        )
    return value, over_whole(known)


def _operators_in(expression: Any) -> str:
    found = dict.fromkeys(_names(expression))
    return ", ".join(found) or "a value"


def _names(expression: Any) -> list[str]:
    if isinstance(expression, Mapping):
        names: list[str] = []
        for name, value in expression.items():
            if name.startswith("$"):
                names.append(name)
            if name != "$literal":
                names += _names(value)
        return names
    if isinstance(expression, (list, tuple)):
        return [name for one in expression for name in _names(one)]
    if isinstance(expression, str) and expression.startswith("$$") and expression[2:3].isupper():
        return [expression]
    return []


# --- Documents ------------------------------------------------------------------------------


def _replacing(expression: Any, *, raises: bool) -> Stage:
    value, exact = _given(expression, raises=raises)
    new = f"$${MARK.strip('_')}"
    own = f"{new}._id"
    # The `_id` stays, and another one is refused; of equal numbers of two types nothing is known.
    kept = any_holds([has_type(own, "missing"), {"$eq": [own, "$_id"]}])
    alike = any_holds([has_type(own, "missing"), {"$eq": [{"$type": own}, {"$type": "$_id"}]}])

    def over(part: Expression) -> Expression:
        return {"$let": {"vars": {new[2:]: value}, "in": part}}

    is_document = has_type(new, "object")
    refused = over(negated(all_hold([is_document, kept])))
    return Stage(
        None,
        root=value,
        exact=all_hold([exact, over(any_holds([negated(is_document), negated(kept), alike]))]),
        refused=refused if exact is True else chosen(exact, refused, otherwise=False),
    )
