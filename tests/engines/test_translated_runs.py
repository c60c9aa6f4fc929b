"""Translated rules in loads and runs: by the server where that is exact, in Python elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mongoengine import DynamicField, IntField
from pymongo.database import Database

from lazymig.odm.plans import plan_for
from lazymig.operations.backup.restore import restore
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.translation import Translation
from lazymig.testing import assert_lazy_equals_bulk
from tests.support.commands import CommandLog
from tests.support.handlers import copying, handler, model
from tests.support.translations import COPYING, DOUBLING, doubling, translate_by_name

pytestmark = pytest.mark.filterwarnings("ignore::lazymig.ConvergenceWarning")


@pytest.fixture(autouse=True)
def _translations(monkeypatch: pytest.MonkeyPatch) -> None:
    translate_by_name(
        monkeypatch,
        migration01__copy=COPYING,
        allmigration01__copy=COPYING,
        migration01__twice=DOUBLING,
        allmigration01__twice=DOUBLING,
    )


def _post(**rules: Any) -> Any:
    fields = {"n": DynamicField(), "copy": DynamicField(), "twice": IntField()}
    return model(handler(**rules), **fields)


def _updates(log: CommandLog) -> list[Any]:
    """What the update commands have sent."""
    return [
        each["u"]
        for name, body in log.commands
        if name == "update" and body["update"] == "post"
        for each in body["updates"]
    ]


def _stored(database: Database[Any], field: str) -> dict[int, Any]:
    return {each["_id"]: each.get(field) for each in database["post"].find().sort("_id", 1)}


def test_a_rule_that_is_translated_for_all_is_one_update(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """A run of a rule that is translated without a guard reads no document and sends a pipeline."""
    monitored_db["post"].insert_many([{"_id": n, "n": n} for n in range(2500)])
    post = _post(migration01__copy=copying("n", "copy"))
    command_log.clear()
    report = post.migration_handler(post).migrate_pending(chunk_size=None)
    assert _updates(command_log) == [COPYING.update]
    assert (report.matched, report.modified, report.errors) == (2500, 2500, ())
    assert _stored(monitored_db, "copy") == {n: n for n in range(2500)}


def test_a_load_sends_the_pipeline(monitored_db: Database[Any], command_log: CommandLog) -> None:
    """A batch of old documents costs one update by a rule that is translated without a guard."""
    monitored_db["post"].insert_many([{"_id": n, "n": n} for n in range(20)])
    post = _post(migration01__copy=copying("n", "copy"))
    command_log.clear()
    assert [each.copy for each in post.objects.order_by("key")] == list(range(20))
    assert _updates(command_log) == [COPYING.update]


@pytest.mark.parametrize("call", ["migrate_pending", "migrate_all"])
def test_each_document_is_written_by_its_half(
    monitored_db: Database[Any], command_log: CommandLog, call: str
) -> None:
    """A run counts the documents of both halves of a rule, and computes only the rest."""
    numbers = [{"_id": n, "n": n} for n in range(200)]
    monitored_db["post"].insert_many([*numbers, {"_id": 200, "n": "21"}, {"_id": 201, "n": "4"}])
    prefix = "all" if call == "migrate_all" else ""
    post = _post(**{f"{prefix}migration01__twice": doubling})
    command_log.clear()
    report = getattr(post.migration_handler(post), call)(chunk_size=1000)
    assert (report.matched, report.modified, report.errors) == (202, 202, ())
    assert [rule.name for rule in report.rules] == [f"{prefix}migration01__twice"]
    sent = _updates(command_log)
    assert [each for each in sent if isinstance(each, list)] == [DOUBLING.update]
    assert sorted(each["$set"]["twice"] for each in sent if isinstance(each, dict)) == [8, 42]
    assert _stored(monitored_db, "twice") == {**{n: n * 2 for n in range(200)}, 200: 42, 201: 8}


def test_a_refused_document_is_refused_once(mongoengine_db: Database[Any]) -> None:
    """What either half is refused for is in quarantine once, and everything else is migrated."""
    validator = {"twice": {"$not": {"$gt": 100}}}
    mongoengine_db.create_collection("post", validator=validator)
    values: list[Any] = [1, 60, "2", "70", "none"]
    mongoengine_db["post"].insert_many([{"_id": n, "n": value} for n, value in enumerate(values)])
    post = _post(migration01__twice=doubling)
    report = post.migration_handler(post).migrate_pending(chunk_size=10, max_errors=9)
    assert sorted(error.document_id for error in report.errors) == [1, 3, 4]
    assert _stored(mongoengine_db, "twice") == {0: 2, 1: None, 2: 4, 3: None, 4: None}
    (status,) = post.migration_handler(post).get_status()
    assert (status.remaining, status.quarantined) == (3, 3)


def test_a_backup_has_the_documents_of_both_halves(
    mongoengine_db: Database[Any], tmp_path: Path
) -> None:
    """A restore brings back what the server has written and what Python has."""
    values = [1, "2", 3, "4", 5]
    mongoengine_db["post"].insert_many([{"_id": n, "n": value} for n, value in enumerate(values)])
    before = list(mongoengine_db["post"].find().sort("_id", 1))
    post = _post(migration01__twice=doubling)
    migration = post.migration_handler(post)
    folder = tmp_path / "backup"
    report = migration.migrate_pending(backup=folder, chunk_size=2)
    assert (report.matched, report.modified, report.complete) == (5, 5, True)
    assert None not in _stored(mongoengine_db, "twice").values()
    restore(folder, mongoengine_db)
    assert list(mongoengine_db["post"].find().sort("_id", 1)) == before


def test_a_run_that_failed_is_resumed_in_halves(mongoengine_db: Database[Any]) -> None:
    """A resumed run does the rest of a rule with two halves, and counts all of it."""
    values: list[Any] = [n if n % 3 else str(n) for n in range(100)]
    values[50] = "none"
    mongoengine_db["post"].insert_many([{"_id": n, "n": value} for n, value in enumerate(values)])
    post = _post(migration01__twice=doubling)
    migration = post.migration_handler(post)
    assert migration.migrate_pending(chunk_size=10).state == "failed"
    done = sum(value is not None for value in _stored(mongoengine_db, "twice").values())
    assert 40 < done < 60
    report = migration.migrate_pending(resume=True)
    assert (report.state, report.matched, report.modified) == ("finished", 99, 99)
    assert [error.document_id for error in report.errors] == [50]
    expected = {n: n * 2 for n in range(100)}
    assert _stored(mongoengine_db, "twice") == {**expected, 50: None}


def test_loads_compute_a_rule_with_two_halves(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """A load has the document at hand: both kinds of documents are computed, in one write."""
    monitored_db["post"].insert_many([{"_id": 0, "n": 1}, {"_id": 1, "n": "2"}])
    post = _post(migration01__twice=doubling)
    command_log.clear()
    assert [each.twice for each in post.objects.order_by("key")] == [2, 4]
    assert not any(isinstance(each, list) for each in _updates(command_log))


def test_mongomock_computes_in_python(mock_db: Any) -> None:
    """Without a server, loads and runs do what the method does, as it knows few operators."""
    mock_db["post"].insert_many([{"_id": 0, "n": 1}, {"_id": 1, "n": "2"}])
    post = _post(migration01__twice=doubling)
    assert post.objects.get(key=0).twice == 2
    report = post.migration_handler(post).migrate_pending()
    assert (report.matched, report.modified) == (1, 1)
    assert _stored(mock_db, "twice") == {0: 2, 1: 4}


def test_a_declared_path_holds_for_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A translation that writes more than `self.writes` says, or reads more, is not used."""

    def narrow(self: Any) -> None:
        self.target = {"twice": {"$exists": False}}
        self.writes = ("twice",)
        self.update = {"$set": {"twice": int(self.doc["n"])}}

    translate_by_name(
        monkeypatch, migration01__twice=Translation([{"$set": {"twice": 1, "more": 2}}])
    )
    bound = _bound(_post(migration01__twice=narrow))
    assert bound.form == "python"
    assert bound.left_to_python is not None
    assert "declares" in bound.left_to_python.reason


def _bound(post: Any) -> BoundRule:
    (bound,) = plan_for(post.migration_handler, post).lazy
    return bound


def test_the_testing_kit_finds_a_translation_that_gives_something_else(
    mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the server makes of documents is held against what the method makes of them."""
    wrong = Translation([{"$set": {"copy": {"$toString": "$n"}}}])
    translate_by_name(monkeypatch, migration01__copy=wrong)
    post = _post(migration01__copy=copying("n", "copy"))
    assert_lazy_equals_bulk(post, [{"_id": 1, "n": "text"}])
    with pytest.raises(
        AssertionError, match="the server and the methods store two things"
    ) as found:
        assert_lazy_equals_bulk(post, [{"_id": 1, "n": 7}])
    assert "in Python" in str(found.value)


def test_a_range_that_was_written_whole_is_not_read(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """Where the guard holds for each document of a range, the range is not read for the rest."""
    posts = monitored_db["post"]
    posts.insert_many([{"_id": n, "n": n if n < 150 else "x"} for n in range(200)])
    post = _post(migration01__twice=doubling)
    command_log.clear()
    post.migration_handler(post).migrate_pending(chunk_size=100, max_errors=100)
    read = [
        body["filter"]["_id"]
        for name, body in command_log.commands
        if name == "find" and body["find"] == "post" and "$expr" in str(body["filter"])
    ]
    assert [each for each in read if each.get("$lte") == 99] == []
    assert read
    assert posts.count_documents({"twice": {"$exists": True}}) >= 150
