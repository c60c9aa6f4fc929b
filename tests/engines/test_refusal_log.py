"""What is logged of refused documents, which loads and operations that settle meet again."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from mongoengine import IntField
from mongoengine.context_managers import switch_collection
from pymongo.database import Database

from lazymig import MigrationFailed
from lazymig.engines import refusal_log
from tests.support.handlers import handler, model, rule


@pytest.fixture
def posts(mongoengine_db: Database[Any], caplog: pytest.LogCaptureFixture) -> Any:
    """Two documents, of which a unique index refuses one; `n` is the field that a rule makes."""
    mongoengine_db["post"].create_index("n", unique=True, sparse=True)
    mongoengine_db["post"].insert_many([{"_id": 1, "n": 7}, {"_id": 2, "old": 7}])
    caplog.set_level(logging.DEBUG, "lazymig.engines")
    rules = handler(migration01__n=rule({"old": {"$exists": True}}, {"$rename": {"old": "n"}}))
    return model(rules, n=IntField())


def _levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    refusals = [each for each in caplog.records if "refused" in each.getMessage()]
    levels = [each.levelname for each in refusals]
    caplog.clear()
    return levels


def test_a_refusal_is_a_warning_once(posts: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Operations that settle log a document that they met before at DEBUG; errors stay errors."""
    for expected in (["WARNING"], ["DEBUG"], ["DEBUG"]):
        assert [each.key for each in posts.objects.where("true").only("key")]
        assert _levels(caplog)[:1] == expected
    for _ in range(2):
        with pytest.raises(MigrationFailed):
            posts.objects.get(key=2)
    assert set(_levels(caplog)) == {"DEBUG"}


def test_each_document_and_rule_has_its_warning(
    posts: Any, mongoengine_db: Database[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Another document, and the same `_id` in another collection, are refusals of their own."""
    for collection in ("post", "other"):
        stored = mongoengine_db[collection]
        stored.create_index("n", unique=True, sparse=True)
        stored.update_one({"_id": 1}, {"$set": {"n": 7}}, upsert=True)
        for key in (2, 3):
            stored.update_one({"_id": key}, {"$set": {"old": 7}}, upsert=True)
            with pytest.raises(MigrationFailed):
                _load(posts, collection, key)
            assert _levels(caplog) == ["WARNING"]


def _load(posts: Any, collection: str, key: int) -> None:
    with switch_collection(posts, collection) as switched:
        switched.objects.get(key=key)


def test_the_memory_is_bounded(
    posts: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The oldest refusal is forgotten when there are too many, and is a warning again."""
    monkeypatch.setattr(refusal_log, "_MOST", 2)
    monkeypatch.setattr(refusal_log, "_logged", {})
    log = logging.getLogger("lazymig.engines.loads.batch")
    for key, level in (
        (1, "WARNING"),
        (2, "WARNING"),
        (2, "DEBUG"),
        (3, "WARNING"),
        (1, "WARNING"),
    ):
        error = MigrationFailed("refused", model="Post", rule="a", document_id=key)
        refusal_log.log_refusal(log, posts._get_collection(), error)
        assert _levels(caplog) == [level]
        assert len(refusal_log._logged) <= 2
