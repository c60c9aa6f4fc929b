"""What settling sends obeys the options of the queryset, and goes where MongoEngine reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from mongoengine import (
    BooleanField,
    Document,
    FloatField,
    GeoPointField,
    IntField,
    PointField,
    StringField,
)
from mongoengine.context_managers import switch_collection, switch_db
from pymongo.database import Database

from lazymig import LazyMigrationMixin
from lazymig.odm.versions import WRITES_HAVE_OPTIONS
from tests.support.commands import CommandLog
from tests.support.doors import stored
from tests.support.handlers import ADD_ENABLED, handler, model, rule

Raw = dict[str, Any]

CI = {"locale": "en", "strength": 2}


def _people() -> Any:
    rules = handler(
        migration01__enable=rule(*ADD_ENABLED),
        migration02__kind=rule(
            {"kind": "new", "alias": {"$ne": "ada"}}, {"$set": {"alias": "ada"}}
        ),
    )
    return model(
        rules,
        name=StringField(),
        enabled=BooleanField(),
        kind=StringField(),
        alias=StringField(),
        score=IntField(),
    )


def _keys(queryset: Any) -> list[int]:
    return sorted(document.key for document in queryset)


COLLATED: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "count": (lambda o: o(name="JOHN", enabled=True).collation(CI).count(), 1),
    "get": (lambda o: o.collation(CI).get(name="JOHN", enabled=True).key, 1),
    "list": (lambda o: _keys(o(name="JOHN", enabled=True).collation(CI)), [1]),
    "first": (lambda o: o(name="JOHN", enabled=True).collation(CI).first().key, 1),
    "exists": (lambda o: o(name="JOHN", enabled__exists=False).collation(CI).count(), 0),
    "exists of the others": (lambda o: _keys(o(enabled__exists=True).collation(CI)), [1, 2, 3, 4]),
    "ne": (lambda o: _keys(o(name__ne="JOHN", enabled=True).collation(CI)), [2, 3]),
    "distinct": (lambda o: o(name="JOHN").collation(CI).distinct("enabled"), [True]),
    "order": (
        lambda o: [d.key for d in o(name__in=["JOHN", "Bea"]).collation(CI).order_by("enabled")],
        [4, 1],
    ),
    "order by a constant": (
        lambda o: [d.key for d in o(kind="NEW").collation(CI).order_by("alias", "key")],
        [2, 3],
    ),
    "a constant": (lambda o: _keys(o(alias="ADA").collation(CI)), [2, 3]),
    "a target by a string is asked without": (
        lambda o: _keys(o(kind="new", alias="ADA").collation(CI)),
        [2, 3],
    ),
    "aggregate with its own": (
        lambda o: list(
            o(name="JOHN").aggregate([{"$match": {"enabled": True}}, {"$count": "n"}], collation=CI)
        ),
        [{"n": 1}],
    ),
    "aggregate of a filter": (
        lambda o: list(o(name="JOHN", enabled=True).aggregate([{"$count": "n"}], collation=CI)),
        [{"n": 1}],
    ),
    "aggregate": (
        lambda o: list(
            o(alias="ADA").collation(CI).aggregate([{"$match": {"enabled": True}}, {"$count": "n"}])
        ),
        [{"n": 2}] if WRITES_HAVE_OPTIONS else [],
    ),
    "sum heeds none": (lambda o: o(alias="ADA").collation(CI).sum("score"), 0),
    "update by another case": (
        lambda o: o(alias="ADA").collation(CI).update(set__score=1),
        2 if WRITES_HAVE_OPTIONS else 0,
    ),
    "update": (lambda o: o(alias="ada").collation(CI).update(set__enabled=False), 2),
    "delete by another case": (
        lambda o: o(alias="ADA").collation(CI).delete(),
        2 if WRITES_HAVE_OPTIONS else 0,
    ),
    "delete": (lambda o: o(alias="ada").collation(CI).delete(), 2),
    "modify heeds none": (lambda o: o(alias="ADA").collation(CI).modify(set__score=1), None),
    "upsert": (
        lambda o: o(alias="ADA", key=9).collation(CI).update_one(upsert=True, set__score=1),
        1,
    ),
}


@pytest.mark.parametrize("operation", COLLATED)
def test_a_collation_is_that_of_the_operation(
    mongoengine_db: Database[Raw], operation: str
) -> None:
    """A filter is compared as the operation compares it, and the targets of rules never so."""
    documents = [
        {"_id": 1, "name": "john", "score": 1},
        {"_id": 2, "name": "Ada", "kind": "new", "alias": "Ada", "score": 2},
        {"_id": 3, "name": "ava", "kind": "new", "score": 4, "enabled": True},
        {"_id": 4, "name": "Bea", "kind": "NEW", "score": 8, "enabled": False},
    ]
    act, expected = COLLATED[operation]
    if operation == "order by a constant":
        expected = [4, *expected]
    mongoengine_db.post.insert_many(documents)

    class Plain(Document):
        key = IntField(primary_key=True)
        name = StringField()
        enabled = BooleanField()
        kind = StringField()
        alias = StringField()
        score = IntField()
        meta = {"collection": "plain"}

    mongoengine_db.plain.insert_many(documents)
    enable = {"enabled": {"$exists": False}}, {"$set": {"enabled": True}}
    mongoengine_db.plain.update_many(*enable)
    mongoengine_db.plain.update_many({"kind": "new"}, {"$set": {"alias": "ada"}})

    wanted = act(Plain.objects)
    assert act(_people().objects) == (wanted if not isinstance(wanted, Document) else expected)
    assert wanted == expected
    mongoengine_db.plain.update_many(*enable)
    _people().migration_handler(_people()).migrate_pending()
    assert stored(mongoengine_db.post) == stored(mongoengine_db.plain)


NEAR: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "order_by": (lambda o: [d.key for d in o(place__near=[1, 1]).order_by("name")], [2, 1]),
    "sphere": (lambda o: [d.key for d in o(place__near=[1, 1]).order_by("name")[:1]], [2]),
    "distinct": (lambda o: sorted(o(pair__near=[1, 1]).distinct("name")), ["a", "b"]),
    "distinct of a computed one": (
        lambda o: sorted(o(pair__near=[1, 1]).distinct("label")),
        ["1", "2"],
    ),
    "filter on a computed one": (lambda o: _keys(o(place__near=[1, 1], label="1")), [1]),
    "nearest of a computed one": (lambda o: o(place__near=[1, 3], label__ne="").first().key, 2),
    "update": (lambda o: o(place__near=[1, 1]).update(set__name="z"), 2),
    "update of a computed one": (lambda o: o(place__near=[1, 1], label="2").update(set__n=1), 1),
    "delete": (lambda o: o(place__near=[1, 1], label="2").delete(), 1),
    "modify": (lambda o: o(place__near=[1, 1], label="2").modify(set__n=1).key, 2),
    "where": (lambda o: _keys(o(place__near=[1, 1]).where("this.name == 'b'")), [1]),
}


@pytest.mark.parametrize("stale", [True, False], ids=["old", "new"])
@pytest.mark.parametrize("operation", NEAR)
def test_what_is_near_is_settled(
    mongoengine_db: Database[Raw], operation: str, stale: bool
) -> None:
    """$near, which nothing that counts takes, finds the documents that have to be settled."""
    rules = handler(
        migration01__rename=rule({"old": {"$exists": True}}, {"$rename": {"old": "name"}}),
        migration02__label=rule(
            {"label": {"$exists": False}}, [{"$set": {"label": {"$toString": "$_id"}}}]
        ),
    )
    post = model(
        rules,
        place=PointField(),
        pair=GeoPointField(),
        name=StringField(),
        label=StringField(),
        n=IntField(),
    )
    post.ensure_indexes()
    mongoengine_db.post.insert_many(
        [
            {
                "_id": n,
                "old": name,
                "place": {"type": "Point", "coordinates": [1, n]},
                "pair": [1, n],
            }
            for n, name in ((1, "b"), (2, "a"))
        ]
    )
    if not stale:
        post.migration_handler(post).migrate_pending()
    act, expected = NEAR[operation]

    assert act(post.objects) == expected


SUMS: dict[str, Callable[[Any], Any]] = {
    "sum": lambda o: o.sum("price"),
    "sum in a filter": lambda o: o(price__gt=1).sum("price"),
    "sum in a computed filter": lambda o: o(half__gt=0.6).sum("price"),
    "average": lambda o: o.average("price"),
    "item_frequencies": lambda o: sorted(o.item_frequencies("price").items()),
    "map_reduce": lambda o: sorted(
        (each.key, each.value)
        for each in o.map_reduce(
            "function() { emit(this.price, 1) }",
            "function(key, values) { return Array.sum(values) }",
            "inline",
        )
    ),
    "aggregate": lambda o: list(o.aggregate([{"$group": {"_id": None, "n": {"$sum": "$price"}}}])),
    "distinct": lambda o: sorted(o.distinct("price")),
    "count": lambda o: o(half__gt=0.6).count(),
    "order_by": lambda o: [each.price for each in o.order_by("-price")],
    "update": lambda o: o.update(inc__price=1),
    "delete": lambda o: o(half__gt=0.6).delete(),
}


def _shops() -> tuple[Any, Any]:
    def halved(self: Any) -> None:
        self.target = {"half": {"$exists": False}, "price": {"$exists": True}}
        self.update = {"$set": {"half": self.doc["price"] / 2}}

    rules = handler(
        migration01__price=rule({"cost": {"$exists": True}}, {"$rename": {"cost": "price"}}),
        migration02__half=halved,
    )

    class Plain(Document):
        price = IntField()
        half = FloatField()

    class Shop(LazyMigrationMixin, Document):
        price = IntField()
        half = FloatField()
        migration_handler = rules

    return Plain, Shop


def _stock(database: Database[Raw], factor: int, names: tuple[str, str]) -> None:
    prices = [factor, 2 * factor, 3 * factor]
    database[names[0]].insert_many([{"price": price, "half": price / 2} for price in prices])
    database[names[1]].insert_many([{"cost": price} for price in prices])


@pytest.mark.parametrize("operation", SUMS)
def test_what_mongoengine_reads_is_settled(
    mongoengine_db: Database[Raw], other_db: Database[Raw], operation: str
) -> None:
    """using() is heeded by some operations and not by others; so it is by what they settle."""
    plain, shop = _shops()
    for database, factor in ((mongoengine_db, 1), (other_db, 10)):
        _stock(database, factor, ("plain", "shop"))
    act = SUMS[operation]

    assert act(shop.objects.using("other")) == act(plain.objects.using("other"))


@pytest.mark.parametrize("operation", SUMS)
def test_another_database_or_collection_is_settled(
    mongoengine_db: Database[Raw], other_db: Database[Raw], operation: str
) -> None:
    """Within switch_db() and switch_collection() that one is settled, the model's own is not."""
    plain, shop = _shops()
    _stock(mongoengine_db, 1, ("plain", "shop"))
    _stock(other_db, 10, ("plain", "shop"))
    _stock(mongoengine_db, 100, ("plain2", "shop2"))
    act = SUMS[operation]

    with switch_db(plain, "other"), switch_db(shop, "other"):
        assert act(shop.objects) == act(plain.objects)
    with switch_collection(plain, "plain2"), switch_collection(shop, "shop2"):
        assert act(shop.objects) == act(plain.objects)
    assert mongoengine_db.shop.count_documents({"cost": {"$exists": True}}) == 3


def test_what_looks_for_old_documents_is_one_find(
    monitored_db: Database[Raw], command_log: CommandLog
) -> None:
    """It asks for the `_id` of one document, and says what the user has said."""
    post = _people()
    queryset = post.objects(name="x").order_by("enabled")
    queryset._comment, queryset._max_time_ms = "mine", 5000
    list(queryset)

    assert command_log.names == ["find", "find"]
    (_, first), (_, second) = command_log.commands
    assert first["projection"] == {"_id": 1}
    assert first["limit"] == 1
    assert (first["comment"], first["maxTimeMS"]) == ("mine", 5000)
    assert first["filter"] == {"name": "x", "enabled": {"$exists": False, "$eq": None}}
    assert second["sort"] == {"enabled": 1}


@pytest.mark.parametrize(
    ("act", "sent"),
    [
        (lambda o: o(alias="x").collation(CI).count(), ["find", "aggregate"]),
        (lambda o: list(o(alias="x").collation(CI).order_by("enabled")), ["find", "find"]),
        (lambda o: list(o(alias="x").aggregate([], collation=CI)), ["find", "aggregate"]),
        (lambda o: o.distinct("alias"), ["find", "distinct"]),
        (lambda o: o.sum("alias"), ["find", "aggregate"]),
        (lambda o: o.update(set__alias="x"), ["find", "update"]),
        (lambda o: o(name="x").update(set__score=1), ["update"]),
        (lambda o: o(enabled=True).delete(), ["delete"]),
        (lambda o: o(enabled=True).count(), ["aggregate"]),
    ],
    ids=["count", "order", "aggregate", "distinct", "sum", "update", "none", "delete", "rewritten"],
)
def test_nothing_is_looked_for_twice(
    monitored_db: Database[Raw], command_log: CommandLog, act: Any, sent: list[str]
) -> None:
    """Where nothing is old, an operation that settles sends one command more than the plain one."""
    act(_people().objects)
    assert command_log.names == sent
