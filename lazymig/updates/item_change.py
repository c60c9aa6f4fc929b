"""The change of an item that `each` is asked for, and the expressions over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lazymig.query.expressing import expressed, has_type, is_there
from lazymig.query.expressions import expression_paths
from lazymig.query.operators import is_expression, parse_element
from lazymig.query.tree import And, Compare, Node

__all__ = ["ItemChange", "leaves"]

_THIS: Final = "$$this"

# Operators that name their elements `this` where nothing is said, with the parts that see them.
_SHADOWING: Final = {"$map": ("in",), "$filter": ("cond",), "$reduce": ("in",)}


@dataclass(frozen=True, slots=True)
class ItemChange:
    """What becomes of an item: what `each` was called with."""

    path: str
    rename: Mapping[str, str]
    unset: tuple[str, ...]
    set: Mapping[str, Any]
    add: Mapping[str, Any]
    where: Mapping[str, Any] | None

    @property
    def condition(self) -> Node:
        """The tree of `query`."""
        return _parsed(self.query)

    @property
    def where_tree(self) -> Node:
        """The tree of `where`.

        :raises ValueError: it is malformed.
        """
        return _parsed(self.where or {})

    @property
    def removed(self) -> tuple[str, ...]:
        """The fields that an item has no more."""
        return (*self.rename, *self.unset)

    @property
    def created(self) -> tuple[str, ...]:
        """The fields that an item may be given."""
        return (*self.rename.values(), *self.set, *self.add)

    @property
    def by_where_alone(self) -> bool:
        """Return whether every item that matches `where` is old."""
        return bool(self.set) and not self.removed

    @property
    def query(self) -> dict[str, Any]:
        """The query on an item that old ones match."""
        where = dict(self.where or {})
        signs = [{name: {"$exists": True}} for name in self.removed]
        signs += [{name: {"$exists": False}} for name in self.add]
        if self.by_where_alone or not signs:
            return where
        sign: dict[str, Any] = signs[0] if len(signs) == 1 else {"$or": signs}
        if where.keys().isdisjoint(sign):
            return {**where, **sign}
        return {"$and": [where, sign]}

    def is_old(self) -> Any:
        """Return the expression over `$$this` that says whether it is an old item."""
        asked: list[Any] = [has_type(_THIS, "object")]
        if self.where:
            asked.append(self.where_expression())
        signs = [is_there(f"{_THIS}.{name}") for name in self.removed]
        signs += [has_type(f"{_THIS}.{name}", "missing") for name in self.add]
        if signs and not self.by_where_alone:
            asked.append(_any_true(signs))
        return {"$and": asked}

    def where_expression(self) -> Any:
        """Return `where` as an expression over `$$this`; None where it is not known as one."""
        return expressed(self.where_tree, _THIS)

    def updated(self) -> Any:
        """Return the expression over `$$this` for the item as it is afterwards."""
        kept: Any = _THIS
        for name in self.removed:
            kept = {"$unsetField": {"field": name, "input": kept}}
        fields: dict[str, Any] = {new: f"{_THIS}.{old}" for old, new in self.rename.items()}
        for name, value in self.set.items():
            fields[name] = given = self.written(value)
            signs = self.signs_of(value)
            if signs is not None:
                stored = [is_there(f"{_THIS}.{one}") for one in signs]
                fields[name] = {"$cond": [_any_true(stored), given, "$$REMOVE"]}
        for name, value in self.add.items():
            fields[name] = {
                "$cond": [has_type(f"{_THIS}.{name}", "missing"), self.written(value), "$$REMOVE"]
            }
        merged = {"$mergeObjects": [kept, fields]} if fields else kept
        return {"$cond": [self.is_old(), merged, _THIS]}

    def signs_of(self, value: Any) -> tuple[str, ...] | None:
        """Return the fields, one of which an old item must have for a value to be set.

        `None`: it is set in every old item.
        """
        read = frozenset(_item_fields(value))
        needed = tuple(name for name in self.removed if name in read or None in read)
        needed = needed or self.removed
        return needed if needed and (self.add or len(needed) < len(self.removed)) else None

    def fields_read(self) -> frozenset[str] | None:
        """Return the fields of the item that decide or are copied; None: any."""
        computed = self.fields_computed_from()
        if computed is None:
            return None
        asked = [leaf.path[0] for leaf in leaves(self.where_tree)]
        return computed.union(self.removed, self.add, asked)

    def fields_computed_from(self) -> frozenset[str] | None:
        """Return the fields of the item that the values of `set` and `add` read; None: any."""
        values = (*self.set.values(), *self.add.values())
        read = [name for value in values for name in _item_fields(value)]
        return None if None in read else frozenset(name for name in read if name is not None)

    def root_paths_read(self) -> frozenset[str] | None:
        """Return the paths of the document that values are computed from; None: not known."""
        values = (*self.set.values(), *self.add.values())
        return expression_paths([self.written(value) for value in values])

    @staticmethod
    def written(value: Any) -> Any:
        """Return a value of `set` or `add` as the expression that gives it."""
        return {"$literal": value} if _is_constant(value) else value


def _parsed(query: Mapping[str, Any]) -> Node:
    return parse_element(query) if query else And(())


def leaves(node: Node) -> Iterator[Compare]:
    """Yield the conditions of a query."""
    if isinstance(node, Compare):
        yield node
        return
    for part in getattr(node, "parts", None) or filter(None, (getattr(node, "part", None),)):
        yield from leaves(part)


def _any_true(conditions: list[Any]) -> Any:
    return conditions[0] if len(conditions) == 1 else {"$or": conditions}


def _is_constant(value: Any) -> bool:
    if isinstance(value, str):
        return not value.startswith("$")
    if isinstance(value, Mapping):
        return not is_expression(value) and all(map(_is_constant, value.values()))
    return not isinstance(value, (list, tuple)) or all(map(_is_constant, value))


def _item_fields(expression: Any) -> Iterator[str | None]:
    """Yield the fields of `$$this` that an expression names; None: it reads the whole item."""
    if isinstance(expression, str):
        if expression == _THIS:
            yield None
        elif expression.startswith(f"{_THIS}."):
            yield expression.split(".")[1]
    elif isinstance(expression, Mapping):
        for name, value in expression.items():
            if name == "$literal":
                continue
            inner = _SHADOWING.get(name, ())
            hides = isinstance(value, Mapping) and "as" not in value
            seen = (
                {part: one for part, one in value.items() if part not in inner} if hides else value
            )
            yield from _item_fields(seen)
    elif isinstance(expression, (list, tuple)):
        for one in expression:
            yield from _item_fields(one)
