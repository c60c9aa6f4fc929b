"""Packages that imitate PyMongo, mongomock under another name among them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mongoengine
import mongomock
import pytest
from mongoengine import BooleanField, StringField
from pymongo.database import Database

from lazymig import check_documents
from lazymig.engines.access import is_mongomock
from tests.support.handlers import ADD_ENABLED, handler, model, rule


class Wrapper:
    """An object of the application around one of PyMongo's, as some log or count calls."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The code of mongomock under a name that has nothing of it."""
    for file in Path(mongomock.__file__).parent.glob("*.py"):
        text = file.read_text(encoding="utf-8")
        if file.name != "__version__.py":
            text = text.replace("mongomock", "imitation")
        target = tmp_path / "imitation" / file.name
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("imitation")
    for name in [name for name in sys.modules if name.partition(".")[0] == "imitation"]:
        del sys.modules[name]


def test_whose_collection_it_is_is_seen_from_the_object(
    database: Database[Any], mock_db: Any, other_package: Any
) -> None:
    """What is PyMongo's, or leads to PyMongo's, is no stand-in; all else is one, by any name."""
    other = other_package.MongoClient()["test"]
    for pymongos in (database["c"], database, database.client):
        assert not is_mongomock(pymongos)
        assert not is_mongomock(Wrapper(pymongos))
    for mocks in (mock_db["c"], mock_db, mock_db.client, other["c"], other, other.client):
        assert is_mongomock(mocks)
        assert is_mongomock(Wrapper(mocks))


def _upper(rule: Any) -> None:
    rule.target = {"nick": {"$exists": True}}
    rule.update = {"$set": {"name": rule.doc["nick"].upper()}, "$unset": {"nick": True}}


def test_mongomock_under_another_name_is_used_as_mongomock_is(other_package: Any) -> None:
    """Loads, computed rules, bulk runs, reports and checks work on it."""
    rules = handler(migration01__enable=rule(*ADD_ENABLED), migration02__upper=_upper)
    post = model(rules, enabled=BooleanField(), name=StringField())
    mongoengine.connect(
        "test", mongo_client_class=other_package.MongoClient, uuidRepresentation="standard"
    )
    try:
        stored = mongoengine.get_db()["post"]
        stored.insert_many([{"_id": number, "nick": f"n{number}"} for number in range(20)])
        first = post.objects.order_by("key").limit(5)
        assert [each.name for each in first] == [f"N{number}" for number in range(5)]
        report = rules(post).migrate_pending()
        assert (report.state, report.complete) == ("finished", True)
        assert stored.count_documents({"enabled": True, "name": {"$exists": True}}) == 20
        assert check_documents(post).ok
        assert rules(post).get_deprecated()["active"] == []
    finally:
        mongoengine.disconnect()
