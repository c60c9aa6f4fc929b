"""The store: one answer for many documents, refused updates, a session in a load."""

from __future__ import annotations

from typing import Any

import mongoengine
import pytest
from mongoengine import StringField
from pymongo.database import Database

from lazymig.engines.loads.lazy import Failure, refresh, rescue
from lazymig.engines.store import Store, write_each
from lazymig.odm.plans import family_of
from tests.support.commands import CommandLog
from tests.support.handlers import handler, model, rule

RENAME = rule({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}})


def _computed(self: Any) -> None:
    self.target = {"mail": {"$exists": True}, "email": {"$exists": False}}
    self.update = {"$set": {"email": str(self.doc["mail"])}, "$unset": {"mail": ""}}


def test_an_answer_comes_at_once(database: Database[Any], command_log: CommandLog) -> None:
    """A cursor over a known number of documents costs one command, at any number."""
    posts = command_log.client[database.name]["c"]
    database["c"].insert_many([{"_id": n} for n in range(500)])
    assert len(list(Store(posts).find_ids({}, 500))) == 500
    assert command_log.names == ["find"]


@pytest.mark.parametrize("backend", ["database", "mock_db"])
def test_a_refused_update_stops_no_other(request: Any, backend: str) -> None:
    """Independent updates are all tried; counts and refusals are told apart by position."""
    collection = request.getfixturevalue(backend)["c"]
    collection.create_index("a", unique=True)
    collection.insert_many([{"_id": n, "a": n} for n in range(4)])
    queries = [{"_id": 0}, {"_id": 1, "a": 9}, {"_id": 2}, {"_id": 3}]
    written = write_each(Store(collection), queries, {"$set": {"a": 3}}, None)
    assert (written.matched, written.modified) == (1, 0)
    assert sorted(written.refused) == [0, 2]
    assert [each["a"] for each in collection.find().sort("_id")] == [0, 1, 2, 3]


@pytest.mark.parametrize("load", [refresh, rescue])
@pytest.mark.parametrize("method", [RENAME, _computed], ids=["static", "computed"])
@pytest.mark.parametrize("commits", [True, False], ids=["committed", "aborted"])
def test_a_load_joins_the_session_of_its_store(
    mongoengine_db: Database[Any], load: Any, method: Any, commits: bool
) -> None:
    """What a load writes in the transaction of a session is stored with it or not at all."""
    family = family_of(model(handler(migration01__rename=method), email=StringField()))
    posts = mongoengine.get_db()["post"]
    posts.insert_many([{"_id": n, "mail": str(n)} for n in range(3)])
    with mongoengine.get_connection().start_session() as session:
        session.start_transaction()
        documents = list(posts.find(session=session))
        fresh = load(Store(posts, session=session), documents, family)
        assert fresh == [{"_id": n, "email": str(n)} for n in range(3)]
        assert posts.count_documents({"mail": {"$exists": True}}) == 3
        (session.commit_transaction if commits else session.abort_transaction)()
    assert posts.count_documents({"mail": {"$exists": True}}) == (0 if commits else 3)


def test_a_load_in_a_session_at_a_snapshot_writes_nothing(mongoengine_db: Database[Any]) -> None:
    """An old document is a failure where the session of the store cannot write."""
    family = family_of(model(handler(migration01__rename=RENAME), email=StringField()))
    posts = mongoengine.get_db()["post"]
    posts.insert_one({"_id": 1, "mail": "a"})
    with mongoengine.get_connection().start_session(snapshot=True) as session:
        documents = list(posts.find(session=session))
        (failure,) = refresh(Store(posts, session=session), documents, family)
    assert isinstance(failure, Failure)
    assert posts.find_one() == {"_id": 1, "mail": "a"}
