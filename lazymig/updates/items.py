"""The items of an embedded list as aggregation expressions: which are old, and what they become.

What is written here is total: it raises for no document, unless what the user computes does. An
item is `$$this`; what stands on the way to it is mapped over, in lists and in sub-documents alike,
as MongoDB follows a dotted path in a query.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lazymig.query.expressing import Expression

__all__ = ["ANY_KEY", "any_item", "changed_items"]

ANY_KEY: Final = "*"
"""The component of a path that stands for every key of a map."""


# --- The way to the items ---------------------------------------------------------------


def changed_items(root: str, steps: Sequence[str], changed: Expression) -> Expression:
    """Return the value of a top-level field with its items changed; missing if it is missing.

    :param root: the field.
    :param steps: the components of the path below it.
    :param changed: what becomes of `$$this`, be it an item or not.
    """
    return _changed(f"${root}", steps, changed, 0)


def any_item(root: str, steps: Sequence[str], condition: Expression) -> Expression:
    """Return whether there is an item of which a condition on `$$this` is true."""
    return _any(f"${root}", steps, condition, entry=False, depth=0)


def _changed(value: str, steps: Sequence[str], changed: Expression, depth: int) -> Expression:
    if not steps:
        return _if(_is_array(value), _map(value, "this", changed), value)
    element = f"each{depth}"
    within = _changed_within(f"$${element}", steps, changed, depth)
    elements = _map(value, element, _if(_is_document(f"$${element}"), within, f"$${element}"))
    document = _changed_within(value, steps, changed, depth)
    return _if(_is_array(value), elements, _if(_is_document(value), document, value))


def _changed_within(
    document: str, steps: Sequence[str], changed: Expression, depth: int
) -> Expression:
    """Return what becomes of a sub-document, be it one with a field or a map."""
    step, rest = steps[0], steps[1:]
    if step != ANY_KEY:
        inner = _changed(f"{document}.{step}", rest, changed, depth + 1)
        return {"$mergeObjects": [document, {step: inner}]}
    entry = f"entry{depth}"
    value = f"$${entry}.v"
    if rest:
        inner = _changed(value, rest, changed, depth + 1)
    else:
        # An entry is an item itself, or a list of items.
        lone = {"$let": {"vars": {"this": value}, "in": changed}}
        inner = _if(_is_array(value), _map(value, "this", changed), lone)
    entries = _map({"$objectToArray": document}, entry, {"k": f"$${entry}.k", "v": inner})
    return {"$arrayToObject": entries}


def _any(
    value: str, steps: Sequence[str], condition: Expression, *, entry: bool, depth: int
) -> Expression:
    alone: Expression = [value] if steps or entry else []
    array = _if(_is_array(value), value, alone)
    if not steps:
        return _any_of(array, "this", condition)
    element = f"each{depth}"
    document = f"$${element}"
    step, rest = steps[0], steps[1:]
    if step == ANY_KEY:
        inner = _any(f"$$entry{depth}.v", rest, condition, entry=not rest, depth=depth + 1)
        found = _any_of({"$objectToArray": document}, f"entry{depth}", inner)
    else:
        found = _any(f"{document}.{step}", rest, condition, entry=False, depth=depth + 1)
    return _any_of(array, element, _if(_is_document(document), found, otherwise=False))


def _map(array: Expression, name: str, inner: Expression) -> Expression:
    return {"$map": {"input": array, "as": name, "in": inner}}


def _any_of(array: Expression, name: str, condition: Expression) -> Expression:
    return {"$anyElementTrue": [_map(array, name, condition)]}


def _if(condition: Expression, then: Expression, otherwise: Expression) -> Expression:
    return {"$cond": [condition, then, otherwise]}


def _is_array(value: str) -> Expression:
    return {"$isArray": [value]}


def _is_document(value: str) -> Expression:
    return {"$eq": [{"$type": value}, "object"]}
