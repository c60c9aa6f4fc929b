"""Rules that write by themselves through `self.collection`, unless `self.status` is true."""

from __future__ import annotations

from typing import Any

import pytest
from mongoengine import IntField
from pymongo.database import Database

from lazymig import MigrationFailed
from tests.support.commands import CommandLog
from tests.support.handlers import handler, model

WRITES = {"update", "insert", "delete", "findAndModify"}


def _by_hand(self: Any) -> None:
    self.target = {"copy": {"$exists": False}}
    if not self.status:
        for document in self.collection.find(self.target):
            self.collection.update_one({"_id": document["_id"]}, {"$set": {"copy": document["n"]}})


def _careless(self: Any) -> None:
    self.target = {"copy": {"$exists": False}}
    self.collection.update_many(self.target, {"$set": {"copy": 0}})


def _in_a_broad_try(self: Any) -> None:
    self.target = {"copy": {"$exists": False}}
    try:
        for document in self.collection.find(self.target):
            self.collection.update_one({"_id": document["_id"]}, {"$set": {"copy": 1}})
    except Exception as exc:
        raise AssertionError from exc


def _post(rules: Any) -> Any:
    return model(rules, n=IntField(), copy=IntField())


def test_a_rule_by_hand_writes_when_it_is_run(any_db: Any) -> None:
    """migrate_all runs such a rule once, and counts by its target before and after."""
    any_db["post"].insert_many([{"_id": n, "n": n} for n in range(10)])
    rules = handler(allmigration01__hand=_by_hand)
    report = rules(_post(rules)).migrate_all()
    assert (report.matched, report.modified) == (10, 10)
    assert {doc["_id"]: doc["copy"] for doc in any_db["post"].find()} == {n: n for n in range(10)}


@pytest.mark.parametrize("method", [_by_hand, _careless, _in_a_broad_try])
@pytest.mark.parametrize("report", ["get_deprecated", "get_status"])
def test_reports_never_let_a_rule_write(
    monitored_db: Database[Any], command_log: CommandLog, report: str, method: Any
) -> None:
    """A report gives a rule no collection, so that not even a careless rule writes."""
    monitored_db["post"].insert_many([{"_id": n, "n": n} for n in range(3)])
    rules = handler(allmigration01__hand=method)
    post = _post(rules)
    answer = getattr(rules(post), report)()
    assert not WRITES & set(command_log.names)
    assert monitored_db["post"].count_documents({"copy": {"$exists": True}}) == 0
    if report == "get_deprecated":
        assert answer == {"deprecated": [], "active": ["allmigration01__hand"]}
    else:
        assert answer[0].remaining == 3


def test_a_rule_by_hand_becomes_deprecated(mongoengine_db: Database[Any]) -> None:
    """After its run, a rule by hand has no document left and may be deleted."""
    mongoengine_db["post"].insert_many([{"_id": n, "n": n} for n in range(3)])
    rules = handler(allmigration01__hand=_by_hand)
    migration = rules(_post(rules))
    migration.migrate_all()
    assert migration.get_deprecated() == {"deprecated": ["allmigration01__hand"], "active": []}


def test_a_rule_by_hand_gets_the_collection_that_was_named(mongoengine_db: Database[Any]) -> None:
    """`self.collection` is the collection that migrate_all was given."""
    mongoengine_db["archive"].insert_one({"_id": 1, "n": 7})
    mongoengine_db["post"].insert_one({"_id": 1, "n": 7})
    rules = handler(allmigration01__hand=_by_hand)
    rules(_post(rules)).migrate_all(mongoengine_db["archive"])
    assert mongoengine_db["archive"].find_one() == {"_id": 1, "n": 7, "copy": 7}
    assert mongoengine_db["post"].find_one() == {"_id": 1, "n": 7}


def test_a_rule_by_hand_that_raises_names_itself(mongoengine_db: Database[Any]) -> None:
    """What such a rule raises stops the run as MigrationFailed with the rule's own cause."""

    def method(self: Any) -> None:
        self.target = {"copy": {"$exists": False}}
        if not self.status:
            self.collection.count_documents({})
            raise LookupError("oh")

    rules = handler(allmigration01__hand=method)
    with pytest.raises(
        MigrationFailed, match=r"Post\.allmigration01__hand: .*LookupError: oh"
    ) as e:
        rules(_post(rules)).migrate_all()
    assert isinstance(e.value.__cause__, LookupError)


def test_status_is_true_until_a_rule_is_run(mongoengine_db: Database[Any]) -> None:
    """Definition and reports show a rule `status` true, only its own run shows it false."""
    seen: list[bool] = []

    def method(self: Any) -> None:
        self.target = {"copy": {"$exists": False}}
        seen.append(self.status)
        if not self.status:
            self.collection.update_many(self.target, {"$set": {"copy": 1}})

    rules = handler(allmigration01__hand=method)
    migration = rules(_post(rules))
    migration.get_deprecated()
    migration.get_status()
    assert set(seen) == {True}
    seen.clear()
    migration.migrate_all()
    assert seen == [False]
