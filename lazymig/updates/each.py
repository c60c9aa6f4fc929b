"""`each`: an update of the items of an embedded list, or of a map, as a pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import bson
from bson.errors import BSONError

from lazymig.errors import UpdateQueryError
from lazymig.query.expressions import expression_paths
from lazymig.query.operators import is_expression, parse_element
from lazymig.query.tree import And, Compare, Node, conjuncts
from lazymig.raw.encoding import ANY_UUID
from lazymig.redaction import excerpt
from lazymig.updates.items import (
    ANY_KEY,
    any_item,
    changed_items,
    condition_of,
    is_absent,
    is_stored,
)

__all__ = ["Each", "ItemChange", "each", "each_of"]

_THIS: Final = "$$this"

# Operators that name their elements `this` where nothing is said, with the parts that see them.
_SHADOWING: Final = {"$map": ("in",), "$filter": ("cond",), "$reduce": ("in",)}

# Operators that hold for an array on the way if they hold for one of its elements.
_BY_ONE: Final = frozenset({"$eq", "$in", "$type", "$gt", "$gte", "$lt", "$lte"})


def each(
    path: str,
    *,
    rename: Mapping[str, str] | None = None,
    unset: Iterable[str] = (),
    set: Mapping[str, Any] | None = None,  # noqa: A002 - as the operator is called
    add: Mapping[str, Any] | None = None,
    where: Mapping[str, Any] | None = None,
) -> Each:
    """Return the update that brings each old item of an embedded list up to date.

    It is a pipeline for `self.update`, and it knows its target: a rule that sets no `self.target`
    has the one of the documents with an old item. An item is old if it has a field that is renamed
    or unset, or lacks one that is added, and matches `where`. Items that are not old are left as
    they are, as is whatever is no list or no sub-document; missing stays missing.

    :param path: the list, in database field names, dotted; the way may go through sub-documents and
        other lists. `*` stands for every key of a map: `"prices.*"`, `"by_day.*.items"`.
    :param rename: new names by old ones. Where an item has both, the old one's value stays.
    :param unset: the fields to take away.
    :param set: values by field: constants, or aggregation expressions over `$$this`, the item as
        it was stored. A string that begins with `$` is an expression; `{"$literal": ...}` is a
        constant in any case. What is computed from fields that go is set only where one of these is
        there; anything else, in each item that has a field which goes, or, if none does, in each
        that matches `where`. An expression that gives nothing leaves the field as it is.
    :param add: values, likewise, for the items that lack the field.
    :param where: a query on the item; other items are left alone.
    :raises UpdateQueryError: an argument is invalid, or no argument says which items are old.
    """
    parts = tuple(_path_parts(path))
    renamed = _mapping(path, "rename", rename)
    taken = (unset,) if isinstance(unset, str) else tuple(unset)
    change = ItemChange(
        path, renamed, taken, _mapping(path, "set", set), _mapping(path, "add", add), where
    )
    change.check()
    return Each(parts, change)


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
        return self._parsed(self.query)

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
        asked: list[Any] = [{"$eq": [{"$type": _THIS}, "object"]}]
        if self.where:
            asked.append(condition_of(self._parsed(self.where)))
        signs = [is_stored(f"{_THIS}.{name}") for name in self.removed]
        signs += [is_absent(f"{_THIS}.{name}") for name in self.add]
        if signs and not self.by_where_alone:
            asked.append(_any_true(signs))
        return {"$and": asked}

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
                stored = [is_stored(f"{_THIS}.{one}") for one in signs]
                fields[name] = {"$cond": [_any_true(stored), given, "$$REMOVE"]}
        for name, value in self.add.items():
            fields[name] = {
                "$cond": [is_absent(f"{_THIS}.{name}"), self.written(value), "$$REMOVE"]
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
        values = (*self.set.values(), *self.add.values())
        read = {name for value in values for name in _item_fields(value)}
        read.update(self.removed, self.add, self._fields_of_where())
        return None if None in read else frozenset(name for name in read if name is not None)

    def root_paths_read(self) -> frozenset[str] | None:
        """Return the paths of the document that values are computed from; None: not known."""
        values = (*self.set.values(), *self.add.values())
        return expression_paths([self.written(value) for value in values])

    @staticmethod
    def written(value: Any) -> Any:
        """Return a value of `set` or `add` as the expression that gives it."""
        return {"$literal": value} if _is_constant(value) else value

    def _fields_of_where(self) -> frozenset[str]:
        return frozenset(leaf.path[0] for leaf in _leaves(self._parsed(self.where or {})))

    def _parsed(self, query: Mapping[str, Any]) -> Node:
        if not query:
            return And(())
        try:
            return parse_element(query)
        except ValueError as exc:
            raise self._error(f"where is malformed: {exc}") from exc

    def _error(self, problem: str) -> UpdateQueryError:
        return UpdateQueryError(f"each({self.path!r}): {problem}")

    # --- Checks -------------------------------------------------------------------------

    def check(self) -> None:
        """Look at what was given, before anything is written with it.

        :raises UpdateQueryError: it is invalid.
        """
        if not (self.removed or self.set or self.add):
            raise self._error("changes nothing; give rename, unset, set or add")
        for name in (*self.removed, *self.created):
            self._check_name(name)
        self._check_conflicts()
        for argument, values in (("set", self.set), ("add", self.add)):
            for name, value in values.items():
                self._check_value(argument, name, value)
        if self.where is not None:
            self._check_where(self.where)
        if self.by_where_alone and not self.where:
            raise self._error(
                f"sets {', '.join(map(repr, self.set))}, but nothing says which items are old, so "
                "that it would be done again at each load; give where=..., or use add for items "
                "that lack the field"
            )

    def _check_name(self, name: Any) -> None:
        problem = _problem_of_name(name)
        if problem:
            raise self._error(
                f"{name!r} {problem}; name a field of the item itself, and put the way to the "
                "items into the path"
            )
        if name == "_id":
            raise self._error("writes the _id of items, which identifies them; leave it out")

    def _check_conflicts(self) -> None:
        roles: dict[str, str] = {}
        named = [
            *((name, "rename") for pair in self.rename.items() for name in pair),
            *((name, "unset") for name in self.unset),
            *((name, "set") for name in self.set),
            *((name, "add") for name in self.add),
        ]
        for name, role in named:
            if name in roles:
                remedy = "name each field once"
                if {role, roles[name]} == {"rename", "set"}:
                    remedy = "set the new field from the old one ($$this.old), and unset that"
                raise self._error(f"{name!r} is in {roles[name]} and in {role}; {remedy}")
            roles[name] = role

    def _check_value(self, argument: str, name: str, value: Any) -> None:
        try:
            bson.encode({"": value}, codec_options=ANY_UUID)
        except (BSONError, ValueError, OverflowError, TypeError, RecursionError) as exc:
            raise self._error(
                f"{argument} of {name!r} holds a value that BSON cannot encode ({excerpt(exc)}); "
                "convert it to a BSON type"
            ) from exc
        if value == "$$REMOVE":
            raise self._error(f"{argument} of {name!r} is $$REMOVE; use unset")
        if is_expression(value) and len(value) != 1:
            raise self._error(
                f"{argument} of {name!r} has {len(value)} operators side by side; an expression "
                "has one, nest them"
            )

    def _check_where(self, where: Any) -> None:
        if not isinstance(where, Mapping) or not where or self._asks_whole_item(where):
            raise self._error(
                f"where is {where!r}; give a query on the item, such as {{'kind': 'old'}}"
            )
        try:
            condition_of(self._parsed(where))
        except ValueError as exc:
            raise self._error(
                f"where {exc}; ask for something simpler, or write the pipeline with $map"
            ) from exc

    def _asks_whole_item(self, where: Mapping[str, Any]) -> bool:
        return any(not leaf.path for leaf in _leaves(self._parsed(where)))


class Each(list[dict[str, Any]]):
    """A pipeline that updates items, with all that is known of it.

    :ivar parts: the components of the path.
    :ivar change: what becomes of an item.
    :ivar target: the query for the documents that have an old item.
    :ivar writes: the paths that it may change; the way ends at a map, whose keys are not known.
    :ivar creates: the paths that it may leave there, a map's keys as `*`.
    :ivar removes: the paths that it takes away.
    :ivar reads: the paths that it is computed from; None: not all are known.
    """

    def __init__(self, parts: tuple[str, ...], change: ItemChange) -> None:
        self.stage = {"$set": {parts[0]: changed_items(parts[0], parts[1:], change.updated())}}
        super().__init__([self.stage])
        self.parts = parts
        self.change = change
        self.target = _target(parts, change)
        self.writes = self._below((*change.removed, *change.created))
        self.creates = frozenset(f"{'.'.join(parts)}.{name}" for name in change.created)
        self.removes = frozenset() if ANY_KEY in parts else self._below(change.removed)
        fields, others = change.fields_read(), change.root_paths_read()
        own = self._below(("",)) if fields is None else self._below(fields)
        self.reads = None if others is None else own | others

    def _below(self, names: Iterable[str]) -> frozenset[str]:
        if ANY_KEY in self.parts:
            return frozenset({".".join(self.parts[: self.parts.index(ANY_KEY)])})
        return frozenset(".".join(filter(None, (*self.parts, name))) for name in names)

    def __reduce__(self) -> Any:
        return Each, (self.parts, self.change)


def each_of(update: Any) -> Each | None:
    """Return an update as what `each` made of it; None: it is another one, or was changed since."""
    if isinstance(update, Each) and len(update) == 1 and update[0] is update.stage:
        return update
    return None


def _target(parts: tuple[str, ...], change: ItemChange) -> dict[str, Any]:
    if ANY_KEY in parts:
        return {"$expr": any_item(parts[0], parts[1:], change.is_old())}
    path = ".".join(parts)
    return {path: {"$elemMatch": change.query}, **_served(path, change)}


def _served(path: str, change: ItemChange) -> dict[str, Any]:
    """Return conditions that follow from the target's own, and that an index can answer."""
    signs: list[dict[str, Any]] = []
    if not change.by_where_alone:
        signs = [{f"{path}.{name}": {"$exists": True}} for name in change.removed]
        signs += [{f"{path}.{name}": None} for name in change.add]
    if len(signs) > 1:
        return {"$or": signs}
    if signs:
        return signs[0]
    return {
        f"{path}.{'.'.join(leaf.path)}": leaf.condition()
        for leaf in conjuncts(change.condition)
        if isinstance(leaf, Compare) and leaf.operator in _BY_ONE and not _asks_null(leaf)
    }


def _asks_null(leaf: Compare) -> bool:
    asked = leaf.operand if isinstance(leaf.operand, (list, tuple)) else [leaf.operand]
    return leaf.operator in ("$eq", "$in") and None in asked


# --- Arguments --------------------------------------------------------------------------


def _path_parts(path: Any) -> Iterator[str]:
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


def _mapping(path: str, argument: str, given: Any) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UpdateQueryError(
            f"each({path!r}): {argument} is {given!r}; give a mapping of field names"
        )
    return dict(given)


def _leaves(node: Node) -> Iterator[Compare]:
    if isinstance(node, Compare):
        yield node
        return
    for part in getattr(node, "parts", None) or filter(None, (getattr(node, "part", None),)):
        yield from _leaves(part)


# --- Values -----------------------------------------------------------------------------


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
