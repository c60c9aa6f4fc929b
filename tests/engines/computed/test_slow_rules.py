"""Rules that take long in Python: what is computed is written, and the next load goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mongoengine import IntField
from pymongo.database import Database

from lazymig import MigrationTimeout, once
from lazymig.engines.walk import ChunkSize
from tests.support.handlers import handler, model, rule

LIMIT = 1
NAP = 0.1
COUNT = 24


def slow(path: str, seconds: float = NAP, source: str = "n") -> Callable[[Any], None]:
    """A rule that takes its time for each document."""

    def method(self: Any) -> None:
        self.target = {path: {"$exists": False}}
        value = self.doc[source]
        if not self.status:
            time.sleep(seconds)
        self.update = {"$set": {path: value}}

    return method


def _post(**rules: Any) -> Any:
    fields = {name: IntField() for name in ("n", "a", "b", "c")}
    return model(handler(lazy_timeout=LIMIT, **rules), **fields)


def _insert(database: Database[Any], count: int = COUNT) -> None:
    database["post"].insert_many([{"_id": n, "n": n} for n in range(count)])


def _done(database: Database[Any], path: str = "a") -> int:
    return database["post"].count_documents({path: {"$exists": True}})


def _until_done(database: Database[Any], load: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """Load again and again; each load that fails must have brought some document up to date."""
    errors: list[Any] = []
    while True:
        before = _done(database)
        try:
            return load(), errors
        except MigrationTimeout as error:
            errors.append(error)
            assert _done(database) > before


def test_a_list_of_slowly_migrated_documents_gets_through(mongoengine_db: Database[Any]) -> None:
    """Each load writes what it has computed in time, until one finds all of it done."""
    _insert(mongoengine_db)
    post = _post(migration01__a=slow("a"))
    found, errors = _until_done(mongoengine_db, lambda: list(post.objects.order_by("key")))
    assert [each.a for each in found] == list(range(COUNT))
    assert errors
    # Where others keep the server busy, a write may have to wait as well.
    named = [str(error) for error in errors if error.rule == "migration01__a"]
    assert named
    assert all("s a document" in text and "lazy_timeout = 1 s" in text for text in named)


def test_a_document_slower_than_the_limit_is_written_all_the_same(
    mongoengine_db: Database[Any],
) -> None:
    """A rule that takes longer than `lazy_timeout` for one document is written after that."""
    _insert(mongoengine_db, 1)
    post = _post(migration01__a=slow("a", 2 * LIMIT))
    assert post.objects.get().a == 0
    assert _done(mongoengine_db) == 1


def test_what_waits_for_a_slow_rule_is_written_with_it(mongoengine_db: Database[Any]) -> None:
    """A later static rule is applied in the same load, however late it has become."""
    _insert(mongoengine_db, 1)
    post = _post(
        migration01__a=slow("a", 2 * LIMIT),
        migration02__b=rule({"b": {"$exists": False}}, {"$set": {"b": 1}}),
    )
    loaded = post.objects.get()
    assert (loaded.a, loaded.b) == (0, 1)


def test_a_second_slow_rule_is_left_for_the_next_load(mongoengine_db: Database[Any]) -> None:
    """No rule is begun once the time is up; the error names the one that has taken it."""
    _insert(mongoengine_db, 1)
    post = _post(migration01__a=slow("a", 2 * LIMIT), migration02__b=slow("b", 0, "a"))
    with pytest.raises(MigrationTimeout, match=r"migration01__a: the rule takes 2") as caught:
        post.objects.get()
    assert caught.value.rule == "migration01__a"
    assert mongoengine_db["post"].find_one() == {"_id": 0, "n": 0, "a": 0}
    assert post.objects.get().b == 0


def test_no_later_rule_overtakes_a_slow_one(mongoengine_db: Database[Any]) -> None:
    """A document whose turn has not come gets no later rule; one that is done has got it."""
    _insert(mongoengine_db)
    post = _post(
        migration01__a=slow("a"),
        migration02__b=rule({"b": {"$exists": False}}, {"$set": {"b": 1}}),
    )
    with pytest.raises(MigrationTimeout):
        list(post.objects)
    done = _done(mongoengine_db)
    assert 0 < done < COUNT
    assert _done(mongoengine_db, "b") == done
    assert mongoengine_db["post"].count_documents({"a": {"$exists": True}, "b": 1}) == done


def test_documents_without_a_slow_rule_are_not_held_up(mongoengine_db: Database[Any]) -> None:
    """With `on_error = "skip"` the neighbours of documents without time are loaded as they are."""
    _insert(mongoengine_db)
    mongoengine_db["post"].update_many({"_id": {"$gte": COUNT // 2}}, {"$set": {"a": -1}})
    post = _post(migration01__a=slow("a"), on_error="skip")
    found = {each.key: each.a for each in post.objects}
    assert {key for key, value in found.items() if value == -1} == set(range(COUNT // 2, COUNT))


def test_settling_goes_on_where_it_has_come_to(mongoengine_db: Database[Any]) -> None:
    """An operation that settles makes progress each time that it is asked for."""
    _insert(mongoengine_db)
    post = _post(migration01__a=slow("a"))
    updated, errors = _until_done(
        mongoengine_db, lambda: post.objects(a__gte=0).update(set__b=1, inc__a=100)
    )
    assert errors
    assert updated == COUNT
    assert mongoengine_db["post"].count_documents({"a": {"$gte": 100}}) == COUNT


def test_slow_effects_are_named(mongoengine_db: Database[Any]) -> None:
    """A once rule that has no time for all documents is named; each effect happens once."""
    _insert(mongoengine_db)
    happened: list[int] = []

    @once
    def effect(self: Any) -> None:
        self.target = {"a": {"$exists": False}}
        self.update = {"$set": {"a": 1}}
        if self.status:
            return
        happened.append(self.doc["_id"])
        time.sleep(NAP)

    post = _post(migration01__a=effect)
    found, errors = _until_done(mongoengine_db, lambda: list(post.objects))
    assert len(found) == COUNT
    assert "migration01__a" in {error.rule for error in errors}
    assert sorted(happened) == list(range(COUNT))


class _Killed(BaseException):
    """Stands for what ends a process."""


def test_a_bulk_run_writes_slice_by_slice(
    mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends a bulk run in the middle of a slow chunk leaves the slices that were computed."""
    monkeypatch.setattr("lazymig.engines.computed.guarded.SLICE", 0.0)
    _insert(mongoengine_db)
    computed: list[int] = []

    def method(self: Any) -> None:
        self.target = {"a": {"$exists": False}}
        number = self.doc["n"]
        if not self.status:
            computed.append(number)
            if len(computed) == COUNT // 2:
                raise _Killed
        self.update = {"$set": {"a": number}}

    post = _post(migration01__a=method)
    with pytest.raises(_Killed):
        post.migration_handler(post).migrate_pending()
    assert _done(mongoengine_db) == COUNT // 2 - 1
    assert post.migration_handler(post).migrate_pending().complete
    assert _done(mongoengine_db) == COUNT


def test_a_chunk_too_slow_for_a_transaction_is_done_in_several(
    mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a backup, documents that cannot be computed in one transaction are done in more."""
    monkeypatch.setattr("lazymig.engines.computed.guarded.IN_TRANSACTION", 0.0)
    _insert(mongoengine_db)

    def method(self: Any) -> None:
        self.target = {"a": {"$exists": False}}
        self.update = {"$set": {"a": self.doc["n"] + 1}, "$inc": {"b": 1}}

    post = _post(allmigration01__a=method)
    report = post.migration_handler(post).migrate_all(backup=tmp_path / "backup")
    assert report.complete
    assert report.modified == COUNT
    stored = mongoengine_db["post"].find({}, sort=[("_id", 1)])
    assert [(each["a"], each["b"]) for each in stored] == [(n + 1, 1) for n in range(COUNT)]


def test_chunks_of_a_slow_rule_become_small() -> None:
    """A chunk is as small as a slow rule asks for, but never small because the server is slow."""
    slow_rule, slow_server = ChunkSize(), ChunkSize()
    for _ in range(20):
        slow_rule.learn(slow_rule.documents, slow_rule.documents * 0.6, slow_rule.documents * 0.6)
        slow_server.learn(slow_server.documents, 60.0, 0.1)
    assert (slow_rule.documents, slow_server.documents) == (1, 100)
