"""Sessions that the application binds (PyMongo 4.17 and later), or MongoEngine's: loads, runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any

import mongoengine
import pytest
from mongoengine import BooleanField, IntField, StringField, connection
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from lazymig import MigrationFailed, once, restore
from lazymig.errors import RunError
from tests.support.commands import CommandLog
from tests.support.handlers import ADD_ENABLED, copying, handler, model, rule
from tests.support.server import CLIENT_OPTIONS
from tests.support.sessions import needs_bound_sessions

RENAME = rule({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}})


def _computed(self: Any) -> None:
    self.target = {"mail": {"$exists": True}, "email": {"$exists": False}}
    self.update = {"$set": {"email": str(self.doc["mail"])}, "$unset": {"mail": ""}}


RENAMES = {"static": RENAME, "computed": _computed}

LOADS: dict[str, Callable[[Any], Any]] = {
    "get": lambda post: post.objects.get(key=2),
    "first": lambda post: post.objects(key=2).first(),
    "iteration": lambda post: list(post.objects.order_by("key")),
    "in_bulk": lambda post: post.objects.in_bulk([1, 2, 3]),
    "only": lambda post: post.objects.only("email", "enabled").get(key=2),
    "migrate": lambda post: post.migration_handler(post).migrate(2),
}


@contextmanager
def _bound_by_pymongo(**options: Any) -> Iterator[Any]:
    with mongoengine.get_connection().start_session(**options) as session, session.bind():
        yield session


@contextmanager
def _bound_by_mongoengine(**options: Any) -> Iterator[Any]:
    # As its run_in_transaction does it, which begins a transaction besides.
    with mongoengine.get_connection().start_session(**options) as session:
        connection._set_session(session)
        try:
            yield session
        finally:
            connection._clear_session()


@pytest.fixture(
    params=[
        pytest.param(
            _bound_by_pymongo,
            id="PyMongo",
            marks=needs_bound_sessions,
        ),
        pytest.param(
            _bound_by_mongoengine,
            id="MongoEngine",
            marks=pytest.mark.skipif(
                not hasattr(connection, "_set_session"),
                reason="this MongoEngine has no run_in_transaction",
            ),
        ),
    ]
)
def bound(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Each way to bind a session, as a context manager that takes the options of the session."""
    way: Callable[..., Any] = request.param
    return way


def _post(method: Any, on_error: str = "raise", **body: Any) -> Any:
    rules = handler(migration01__rename=method, on_error=on_error)
    return model(rules, email=StringField(), n=IntField(), enabled=BooleanField(), **body)


@pytest.fixture
def taken(mongoengine_db: Database[Any]) -> Database[Any]:
    """Three old posts: what the second one's address would be is taken already."""
    posts = mongoengine_db["post"]
    posts.create_index("email", unique=True, sparse=True)
    posts.insert_one({"_id": 9, "email": "b"})
    posts.insert_many([{"_id": n, "mail": letter} for n, letter in enumerate("abc", 1)])
    return mongoengine_db


@pytest.mark.parametrize("method", RENAMES.values(), ids=RENAMES)
@pytest.mark.parametrize("commits", [True, False], ids=["committed", "aborted"])
def test_a_load_is_part_of_the_transaction(
    mongoengine_db: Database[Any], method: Any, commits: bool, bound: Any
) -> None:
    """What a load writes, and reads again, is stored with the transaction or not at all."""
    mongoengine_db["post"].insert_many([{"_id": n, "mail": str(n)} for n in range(3)])
    old = list(mongoengine_db["post"].find())
    post = _post(method)
    with bound() as session:
        session.start_transaction()
        assert [each.email for each in post.objects.order_by("key")] == ["0", "1", "2"]
        assert post.objects(email="1").count() == 1
        # Another client may not be used where a session is bound.
        assert Context().run(lambda: list(mongoengine_db["post"].find())) == old
        if commits:
            session.commit_transaction()
        else:
            session.abort_transaction()
    new = [{"_id": n, "email": str(n)} for n in range(3)]
    assert list(mongoengine_db["post"].find()) == (new if commits else old)
    assert [each.email for each in post.objects.order_by("key")] == ["0", "1", "2"]


@pytest.mark.parametrize("method", RENAMES.values(), ids=RENAMES)
def test_a_load_sends_no_write_concern_in_a_transaction(
    database: Database[Any], server_uri: str, method: Any, bound: Any
) -> None:
    """A client whose writes wait for the majority loads old documents in a transaction, too."""
    database["post"].insert_one({"_id": 1, "mail": "a"})
    mongoengine.connect(database.name, host=server_uri, w="majority", **CLIENT_OPTIONS)
    try:
        post = _post(method)
        with bound() as session, session.start_transaction():
            assert post.objects.get(key=1).email == "a"
    finally:
        mongoengine.disconnect()
    assert database["post"].find_one() == {"_id": 1, "email": "a"}


@pytest.mark.parametrize("method", RENAMES.values(), ids=RENAMES)
@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_refused_document_ends_the_transaction_with_its_reason(
    taken: Database[Any], load: Any, method: Any, on_error: str, bound: Any
) -> None:
    """The error is the document's, with rule and `_id`, and nothing is tried again for minutes."""
    before = list(taken["post"].find())
    post = _post(method, on_error=on_error)
    calls = []

    def body(_session: Any) -> None:
        calls.append(1)
        load(post)

    with bound() as session, pytest.raises(MigrationFailed) as caught:
        session.with_transaction(body)
    assert calls == [1]
    assert "E11000" in str(caught.value)
    assert "aborted the transaction" in str(caught.value)
    assert (caught.value.rule, caught.value.document_id) == ("migration01__rename", 2)
    assert not hasattr(caught.value, "has_error_label")
    assert list(taken["post"].find()) == before


def test_a_block_with_a_refused_document_ends_with_its_reason(
    taken: Database[Any], bound: Any
) -> None:
    """Leaving the block of a transaction adds no error of its own."""
    post = _post(RENAME)
    refused = pytest.raises(MigrationFailed, match="E11000")
    with bound() as session, refused, session.start_transaction():
        post.objects.get(key=2)


def test_neighbours_are_loaded_outside_of_the_transaction_that_was_aborted(
    taken: Database[Any], bound: Any
) -> None:
    """The refused document alone is refused once the transaction is over."""
    post = _post(RENAME, on_error="skip")
    with bound() as session, pytest.raises(MigrationFailed), session.start_transaction():
        list(post.objects)
    assert {each.key: each.email for each in post.objects(key__lt=9)} == {1: "a", 3: "c"}


def test_a_rule_that_raises_leaves_the_transaction_alone(
    mongoengine_db: Database[Any], bound: Any
) -> None:
    """What MongoDB was not asked for stops no neighbour, and the rest is committed."""
    mongoengine_db["post"].insert_many([{"_id": n, "n": n} for n in range(3)])

    def method(self: Any) -> None:
        self.target = {"email": {"$exists": False}}
        self.update = {"$set": {"email": str(10 // self.doc["n"])}}

    post = _post(method, on_error="skip")
    with bound() as session, session.start_transaction():
        assert [each.email for each in post.objects.order_by("key")] == [None, "10", "5"]
    stored = {each["_id"]: each.get("email") for each in mongoengine_db["post"].find()}
    assert stored == {0: None, 1: "10", 2: "5"}


def test_what_a_rule_has_loaded_in_vain_ends_the_transaction_as_well(
    taken: Database[Any], bound: Any
) -> None:
    """A refusal that a rule meets at another document is told with its reason, too."""
    address = _post(RENAME, name_of_class="Address")
    taken["other"].insert_one({"_id": 1, "n": 2})

    def method(self: Any) -> None:
        self.target = {"email": {"$exists": False}}
        self.writes = ("email",)
        self.update = {"$set": {"email": address.objects.get(key=self.doc["n"]).email}}

    post = _post(method, name_of_class="Other", meta={"collection": "other"})
    refused = pytest.raises(MigrationFailed, match="aborted the transaction")
    with bound() as session, refused as caught:
        session.with_transaction(lambda _session: list(post.objects))
    assert (caught.value.model, caught.value.document_id) == ("Other", 1)
    assert "E11000" in str(caught.value)


def test_a_conflict_with_another_transaction_is_tried_again(
    mongoengine_db: Database[Any], client: MongoClient[Any], bound: Any
) -> None:
    """The label that lets `with_transaction` try again stays on what may succeed the next time."""
    mongoengine_db["post"].insert_one({"_id": 1, "mail": "a"})
    post = _post(RENAME)
    seen = []
    with client.start_session() as other, bound() as session:
        other.start_transaction()
        posts = client[mongoengine_db.name]["post"]
        posts.update_one({"_id": 1}, {"$set": {"n": 1}}, session=other)

        def body(_session: Any) -> Any:
            try:
                return post.objects.get(key=1).email
            except OperationFailure as exc:
                seen.append(exc.has_error_label("TransientTransactionError"))
                if other.in_transaction:
                    other.abort_transaction()
                raise

        assert session.with_transaction(body) == "a"
    assert seen == [True]
    assert mongoengine_db["post"].find_one() == {"_id": 1, "email": "a"}


def test_an_operation_that_needs_a_refused_document_says_why(
    taken: Database[Any], bound: Any
) -> None:
    """What is brought up to date before an update or a query is refused likewise."""
    post = _post(_computed)
    refused = pytest.raises(MigrationFailed, match="aborted the transaction")
    with bound() as session, refused, session.start_transaction():
        post.objects(email__in=["a", "b"]).update(set__n=1)
    assert taken["post"].count_documents({"n": 1}) == 0


def test_a_session_without_a_transaction_changes_nothing(taken: Database[Any], bound: Any) -> None:
    """In a session that is merely bound, loads write at once, and a refusal is one document's."""
    post = _post(RENAME, on_error="skip")
    with bound():
        assert {each.key: each.email for each in post.objects(key__lt=9)} == {1: "a", 3: "c"}
        assert post.migration_handler(post).migrate_pending(max_errors=5).state == "finished"
    assert taken["post"].count_documents({"mail": {"$exists": True}}) == 1


def test_an_effect_waits_for_the_end_of_the_transaction(
    mongoengine_db: Database[Any], bound: Any
) -> None:
    """A once rule does not run in a transaction, which would not undo its effect; neighbours do."""
    mongoengine_db["post"].insert_many([{"_id": 1}, {"_id": 2, "email": "b", "n": 1}])
    effects = []

    @once
    def mail(self: Any) -> None:
        self.target = {"email": {"$exists": False}}
        effects.append(self.doc["_id"])
        self.update = {"$set": {"email": "sent"}}

    post = _post(mail)
    with bound() as session, session.start_transaction():
        assert post.objects.get(key=2).email == "b"
        with pytest.raises(MigrationFailed, match="before the transaction begins") as caught:
            post.objects.get(key=1)
        assert caught.value.rule == "migration01__rename"
    assert effects == []
    assert mongoengine_db["post"].find_one({"_id": 1}) == {"_id": 1}
    assert post.objects.get(key=1).email == "sent"
    assert effects == [1]


@pytest.mark.parametrize("method", [rule(*ADD_ENABLED), copying("n", "email")])
def test_a_snapshot_session_says_what_to_do(
    mongoengine_db: Database[Any], method: Any, bound: Any
) -> None:
    """Old documents cannot be written there; those that are up to date, and `as_stored`, work."""
    done = {"_id": 1, "enabled": True, "email": "x"}
    mongoengine_db["post"].insert_many([done, {"_id": 2, "n": 5}])
    post = _post(method)
    with bound(snapshot=True):
        assert post.objects.get(key=1).email == "x"
        assert post.objects.as_stored().get(key=2).email is None
        for load in ("get", "only", "iteration"):
            with pytest.raises(MigrationFailed, match="as_stored") as caught:
                LOADS[load](post)
            assert caught.value.document_id == 2
    assert mongoengine_db["post"].find_one({"_id": 2}) == {"_id": 2, "n": 5}


@pytest.mark.parametrize(
    "ask",
    [
        lambda post: post.objects(email="2").count(),
        lambda post: [each.key for each in post.objects(email="2").only("key")],
        lambda post: post.objects.distinct("email"),
        lambda post: list(post.objects.aggregate([{"$group": {"_id": "$email"}}])),
    ],
)
def test_a_snapshot_session_gives_no_wrong_answer(
    mongoengine_db: Database[Any], ask: Callable[[Any], Any], bound: Any
) -> None:
    """What has to be brought up to date for an answer is not taken for refused there."""
    mongoengine_db["post"].insert_many([{"_id": n, "mail": str(n)} for n in range(3)])
    post = _post(_computed)
    with bound(snapshot=True), pytest.raises(MigrationFailed, match="at a snapshot"):
        ask(post)
    assert ask(post)


def test_a_once_rule_in_a_transaction_gives_no_wrong_answer(
    mongoengine_db: Database[Any], bound: Any
) -> None:
    """Its documents have not been refused: outside of the transaction they count as new ones."""
    mongoengine_db["post"].insert_many([{"_id": n, "mail": str(n)} for n in range(3)])

    # A mark on the method that tests share would be seen by those that come after.
    @once
    def sent(self: Any) -> None:
        _computed(self)

    post = _post(sent)
    with (
        bound() as session,
        session.start_transaction(),
        pytest.raises(MigrationFailed, match="before the transaction begins"),
    ):
        post.objects(email="2").count()
    assert post.objects(email="2").count() == 1


def test_a_snapshot_session_skips_where_that_is_wished(
    mongoengine_db: Database[Any], bound: Any
) -> None:
    """With `on_error = "skip"` an old document is loaded as it is stored."""
    mongoengine_db["post"].insert_one({"_id": 2})
    post = _post(rule(*ADD_ENABLED), on_error="skip")
    with bound(snapshot=True):
        assert [each.enabled for each in post.objects] == [None]


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "migrate_all": lambda migration, _: migration.migrate_all(),
    "migrate_pending": lambda migration, _: migration.migrate_pending(),
    "retry_quarantined": lambda migration, _: migration.retry_quarantined("0" * 24),
    "preview": lambda migration, _: migration.preview(),
    "restore": lambda _, path: restore(path, mongoengine.get_db()),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("options", [{}, {"snapshot": True}], ids=["transaction", "snapshot"])
def test_a_run_does_not_begin_in_a_transaction(
    monitored_db: Database[Any],
    command_log: CommandLog,
    tmp_path: Any,
    call: str,
    options: dict[str, Any],
    bound: Any,
) -> None:
    """What commits piece by piece is refused there, before anything is sent."""
    monitored_db["post"].insert_one({"_id": 1})
    rules = handler(
        migration01__enable=rule(*ADD_ENABLED), allmigration01__count=rule({}, {"$set": {"n": 1}})
    )
    post = model(rules, enabled=BooleanField(), n=IntField())
    folder = tmp_path / monitored_db.name
    folder.mkdir()
    (folder / "post.lazymig").touch()
    with bound(**options) as session:
        if not options:
            session.start_transaction()
        command_log.clear()
        with pytest.raises(RunError, match=f"{call} was called .*bound session"):
            CALLS[call](rules(post), tmp_path)
        assert command_log.names == []
    assert monitored_db["post"].find_one() == {"_id": 1}


def test_the_log_names_a_refused_document_once(
    taken: Database[Any], caplog: pytest.LogCaptureFixture, bound: Any
) -> None:
    """One refusal is one line of the log, also where a transaction ends with it."""
    post = _post(RENAME)
    caplog.set_level(logging.WARNING, logger="lazymig")
    with bound() as session, pytest.raises(MigrationFailed), session.start_transaction():
        list(post.objects)
    assert [record.message.count("_id: 2") for record in caplog.records] == [1]
