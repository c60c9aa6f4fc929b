"""The sites of rules: a field of a model, wherever it lies, in MongoDB's queries and updates.

It may be in the document, in embedded documents, in lists of them. What lies in a map has no path
that a rule could name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from lazymig.reports.drift.model_paths import ModelPath

__all__ = ["EXISTS", "IS_MISSING", "ClassCondition", "RuleSite"]

IS_MISSING: Final[Mapping[str, Any]] = {"$exists": False}
EXISTS: Final[Mapping[str, Any]] = {"$exists": True}

# The values of an object's `_cls` that a rule is for; `None` in it stands for no `_cls`.
ClassCondition = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class _Level:
    """A document, or the elements of a list: class conditions and a path relative to it."""

    classes: Mapping[str, Any]
    names: tuple[str, ...]

    @property
    def path(self) -> str:
        return ".".join(self.names)

    def around(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """The query for what is here, of the one for the elements of the list that is here."""
        elements = {"$elemMatch": query}
        return {**self.classes, self.path: elements} if self.names else elements


@dataclass(frozen=True)
class RuleSite:
    """Where a rule works: a field, or the items of a list, in the documents of some classes.

    :ivar place: a place of the layout; with `name`, an object whose field of that name is meant.
    :ivar conditions: for each object that leads to it, which classes; `None` for all.
    :ivar mixed: whether lists on the way may hold other things than documents.
    """

    place: ModelPath
    conditions: tuple[ClassCondition | None, ...]
    name: str | None = None
    mixed: bool = False

    @property
    def path(self) -> str:
        """The path, with `[]` for the elements of lists."""
        outer = self.place.path
        if self.name is None:
            return outer
        return f"{outer}.{self.name}" if outer else self.name

    @property
    def nameable(self) -> bool:
        """Whether MongoDB's queries and updates can name the path."""
        if any(
            each.role == "item" and each.parent and each.parent.is_map for each in self.place.chain
        ):
            return False
        name = self.name
        return name is None or not (
            not name or "." in name or name.startswith("$") or name.isdecimal()
        )

    def beside(self, name: str) -> RuleSite:
        """The field of another name in the same object."""
        parent = self.place if self.name is not None else self.place.parent
        assert parent is not None
        return replace(self, place=parent, name=name)

    def levels(self) -> list[_Level]:
        """The document itself, then the elements of each list on the way."""
        levels: list[_Level] = []
        classes: dict[str, Any] = {}
        names: list[str] = []
        conditions = iter(self.conditions)
        for each in self.place.chain:
            if each.role == "object":
                condition = next(conditions)
                if condition is not None:
                    classes[".".join((*names, "_cls"))] = _one_of(condition)
            elif each.role == "item":
                levels.append(_Level(classes, tuple(names)))
                classes, names = {}, []
            else:
                assert each.facts is not None
                names.append(each.facts.stored)
        if self.name is not None:
            names.append(self.name)
        levels.append(_Level(classes, tuple(names)))
        return levels

    def query(self, condition: Mapping[str, Any], others: Mapping[str, Any] | None = None) -> Any:
        """The query for documents in which the condition holds here.

        :param others: conditions on fields beside this one, by name.
        """
        *outer, inner = self.levels()
        query = self._innermost(inner, condition, others)
        for level in reversed(outer):
            query = level.around(query)
        return query

    def operators(
        self,
        operator: str,
        value: Any,
        condition: Mapping[str, Any],
        others: Mapping[str, Any] | None = None,
    ) -> tuple[Any, tuple[Mapping[str, Any], ...] | None]:
        """An update that writes here where the condition holds, and its array filters."""
        *outer, level = self.levels()
        query = self._innermost(level, condition, others)
        path = level.path
        filters: list[Mapping[str, Any]] = []
        for number, holder in reversed(list(enumerate(outer, start=1))):
            name = "item" if len(outer) == 1 else f"item{number}"
            if level.names:
                filters.insert(0, {f"{name}.{key}": part for key, part in query.items()})
            else:
                filters.insert(0, {name: query})
            path = ".".join(part for part in (holder.path, f"$[{name}]", path) if part)
            query, level = holder.around(query), holder
        return {operator: {path: value}}, tuple(filters) or None

    def pipeline(
        self, change: Callable[[str], Any], of_object: bool = False, drop_null: bool = False
    ) -> list[Mapping[str, Any]]:
        """An update that computes the new value here from the old one.

        :param change: makes an expression for the new value, of the path of the old one.
        :param of_object: not the field is to be changed, but the list element that has it.
        :param drop_null: items that become null are taken out of their list.
        """
        first, *inner = self.levels()
        if of_object:
            inner[-1] = replace(inner[-1], names=inner[-1].names[:-1])
        if not inner:
            return [{"$set": {first.path: change(f"${first.path}")}}]
        value = self._mapped(inner, f"${first.path}", change, 1, drop_null)
        return [{"$set": {first.path: value}}]

    def _mapped(
        self,
        levels: Sequence[_Level],
        values: str,
        change: Callable[[str], Any],
        number: int,
        drop_null: bool,
    ) -> Any:
        """An expression for a list with each of its elements changed."""
        first, *inner = levels
        variable = "item" if number == 1 else f"item{number}"
        element = f"$${variable}"
        here = ".".join((element, *first.names))
        new = self._mapped(inner, here, change, number + 1, drop_null) if inner else change(here)
        for depth in reversed(range(len(first.names))):
            parent = ".".join((element, *first.names[:depth]))
            new = {"$mergeObjects": [parent, {first.names[depth]: new}]}
            if self.mixed or depth:
                new = {"$cond": [{"$eq": [{"$type": parent}, "object"]}, new, parent]}
        for path, names in first.classes.items():
            concerned = names["$in"] if isinstance(names, Mapping) else [names]
            name = {"$ifNull": [f"{element}.{path}", None]}
            new = {"$cond": [{"$in": [name, concerned]}, new, element]}
        result: Any = {"$map": {"input": values, "as": variable, "in": new}}
        if drop_null and not inner and not first.names:
            result = {"$filter": {"input": result, "cond": {"$ne": ["$$this", None]}}}
        if number > 1:
            # Not each element of the outer list need have the inner one.
            result = {"$cond": [{"$isArray": values}, result, values]}
        return result

    def _innermost(
        self, level: _Level, condition: Mapping[str, Any], others: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        if not level.names:
            return dict(condition)
        *outer, _name = level.names
        query = dict(level.classes)
        if outer and condition == IS_MISSING:
            # Where there is no parent there is nothing to be missed in it.
            query[".".join(outer)] = {"$type": "object"}
        query[level.path] = dict(condition)
        for name, other in (others or {}).items():
            query[".".join((*outer, name))] = dict(other)
        return query


def _one_of(names: ClassCondition) -> Any:
    return names[0] if len(names) == 1 else {"$in": list(names)}
