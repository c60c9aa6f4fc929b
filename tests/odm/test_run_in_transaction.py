"""MongoEngine's `run_in_transaction`: what lazymig reads and writes is part of it, or undone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from typing import Any

import mongoengine
import pytest
from mongoengine import (
    BooleanField,
    CachedReferenceField,
    Document,
    DynamicField,
    GenericReferenceField,
    IntField,
    LazyReferenceField,
    ListField,
    ReferenceField,
    StringField,
    context_managers,
)
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError

from lazymig import MigrationFailed, without_writing
from tests.support.commands import CommandLog
from tests.support.handlers import handler, model, rule
from tests.support.server import CLIENT_OPTIONS

pytestmark = pytest.mark.skipif(
    not hasattr(context_managers, "run_in_transaction"),
    reason="this MongoEngine has no run_in_transaction",
)

Raw = dict[str, Any]

RENAME = rule({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}})

# MongoDB knows none of them in a transaction.
OUTSIDE = frozenset({"listCollections", "listIndexes"})
ENDS = frozenset({"abortTransaction", "commitTransaction"})


def _translated(self: Any) -> None:
    self.target = {"mail": {"$exists": True}, "email": {"$exists": False}}
    self.update = {"$set": {"email": self.doc["mail"]}, "$unset": {"mail": ""}}


def _in_python(self: Any) -> None:
    self.target = {"mail": {"$exists": True}, "email": {"$exists": False}}
    self.update = {"$set": {"email": str(self.doc["mail"])}, "$unset": {"mail": ""}}


RENAMES = {"static": RENAME, "translated": _translated, "in Python": _in_python}


def _transaction(**options: Any) -> Any:
    return context_managers.run_in_transaction(**options)


def _post(method: Any = RENAME, **body: Any) -> Any:
    rules = handler(migration01__rename=method, on_error=body.pop("on_error", "raise"))
    return model(rules, email=StringField(), n=IntField(), enabled=BooleanField(), **body)


def _fill(database: Database[Raw]) -> list[Raw]:
    database["post"].insert_many([{"_id": n, "mail": str(n), "n": n} for n in (1, 2, 3)])
    return list(database["post"].find())


NEW = [{"_id": n, "n": n, "email": str(n)} for n in (1, 2, 3)]


def _stored(database: Database[Raw]) -> list[Raw]:
    return [dict(sorted(raw.items())) for raw in database["post"].find().sort("_id", 1)]


def _sorted(documents: list[Raw]) -> list[Raw]:
    return [dict(sorted(raw.items())) for raw in documents]


class _RolledBackError(Exception):
    """Ends a transaction that is to leave nothing."""


@contextmanager
def _rolled_back() -> Iterator[None]:
    with suppress(_RolledBackError), _transaction():
        yield
        raise _RolledBackError


@pytest.mark.parametrize("method", RENAMES.values(), ids=RENAMES)
def test_what_a_load_writes_is_rolled_back_with_the_transaction(
    mongoengine_db: Database[Raw], method: Any
) -> None:
    """A load inside shows documents of today's shape; what it has written goes with the rest."""
    old = _fill(mongoengine_db)
    post = _post(method)
    with _rolled_back():
        assert [each.email for each in post.objects.order_by("key")] == ["1", "2", "3"]
        assert post.objects(email="2").update(set__enabled=True) == 1
        assert Context().run(lambda: list(mongoengine_db["post"].find())) == old
    assert list(mongoengine_db["post"].find()) == old
    assert [each.email for each in post.objects.order_by("key")] == ["1", "2", "3"]


@pytest.mark.parametrize("method", RENAMES.values(), ids=RENAMES)
def test_after_the_commit_all_is_there(mongoengine_db: Database[Raw], method: Any) -> None:
    """What loads, and the application, have written is stored together."""
    old = _fill(mongoengine_db)
    post = _post(method)
    with _transaction():
        document = post.objects.get(key=2)
        document.enabled = True
        document.save()
        assert len(post.objects(email__in=["1", "3"])) == 2
        assert list(mongoengine_db["post"].find()) == old
    expected = [{**raw, "enabled": True} if raw["_id"] == 2 else raw for raw in NEW]
    assert _stored(mongoengine_db) == _sorted(expected)


@pytest.mark.parametrize("method", RENAMES.values(), ids=RENAMES)
def test_a_load_sees_what_the_transaction_has_written(
    mongoengine_db: Database[Raw], method: Any
) -> None:
    """An old document that exists in the transaction alone is found, and brought up to date."""
    mongoengine_db.create_collection("post")
    post = _post(method)
    with _rolled_back():
        # What a version of the application without the rule does.
        session = mongoengine.connection._get_session()
        post._get_collection().insert_one({"_id": 1, "mail": "1"}, session=session)
        assert post.objects.get(key=1).email == "1"
        assert post.objects(email="1").count() == 1
        assert post.objects.distinct("email") == ["1"]
        assert post.migration_handler(post).migrate(1) == {"_id": 1, "email": "1"}
    assert _stored(mongoengine_db) == []


def test_what_was_loaded_is_not_taken_for_up_to_date_afterwards(
    mongoengine_db: Database[Raw],
) -> None:
    """A document that is saved after its transaction was undone meets an old one, and renews it."""
    _fill(mongoengine_db)
    post = _post()
    with _rolled_back():
        document = post.objects.get(key=2)
    document.email = "b"
    document.save()
    assert mongoengine_db["post"].find_one({"_id": 2}) == {"_id": 2, "n": 2, "email": "b"}


def test_an_inner_transaction_has_a_fate_of_its_own(mongoengine_db: Database[Raw]) -> None:
    """Each load is part of the innermost transaction; after that, of the outer one again."""
    old = _fill(mongoengine_db)
    post = _post()
    with _transaction():
        assert post.objects.get(key=1).email == "1"
        with _rolled_back():
            assert post.objects.get(key=2).email == "2"
        with _transaction():
            assert post.objects.get(key=3).email == "3"
        assert mongoengine_db["post"].find_one({"_id": 1}) == old[0]
        assert mongoengine_db["post"].find_one({"_id": 2}) == old[1]
        assert mongoengine_db["post"].find_one({"_id": 3}) == {"_id": 3, "n": 3, "email": "3"}
    assert _stored(mongoengine_db) == _sorted([NEW[0], old[1], NEW[2]])


@pytest.mark.parametrize("method", RENAMES.values(), ids=RENAMES)
def test_a_conflict_can_be_tried_again(
    mongoengine_db: Database[Raw], client: MongoClient[Any], method: Any
) -> None:
    """A load that meets another transaction's document raises with the label for a second try."""
    _fill(mongoengine_db)
    post = _post(method)
    seen = []
    with client.start_session() as other:
        other.start_transaction()
        posts = client[mongoengine_db.name]["post"]
        posts.update_one({"_id": 2}, {"$set": {"n": 9}}, session=other)
        for _try in range(2):
            try:
                with _transaction():
                    found = [(each.email, each.n) for each in post.objects.order_by("key")]
            except PyMongoError as exc:
                seen.append(exc.has_error_label("TransientTransactionError"))
                other.commit_transaction()
    assert seen == [True]
    assert found == [("1", 1), ("2", 9), ("3", 3)]
    assert _stored(mongoengine_db) == _sorted([NEW[0], {**NEW[1], "n": 9}, NEW[2]])


def test_a_refused_document_ends_the_transaction_with_its_reason(
    mongoengine_db: Database[Raw],
) -> None:
    """The error is the document's, with rule and `_id`, and nothing of the transaction stays."""
    _fill(mongoengine_db)
    mongoengine_db["post"].create_index("email", unique=True, sparse=True)
    mongoengine_db["post"].insert_one({"_id": 9, "email": "2"})
    before = list(mongoengine_db["post"].find())
    post = _post(on_error="skip")
    refused = pytest.raises(MigrationFailed, match="aborted the transaction")
    with refused as caught, _transaction():
        list(post.objects)
    assert (caught.value.rule, caught.value.document_id) == ("migration01__rename", 2)
    assert list(mongoengine_db["post"].find()) == before


def test_another_thread_is_not_in_the_transaction(mongoengine_db: Database[Raw]) -> None:
    """A session belongs to its thread: what another one loads is stored at once."""
    _fill(mongoengine_db)
    post = _post()
    found = []
    with _rolled_back():
        assert post.objects.get(key=1).email == "1"
        thread = threading.Thread(target=lambda: found.append(post.objects.get(key=2).email))
        thread.start()
        thread.join()
    assert found == ["2"]
    assert mongoengine_db["post"].find_one({"_id": 1}) == {"_id": 1, "mail": "1", "n": 1}
    assert mongoengine_db["post"].find_one({"_id": 2}) == {"_id": 2, "n": 2, "email": "2"}


def test_a_transaction_of_another_client_concerns_nothing_of_ours(
    mongoengine_db: Database[Raw], server_uri: str
) -> None:
    """MongoEngine refuses to read in it, and lazymig has written nothing there by then."""
    old = _fill(mongoengine_db)
    mongoengine.connect(
        "beside", alias="beside", host=server_uri, appname="beside", **CLIENT_OPTIONS
    )
    try:
        with pytest.raises(PyMongoError, match="session"), _transaction(alias="beside"):
            list(_post().objects)
    finally:
        mongoengine.disconnect("beside")
    assert list(mongoengine_db["post"].find()) == old


class Models:
    """Old posts, and documents that refer to them."""

    def __init__(self) -> None:
        self.post = post = _post(_in_python)

        class Reader(Document):
            key = IntField(primary_key=True)
            post_ref = ReferenceField(post)
            lazy = LazyReferenceField(post)
            generic = GenericReferenceField(choices=[post])
            cached = CachedReferenceField(post)
            posts = ListField(ReferenceField(post))
            meta = {"collection": "reader"}

        class Anything(Document):
            key = IntField(primary_key=True)
            any = DynamicField()
            meta = {"collection": "anything"}

        self.reader, self.anything = Reader, Anything

    def fill(self, database: Database[Raw]) -> None:
        """Store everything, and have MongoEngine know the collections."""
        _fill(database)
        reference = {"_cls": "Post", "_ref": mongoengine.base.fields.DBRef("post", 2)}
        raw = {"_id": 1, "post_ref": 2, "lazy": 2, "generic": reference, "posts": [1, 2]}
        database["reader"].insert_one({**raw, "cached": {"_id": 2}})
        database["anything"].insert_one({"_id": 1, "any": reference})
        for one in (self.post, self.reader, self.anything):
            one._get_collection()

    @property
    def one(self) -> Any:
        """The one document that refers to others."""
        return self.reader.objects.get(key=1)


def _saved(post: Any) -> Any:
    document = post.objects.only("n").get(key=2)
    document.n = 5
    return document.save()


DOORS: dict[str, Callable[[Models], Any]] = {
    "get": lambda m: m.post.objects.get(key=2),
    "first": lambda m: m.post.objects(key=2).first(),
    "index": lambda m: m.post.objects.order_by("key")[1],
    "iteration": lambda m: list(m.post.objects),
    "order": lambda m: list(m.post.objects.order_by("-email")),
    "filter": lambda m: list(m.post.objects(email__in=["1", "2"])),
    "where": lambda m: list(m.post.objects.where("this.email == '2'")),
    "no_cache": lambda m: list(m.post.objects.no_cache()),
    "in_bulk": lambda m: m.post.objects.in_bulk([1, 2]),
    "only": lambda m: list(m.post.objects.only("email")),
    "scalar": lambda m: list(m.post.objects.scalar("email")),
    "count": lambda m: m.post.objects(email="2").count(),
    "count all": lambda m: m.post.objects.count(),
    "distinct": lambda m: m.post.objects.distinct("email"),
    "sum": lambda m: m.post.objects(email="2").sum("n"),
    "average": lambda m: m.post.objects(email="2").average("n"),
    "aggregate": lambda m: list(
        m.post.objects.aggregate([{"$group": {"_id": "$email"}}, {"$sort": {"_id": 1}}])
    ),
    "lookup": lambda m: list(
        m.reader.objects.aggregate(
            [
                {
                    "$lookup": {
                        "from": "post",
                        "localField": "post_ref",
                        "foreignField": "_id",
                        "as": "found",
                    }
                },
                {"$match": {"found.email": "2"}},
            ]
        )
    ),
    "update": lambda m: m.post.objects(email="2").update(set__n=7),
    "update_one": lambda m: m.post.objects(email="2").update_one(set__email="x"),
    "upsert": lambda m: m.post.objects(email="2").update_one(upsert=True, set__n=7),
    "upsert_one": lambda m: m.post.objects(key=2).upsert_one(set__email="x"),
    "modify": lambda m: m.post.objects(email="2").modify(set__email="x", new=True),
    "modify in order": lambda m: m.post.objects.order_by("email").modify(set__n=7),
    "modify with remove": lambda m: m.post.objects(email="2").modify(remove=True),
    "delete": lambda m: m.post.objects(email="2").delete(),
    "delete of a slice": lambda m: m.post.objects.order_by("key")[:1].delete(),
    "save": lambda m: _saved(m.post),
    "save of a made one": lambda m: m.post(key=2, email="x").save(),
    "reload": lambda m: m.post(key=2).reload(),
    "reference": lambda m: m.one.post_ref.email,
    "lazy reference": lambda m: m.one.lazy.fetch().email,
    "generic reference": lambda m: m.one.generic.email,
    "cached reference": lambda m: m.one.cached.email,
    "list of references": lambda m: [each.email for each in m.one.posts],
    "select_related": lambda m: [each.email for each in m.one.select_related().posts],
    "dynamic field": lambda m: m.anything.objects.get(key=1).any.email,
    "migrate": lambda m: m.post.migration_handler(m.post).migrate(2),
    "migrate of an instance": lambda m: m.post.migration_handler(m.post).migrate(m.post(key=2)),
}


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_each_command_is_part_of_the_transaction(
    monitored_db: Database[Raw], command_log: CommandLog, door: Callable[[Models], Any]
) -> None:
    """No read and no write of an operation on old documents is sent beside the transaction."""
    models = Models()
    models.fill(monitored_db)
    before = {name: list(monitored_db[name].find()) for name in ("post", "reader", "anything")}
    with _rolled_back():
        command_log.clear()
        door(models)
        sent = list(command_log.commands)
    assert sent
    beside = [
        name
        for name, command in sent
        if command.get("autocommit") is not False and name not in OUTSIDE
    ]
    assert beside == []
    assert {name: list(monitored_db[name].find()) for name in before} == before


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_an_answer_in_a_transaction_is_that_outside(
    mongoengine_db: Database[Raw], door: Callable[[Models], Any]
) -> None:
    """An operation gives in a transaction, and leaves with it, what it does without one."""
    models = Models()
    answers = []
    for around in (_transaction, None):
        for name in ("post", "reader", "anything"):
            mongoengine_db[name].delete_many({})
        models.fill(mongoengine_db)
        if around is None:
            answer = door(models)
        else:
            with around():
                answer = door(models)
        models.post.migration_handler(models.post).migrate_pending()
        answers.append((_shown(answer), _stored(mongoengine_db)))
    assert answers[0] == answers[1]


def test_a_document_that_was_rescued_unwritten_is_saved_in_the_transaction(
    monitored_db: Database[Raw], command_log: CommandLog
) -> None:
    """What its rule would have written is looked for, and written, in the transaction, too."""
    monitored_db["post"].insert_one({"_id": 1, "mail": "1"})
    before = list(monitored_db["post"].find())

    def method(self: Any) -> None:
        if "mail" in self.doc:
            self.target = {"mail": {"$exists": True}}
            self.update = {"$set": {"email": str(self.doc["mail"])}, "$unset": {"mail": ""}}

    post = _post(method)
    post._get_collection()
    with _rolled_back():
        with without_writing(post):
            document = post.objects.get(key=1)
        document.n = 5
        command_log.clear()
        document.save()
        assert all(command["autocommit"] is False for _, command in command_log.commands)
        assert {"find", "update"} <= set(command_log.names)
        assert post.objects.as_stored().get(key=1).email == "1"
    assert list(monitored_db["post"].find()) == before


def _shown(answer: Any) -> Any:
    if isinstance(answer, Document):
        return answer.to_mongo().to_dict()
    if isinstance(answer, dict):
        return {key: _shown(one) for key, one in answer.items()}
    return [_shown(one) for one in answer] if isinstance(answer, (list, tuple)) else answer
