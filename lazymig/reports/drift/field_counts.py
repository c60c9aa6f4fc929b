"""The counts field by field, and the sites of rules about the fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lazymig.odm.fields import FieldFacts
from lazymig.reports.drift.counts import Count, Flag, RowCounts, merge
from lazymig.reports.drift.evidence import values_at
from lazymig.reports.drift.layout import Layout
from lazymig.reports.drift.model_paths import ModelPath
from lazymig.reports.drift.sites import ClassCondition, RuleSite

__all__ = ["FieldCount", "FieldCounts"]


@dataclass
class FieldCount:
    """One field of the model, however many classes have it, with what was counted there."""

    places: list[ModelPath]
    facts: FieldFacts
    path: str
    types: dict[str, Count]
    converts: dict[str, dict[Flag, Count]]
    outside: dict[tuple[str, str], Count]
    seen: tuple[str, ...]

    @property
    def is_item(self) -> bool:
        """Return whether these are the items of a list or map."""
        return self.places[0].role == "item"

    @property
    def type_counts(self) -> dict[str, int]:
        """Documents by BSON type."""
        return {name: count.documents for name, count in sorted(self.types.items())}


class FieldCounts:
    """What was counted, with the model that its layout was made of, and where rules about it work.

    :param told_apart: `_cls` tells the classes of the documents apart.
    :param narrowed: the documents are those of a subclass: others may be in the collection.
    :param exact: every document was looked at.
    :ivar objects: the objects by path, one for each class.
    """

    def __init__(
        self, layout: Layout, rows: RowCounts, *, told_apart: bool, narrowed: bool, exact: bool
    ) -> None:
        self.layout = layout
        self.rows = rows
        self.told_apart = told_apart
        self.narrowed = narrowed
        self.exact = exact
        self.fields = self._gather()
        self.objects: dict[str, list[ModelPath]] = {}
        for place in layout.places:
            if place.role == "object":
                self.objects.setdefault(place.path, []).append(place)

    def _gather(self) -> list[FieldCount]:
        fields: dict[Any, FieldCount] = {}
        for place in self.layout.places:
            if place.facts is None:
                continue
            source = place.facts
            if place.role == "item":
                # The items of a list without a field of their own have one made for them.
                assert place.parent is not None
                assert place.parent.facts is not None
                source = place.parent.facts
            key = (place.path, id(source.source))
            field = fields.get(key)
            if field is None:
                field = fields[key] = FieldCount([], place.facts, place.path, {}, {}, {}, ())
            field.places.append(place)
            types = self.rows.types.get(place.index, {})
            merge(field.types, types)
            for kind, flags in self.rows.converts.get(place.index, {}).items():
                merge(field.converts.setdefault(kind, {}), flags)
            merge(field.outside, self.rows.outside.get(place.index, {}))
            if types:
                name = place.objects[0].owner.name
                if name not in field.seen:
                    field.seen = (*field.seen, name)
        return list(fields.values())

    def _conditions(
        self, places: Sequence[ModelPath], *, former: bool
    ) -> tuple[ClassCondition | None, ...]:
        """For each object on the way to these places: the classes to name, `None` if none.

        :param former: name the former classes of the documents as well.
        """
        conditions: list[ClassCondition | None] = []
        for depth in range(len(places[0].objects)):
            objects = list(dict.fromkeys(place.objects[depth] for place in places))
            siblings = {name for each in objects for name in each.siblings}
            everyone = {each.owner.name for each in objects} == siblings
            if depth == 0:
                everyone = not self.told_apart or (everyone and not self.narrowed)
            if everyone:
                conditions.append(None)
            elif depth == 0 and not former:
                conditions.append(tuple(dict.fromkeys(each.owner.name for each in objects)))
            else:
                conditions.append(tuple(dict.fromkeys(n for each in objects for n in each.names)))
        return tuple(conditions)

    def site(
        self, places: Sequence[ModelPath], name: str | None = None, *, former: bool = False
    ) -> RuleSite:
        """Where a rule about these places works; with `name`, about a field in these objects.

        :param former: in documents of former classes as well.
        """
        return RuleSite(
            places[0], self._conditions(places, former=former), name, self._is_mixed(places)
        )

    def _is_mixed(self, places: Sequence[ModelPath]) -> bool:
        """Return whether lists on the way hold, or may hold, other things than documents."""
        return any(
            not self.exact or self.rows.types.get(outer.index, {}).keys() - {"object"}
            for place in places
            for outer in place.chain[:-1]
            if outer.role == "item"
        )

    def values_in(
        self, places: Sequence[ModelPath], name: str | None = None
    ) -> Callable[[Any], Iterator[Any]]:
        """What a raw document has in these places, see `values_at`."""
        return partial(values_at, places, name, told_apart=self.told_apart)

    def query(
        self,
        places: Sequence[ModelPath],
        condition: Mapping[str, Any],
        name: str | None = None,
        others: Mapping[str, Any] | None = None,
    ) -> Mapping[str, Any] | None:
        """The query for the documents in which a condition holds; `None` if there is none.

        :param others: conditions on fields beside it, by name.
        """
        site = self.site(places, name, former=True)
        return site.query(condition, others) if site.nameable else None
