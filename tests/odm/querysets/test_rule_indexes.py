"""What queries cost with rule indexes: MongoDB reads what is old and what is asked for, no more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from mongoengine import (
    BooleanField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentListField,
    IntField,
    ListField,
    StringField,
)

from lazymig import DocumentMigration, LazyMigrationMixin, each

STORED = 2000


class Item(EmbeddedDocument):
    n = IntField()
    meta = {"strict": False}


class Rules(DocumentMigration):
    def migration01__rename(self) -> None:
        self.target = {"mail": {"$exists": True}}
        self.update = {"$rename": {"mail": "email"}}

    def migration02__add(self) -> None:
        self.target = {"enabled": {"$exists": False}}
        self.update = {"$set": {"enabled": True}}

    def migration03__retype(self) -> None:
        self.target = {"age": {"$type": "string"}}
        self.update = {"$set": {"age": int(self.doc["age"])}}

    def migration04__remove(self) -> None:
        self.target = {"$or": [{"old": {"$exists": True}}, {"older": 1}]}
        self.update = {"$unset": {"old": "", "older": ""}}

    def migration05__class(self) -> None:
        self.target = {"_cls": "Person.Former"}
        self.update = {"$set": {"_cls": "Person"}}

    def migration06__items(self) -> None:
        self.target = {"items.qty": {"$exists": True}}
        self.update = {
            "$set": {"items": [{"n": one.get("qty", one.get("n"))} for one in self.doc["items"]]}
        }


@pytest.fixture
def person(monitored_db: Any) -> Any:
    """A model with 2,000 documents of today, 20 old ones, and the indexes of its rules."""

    class Person(LazyMigrationMixin, Document):
        key = IntField(primary_key=True)
        email = StringField()
        enabled = BooleanField()
        age = IntField()
        items = EmbeddedDocumentListField(Item)
        meta = {
            "collection": "person",
            "allow_inheritance": True,
            "indexes": ["email", "enabled", "age"],
        }
        migration_handler = Rules

    monitored_db["person"].insert_many(
        {
            "_id": n,
            "_cls": "Person",
            "email": f"e{n:04}",
            "enabled": n % 50 == 0,
            "age": n,
            "items": [{"n": n}],
        }
        for n in range(STORED)
    )
    monitored_db["person"].insert_many(
        {
            "_id": STORED + n,
            "_cls": "Person.Former" if n % 2 else "Person",
            "mail": f"m{n}",
            "age": str(n),
            "items": [{"qty": n}],
            "old": 1,
        }
        for n in range(20)
    )
    Person.ensure_indexes()
    Rules(Person).create_rule_indexes()
    return Person


def _leaves(plan: Any) -> Iterator[str]:
    if isinstance(plan, dict):
        if plan.get("stage", "").endswith("SCAN"):
            yield plan["stage"]
        for part in plan.values():
            yield from _leaves(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from _leaves(part)


_FILTERED = {"find": "filter", "count": "query", "distinct": "query"}


def _filters(name: str, command: dict[str, Any]) -> Iterator[Any]:
    if name in _FILTERED:
        yield command[_FILTERED[name]]
    elif name == "aggregate":
        yield command["pipeline"][0].get("$match", {})
    elif name in ("update", "delete"):
        yield from (each["q"] for each in command[f"{name}s"])
    elif name == "findAndModify":
        yield command["query"]


def _examined(database: Any, log: Any, collection: str = "person") -> int:
    """The most documents that MongoDB reads for one of the commands sent; no scan is among them."""
    most = 0
    for name, command in list(log.commands):
        for query in _filters(name, command):
            options = {key: command[key] for key in ("sort", "limit") if key in command}
            plan = database.command(
                {
                    "explain": {"find": collection, "filter": query, **options},
                    "verbosity": "executionStats",
                }
            )
            assert "COLLSCAN" not in list(_leaves(plan["queryPlanner"]["winningPlan"])), query
            most = max(most, plan["executionStats"]["totalDocsExamined"])
    return most


OPERATIONS: dict[str, Any] = {
    "get by a renamed field": lambda model: model.objects.get(email="m3"),
    "first by an added field": lambda model: model.objects(enabled=True).first(),
    "limit by an added field": lambda model: list(model.objects(enabled=True).limit(20)),
    "count by an added field": lambda model: model.objects(enabled=True).count(),
    "get by a retyped field": lambda model: model.objects.get(age=1999),
    "range of a retyped field": lambda model: list(model.objects(age__gt=1990)),
    "by the items": lambda model: list(model.objects(items__n=3, email="e0003")),
    "sort": lambda model: list(model.objects.order_by("email").limit(20)),
    "sort by a retyped field": lambda model: list(model.objects.order_by("-age").limit(20)),
    "update": lambda model: model.objects(email="m3").update(set__age=5),
    "update a field that a rule writes": lambda model: model.objects(email="e1").update(
        set__enabled=False
    ),
    "modify": lambda model: model.objects(email="m3").modify(set__age=5),
    "delete": lambda model: model.objects(email="m3").delete(),
    "upsert": lambda model: model.objects(email="new").update_one(upsert=True, set__age=1),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_sent_uses_the_indexes(
    name: str, person: Any, monitored_db: Any, command_log: Any
) -> None:
    """Each command reads no more than what is old, with what is asked for, in few lists of them."""
    plain_database = monitored_db.client[monitored_db.name]
    command_log.clear()
    OPERATIONS[name](person)
    sent = list(command_log.commands)
    command_log.clear()
    command_log.commands.extend(sent)
    assert _examined(plain_database, command_log) <= 150


@pytest.mark.parametrize("name", OPERATIONS)
def test_with_nothing_old_it_is_one_look_more(
    name: str, person: Any, monitored_db: Any, command_log: Any
) -> None:
    """Once nothing is old, at most one command more is sent than without rules."""
    Rules(person).migrate_pending()
    command_log.clear()
    OPERATIONS[name](person)
    with_rules = list(command_log.commands)
    assert _examined(monitored_db, command_log) <= 120
    looks = [
        each
        for each in with_rules
        if each[0] == "find"
        and "mail" in str(each[1]["filter"])
        and "_id" in each[1].get("projection", {})
    ]
    assert len(looks) <= 1


class OtherRules(DocumentMigration):
    def migration01__nick(self) -> None:
        self.target = {"nick": {"$exists": True}}
        self.update = {"$unset": {"nick": ""}}


class SubRules(DocumentMigration):
    def migration01__add(self) -> None:
        self.target = {"enabled": {"$exists": False}}
        self.update = {"$set": {"enabled": True}}

    def migration02__retype(self) -> None:
        self.target = {"age": {"$exists": True, "$not": {"$type": "int"}}}
        self.update = {"$set": {"age": int(self.doc["age"])}}

    def migration03__zip(self) -> None:
        self.target = {"address": {"$exists": True}, "address.zip": {"$exists": False}}
        self.update = {"$set": {"address.zip": ""}}


@pytest.mark.parametrize("owner", ["a subclass", "the root beside another handler"])
def test_other_classes_of_the_collection_are_passed_over(
    owner: str, monitored_db: Any, command_log: Any
) -> None:
    """Documents of other classes, which look old to a rule that is not theirs, are not read."""

    class Animal(LazyMigrationMixin, Document):
        key = IntField(primary_key=True)
        enabled = BooleanField()
        age = IntField()
        meta = {
            "collection": "animal",
            "allow_inheritance": True,
            "indexes": ["enabled", "age"],
            "strict": False,
        }
        migration_handler = None if owner == "a subclass" else SubRules

    class Dog(Animal):
        migration_handler = SubRules if owner == "a subclass" else OtherRules

    concerned, other = (
        ("Animal.Dog", "Animal") if owner == "a subclass" else ("Animal", "Animal.Dog")
    )
    model = Dog if owner == "a subclass" else Animal
    monitored_db["animal"].insert_many(
        [{"_id": n, "_cls": other, "age": "x"} for n in range(2000)]
        + [
            {
                "_id": 2000 + n,
                "_cls": concerned,
                "enabled": n % 99 == 0,
                "age": n,
                "address": {"zip": "x"},
            }
            for n in range(200)
        ]
        + [{"_id": 3000, "_cls": concerned, "age": "5", "address": {}}]
    )
    Animal.ensure_indexes()
    SubRules(model).create_rule_indexes()
    command_log.clear()

    assert model.objects(enabled=True, _cls=concerned).count() == 4
    assert [each.key for each in model.objects(_cls=concerned).order_by("age").limit(1)] == [2000]
    assert model.objects(__raw__={"address.zip": ""}, _cls=concerned).count() == 1

    assert _examined(monitored_db, command_log, "animal") <= 250


@pytest.mark.parametrize("owner", ["the root", "a subclass"])
def test_many_indexes_beside_the_class_hide_none(
    monitored_db: Any, command_log: Any, owner: str
) -> None:
    """The indexes of a model with subclasses begin with `_cls`; those of its rules are found."""
    names = "abcdefgh"
    kept = ["migration01__rename", "migration03__retype"]
    if owner == "the root":
        kept.append("migration05__class")
    rules = type("NamedRules", (DocumentMigration,), {name: vars(Rules)[name] for name in kept})

    class Named(LazyMigrationMixin, Document):
        email = StringField()
        age = IntField()
        meta = {
            "collection": "named",
            "allow_inheritance": True,
            "indexes": ["email", "age", *names],
        }
        migration_handler = rules if owner == "the root" else None
        locals().update({name: IntField() for name in names})

    class Sub(Named):
        migration_handler = rules

    class Other(Named):
        pass

    model = Named if owner == "the root" else Sub
    monitored_db["named"].insert_many(
        [{"_cls": model._class_name, "email": f"m{n}", "age": n} for n in range(STORED)]
    )
    Named.ensure_indexes()
    rules(model).create_rule_indexes()
    command_log.clear()

    assert model.objects.get(email="m3").age == 3
    assert model.objects(email="m3").update(set__email="m4") == 1
    assert model.objects(age=STORED - 1).delete() == 1
    assert len(model.objects(email="m5").distinct("age")) == 1
    assert [each.age for each in model.objects.order_by("age").limit(2)] == [0, 1]

    assert _examined(monitored_db, command_log, "named") <= 5


def test_an_order_keeps_the_index_that_gives_it(monitored_db: Any, command_log: Any) -> None:
    """Sorted by a path that no rule writes, only what is asked for is read."""

    class Kept(LazyMigrationMixin, Document):
        enabled = BooleanField()
        age = IntField()
        meta = {"collection": "kept", "allow_inheritance": True, "indexes": ["enabled", "age"]}

    class Sub(Kept):
        migration_handler = type(
            "KeptRules", (DocumentMigration,), {"migration02__add": Rules.migration02__add}
        )

    class Other(Kept):
        pass

    monitored_db["kept"].insert_many(
        [{"_cls": "Kept.Sub", "enabled": True, "age": n} for n in range(STORED)]
    )
    Kept.ensure_indexes()
    Sub.migration_handler(Sub).create_rule_indexes()
    command_log.clear()

    assert [each.age for each in Sub.objects(enabled=True).order_by("age").limit(2)] == [0, 1]

    assert _examined(monitored_db, command_log, "kept") <= 5


class TagRules(DocumentMigration):
    def migration01__list(self) -> None:
        self.target = {"tags": {"$type": "string", "$not": {"$type": "array"}}}
        self.update = {"$set": {"tags": self.doc["tags"].split(",")}}


TAGGED: dict[str, Any] = {
    "get": lambda model: model.objects.get(tags="t7"),
    "count": lambda model: model.objects(tags="t7").count(),
    "sort": lambda model: list(model.objects.order_by("tags").limit(5)),
    "update": lambda model: model.objects(tags="t9").update(set__key2=9),
}


@pytest.mark.parametrize("name", TAGGED)
def test_lists_that_were_texts_are_not_read_to_find_texts(
    name: str, monitored_db: Any, command_log: Any
) -> None:
    """A list of strings, which is of their type for MongoDB, is in no index of what is old."""

    class Tagged(LazyMigrationMixin, Document):
        key = IntField(primary_key=True)
        key2 = IntField()
        tags = ListField(StringField())
        meta = {"collection": "tagged", "indexes": ["tags"]}
        migration_handler = TagRules

    monitored_db["tagged"].insert_many({"_id": n, "tags": ["x", f"t{n}"]} for n in range(STORED))
    monitored_db["tagged"].insert_one({"_id": STORED, "tags": "y,z"})
    Tagged.ensure_indexes()
    (index,) = TagRules(Tagged).create_rule_indexes()
    assert (index.documents, index.reason) == (1, None)
    command_log.clear()
    TAGGED[name](Tagged)
    assert _examined(monitored_db, command_log, "tagged") <= 20


class LineRules(DocumentMigration):
    def migration01__add(self) -> None:
        self.update = each("lines", add={"n": 0})


LINES: dict[str, Any] = {
    "get": lambda model: model.objects.get(lines__n=7),
    "sort": lambda model: list(model.objects.order_by("-lines__n").limit(5)),
    "update": lambda model: model.objects(lines__n=9).update(set__key2=9),
}


@pytest.mark.parametrize("name", LINES)
def test_documents_without_a_list_are_not_read_to_find_old_items(
    name: str, monitored_db: Any, command_log: Any
) -> None:
    """Where there is no list, or an empty one, nothing is old: it is not in the index either."""

    class Lined(LazyMigrationMixin, Document):
        key = IntField(primary_key=True)
        key2 = IntField()
        lines = EmbeddedDocumentListField(Item)
        meta = {"collection": "lined", "indexes": ["lines.n"]}
        migration_handler = LineRules

    lists: list[dict[str, Any]] = [{}, {"lines": []}, {"lines": None}]
    monitored_db["lined"].insert_many(
        {"_id": n, **(lists[n % 3] if n >= 10 else {"lines": [{"n": n}]})} for n in range(STORED)
    )
    monitored_db["lined"].insert_one({"_id": STORED, "lines": [{"n": 5}, {}]})
    Lined.ensure_indexes()
    (index,) = LineRules(Lined).create_rule_indexes()
    assert (index.keys, index.documents) == (("lines.n",), 1)
    command_log.clear()
    LINES[name](Lined)
    assert _examined(monitored_db, command_log, "lined") <= 20
