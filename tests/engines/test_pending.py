"""What is left to do: deprecated rules and counts, never a write."""

from __future__ import annotations

from typing import Any

import pytest
from mongoengine import Document, IntField
from pymongo.database import Database

from lazymig import LazyMigrationMixin
from tests.support.commands import CommandLog
from tests.support.handlers import copying, handler, model, rule

READS = {"find", "getMore", "aggregate", "count", "listCollections"}


def _unset(path: str) -> Any:
    return rule({path: {"$exists": True}}, {"$unset": {path: ""}})


def _undetermined(self: Any) -> None:
    value = self.doc["a"]
    self.target = {"b": value}
    self.update = {"$unset": {"b": ""}}


RULES = handler(
    migration10__c=_unset("c"),
    migration02__b=_unset("b"),
    allmigration03__copy=copying("n", "copy"),
    allmigration01__a=_unset("a"),
)


def _post(rules: Any) -> Any:
    return model(rules, n=IntField(), copy=IntField(), meta={"strict": False})


def test_rules_are_named_in_order(mongoengine_db: Database[Any]) -> None:
    """Deprecated and active rules are named in order, lazy ones first, 2 before 10."""
    mongoengine_db["post"].insert_many([{"_id": 1, "c": 1, "n": 1}, {"_id": 2, "b": 1}])
    assert RULES(_post(RULES)).get_deprecated() == {
        "deprecated": ["allmigration01__a"],
        "active": ["migration02__b", "migration10__c", "allmigration03__copy"],
    }


def test_an_empty_collection_needs_no_rule(any_db: Any) -> None:
    """Where no document is stored, every rule whose target is known may be deleted."""
    any_db.create_collection("post")
    assert RULES(_post(RULES)).get_deprecated()["active"] == []


def test_of_a_collection_that_does_not_exist_nothing_is_known(any_db: Any) -> None:
    """Without the collection no rule may be deleted, and asking makes neither it nor a journal."""
    before = sorted(any_db.client.list_database_names()), any_db.list_collection_names()
    migration = RULES(_post(RULES))
    assert migration.get_deprecated()["deprecated"] == []
    statuses = migration.get_status()
    assert [(s.remaining, s.exists, s.removable) for s in statuses] == [(0, False, False)] * 4
    assert (sorted(any_db.client.list_database_names()), any_db.list_collection_names()) == before


def test_an_undetermined_rule_counts_as_active(mongoengine_db: Database[Any]) -> None:
    """A rule whose target needs a document cannot be asked about, so it stays."""
    rules = handler(migration01__x=_undetermined)
    assert rules(_post(rules)).get_deprecated() == {"deprecated": [], "active": ["migration01__x"]}


def test_status_counts_what_is_left(any_db: Any) -> None:
    """Each rule has number, scope, kind, convergence, and the count of documents it matches."""
    any_db["post"].insert_many(
        [{"_id": n, "n": n, **({"b": 1} if n < 3 else {})} for n in range(5)]
    )
    rules = handler(
        migration02__b=_unset("b"),
        migration03__x=_undetermined,
        allmigration07__copy=copying("n", "copy"),
    )
    statuses = rules(_post(rules)).get_status()
    assert [(s.name, s.number, s.scope, s.remaining) for s in statuses] == [
        ("migration02__b", 2, "lazy", 3),
        ("migration03__x", 3, "lazy", None),
        ("allmigration07__copy", 7, "bulk", 5),
    ]
    assert [s.static for s in statuses] == [True, False, False]
    assert [s.dynamic for s in statuses] == [False, True, True]
    assert [s.converges for s in statuses] == [True, False, True]
    assert [s.undetermined for s in statuses] == [False, True, False]


@pytest.mark.parametrize("report", ["get_deprecated", "get_status"])
def test_a_report_sends_reads_alone(
    monitored_db: Database[Any], command_log: CommandLog, report: str
) -> None:
    """Reports send no command that writes, and leave every document as it is."""
    documents = [{"_id": n, "n": n, "a": 1, "b": 1, "c": 1} for n in range(50)]
    monitored_db["post"].insert_many(documents)
    migration = RULES(_post(RULES))
    command_log.clear()
    getattr(migration, report)()
    assert command_log.names
    assert set(command_log.names) <= READS
    assert list(monitored_db["post"].find()) == documents


def test_a_migrated_collection_is_asked_once(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """Ten rules with nothing left are one query, not one for each rule; the journal is another."""
    monitored_db["post"].insert_many([{"_id": n} for n in range(50)])
    rules = handler(**{f"migration{n:02}__x": _unset(f"f{n}") for n in range(10)})
    migration = rules(_post(rules))
    command_log.clear()
    assert len(migration.get_deprecated()["deprecated"]) == 10
    # For the seals; the targets; whether there is the collection; the quarantine.
    assert command_log.names == ["listCollections", "find", "find", "find"]


def test_rules_that_only_the_server_can_judge_are_reported_too(
    mongoengine_db: Database[Any],
) -> None:
    """A target with $expr is answered by MongoDB, beside targets that memory can judge."""
    mongoengine_db["post"].insert_many([{"_id": 1, "n": 5}, {"_id": 2, "b": 1}])
    rules = handler(
        migration01__x=rule(
            {"$expr": {"$gt": ["$n", 4]}, "f": {"$exists": False}}, {"$set": {"f": 1}}
        ),
        migration02__b=_unset("b"),
        migration03__y=rule(
            {"$expr": {"$gt": ["$n", 9]}, "f": {"$exists": False}}, {"$set": {"f": 1}}
        ),
    )
    assert rules(_post(rules)).get_deprecated() == {
        "deprecated": ["migration03__y"],
        "active": ["migration01__x", "migration02__b"],
    }


def test_a_subclass_reports_on_its_own_documents(mongoengine_db: Database[Any]) -> None:
    """A handler of a subclass counts neither a sibling's nor the base's documents."""

    class Base(LazyMigrationMixin, Document):
        n = IntField()
        meta = {"allow_inheritance": True, "collection": "post"}

    class One(Base):
        b = IntField()
        migration_handler = handler(migration01__b=_unset("b"))

    class Two(Base):
        b = IntField()

    mongoengine_db["post"].insert_many(
        [{"_cls": "Base.Two", "b": 1}, {"_cls": "Base", "b": 1}, {"_cls": "Base.One", "n": 1}]
    )
    migration = One.migration_handler(One)
    assert migration.get_deprecated() == {"deprecated": ["migration01__b"], "active": []}
    assert migration.get_status()[0].remaining == 0
    mongoengine_db["post"].insert_one({"_cls": "Base.One", "b": 1})
    assert migration.get_status()[0].remaining == 1
    assert migration.migrate_pending().modified == 1
    assert mongoengine_db["post"].count_documents({"b": 1}) == 2


def test_a_rule_that_a_subclass_overrides_is_not_asked_about_its_documents(
    mongoengine_db: Database[Any],
) -> None:
    """A base's rule is active for subclasses that inherited it, not for those with their own."""
    base_rules = handler(migration01__a=_unset("a"), migration02__b=_unset("b"))
    sub_rules = type("SubRules", (base_rules,), {"migration02__b": _unset("c")})

    class Base(LazyMigrationMixin, Document):
        n = IntField()
        meta = {"allow_inheritance": True, "collection": "post"}
        migration_handler = base_rules

    class Sub(Base):
        migration_handler = sub_rules

    mongoengine_db["post"].insert_one({"_cls": "Base.Sub", "a": 1, "b": 1})
    assert base_rules(Base).get_deprecated() == {
        "deprecated": ["migration02__b"],
        "active": ["migration01__a"],
    }
