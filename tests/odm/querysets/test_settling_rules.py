"""Of the pending rules, an operation has those applied that it meets, in order, and no others."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import pytest
from mongoengine import (
    NULLIFY,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    IntField,
    ReferenceField,
    StringField,
    signals,
)
from pymongo.database import Database

from lazymig import LazyMigrationMixin, SettleLimitExceeded
from tests.support.doors import stored
from tests.support.handlers import copying, handler, model, rule
from tests.support.translations import computed_in_python

__all__ = ["computed_in_python"]

pytestmark = pytest.mark.usefixtures("computed_in_python")

Raw = dict[str, Any]

# The second makes what the first takes away, and the third takes it away for good.
THREE = {
    "migration01__raise": rule({"state": 1}, {"$set": {"state": 2}}),
    "migration02__flag": rule(
        {"legacy": {"$exists": True}}, {"$set": {"state": 1}, "$unset": {"legacy": ""}}
    ),
    "migration03__end": rule({"state": 1}, {"$set": {"state": 3}}),
}


def _three() -> Any:
    return model(handler(**THREE), state=IntField(), legacy=StringField(), n=IntField())


HALF_WAY: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "order_by": (lambda o: [d.key for d in o(state=3).order_by("state", "key")], [1, 3]),
    "first": (lambda o: o(state=3).order_by("state", "key").first().key, 1),
    "distinct": (lambda o: o(state=3).distinct("state"), [3]),
    "sum": (lambda o: o(state=3).sum("state"), 6),
    "average": (lambda o: o(state=3).average("state"), 3),
    "aggregate": (
        lambda o: list(o(state=3).aggregate([{"$group": {"_id": "$state"}}])),
        [{"_id": 3}],
    ),
    "item_frequencies": (lambda o: o(state=3).item_frequencies("state"), {3: 2}),
    "where": (lambda o: [d.key for d in o(state=3).where("this.state == 3")], [1, 3]),
    "update": (lambda o: o(state=3).update(set__legacy="y"), 2),
    "update of the path": (lambda o: o(state=3).update(inc__state=5), 2),
    "upsert": (lambda o: o(state=3).update(upsert=True, inc__state=5), 2),
    "modify": (lambda o: o(state=3).order_by("state", "key").modify(inc__state=5).key, 1),
}


# Nothing is written for these.
SHOWN = ("distinct", "sum", "average", "aggregate", "item_frequencies")


@pytest.mark.parametrize("operation", HALF_WAY)
def test_a_filter_that_does_not_hold_half_way(
    mongoengine_db: Database[Raw], operation: str
) -> None:
    """What a filter finds is found once, and all rules run on it, be it found in between or not."""
    mongoengine_db.post.insert_many(
        [{"_id": 1, "legacy": "x"}, {"_id": 2, "state": 1}, {"_id": 3, "state": 3}]
    )
    act, expected = HALF_WAY[operation]

    assert act(_three().objects) == expected
    first = mongoengine_db.post.find_one({"_id": 1})
    assert first is not None
    assert first.get("state") in ((None,) if operation in SHOWN else (3, 8))


def test_a_partial_load_overtakes_no_rule(mongoengine_db: Database[Raw]) -> None:
    """A load of one field applies the rules that depend on each other as a whole load does."""
    mongoengine_db.post.insert_one({"_id": 1, "legacy": "x"})

    _three().objects.only("legacy").get(key=1)
    assert stored(mongoengine_db.post) == [{"_id": 1, "state": 3}]


# Two paths that have nothing in common, and one that is computed from the first.
APART = {
    "migration01__placed": rule({"placed_at": {"$exists": False}}, {"$set": {"placed_at": 0}}),
    "migration02__mail": rule({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}}),
    "migration03__copy": copying("email", "login"),
}
MIXED = [
    *({"_id": n, "email": "e", "login": "e"} for n in (1, 2)),
    *({"_id": n, "placed_at": n, "mail": "m", "login": "l"} for n in (3, 4)),
    {"_id": 5, "placed_at": 5, "email": "z"},
]


def _apart(**attributes: Any) -> Any:
    return model(
        handler(**APART, **attributes),
        placed_at=IntField(),
        email=StringField(),
        login=StringField(),
        name=StringField(),
    )


TOUCHED: dict[str, tuple[Callable[[Any], Any], set[int]]] = {
    "order_by": (lambda o: list(o.order_by("-placed_at").as_stored().scalar("key")), set()),
    "order": (lambda o: list(o.order_by("-placed_at")._cursor), set()),
    "order by another": (lambda o: list(o.order_by("email")._cursor), set()),
    "order by a computed one": (lambda o: list(o.order_by("login")._cursor), {5}),
    "order by none": (lambda o: o.order_by("name")._cursor, set()),
    "distinct": (lambda o: o.distinct("placed_at"), set()),
    "distinct of a computed one": (lambda o: o.distinct("login"), {5}),
    "sum": (lambda o: o.sum("placed_at"), set()),
    "aggregate": (lambda o: o.aggregate([{"$group": {"_id": "$email"}}]), set()),
    "aggregate of none": (lambda o: o.aggregate([{"$group": {"_id": "$name"}}]), set()),
    "update": (lambda o: o.update(set__placed_at=7), {1, 2}),
    "update of none": (lambda o: o.update(set__name="x"), set()),
    "update of an input": (lambda o: o.update(set__email="x"), {3, 4, 5}),
    "pipeline": (lambda o: o.update(__raw__=[{"$set": {"name": "$placed_at"}}]), {1, 2}),
    "pipeline of none": (lambda o: o.update(__raw__=[{"$set": {"name": "$_id"}}]), set()),
    "upsert": (lambda o: o(placed_at=0).update_one(upsert=True, set__name="x"), {1, 2}),
    "filter": (lambda o: o(login="x").count(), {5}),
    "filter and order": (lambda o: list(o(login="x").order_by("placed_at")._cursor), {5}),
    "where": (lambda o: o.where("true")._cursor, {1, 2, 3, 4, 5}),
    "explain": (lambda o: o(login="x").order_by("placed_at").explain(), set()),
    "explain_migration": (lambda o: o(login="x").order_by("placed_at").explain_migration(), set()),
    "delete": (lambda o: o(login="none").delete(), {5}),
}


@pytest.mark.parametrize("operation", TOUCHED)
def test_only_the_rules_that_an_operation_meets_are_applied(
    mongoengine_db: Database[Raw], operation: str
) -> None:
    """Documents that no touched rule matches stay as they are, and count against no limit."""
    mongoengine_db.post.insert_many(MIXED)
    act, expected = TOUCHED[operation]

    act(_apart(settle_limit=len(expected)).objects)
    changed = {
        before["_id"]
        for before, after in zip(MIXED, stored(mongoengine_db.post), strict=True)
        if before.keys() != after.keys() - {"name"}
    }
    assert changed == expected


def test_the_error_names_the_rules_that_caused_it(mongoengine_db: Database[Raw]) -> None:
    """Rules that match none of the documents are not named, and neither are those not met."""
    mongoengine_db.post.insert_many(MIXED)
    objects = _apart(settle_limit=1).objects

    with pytest.raises(SettleLimitExceeded) as failure:
        objects.update(set__placed_at=7)
    assert failure.value.rules == ("migration01__placed",)
    assert failure.value.operation == "update()"
    assert failure.value.documents == 2
    with pytest.raises(SettleLimitExceeded) as failure:
        _apart(settle_limit=0).objects.order_by("login", "email").first()
    # The others can be shown.
    assert failure.value.rules == ("migration03__copy",)
    assert failure.value.operation == "order_by login, email"
    assert failure.value.documents == 1
    assert stored(mongoengine_db.post) == MIXED


class Address(EmbeddedDocument):
    """A field within another."""

    street = StringField(db_field="s")


NAMES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "order_by": (lambda o: o.order_by("-placed_at").first(), "order_by placed_at"),
    "order_by nested": (lambda o: o.order_by("home__street").first(), "order_by home__street"),
    "order_by dotted": (lambda o: o.order_by("+home.street").first(), "order_by home.street"),
    "order_by raw": (
        lambda o: o.order_by(__raw__=[("p", -1)]).first(),
        "order_by placed_at",
    ),
    "order_by raw strings": (
        lambda o: o.order_by(__raw__=["p", ("name", 1)]).first(),
        "order_by placed_at",
    ),
    "filter": (lambda o: o(home__street="x").first(), "a query by home__street"),
    "distinct": (lambda o: o.distinct("home.street"), "distinct('home.street')"),
}


@pytest.mark.parametrize("operation", NAMES)
def test_the_error_names_the_field_as_the_user_wrote_it(
    mongoengine_db: Database[Raw], operation: str
) -> None:
    """Not by its name in the database, if that is another one."""

    def placed(self: Any) -> None:
        self.target = {"p": {"$exists": False}}
        self.update = {"$set": {"p": zlib.crc32(self.doc["name"].encode())}}

    def streets(self: Any) -> None:
        self.target = {"h.s": {"$exists": False}}
        self.update = {"$set": {"h.s": self.doc["name"]}}

    rules = handler(
        migration01__p=placed,
        migration02__s=streets,
        settle_limit=0,
    )
    post = model(
        rules,
        placed_at=IntField(db_field="p"),
        home=EmbeddedDocumentField(Address, db_field="h"),
        name=StringField(),
    )
    mongoengine_db.post.insert_one({"_id": 1, "name": "x"})
    act, expected = NAMES[operation]

    with pytest.raises(SettleLimitExceeded) as failure:
        act(post.objects)
    assert failure.value.operation == expected


def _ordered(name: str = "Ordered", **more: Any) -> Any:
    rules = handler(
        migration01__rename=rule({"made": {"$exists": True}}, {"$rename": {"made": "created"}}),
        settle_limit=0,
    )
    body = {
        "id": IntField(primary_key=True),
        "created": IntField(),
        "name": StringField(),
        "meta": {"ordering": ["-created"]},
        "migration_handler": rules,
        "__module__": __name__,
        **more,
    }
    return type(Document)(name, (LazyMigrationMixin, Document), body)


NO_MATTER: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "distinct": (lambda o: sorted(o.distinct("name")), ["a", "b"]),
    "count": (lambda o: o.count(), 4),
    "count of some": (lambda o: o(name="a").limit(1).count(True), 1),
    "explain": (lambda o: "queryPlanner" in o.explain(), True),
    "delete": (lambda o: o(name="a").delete(), 2),
    "update": (lambda o: o(name="a").update(set__name="c"), 2),
    "update_one": (lambda o: o(name="a").update_one(set__name="c"), 1),
    "modify": (lambda o: o(id=2).modify(set__name="c").name, "a"),
    "in_bulk": (lambda o: sorted(o.in_bulk([1, 2])), [1, 2]),
    "sum": (lambda o: o.sum("id"), 6),
    "average": (lambda o: o.average("id"), 1.5),
    "aggregate": (lambda o: list(o.aggregate([{"$count": "n"}])), [{"n": 4}]),
    "get": (lambda o: o.get(id=2).id, 2),
    "with_id": (lambda o: o.with_id(2).id, 2),
    "first of one": (lambda o: o(id=2).first().id, 2),
    "bool": (bool, True),
    "reload": (lambda o: o.get(id=3).reload().id, 3),
    "delete of a document": (lambda o: o.get(id=3).delete(), None),
}


@pytest.mark.parametrize("rules", [False, True], ids=["alone", "delete rules"])
@pytest.mark.parametrize(
    ("operation", "explicit"),
    [
        *((operation, False) for operation in NO_MATTER),
        # What is aggregated or hit depends on an order that was asked for.
        *((operation, True) for operation in NO_MATTER if operation not in ("aggregate", "modify")),
    ],
)
def test_an_order_that_does_not_matter_settles_nothing(
    mongoengine_db: Database[Raw], operation: str, explicit: bool, rules: bool
) -> None:
    """Where the order cannot change the answer, no document is settled for its sake."""
    more: Raw = {"parent": ReferenceField("self", reverse_delete_rule=NULLIFY)} if rules else {}
    post = _ordered(**more)
    documents = [{"_id": n, "made": n, "name": "ab"[n % 2]} for n in range(4)]
    mongoengine_db.ordered.insert_many(documents)
    act, expected = NO_MATTER[operation]
    queryset = post.objects.order_by("created") if explicit else post.objects

    assert act(queryset) == expected


@pytest.mark.parametrize("listens", [False, True])
def test_an_order_matters_where_documents_are_deleted_one_by_one(
    mongoengine_db: Database[Raw], listens: bool
) -> None:
    """A limit says how many are deleted, the order which; who listens hears of them in order."""
    post = _ordered()
    post.migration_handler.settle_limit = None
    made = {1: 5, 2: 9, 3: 7}
    mongoengine_db.ordered.insert_many([{"_id": n, "made": m} for n, m in made.items()])
    heard: list[int] = []

    def hear(_sender: Any, document: Any) -> None:
        heard.append(document.id)

    if listens:
        signals.pre_delete.connect(hear, sender=post)
        assert post.objects.delete() == 3
        signals.pre_delete.disconnect(hear, sender=post)
        assert heard == [2, 3, 1]
    else:
        assert post.objects.limit(2).delete() == 2
        assert [raw["_id"] for raw in mongoengine_db.ordered.find()] == [1]


def test_what_is_settled_is_explained_with_its_rules(mongoengine_db: Database[Raw]) -> None:
    """explain_migration() names what needs documents shown or settled, and the rules."""
    text = _apart().objects(login="x").order_by("-placed_at").explain_migration()
    assert "Shown, because it sorts by placed_at." in text
    assert "Shown, because migration03__copy: 'login'" in text
    assert "come to the turn of migration03__copy are settled before that." in text
    assert "The filter {'login': 'x'} is asked of the documents as they are shown." in text
    assert "is sent as" not in text
    assert "Shown by: migration01__placed, migration02__mail, migration03__copy." in text
    assert "Shown by: migration01__placed." in (
        _apart().objects.order_by("placed_at").explain_migration()
    )
    asked = _apart().objects.where("true").explain_migration()
    assert "Settled by: migration01__placed, migration02__mail, migration03__copy." in asked
    assert "Settled" not in _apart().objects.order_by("name").explain_migration()
    assert "because it is asked where()" in _apart().objects.where("true").explain_migration()


def test_a_rule_that_hands_documents_to_another_class(mongoengine_db: Database[Raw]) -> None:
    """The rules of the class that a document comes to have are applied to it as well."""
    rules = handler(
        migration01__cat=rule({"_cls": "Animal", "purrs": True}, {"$set": {"_cls": "Animal.Cat"}})
    )
    cats = handler(migration01__lives=rule({"lives": {"$exists": False}}, {"$set": {"lives": 9}}))

    class Animal(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        purrs = IntField()
        meta = {"allow_inheritance": True}
        migration_handler = rules

    class Cat(Animal):
        lives = IntField()
        migration_handler = cats

    mongoengine_db.animal.insert_many(
        [{"_id": 1, "_cls": "Animal", "purrs": True}, {"_id": 2, "_cls": "Animal.Cat", "lives": 7}]
    )
    assert [cat.id for cat in Cat.objects.order_by("-lives")] == [1, 2]
