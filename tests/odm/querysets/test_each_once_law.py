"""The law of iteration: what comes is what comes from migrated documents, whatever moves."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mongoengine import BooleanField, Document, IntField, ListField, StringField

from lazymig import LazyMigrationMixin
from lazymig.engines.reading import pinned
from tests.support.doors import as_raw
from tests.support.handlers import ADD_ENABLED, handler, rule

EXAMPLES = min(settings().max_examples // 2, 2000)


def copied(self: Any) -> None:
    """A rule that is computed from the document in a way that no server-side update expresses."""
    self.target = {"upper": {"$exists": False}, "name": {"$exists": True}}
    self.update = {"$set": {"upper": "".join(reversed(self.doc["name"]))}}


RULES = {
    "forward": rule(*ADD_ENABLED),
    "backward": rule({"state": "old"}, {"$set": {"state": "active"}}),
    "multikey": rule({"tags": "old"}, {"$set": {"tags": ["blue", "green"]}}),
    "rename": rule({"nick": {"$exists": True}}, {"$rename": {"nick": "alias"}}),
    "number": rule({"n": {"$lt": 0}}, {"$set": {"n": 3}}),
    "computed": copied,
}
INDEXES = {
    "enabled": ([("enabled", 1)], {}),
    "state": ([("state", -1)], {}),
    "compound": ([("status", 1), ("enabled", 1)], {}),
    "other compound": ([("n", 1), ("state", 1)], {}),
    "multikey": ([("tags", 1), ("state", 1)], {}),
    "sparse": ([("alias", 1)], {"sparse": True}),
    "partial": ([("status", 1)], {"partialFilterExpression": {"enabled": True}, "name": "partial"}),
    "wildcard": ([("$**", 1)], {}),
    "hashed": ([("state", "hashed")], {}),
    "upper": ([("upper", 1)], {}),
    "by id": ([("_id", 1), ("enabled", 1)], {}),
    "merged": ([("enabled", 1), ("_id", 1)], {}),
    "merged back": ([("state", 1), ("_id", -1)], {}),
}
QUERIES: list[dict[str, Any]] = [
    {},
    {"enabled": True},
    {"state": "active"},
    {"state__in": ["active", "gone"]},
    {"status": "s1"},
    {"status": "s1", "enabled": True},
    {"tags": "green"},
    {"tags__in": ["green", "red"]},
    {"alias__exists": True},
    {"alias__gte": "a3"},
    {"n__gte": 2},
    {"n__gte": 1, "state__ne": "gone"},
    {"upper__ne": None},
]
ORDERS = [
    (),
    ("id",),
    ("-n", "id"),
    ("status", "-id"),
    ("status",),
    ("n",),
    ("-state",),
    ("upper",),
]


def old_document(chance: random.Random, number: int, share: float) -> dict[str, Any]:
    """One stored document; `share` is how likely it is in an old shape, at each place."""

    def is_old() -> bool:
        return chance.random() < share

    raw: dict[str, Any] = {
        "_id": number,
        "name": f"x{chance.randrange(9)}",
        "status": f"s{chance.randrange(3)}",
        "n": -1 if is_old() else chance.randrange(5),
        "state": "old" if is_old() else chance.choice(["active", "gone"]),
        "tags": ["old", "red"] if is_old() else chance.choice([[], ["red"], ["blue", "green"]]),
        "nick" if is_old() else "alias": f"a{chance.randrange(6)}",
    }
    if not is_old():
        raw["enabled"] = chance.random() < 0.8
    if not is_old():
        raw["upper"] = raw["name"][::-1]
    return raw


def migrated(raw: dict[str, Any], rules: list[str]) -> dict[str, Any]:
    """The document after these rules, by plain Python."""
    new = dict(raw)
    if "forward" in rules:
        new.setdefault("enabled", True)
    if "backward" in rules and new["state"] == "old":
        new["state"] = "active"
    if "multikey" in rules and "old" in new["tags"]:
        new["tags"] = ["blue", "green"]
    if "rename" in rules and "nick" in new:
        new["alias"] = new.pop("nick")
    if "number" in rules and new["n"] < 0:
        new["n"] = 3
    if "computed" in rules:
        new.setdefault("upper", new["name"][::-1])
    return new


@dataclass(frozen=True)
class World:
    """Documents, rules and indexes; and one iteration."""

    seed: int
    count: int
    share: float
    rules: list[str]
    indexes: list[str]
    query: dict[str, Any]
    order: tuple[str, ...]
    skip: int | None
    limit: int | None
    batch_size: int | None
    cached: bool
    fields: tuple[str, ...]
    meanwhile: str
    window: int
    answer: int


worlds = st.builds(
    World,
    seed=st.integers(0, 2**32),
    count=st.integers(90, 360),
    share=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    rules=st.lists(st.sampled_from(sorted(RULES)), min_size=1, unique=True),
    indexes=st.lists(st.sampled_from(sorted(INDEXES)), max_size=4, unique=True),
    query=st.sampled_from(QUERIES),
    order=st.sampled_from(ORDERS),
    skip=st.sampled_from([None, 0, 1, 30, 130]),
    limit=st.sampled_from([None, 1, 99, 101, 140, 1000]),
    batch_size=st.sampled_from([None, 1, 2, 7, 40, 100, 101, 150, 1000]),
    cached=st.booleans(),
    fields=st.sampled_from([(), (), ("n", "status", "enabled"), ("state", "upper", "n", "status")]),
    meanwhile=st.sampled_from(["nothing", "nothing", "loads", "bulk", "queries"]),
    window=st.sampled_from([1000, 40]),
    answer=st.sampled_from([10_000, 30]),
)


def fields_of() -> dict[str, Any]:
    """Fresh fields for one model."""
    kinds = {"id": IntField, "n": IntField, "enabled": BooleanField}
    names = ["name", "status", "n", "state", "nick", "alias", "enabled", "upper"]
    fields: dict[str, Any] = {name: kinds.get(name, StringField)() for name in names}
    return {"id": IntField(primary_key=True), "tags": ListField(StringField()), **fields}


def models(world: World) -> tuple[Any, Any]:
    """The model with rules, and its plain twin."""
    rules = {
        f"migration{number:02}__{name}": RULES[name] for number, name in enumerate(world.rules)
    }
    bodies = [
        {
            **fields_of(),
            "meta": {"collection": name, "auto_create_index": False},
            "__module__": __name__,
        }
        for name in ("live", "plain")
    ]
    bodies[0]["migration_handler"] = handler(**rules)
    live = type(Document)("LivePerson", (LazyMigrationMixin, Document), bodies[0])
    return live, type(Document)("PlainPerson", (Document,), bodies[1])


def asked(model: Any, world: World) -> Any:
    """The queryset of a world."""
    found = model.objects(**world.query).order_by(*world.order)
    if world.fields:
        found = found.only(*world.fields)
    if world.skip is not None:
        found = found.skip(world.skip)
    if world.limit is not None:
        found = found.limit(world.limit)
    if world.batch_size is not None:
        found = found.batch_size(world.batch_size)
    return found if world.cached else found.no_cache()


def iterated(model: Any, world: World) -> list[Any]:
    """The documents of a world, while its meanwhile happens in the body of the loop."""
    chance = random.Random(world.seed)
    found = []
    for position, document in enumerate(asked(model, world)):
        found.append(document)
        if world.meanwhile == "loads" and position % 3 == 0:
            model.objects(id=chance.randrange(world.count)).first()
        elif world.meanwhile == "bulk" and position == 45:
            model.migration_handler(model).migrate_pending()
        elif world.meanwhile == "queries" and position % 60 == 20:
            list(model.objects(n__gte=1, status="s1").limit(30))
    return found


def prepare(database: Any, world: World) -> dict[int, dict[str, Any]]:
    """Store the old documents and their twins; return the twins."""
    chance = random.Random(world.seed)
    old = [old_document(chance, number, world.share) for number in range(world.count)]
    chance.shuffle(old)
    new = {raw["_id"]: migrated(raw, world.rules) for raw in old}
    for name, raws in (("live", old), ("plain", list(new.values()))):
        database[name].drop()
        database[name].insert_many(raws)
        for index in world.indexes:
            keys, options = INDEXES[index]
            database[name].create_index(keys, **options)
    return new


def sort_keys(documents: list[Any], order: tuple[str, ...]) -> list[Any]:
    """What each document is sorted by."""
    return [[getattr(document, name.lstrip("-")) for name in order] for document in documents]


@pytest.mark.filterwarnings("ignore::lazymig.SettlingWarning")
@settings(max_examples=EXAMPLES)
@given(world=worlds)
def test_iterating_gives_what_migrated_documents_give(mongoengine_db, world):
    """Each document once, exact limit and skip, in the same order, with today's contents."""
    new = prepare(mongoengine_db, world)
    live, plain = models(world)

    with mock.patch.multiple(pinned, _WINDOW=world.window, _ANSWER=world.answer):
        found = iterated(live, world)

    expected = list(asked(plain, world))
    numbers = [document.id for document in found]
    assert len(set(numbers)) == len(numbers) == len(expected)
    if "id" in world.order or "-id" in world.order:
        assert numbers == [document.id for document in expected]
    assert set(numbers) <= {document.id for document in plain.objects(**world.query).only("id")}
    if not world.fields:
        assert sort_keys(found, world.order) == sort_keys(expected, world.order)
        assert [as_raw(document) for document in found] == [
            as_raw(plain._from_son(new[number])) for number in numbers
        ]
