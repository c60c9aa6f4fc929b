"""What a case has around its documents: indexes, options of a queryset, managers, a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from mongoengine import QuerySet, QuerySetManager
from pymongo import ReadPreference
from pymongo.database import Database

from tests.equivalence.changes import BOOLEANS, Draw, Raw, World
from tests.support.sessions import BINDS

COLLATIONS = ({"locale": "en", "strength": 2}, {"locale": "en", "numericOrdering": True})


@dataclass(frozen=True)
class Index:
    """An index that both collections have."""

    keys: tuple[tuple[str, int], ...]
    sparse: bool = False

    def create(self, database: Database[Raw]) -> None:
        """Create it."""
        database.subject.create_index(list(self.keys), sparse=self.sparse, name=self.name)

    @property
    def name(self) -> str:
        """Its name in the database: MongoDB's own, as one of the model's may have the same keys."""
        return "_".join(f"{path}_{direction}" for path, direction in self.keys)


@dataclass(frozen=True)
class Circumstances:
    """Beside the documents.

    :param options: methods of a queryset, each with its argument.
    :param second: a manager of another name, with a queryset class of its own, is asked.
    :param bound: all is done within a bound session.
    """

    indexes: tuple[Index, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    second: bool = False
    bound: bool = False

    def asked(self, model: Any) -> Any:
        """The queryset that the operation begins with."""
        queryset = model.objects
        if self.second and hasattr(model, "second_manager"):
            queryset = model.second_manager
            assert queryset.is_live()
        for name, argument in self.options:
            queryset = getattr(queryset, name)(argument)
        return queryset


NOTHING = Circumstances()


class LiveQuerySet(QuerySet):
    """The queryset class of the second manager."""

    def is_live(self) -> bool:
        """Whether it is this class."""
        return True


class LiveManager(QuerySetManager):
    """The second manager."""

    default = LiveQuerySet


def with_second_manager(bodies: Mapping[str, Raw], owners: list[str]) -> dict[str, Raw]:
    """The bodies of classes, with one more manager in each of these."""
    return {owner: {"second_manager": LiveManager(), **bodies.get(owner, {})} for owner in owners}


def _index(draw: Draw, world: World) -> Index:
    stored = [path.stored for path in world.paths] + list(world.gone)
    # Two arrays in one index are refused; one list may be beside fields that are none.
    plain = [path.stored for path in world.paths if path.kind != "list" and "." not in path.stored]
    first = draw(st.sampled_from(sorted({name for name in stored if not name[-1].isdigit()})))
    paths = [first]
    if draw(BOOLEANS):
        paths += [
            name
            for name in (draw(st.sampled_from(plain)),)
            if name.split(".")[0] != first.split(".")[0]
        ]
        if draw(BOOLEANS):
            paths.reverse()
    keys = tuple((path, draw(st.sampled_from([1, -1]))) for path in paths)
    # What a model declares is not sparse, and MongoDB has one index of the same keys.
    declared = keys in ((("_cls", 1),), (("enabled", 1),), (("state", 1),))
    return Index(keys, sparse=not declared and draw(st.integers(0, 4)) == 0)


def draw_circumstances(draw: Draw, world: World) -> Circumstances:
    """None at all for half of the cases, so that these stay simple."""
    if draw(BOOLEANS):
        return NOTHING
    drawn = [_index(draw, world) for _ in range(draw(st.integers(0, 2)))]
    # MongoDB has one index of the same keys.
    indexes = tuple({index.keys: index for index in drawn}.values())
    whole = [index.name for index in indexes if not index.sparse]
    possible: list[tuple[str, Any]] = [
        *(("collation", collation) for collation in COLLATIONS),
        *(("hint", name) for name in whole),
        ("batch_size", 2),
        ("max_time_ms", 60_000),
        ("comment", "a comment"),
        ("allow_disk_use", True),
        ("read_preference", ReadPreference.PRIMARY_PREFERRED),
    ]
    options = draw(st.lists(st.sampled_from(possible), max_size=2, unique_by=lambda one: one[0]))
    return Circumstances(
        indexes,
        tuple(options),
        second=draw(st.integers(0, 3)) == 0,
        bound=draw(st.integers(0, 5)) == 0 and BINDS,
    )
