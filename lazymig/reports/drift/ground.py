"""What was counted, field by field, and the sites of rules about the fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lazymig.odm.fields import FieldFacts
from lazymig.reports.drift.evidence import values_at
from lazymig.reports.drift.proposals import ClassCondition, Site
from lazymig.reports.drift.shapes import Count, Flag, Layout, Place, Tally

__all__ = ["Ground", "Spot", "merge"]


@dataclass
class Spot:
    """One field of the model, however many classes have it, with what was counted there."""

    places: list[Place]
    facts: FieldFacts
    path: str
    types: dict[str, Count]
    converts: dict[str, dict[Flag, Count]]
    outside: dict[tuple[str, str], Count]
    seen: tuple[str, ...]

    @property
    def is_item(self) -> bool:
        """Whether these are the items of a list or map."""
        return self.places[0].role == "item"

    @property
    def type_counts(self) -> dict[str, int]:
        """Documents by BSON type."""
        return {name: count.documents for name, count in sorted(self.types.items())}


class Ground:
    """A tally with the model that its layout was made of, and where rules about it work.

    :param told_apart: `_cls` tells the classes of the documents apart.
    :param narrowed: the documents are those of a subclass: others may be in the collection.
    :param exact: every document was looked at.
    :ivar objects: the objects by path, one for each class.
    """

    def __init__(
        self, layout: Layout, tally: Tally, *, told_apart: bool, narrowed: bool, exact: bool
    ) -> None:
        self.layout = layout
        self.tally = tally
        self.told_apart = told_apart
        self.narrowed = narrowed
        self.exact = exact
        self.spots = self._gather()
        self.objects: dict[str, list[Place]] = {}
        for place in layout.places:
            if place.role == "object":
                self.objects.setdefault(place.path, []).append(place)

    def _gather(self) -> list[Spot]:
        spots: dict[Any, Spot] = {}
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
            spot = spots.get(key)
            if spot is None:
                spot = spots[key] = Spot([], place.facts, place.path, {}, {}, {}, ())
            spot.places.append(place)
            types = self.tally.types.get(place.index, {})
            merge(spot.types, types)
            for kind, flags in self.tally.converts.get(place.index, {}).items():
                merge(spot.converts.setdefault(kind, {}), flags)
            merge(spot.outside, self.tally.outside.get(place.index, {}))
            if types:
                name = place.objects[0].owner.name
                if name not in spot.seen:
                    spot.seen = (*spot.seen, name)
        return list(spots.values())

    def _conditions(
        self, places: Sequence[Place], former: bool
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

    def site(self, places: Sequence[Place], name: str | None = None, former: bool = False) -> Site:
        """Where a rule about these places works; with `name`, about a field in these objects.

        :param former: in documents of former classes as well.
        """
        return Site(places[0], self._conditions(places, former), name, self._strange(places))

    def _strange(self, places: Sequence[Place]) -> bool:
        """Whether lists on the way hold, or may hold, other things than documents."""
        for place in places:
            outer = place.parent
            while outer is not None:
                kinds = self.tally.types.get(outer.index, {}).keys() - {"object"}
                if outer.role == "item" and (kinds or not self.exact):
                    return True
                outer = outer.parent
        return False

    def values_in(
        self, places: Sequence[Place], name: str | None = None
    ) -> Callable[[Any], Iterator[Any]]:
        """What a raw document has in these places, see `values_at`."""
        return partial(values_at, places, name, self.told_apart)

    def query(
        self,
        places: Sequence[Place],
        condition: Mapping[str, Any],
        name: str | None = None,
        others: Mapping[str, Any] | None = None,
    ) -> Mapping[str, Any] | None:
        """The query for the documents in which a condition holds; `None` if there is none.

        :param others: conditions on fields beside it, by name.
        """
        site = self.site(places, name, former=True)
        query: Mapping[str, Any] | None = site.query(condition, others) if site.nameable else None
        return query


def merge(counts: dict[Any, Count], others: Mapping[Any, Count]) -> None:
    """Take other counts in."""
    for key, count in others.items():
        known = counts.get(key)
        if known is None:
            counts[key] = Count(count.documents, count.ids)
        else:
            known.add(count)
