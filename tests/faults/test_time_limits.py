"""Limits of the client and of `pymongo.timeout`: no load outlasts them, no run is cut by them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mongoengine
import pymongo
import pytest
from mongoengine import BooleanField, IntField
from pymongo import MongoClient
from pymongo.database import Database

from lazymig import MigrationTimeout, once, restore
from lazymig.engines.deadline import Deadline
from lazymig.engines.loads.attempt import Attempt
from lazymig.engines.loads.rounds import Rounds
from lazymig.errors import MigrationInProgress, RunError
from tests.support.failing import fail, failing_db, failing_server
from tests.support.handlers import ADD_ENABLED, copying, handler, model, rule
from tests.support.server import CLIENT_OPTIONS
from tests.support.sessions import held

__all__ = ["failing_db", "failing_server"]

HELD = 5

# So long that a test which waits for it never ends, rather than pass by chance.
_LONG = 3600


@contextmanager
def _connected(server_uri: str, database: Database[Any], **options: Any) -> Iterator[None]:
    mongoengine.connect(database.name, host=server_uri, **CLIENT_OPTIONS, **options)
    yield
    mongoengine.disconnect()


def _post(method: Any = None, **attributes: Any) -> Any:
    rules = handler(
        migration01__enable=method or rule(*ADD_ENABLED), **{"lazy_timeout": _LONG, **attributes}
    )
    return model(rules, enabled=BooleanField(), n=IntField(), copied=IntField())


RULES = {"static": None, "dynamic": copying("n", "copied")}

LOADS = {
    "get": lambda post: post.objects.get(key=HELD),
    "iteration": lambda post: list(post.objects),
    "only": lambda post: post.objects.only("enabled", "copied").get(key=HELD),
    "migrate": lambda post: post.migration_handler(post).migrate(HELD),
    "order_by": lambda post: list(post.objects.order_by("enabled", "copied")),
    "update": lambda post: post.objects.update(set__enabled=False, set__copied=2),
}

# The options of the client, and what the error says of them.
CLIENTS = {
    "timeoutMS": ({"timeoutMS": 300}, "the client's timeoutMS = 300 allows"),
    "socketTimeoutMS": ({"socketTimeoutMS": 300}, "the client's socketTimeoutMS = 300 allows"),
}


@pytest.mark.parametrize("method", RULES.values(), ids=RULES)
@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
@pytest.mark.parametrize("lazy_timeout", [_LONG, None])
def test_no_load_outlasts_the_limit_of_the_client(
    server_uri: str,
    database: Database[Any],
    client: MongoClient[Any],
    load: Any,
    method: Any,
    lazy_timeout: Any,
) -> None:
    """`timeoutMS` ends a load's write, however long `lazy_timeout` is, and the error says so."""
    database["post"].insert_many([{"_id": n, "n": 1} for n in (HELD, HELD + 1)])
    options, told = CLIENTS["timeoutMS"]
    with _connected(server_uri, database, **options):
        post = _post(method, lazy_timeout=lazy_timeout)
        with held(client, database, HELD), pytest.raises(MigrationTimeout) as caught:
            load(post)
    assert told in str(caught.value)
    assert "lazy_timeout" not in str(caught.value)


def test_the_limit_of_the_sockets_counts_as_well(
    server_uri: str, database: Database[Any], client: MongoClient[Any]
) -> None:
    """A client that limits its sockets alone is obeyed likewise."""
    database["post"].insert_one({"_id": HELD})
    options, told = CLIENTS["socketTimeoutMS"]
    with _connected(server_uri, database, **options):
        post = _post()
        with held(client, database, HELD), pytest.raises(MigrationTimeout) as caught:
            post.objects.get(key=HELD)
    assert told in str(caught.value)


@pytest.mark.parametrize("method", RULES.values(), ids=RULES)
@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
@pytest.mark.parametrize("lazy_timeout", [_LONG, None])
def test_no_load_outlasts_a_timeout_around_it(
    mongoengine_db: Database[Any],
    client: MongoClient[Any],
    load: Any,
    method: Any,
    lazy_timeout: Any,
) -> None:
    """A `pymongo.timeout` around a load is never longer because of it, and is named."""
    mongoengine_db["post"].insert_many([{"_id": n, "n": 1} for n in (HELD, HELD + 1)])
    post = _post(method, lazy_timeout=lazy_timeout)
    late = pytest.raises(MigrationTimeout)
    with held(client, mongoengine_db, HELD), late as caught, pymongo.timeout(1.5):
        load(post)
    assert "pymongo.timeout around it" in str(caught.value)


WRITES = ["update", "findAndModify"]


def _unreadable_from(method: Any, database: Database[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the time of all reads be over as soon as a method of a load is called."""
    owner, name = method
    whole = getattr(owner, name)

    def late(self: Any, *args: Any) -> Any:
        fail(database, "alwaysOn", failCommands=["find", *WRITES], errorCode=50)
        return whole(self, *args)

    monkeypatch.setattr(owner, name, late)


@pytest.mark.parametrize("method", RULES.values(), ids=RULES)
@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
@pytest.mark.parametrize("late", [(Attempt, "find_left"), (Rounds, "_read_again")])
def test_who_has_waited_hears_of_that_where_reading_comes_too_late(
    failing_db: Database[Any], monkeypatch: pytest.MonkeyPatch, load: Any, method: Any, late: Any
) -> None:
    """If no time is left to read what was written either, the error is the one of the wait."""
    failing_db["post"].insert_many([{"_id": n, "n": 1} for n in (HELD, HELD + 1)])
    fail(failing_db, "alwaysOn", failCommands=WRITES, errorCode=50)
    _unreadable_from(late, failing_db, monkeypatch)
    with pytest.raises(MigrationTimeout):
        load(_post(method))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_neighbours_that_cannot_be_read_are_not_made_up(
    failing_db: Database[Any], monkeypatch: pytest.MonkeyPatch, on_error: str
) -> None:
    """Where one has failed and the others cannot be read, the load fails, and says why."""
    failing_db["post"].insert_many([{"_id": n, "n": 1} for n in (HELD, HELD + 1)])
    # All of them together, and the first by itself.
    fail(failing_db, {"times": 2}, failCommands=WRITES, errorCode=50)
    _unreadable_from((Rounds, "_read_again"), failing_db, monkeypatch)
    with pytest.raises(MigrationTimeout) as caught:
        list(_post(on_error=on_error).objects)
    assert caught.value.document_id == HELD
    assert [raw.get("enabled") for raw in failing_db["post"].find()] == [None, True]


def test_a_skipped_document_need_not_be_read_again(
    failing_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `on_error = "skip"` a document that was waited for in vain is loaded as it was."""
    failing_db["post"].insert_one({"_id": HELD, "n": 1})
    fail(failing_db, "alwaysOn", failCommands=WRITES, errorCode=50)
    _unreadable_from((Attempt, "find_left"), failing_db, monkeypatch)
    loaded = _post(on_error="skip").objects.get(key=HELD)
    assert (loaded.n, loaded.enabled) == (1, None)


def test_neighbours_are_loaded_within_a_timeout_around_them(
    mongoengine_db: Database[Any], client: MongoClient[Any]
) -> None:
    """Of the time of a `pymongo.timeout` enough is left for those that nobody holds."""
    mongoengine_db["post"].insert_many([{"_id": n} for n in range(10)])
    post = _post(on_error="skip")
    with held(client, mongoengine_db, HELD), pymongo.timeout(5):
        enabled = {each.key: each.enabled for each in post.objects}
    assert enabled == {n: None if n == HELD else True for n in range(10)}


def test_the_shortest_limit_is_the_one_that_is_named(
    mongoengine_db: Database[Any], client: MongoClient[Any]
) -> None:
    """Where `lazy_timeout` ends first, it is still what the error names."""
    mongoengine_db["post"].insert_one({"_id": HELD})
    post = _post(lazy_timeout=0.3)
    late = pytest.raises(MigrationTimeout, match=r"lazy_timeout = 0\.3 s allows")
    with held(client, mongoengine_db, HELD), late, pymongo.timeout(_LONG):
        post.objects.get(key=HELD)


def test_a_load_within_a_rule_names_the_limit_of_the_outer_load(
    mongoengine_db: Database[Any], client: MongoClient[Any]
) -> None:
    """What a rule loads is limited by the load that it serves, not by a `pymongo.timeout`."""
    mongoengine_db["other"].insert_one({"_id": HELD})
    mongoengine_db["post"].insert_one({"_id": 1, "n": HELD})
    other = model(
        handler(migration01__enable=rule(*ADD_ENABLED), lazy_timeout=_LONG),
        enabled=BooleanField(),
        name_of_class="Other",
        meta={"collection": "other"},
    )

    def method(self: Any) -> None:
        self.target = {"copied": {"$exists": False}}
        self.update = {"$set": {"copied": int(other.objects.get(key=self.doc["n"]).enabled)}}

    post = _post(method, lazy_timeout=1)
    posts = mongoengine_db.client[mongoengine_db.name]["other"]
    with client.start_session() as session:
        session.start_transaction()
        posts.update_one({"_id": HELD}, {"$set": {"held": 1}}, session=session)
        with pytest.raises(Exception, match="lazy_timeout = 1 s") as caught:
            post.objects.get(key=1)
        session.abort_transaction()
    assert "pymongo.timeout" not in str(caught.value)


def test_who_waits_for_an_effect_waits_no_longer_than_the_client(
    server_uri: str, database: Database[Any]
) -> None:
    """`timeoutMS` also ends the wait for a document that somebody else holds for a once rule."""
    database["post"].insert_one({"_id": 1})
    begun, may_end = threading.Event(), threading.Event()

    @once(wait=_LONG)
    def method(self: Any) -> None:
        self.target = {"enabled": {"$exists": False}}
        self.writes = ("enabled",)
        assert self.doc["_id"] == 1
        begun.set()
        may_end.wait()
        self.update = {"$set": {"enabled": True}}

    with _connected(server_uri, database, timeoutMS=500):
        post = _post(method)
        owner = threading.Thread(target=lambda: post.objects.get(key=1))
        owner.start()
        begun.wait()
        try:
            with pytest.raises(MigrationInProgress):
                post.objects.get(key=1)
        finally:
            may_end.set()
            owner.join()
    assert database["post"].find_one() == {"_id": 1, "enabled": True}


@pytest.mark.parametrize("options", [{}, {"transactions": True}, {"backup": True}])
def test_a_run_is_not_cut_short_by_the_limit_of_the_client(
    server_uri: str, database: Database[Any], tmp_path: Any, options: dict[str, Any]
) -> None:
    """Bulk runs, retries, previews and restores take as long as they take."""
    old = [{"_id": n, "n": n, "pad": "x" * 200} for n in range(4_000)]
    database["post"].insert_many([*old, {"_id": -1, "n": "x"}])
    if "backup" in options:
        options = {"backup": tmp_path / "backup"}
    with _connected(server_uri, database, timeoutMS=2):
        rules = handler(
            migration01__copy=copying("n", "copied"),
            migration02__add=rule({"sum": {"$exists": False}}, [{"$set": {"sum": {"$add": "$n"}}}]),
        )
        post = model(
            rules, n=IntField(), copied=IntField(), sum=IntField(), pad=mongoengine.StringField()
        )
        migration = rules(post)
        assert migration.preview(sample=5).rules[0].remaining == 4_001
        report = migration.migrate_pending(max_errors=1, **options)
        assert (report.state, report.matched) == ("finished", 8_001)
        assert migration.retry_quarantined(report.run_id).state == "failed"
        if "backup" in options:
            assert restore(options["backup"], mongoengine.get_db()).restored == 4_001
            assert list(database["post"].find({"_id": {"$gte": 0}}).sort("_id")) == old


CALLS = {
    "migrate_all": lambda migration, _: migration.migrate_all(),
    "migrate_pending": lambda migration, _: migration.migrate_pending(),
    "retry_quarantined": lambda migration, _: migration.retry_quarantined("0" * 24),
    "restore": lambda _, path: restore(path, mongoengine.get_db()),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_run_does_not_begin_within_a_timeout(
    mongoengine_db: Database[Any], tmp_path: Any, call: str
) -> None:
    """What takes as long as it takes says at once that a `pymongo.timeout` is no place for it."""
    mongoengine_db["post"].insert_one({"_id": 1})
    rules = handler(
        migration01__enable=rule(*ADD_ENABLED), allmigration01__count=rule({}, {"$set": {"n": 1}})
    )
    post = model(rules, enabled=BooleanField(), n=IntField())
    folder = tmp_path / mongoengine_db.name
    folder.mkdir()
    (folder / "post.lazymig").touch()
    with pymongo.timeout(_LONG), pytest.raises(RunError, match=f"{call} was called within"):
        CALLS[call](rules(post), tmp_path)
    with pymongo.timeout(0):
        assert rules(post).migrate_pending().state == "finished"


@pytest.mark.parametrize(
    ("around", "lazy_timeout", "seconds", "limit"),
    [
        (None, None, None, "server"),
        (None, 5, 5, "lazy_timeout = 5 s"),
        (_LONG, 5, 5, "lazy_timeout = 5 s"),
        (_LONG, None, _LONG, "pymongo.timeout"),
        (100, _LONG, 100, "pymongo.timeout"),
        # PyMongo takes 0 for no limit.
        (0, 5, 5, "lazy_timeout = 5 s"),
        (0, None, None, "server"),
    ],
)
def test_a_deadline_is_the_shortest_of_the_limits(
    database: Database[Any], around: Any, lazy_timeout: Any, seconds: Any, limit: str
) -> None:
    """Whatever is set around it, a deadline is no longer than any limit, and names the shortest."""
    with pymongo.timeout(around):
        deadline = Deadline.of(database["post"], lazy_timeout)
    assert limit in deadline.limit
    if seconds is None:
        assert deadline.left is None
    else:
        assert deadline.left is not None
        assert deadline.left <= seconds
        assert deadline.at_most(1).seconds == 1
        assert deadline.part(0.5).seconds == pytest.approx(deadline.seconds / 2)
