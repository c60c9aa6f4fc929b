"""One refused document changes no operation whose answer it is not in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from mongoengine import Document, IntField, OperationError, StringField
from pymongo.database import Database

from lazymig import LazyMigrationMixin, MigrationFailed
from tests.support.handlers import handler, rule

Raw = dict[str, Any]


def _lowered(self: Any) -> None:
    """A duplicate address is refused by the unique index; the server does it as Python would."""
    self.target = {"mail": {"$exists": True}}
    self.update = {"$set": {"email": self.doc["mail"].lower()}, "$unset": {"mail": ""}}


def _turned(self: Any) -> None:
    """The same in Python, which alone has `swapcase`."""
    self.target = {"mail": {"$exists": True}}
    self.update = {"$set": {"email": self.doc["mail"].swapcase()}, "$unset": {"mail": ""}}


def _raising(self: Any) -> None:
    """A rule that raises for one document, by what only Python has."""
    self.target = {"mail": {"$exists": True}}
    self.update = {
        "$set": {"email": {"ADA@X": None, "EVE@X": "EVE@X"}[self.doc["mail"]].swapcase()},
        "$unset": {"mail": ""},
    }


RULES = {
    "computed, unique index": _turned,
    "computed, raises": _raising,
    "translated, unique index": _lowered,
    "static, unique index": rule({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}}),
}


def _users(rules: str, on_error: str) -> Any:
    class User(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        email = StringField(unique=True, sparse=True)
        age = IntField()
        migration_handler = handler(migration01__mail=RULES[rules], on_error=on_error)

    return User


def _fill(database: Database[Raw], rules: str) -> None:
    static = rules.startswith("static")
    database.user.insert_many(
        [
            {"_id": 1, "mail": "ada@x" if static else "ADA@X", "age": 1},
            {"_id": 2, "email": "ada@x", "age": 2},
            {"_id": 3, "email": "bob@x", "age": 3},
            {"_id": 4, "mail": "eve@x" if static else "EVE@X", "age": 4},
        ]
    )


def _saved(user: Any) -> Any:
    user.age = 9
    return user.save().id


ANSWERS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "get": (lambda o: o.get(email="bob@x").id, 3),
    "get of an old one": (lambda o: o.get(email="eve@x").id, 4),
    "get by another": (lambda o: o.get(age=3).id, 3),
    "first": (lambda o: o(email="bob@x").first().id, 3),
    "count": (lambda o: o(email="bob@x").count(), 1),
    "list": (lambda o: [u.id for u in o(email__in=["bob@x", "eve@x"])], [3, 4]),
    "order_by": (lambda o: o.order_by("-email").first().id, 4),
    "order_by in a filter": (
        lambda o: [u.email for u in o(email="ada@x").order_by("email")],
        ["ada@x"],
    ),
    "distinct": (lambda o: sorted(o.distinct("email")), ["ada@x", "bob@x", "eve@x"]),
    "distinct in a filter": (lambda o: o(email="ada@x").distinct("age"), [2]),
    "sum": (lambda o: o(email__ne="x").sum("age"), 10),
    "aggregate": (
        lambda o: sorted(
            str(group["_id"])
            for group in o.aggregate([{"$group": {"_id": "$email", "n": {"$sum": 1}}}])
        ),
        ["None", "ada@x", "bob@x", "eve@x"],
    ),
    "item_frequencies": (
        lambda o: sorted(map(str, o.item_frequencies("email"))),
        ["None", "ada@x", "bob@x", "eve@x"],
    ),
    "where": (lambda o: [u.id for u in o.where("this.email == 'bob@x'")], [3]),
    "update": (lambda o: o(email="bob@x").update(set__age=5), 1),
    "update of the path": (lambda o: o(email="bob@x").update(set__email="b@x"), 1),
    "update of the same value": (lambda o: o(email="ada@x").update(set__email="a@x"), 1),
    "delete": (lambda o: o(email="bob@x").delete(), 1),
    "delete of an old one": (lambda o: o(email="eve@x").delete(), 1),
    "upsert": (lambda o: o(email="bob@x").update_one(upsert=True, set__age=5), 1),
    "upsert of a new one": (
        lambda o: o(email="new@x", id=9).update_one(upsert=True, set__age=5),
        1,
    ),
    "upsert_one": (lambda o: o(email="bob@x").upsert_one(set__age=5).age, 5),
    "modify": (lambda o: o(email="bob@x").modify(set__age=5).age, 3),
    "modify by order": (lambda o: o.order_by("-email").modify(set__age=5).age, 4),
    "modify upserts": (lambda o: o(email="bob@x").modify(upsert=True, set__age=5).age, 3),
    "save": (lambda o: _saved(o.get(email="bob@x")), 3),
    "save of a new one": (lambda o: o._document(id=9, email="new@x").save().id, 9),
}

# Without a settled document nothing is known of a refusal by an index: a rewritten filter finds an
# old document by what it is about to be, and stages show it so.
UNSEEN = {"distinct in a filter", "aggregate", "item_frequencies", "order_by in a filter"}


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize(
    ("rules", "operation"),
    [
        (rules, operation)
        for rules in RULES
        for operation in ANSWERS
        if not (rules.startswith(("static", "translated")) and operation in UNSEEN)
    ],
)
def test_an_operation_on_others_goes_on(
    mongoengine_db: Database[Raw], rules: str, operation: str, on_error: str
) -> None:
    """A refused document stays as it is stored, and whoever asks for others does not hear of it."""
    users = _users(rules, on_error)
    users.ensure_indexes()
    _fill(mongoengine_db, rules)
    old = mongoengine_db.user.find_one({"_id": 1})
    act, expected = ANSWERS[operation]

    assert act(users.objects) == expected
    assert mongoengine_db.user.find_one({"_id": 1}) == old


HITS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "update": (lambda o: o(age=1).update(set__email="a@x"), 1),
    "update of all": (lambda o: o.update(unset__email=1, set__age=7), 4),
    "upsert": (lambda o: o(id=1).update_one(upsert=True, set__email="a@x"), 1),
    "delete": (lambda o: o(age=1, email__exists=False).delete(), 1),
}


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("operation", HITS)
@pytest.mark.parametrize("rules", ["computed, unique index", "computed, raises"])
def test_a_write_that_would_hit_it_says_so(
    mongoengine_db: Database[Raw], rules: str, operation: str, on_error: str
) -> None:
    """A write that settles, and whose own filter a refused document matches, raises its error."""
    users = _users(rules, on_error)
    users.ensure_indexes()
    _fill(mongoengine_db, rules)
    old = mongoengine_db.user.find_one({"_id": 1})
    act, expected = HITS[operation]

    if on_error == "raise":
        with pytest.raises(MigrationFailed) as failure:
            act(users.objects)
        assert failure.value.document_id == 1
        assert mongoengine_db.user.find_one({"_id": 1}) == old
    else:
        assert act(users.objects) == expected
        assert mongoengine_db.user.find_one({"_id": 1}) != old


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_document_that_modify_is_about_to_hit_says_so(
    mongoengine_db: Database[Raw], on_error: str
) -> None:
    """modify() of a refused document raises its error; skipped, it is modified in its old shape."""
    users = _users("computed, unique index", on_error)
    users.ensure_indexes()
    _fill(mongoengine_db, "computed, unique index")
    if on_error == "raise":
        with pytest.raises(MigrationFailed):
            users.objects(age=1).modify(set__age=7)
    else:
        with pytest.raises(Exception, match="mail"):
            users.objects(age=1).modify(set__age=7)
    assert users.objects(email="ada@x").modify(set__age=8).id == 2


def test_what_mongodb_refuses_for_the_whole_operation_is_raised(
    mongoengine_db: Database[Raw],
) -> None:
    """A filter that is no query is no refused document."""
    users = _users("computed, unique index", "skip")
    _fill(mongoengine_db, "computed, unique index")
    with pytest.raises(OperationError):
        users.objects(__raw__={"email": "x", "age": {"$regex": "("}}).update(set__age=1)
