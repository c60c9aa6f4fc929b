"""The checks of what `each` is given, before anything is written with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lazymig.errors import UpdateQueryError
from lazymig.query.evaluating import compile_expression
from lazymig.query.operators import is_expression
from lazymig.query.predicates import test_of
from lazymig.raw.encoding import UNSTORABLE, stored_bytes
from lazymig.redaction import excerpt
from lazymig.updates.item_change import ItemChange, leaves
from lazymig.updates.items import ANY_KEY

__all__ = ["check_change", "mapping_given", "path_parts"]


def path_parts(path: Any) -> Iterator[str]:
    """Yield the components of the path to the items.

    :raises UpdateQueryError: it is no such path.
    """
    remedy = "give the dotted path of a list, in database field names, with * for the keys of a map"
    if not isinstance(path, str) or not path:
        raise UpdateQueryError(f"each({path!r}): is no path; {remedy}")
    for place, part in enumerate(path.split(".")):
        problem = None if place and part == ANY_KEY else _problem_of_name(part)
        if problem or (not place and part == "_id"):
            raise UpdateQueryError(f"each({path!r}): {part!r} {problem or 'is fixed'}; {remedy}")
        yield part


def _problem_of_name(name: Any) -> str | None:
    if not isinstance(name, str) or not name or "\x00" in name:
        return "is no name of a field"
    if name.isdecimal():
        return "names a place in a list"
    if name == ANY_KEY:
        return "does not stand for a field"
    if name.startswith("$"):
        return "begins with $, as no field of a model does"
    return "is a path" if "." in name else None


def mapping_given(path: str, argument: str, given: Any) -> Mapping[str, Any]:
    """Return an argument that is a mapping, or was left out.

    :raises UpdateQueryError: it is none.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UpdateQueryError(
            f"each({path!r}): {argument} is {given!r}; give a mapping of field names"
        )
    return dict(given)


def check_change(change: ItemChange) -> None:
    """Look at what was given, before anything is written with it.

    :raises UpdateQueryError: it is invalid.
    """
    if not (change.removed or change.set or change.add):
        raise _error(change, "changes nothing; give rename, unset, set or add")
    for name in (*change.removed, *change.created):
        _check_name(change, name)
    _check_conflicts(change)
    for argument, values in (("set", change.set), ("add", change.add)):
        for name, value in values.items():
            _check_value(change, argument, name, value)
    if change.where is not None:
        _check_where(change, change.where)
    if change.by_where_alone and not change.where:
        raise _error(
            change,
            f"sets {', '.join(map(repr, change.set))}, but nothing says which items are old, so "
            "that it would be done again at each load; give where=..., or use add for items "
            "that lack the field",
        )


def _check_name(change: ItemChange, name: Any) -> None:
    problem = _problem_of_name(name)
    if problem:
        raise _error(
            change,
            f"{name!r} {problem}; name a field of the item itself, and put the way to the "
            "items into the path",
        )
    if name == "_id":
        raise _error(change, "writes the _id of items, which identifies them; leave it out")


def _check_conflicts(change: ItemChange) -> None:
    roles: dict[str, str] = {}
    named = [
        *((name, "rename") for pair in change.rename.items() for name in pair),
        *((name, "unset") for name in change.unset),
        *((name, "set") for name in change.set),
        *((name, "add") for name in change.add),
    ]
    for name, role in named:
        if name in roles:
            remedy = "name each field once"
            if {role, roles[name]} == {"rename", "set"}:
                remedy = "set the new field from the old one ($$this.old), and unset that"
            raise _error(change, f"{name!r} is in {roles[name]} and in {role}; {remedy}")
        roles[name] = role


def _check_value(change: ItemChange, argument: str, name: str, value: Any) -> None:
    try:
        stored_bytes(value)
    except UNSTORABLE as exc:
        raise _error(
            change,
            f"{argument} of {name!r} holds a value that BSON cannot encode ({excerpt(exc)}); "
            "convert it to a BSON type",
        ) from exc
    if value == "$$REMOVE":
        raise _error(change, f"{argument} of {name!r} is $$REMOVE; use unset")
    if is_expression(value) and len(value) != 1:
        raise _error(
            change,
            f"{argument} of {name!r} has {len(value)} operators side by side; an expression "
            "has one, nest them",
        )


def _check_where(change: ItemChange, where: Any) -> None:
    try:
        asked = list(leaves(change.where_tree)) if isinstance(where, Mapping) else []
        for leaf in asked:
            test_of(leaf)
    except ValueError as exc:
        raise _error(change, f"where is malformed: {exc}") from exc
    if not isinstance(where, Mapping) or not where or not all(leaf.path for leaf in asked):
        raise _error(
            change, f"where is {where!r}; give a query on the item, such as {{'kind': 'old'}}"
        )
    for leaf in asked:
        if len(leaf.path) != 1:
            raise _error(
                change,
                f"where names {'.'.join(leaf.path)!r}, which is no field of the item itself; ask "
                "for a field of the item, or write the pipeline with $map",
            )
    expression = change.where_expression()
    # A load asks MongoDB of each document where the target of a map is not answered in memory.
    if expression is None or compile_expression(expression) is None:
        raise _error(
            change,
            f"where is {where!r}, which no expression says exactly that is answered in memory; ask "
            "for something simpler, or write the pipeline with $map",
        )


def _error(change: ItemChange, problem: str) -> UpdateQueryError:
    return UpdateQueryError(f"each({change.path!r}): {problem}")
