"""`each`: an update of the items of an embedded list, or of a map, as a pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from lazymig.query.tree import Compare, conjuncts
from lazymig.updates.item_change import ItemChange
from lazymig.updates.item_checks import check_change, mapping_given, path_parts
from lazymig.updates.items import ANY_KEY, any_item, changed_items

__all__ = ["Each", "each"]

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
    parts = tuple(path_parts(path))
    renamed = mapping_given(path, "rename", rename)
    taken = (unset,) if isinstance(unset, str) else tuple(unset)
    change = ItemChange(
        path,
        renamed,
        taken,
        mapping_given(path, "set", set),
        mapping_given(path, "add", add),
        where,
    )
    check_change(change)
    return Each(parts, change)


class Each(list[Mapping[str, Any]]):
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


def _target(parts: tuple[str, ...], change: ItemChange) -> dict[str, Any]:
    if ANY_KEY in parts:
        return {"$expr": any_item(parts[0], parts[1:], change.is_old())}
    path = ".".join(parts)
    # What an index can answer is also what is judged soonest in memory.
    served = _served(path, change)
    return {**served, path: {**served.get(path, {}), "$elemMatch": change.query}}


def _served(path: str, change: ItemChange) -> dict[str, Any]:
    """Return conditions that follow from the target's own, and that an index can answer."""
    signs: list[dict[str, Any]] = []
    if not change.by_where_alone:
        signs = [{f"{path}.{name}": {"$exists": True}} for name in change.removed]
        # Where there is no list, nothing is in an item either: an index is not to hold that.
        signs += [{f"{path}.{name}": None, path: {"$type": "object"}} for name in change.add]
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
