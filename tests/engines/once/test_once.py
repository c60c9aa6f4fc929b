"""Rules with effects: each effect happens once for each document, whoever meets it and however."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient, WriteConcern
from pymongo.database import Database
from pymongo.errors import AutoReconnect

from lazymig import (
    MigrationError,
    MigrationFailed,
    MigrationInProgress,
    MigrationTimeout,
    once,
    signals,
)
from lazymig.engines.bulk import Tally, Work
from lazymig.engines.once import claimant, memory
from lazymig.odm.plans import plan_for
from lazymig.odm.schema import collection_of
from tests.support.commands import CommandLog
from tests.support.handlers import rule
from tests.support.mails import (
    CLAIM,
    claim,
    claimed,
    mailed_post,
    mailing,
    mails,
    post_with,
    send_mail,
)

ROOT = Path(__file__).parents[3]
COUNT = 60
EVERY_MAIL = dict.fromkeys(range(COUNT), 1)


@pytest.fixture(autouse=True)
def _fresh_memory() -> None:
    """No test inherits what another one's effects have left unwritten."""
    memory.unwritten.clear()


@pytest.fixture
def old_posts(mongoengine_db: Database[Any]) -> Database[Any]:
    """Posts that no mail was sent for."""
    mongoengine_db["post"].insert_many([{"_id": n} for n in range(COUNT)])
    return mongoengine_db


def _all_mailed(database: Database[Any]) -> bool:
    """Whether each document is as the rule leaves it, and nothing else is left in it."""
    return list(database["post"].find().sort("_id")) == [
        {"_id": n, "mailed": True} for n in range(COUNT)
    ]


def _in_threads(*works: Any) -> list[Any]:
    barrier = threading.Barrier(len(works), timeout=30)
    results: list[Any] = [None] * len(works)

    def run(place: int, work: Any) -> None:
        barrier.wait()
        results[place] = work()

    threads = [threading.Thread(target=run, args=(place, work)) for place, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def _rush(iterator: Iterator[Any]) -> tuple[list[int], list[MigrationError]]:
    """Iterate to the end, whatever is raised on the way."""
    keys, errors = [], []
    while True:
        try:
            keys.append(next(iterator).key)
        except StopIteration:
            return keys, errors
        except MigrationError as exc:
            errors.append(exc)


# Exactly once


LOADS = {
    "iteration": lambda post: [each.mailed for each in post.objects.order_by("key")],
    "get": lambda post: [post.objects.get(key=n).mailed for n in range(COUNT)],
    "in_bulk": lambda post: [p.mailed for p in post.objects.in_bulk(list(range(COUNT))).values()],
    "partial": lambda post: [each.mailed for each in post.objects.only("mailed")],
    "settling": lambda post: [True] * post.objects(mailed=True).count(),
    "no_cache": lambda post: [each.mailed for each in post.objects.no_cache()],
}


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_each_door_runs_the_effect_once(old_posts: Database[Any], load: Any) -> None:
    """By whatever way documents are loaded, each has one effect, and is loaded in its new shape."""
    post = mailed_post()
    assert load(post) == [True] * COUNT
    assert load(post) == [True] * COUNT
    assert mails(old_posts) == EVERY_MAIL
    assert _all_mailed(old_posts)


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_threads_run_each_effect_once(old_posts: Database[Any], load: Any) -> None:
    """Eight threads that load the same documents at once see one effect for each of them."""
    post = mailed_post(mailing(wait=30), lazy_timeout=30)
    results = _in_threads(*[lambda: load(post)] * 8)
    assert results == [[True] * COUNT] * 8
    assert mails(old_posts) == EVERY_MAIL
    assert _all_mailed(old_posts)


def _as_a_worker(post: Any, scope: Any) -> Tally:
    """What each of the workers of a bulk run does, here with the whole collection at once."""
    plan = plan_for(post.migration_handler, post)
    (rule,) = (*plan.lazy, *plan.bulk)
    return Work(collection_of(post), plan, scope).apply(rule)


def test_a_bulk_run_and_loads_run_each_effect_once(old_posts: Database[Any]) -> None:
    """A bulk run, another one's worker and two loads at once: one effect per document."""
    post = mailed_post(mailing(wait=30), lazy_timeout=30)

    def run() -> Any:
        return post.migration_handler(post).migrate_pending()

    loads = [LOADS["iteration"], LOADS["get"]]
    report, tally, *loaded = _in_threads(
        run, lambda: _as_a_worker(post, "lazy"), *[lambda load=load: load(post) for load in loads]
    )
    assert loaded == [[True] * COUNT] * 2
    assert mails(old_posts) == EVERY_MAIL
    assert _all_mailed(old_posts)
    assert [*report.errors, *tally.errors] == []
    assert report.matched + tally.matched <= COUNT


def test_workers_share_the_documents(old_posts: Database[Any]) -> None:
    """Two workers with the same documents match and modify each of them once between them."""
    post = mailed_post(mailing(wait=30), scope="all")
    first, second = _in_threads(*[lambda: _as_a_worker(post, "bulk")] * 2)
    assert mails(old_posts) == EVERY_MAIL
    assert _all_mailed(old_posts)
    assert (first.matched + second.matched, first.modified + second.modified) == (COUNT, COUNT)


def _started(uri: str, database: Database[Any], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.mails", uri, database.name, *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_processes_run_each_effect_once(server_uri: str, old_posts: Database[Any]) -> None:
    """Two processes that load the same documents at once see one effect for each of them."""
    loaders = [_started(server_uri, old_posts) for _ in range(2)]
    try:
        for loader in loaders:
            assert loader.stdin is not None
            loader.stdin.write("go\n")
            loader.stdin.flush()
        results = [json.loads(loader.communicate(timeout=60)[0]) for loader in loaders]
    finally:
        for loader in loaders:
            loader.kill()
            loader.wait()
    assert results == [[[n, True] for n in range(COUNT)]] * 2
    assert mails(old_posts) == EVERY_MAIL
    assert _all_mailed(old_posts)


# Owners who die, and owners who take their time


def test_the_claim_of_a_dead_owner_expires(server_uri: str, old_posts: Database[Any]) -> None:
    """A process that is killed in an effect leaves a claim, which is taken over once it is void."""
    loader = _started(server_uri, old_posts, "30")
    try:
        loader.communicate("go\n", timeout=60)
    finally:
        loader.kill()
        loader.wait()
    assert loader.returncode < 0
    assert claimed(old_posts) == [30]
    post = mailed_post(mailing(wait=0))
    with pytest.raises(MigrationInProgress) as caught:
        post.objects.get(key=30)
    assert f":{loader.pid}:" in caught.value.owner
    claim(old_posts, 30, seconds=-1)
    assert LOADS["iteration"](post) == [True] * COUNT
    assert mails(old_posts) == EVERY_MAIL
    assert _all_mailed(old_posts)


@pytest.mark.parametrize("scope", ["", "all"])
def test_a_claim_that_expires_while_others_wait_is_taken_over(any_db: Any, scope: str) -> None:
    """Who waits for a dead owner's document takes over when the claim ends, without being asked."""
    any_db["post"].insert_many([{"_id": n} for n in range(3)])
    post = mailed_post(mailing(wait=30), scope, lazy_timeout=30)
    claim(any_db, 1, seconds=2)
    if scope:
        assert post.migration_handler(post).migrate_all().modified == 3
    assert [each.mailed for each in post.objects.order_by("key")] == [True] * 3
    assert mails(any_db) == {0: 1, 1: 1, 2: 1}
    assert claimed(any_db) == []


def test_a_living_owner_keeps_its_claim(mongoengine_db: Database[Any]) -> None:
    """While the method runs, its claim is renewed, so that nobody takes over a slow effect."""
    mongoengine_db["post"].insert_one({"_id": 1})
    seen: list[Any] = []

    def slow(self: Any) -> None:
        give_up = time.monotonic() + 30
        while len(set(seen)) < 3 and time.monotonic() < give_up:
            seen.append(self.collection.find_one({"_id": 1})[CLAIM]["until"])
        send_mail(self)

    post = mailed_post(mailing(slow, lease=1))
    assert post.objects.get().mailed
    first, *others = sorted(set(seen))
    assert len(others) == 2
    assert (others[-1] - first).total_seconds() > 0.3
    assert claimed(mongoengine_db) == []


def test_a_claim_lasts_by_the_clock_of_the_server(mongoengine_db: Database[Any]) -> None:
    """The claim says rule, owner and end, which is the server's time and the lease."""
    mongoengine_db["post"].insert_one({"_id": 1})
    seen: list[Any] = []

    def look(self: Any) -> None:
        now = self.collection.database.client.admin.command("hello")["localTime"]
        seen.append((self.collection.find_one({"_id": 1})[CLAIM], now))

    mailed_post(mailing(look, lease=1000)).objects.get()
    ((found, now),) = seen
    assert list(found) == ["rule", "owner", "until"]
    assert found["rule"] == "migration01__mail"
    assert abs((found["until"] - now).total_seconds() - 1000) < 60


def test_whatever_lies_in_the_field_is_no_obstacle(mongoengine_db: Database[Any]) -> None:
    """A field `_lazymig` that is no claim neither stops a rule nor is it left."""
    rubbish = [None, 7, "x", [], [{"until": 1}], {"until": None}, {"more": 1, "until": "soon"}]
    mongoengine_db["post"].insert_many([{"_id": n, CLAIM: x} for n, x in enumerate(rubbish)])
    assert [each.mailed for each in mailed_post(mailing(wait=0)).objects] == [True] * len(rubbish)
    assert claimed(mongoengine_db) == []


# Waiting


class _Waiting:
    """Lets an effect last until somebody waits for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started = threading.Event()
        self.waited_for = threading.Event()
        sleep = time.sleep

        def watched(seconds: float) -> None:
            self.waited_for.set()
            sleep(seconds)

        monkeypatch.setattr(time, "sleep", watched)

    def __call__(self, rule: Any) -> None:
        if rule.doc["_id"] == 1:
            self.started.set()
            assert self.waited_for.wait(30)
        send_mail(rule)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> _Waiting:
    """An effect for the document 1 that lasts until somebody waits for it."""
    return _Waiting(monkeypatch)


WAITERS = {
    "load": lambda post: [(each.key, each.mailed) for each in post.objects.order_by("key")],
    "bulk": lambda post: post.migration_handler(post).migrate_pending().errors,
}


@pytest.mark.parametrize("waiter", WAITERS)
def test_who_waits_gets_the_fresh_document(
    mongoengine_db: Database[Any], waiting: _Waiting, waiter: str
) -> None:
    """A load or a run that meets a document in progress waits, and finds it done."""
    mongoengine_db["post"].insert_many([{"_id": n} for n in range(3)])
    post = mailed_post(mailing(waiting, wait=30), lazy_timeout=30)
    first: list[Any] = []
    owner = threading.Thread(target=lambda: first.append(post.objects.get(key=1)))
    owner.start()
    assert waiting.started.wait(30)
    answer = WAITERS[waiter](post)
    owner.join()
    assert answer == (() if waiter == "bulk" else [(n, True) for n in range(3)])
    assert first[0].mailed
    assert mails(mongoengine_db) == {0: 1, 1: 1, 2: 1}
    assert claimed(mongoengine_db) == []


def test_a_document_that_stays_held_is_in_progress(any_db: Any) -> None:
    """After `wait` seconds the error names model, rule, `_id`, owner and the end of the claim."""
    any_db["post"].insert_one({"_id": 1})
    until = claim(any_db, 1, seconds=600, owner="elsewhere:7:x")
    post = mailed_post(mailing(wait=0.05))
    with pytest.raises(MigrationInProgress) as caught:
        post.objects.get(key=1)
    error = caught.value
    assert (error.model, error.rule, error.document_id) == ("Post", "migration01__mail", 1)
    assert (error.owner, error.until) == ("elsewhere:7:x", until)
    assert "elsewhere:7:x is at work" in str(error)
    assert str(until) in str(error)
    assert mails(any_db) == {}


def test_a_load_waits_no_longer_than_its_time_limit(mongoengine_db: Database[Any]) -> None:
    """`lazy_timeout` bounds a load that would wait longer, and the error still says for what."""
    mongoengine_db["post"].insert_one({"_id": 1})
    claim(mongoengine_db, 1, seconds=600)
    post = mailed_post(mailing(wait=3600), lazy_timeout=0.5)
    with pytest.raises(MigrationInProgress):
        post.objects.get(key=1)


def test_a_document_in_progress_stops_no_neighbour(mongoengine_db: Database[Any]) -> None:
    """The others of a batch get all their rules first; the held one's error comes in its turn."""
    mongoengine_db["post"].insert_many([{"_id": n, "n": n} for n in range(5)])
    claim(mongoengine_db, 2, seconds=600)
    rules = {
        "migration01__mail": mailing(wait=0.05),
        "migration02__name": rule({"name": {"$exists": False}}, {"$set": {"name": "late"}}),
    }
    keys, errors = _rush(iter(post_with(rules).objects.order_by("key").no_cache()))
    assert keys == [0, 1, 3, 4]
    assert [(type(each), each.document_id) for each in errors] == [(MigrationInProgress, 2)]
    done = {"mailed": True, "name": "late"}
    assert list(mongoengine_db["post"].find({"_id": {"$ne": 2}}, {"n": 0}).sort("_id")) == [
        {"_id": n, **done} for n in keys
    ]
    held = mongoengine_db["post"].find_one({"_id": 2})
    assert held is not None
    assert set(held) == {"_id", "n", CLAIM}


def _naming(self: Any) -> None:
    self.target = {"mailed": True, "name": {"$exists": False}}
    self.update = {"$set": {"name": f"mailed: {self.doc['mailed']}"}}


LATER = {
    "static": (rule({"mailed": True, "name": {"$exists": False}}, {"$set": {"name": "x"}}), "x"),
    "dynamic": (_naming, "mailed: True"),
}


@pytest.mark.parametrize(("later", "name"), LATER.values(), ids=LATER)
def test_rules_behind_a_once_rule_wait_with_it(
    mongoengine_db: Database[Any], waiting: _Waiting, later: Any, name: str
) -> None:
    """A document that was waited for gets the rules that come after, whoever ran the once rule."""
    mongoengine_db["post"].insert_many([{"_id": n} for n in range(3)])
    once_rule = {"migration02__mail": mailing(waiting, wait=30), "lazy_timeout": 30}
    owner = threading.Thread(target=lambda: list(post_with(once_rule).objects))
    owner.start()
    assert waiting.started.wait(30)
    post = post_with({**once_rule, "migration03__name": later})
    loaded = [(each.mailed, each.name) for each in post.objects.order_by("key")]
    owner.join()
    assert loaded == [(True, name)] * 3
    assert mails(mongoengine_db) == {0: 1, 1: 1, 2: 1}


def test_two_once_rules_run_one_after_the_other(any_db: Any) -> None:
    """Each once rule has its own claim and its own effect, in the order of the rules."""
    any_db["post"].insert_many([{"_id": n} for n in range(3)])
    order: list[Any] = []

    def number(self: Any) -> None:
        self.target = {"n": {"$exists": False}}
        order.append((self.doc["_id"], self.doc.get("mailed"), CLAIM in self.doc))
        self.update = {"$set": {"n": 1}}

    rules = {"migration01__mail": mailing(), "migration02__number": once(number)}
    assert [(each.mailed, each.n) for each in post_with(rules).objects] == [(True, 1)] * 3
    assert sorted(order) == [(n, True, False) for n in range(3)]
    assert mails(any_db) == {0: 1, 1: 1, 2: 1}


# What the rule says and does


def test_the_rule_is_run_as_others_are(mongoengine_db: Database[Any]) -> None:
    """The method sees status false, the collection, and the document as earlier rules left it."""
    mongoengine_db["post"].insert_one({"_id": 1})
    seen: list[Any] = []

    def method(self: Any) -> None:
        self.target = {"mailed": {"$exists": False}}
        if not self.status:
            seen.append((dict(self.doc), self.status, self.collection.full_name, self.doc_class))
        self.update = {"$set": {"mailed": True}}

    rules = {
        "migration01__n": rule({"n": {"$exists": False}}, {"$set": {"n": 1}}),
        "migration02__mail": once(method),
    }
    post = post_with(rules)
    assert post.objects.get().mailed
    assert seen == [({"_id": 1, "n": 1}, False, f"{mongoengine_db.name}.post", post)]


UPDATES: dict[str, Any] = {
    "operators": ({"$set": {"mailed": True}, "$unset": {"name": ""}}, None),
    "pipeline": ([{"$set": {"mailed": True}}, {"$unset": "name"}], None),
    "array filters": (
        {"$set": {"mailed": True, "marks.$[e]": 9}, "$unset": {"name": ""}},
        [{"e": 1}],
    ),
}


@pytest.mark.parametrize(("update", "array_filters"), UPDATES.values(), ids=UPDATES)
def test_every_form_of_update_releases_the_claim(
    mongoengine_db: Database[Any], update: Any, array_filters: Any
) -> None:
    """Operators, pipelines and array filters are written as they are; the claim goes with them."""
    stored = {"_id": 1, "n": 2, "name": "x"}
    if array_filters:
        stored["marks"] = [1, 2]
    mongoengine_db["post"].insert_one(stored)

    def method(self: Any) -> None:
        self.target = {"mailed": {"$exists": False}}
        send_mail(self)
        self.update = update
        self.array_filters = array_filters

    post = mailed_post(once(method), scope="all")
    report = post.migration_handler(post).migrate_all()
    assert (report.matched, report.modified, report.errors) == (1, 1, ())
    expected = {"_id": 1, "n": 2, "mailed": True}
    if array_filters:
        expected["marks"] = [9, 2]
    assert mongoengine_db["post"].find_one() == expected
    assert mails(mongoengine_db) == {1: 1}


@once
def _declining(self: Any) -> None:
    self.target = {"mailed": {"$exists": False}}
    if self.doc["n"] % 3 == 1:
        self.target = None
        return
    if self.doc["n"] % 3 == 2:
        self.target = {"n": 1}
    send_mail(self) if self.doc["n"] % 3 == 0 else None
    self.update = {"$set": {"mailed": True}}


@pytest.mark.parametrize("scope", ["", "all"])
def test_a_rule_may_leave_a_document_alone(any_db: Any, scope: str) -> None:
    """Where the rule sets no target, or one that does not match, the claim is given back."""
    any_db["post"].insert_many([{"_id": n, "n": n} for n in range(6)])
    post = mailed_post(_declining, scope)
    if scope:
        report = post.migration_handler(post).migrate_all()
        assert (report.matched, report.modified) == (2, 2)
    assert [each.mailed for each in post.objects.order_by("key")] == [True, None, None] * 2
    assert claimed(any_db) == []


def test_a_rule_without_an_update_gives_the_document_back(mongoengine_db: Database[Any]) -> None:
    """A rule that sets no update, because it cannot do its work now, is tried again later.

    A run tells that it has not been done.
    """
    mongoengine_db["post"].insert_one({"_id": 1})
    ready: list[bool] = []

    def method(self: Any) -> None:
        self.target = {"mailed": {"$exists": False}}
        if not self.status and ready:
            self.update = {"$set": {"mailed": True}}

    post = mailed_post(once(method))
    assert post.objects.get().mailed is None
    assert claimed(mongoengine_db) == []
    report = post.migration_handler(post).migrate_pending()
    assert (report.complete, report.matched) == (False, 0)
    assert "sets no update" in str(report.errors[0])
    assert claimed(mongoengine_db) == []
    ready.append(True)
    assert post.objects.get().mailed


def test_an_effect_may_load_its_own_document(
    mongoengine_db: Database[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A load of the document by its own effect waits for nothing and shows it as it is stored."""
    mongoengine_db["post"].insert_many([{"_id": n, "n": n} for n in range(3)])
    seen: list[Any] = []

    def effect(self: Any) -> None:
        loaded = post.objects.get(key=self.doc["_id"])
        seen.append((loaded.key, loaded.n, loaded.mailed, post.objects(mailed=True).count()))
        send_mail(self)

    post = mailed_post(mailing(effect, wait=0))
    assert post.objects.get(key=1).mailed
    assert seen[-1][:3] == (1, 1, None)
    assert "still matches" not in caplog.text
    assert claimed(mongoengine_db) == []
    assert mails(mongoengine_db) == {0: 1, 1: 1, 2: 1}


def test_the_application_may_write_during_the_effect(mongoengine_db: Database[Any]) -> None:
    """A change of what the rule has read does not repeat the effect, and is not lost."""
    mongoengine_db["post"].insert_one({"_id": 1, "n": 1})

    def effect(self: Any) -> None:
        assert self.doc["n"] == 1
        self.collection.update_one({"_id": 1}, {"$set": {"n": 2, "name": "new"}})
        send_mail(self)

    loaded = mailed_post(mailing(effect)).objects.get()
    assert (loaded.n, loaded.name, loaded.mailed) == (2, "new", True)
    assert mails(mongoengine_db) == {1: 1}
    assert claimed(mongoengine_db) == []


def test_the_application_may_replace_the_document(mongoengine_db: Database[Any]) -> None:
    """The update is written though a replacement of the whole document has wiped out the claim."""
    mongoengine_db["post"].insert_one({"_id": 1, "n": 1})

    def effect(self: Any) -> None:
        self.collection.replace_one({"_id": 1}, {"n": 2})
        send_mail(self)

    loaded = mailed_post(mailing(effect, wait=0)).objects.get()
    assert (loaded.n, loaded.mailed) == (2, True)
    assert mails(mongoengine_db) == {1: 1}


def test_a_document_may_be_deleted_during_the_effect(mongoengine_db: Database[Any]) -> None:
    """A document that its effect's time has outlived is left out, and not inserted anew."""
    mongoengine_db["post"].insert_many([{"_id": n} for n in range(3)])

    def effect(self: Any) -> None:
        if self.doc["_id"] == 1:
            self.collection.delete_one({"_id": 1})
        send_mail(self)

    assert [each.key for each in mailed_post(mailing(effect)).objects.order_by("key")] == [0, 2]
    assert [each["_id"] for each in mongoengine_db["post"].find().sort("_id")] == [0, 2]


# What goes wrong


class _Oh(Exception):
    """What a rule raises."""


def _failing_for(document_id: Any, error: BaseException) -> Any:
    def effect(self: Any) -> None:
        if self.doc["_id"] == document_id:
            raise error
        send_mail(self)

    return effect


def test_a_rule_that_raises_releases_the_claim(any_db: Any) -> None:
    """An exception is MigrationFailed with its cause; others are done, and the next load tries."""
    any_db["post"].insert_many([{"_id": n} for n in range(3)])
    error = _Oh("no mail today")
    post = mailed_post(mailing(_failing_for(1, error)))
    keys, errors = _rush(iter(post.objects.order_by("key").no_cache()))
    assert keys == [0, 2]
    (failure,) = errors
    assert isinstance(failure, MigrationFailed)
    assert (failure.rule, failure.document_id) == ("migration01__mail", 1)
    assert failure.__cause__ is error
    assert claimed(any_db) == []
    assert mailed_post().objects.get(key=1).mailed
    assert mails(any_db) == {0: 1, 1: 1, 2: 1}


def test_an_interruption_releases_the_claim(mongoengine_db: Database[Any]) -> None:
    """Ctrl-C in the middle of an effect comes through at once, and leaves no claim."""
    mongoengine_db["post"].insert_one({"_id": 1})
    post = mailed_post(mailing(_failing_for(1, KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt):
        post.objects.get()
    assert claimed(mongoengine_db) == []
    assert mailed_post().objects.get(key=1).mailed


@pytest.mark.parametrize("scope", ["", "all"])
def test_a_refused_update_repeats_no_effect(mongoengine_db: Database[Any], scope: str) -> None:
    """An update that MongoDB refuses is MigrationFailed; it is tried again without its effect."""
    posts = mongoengine_db["post"]
    posts.insert_many([{"_id": n} for n in range(3)])
    posts.create_index("mailed", unique=True, partialFilterExpression={"mailed": "no. 1"})
    posts.insert_one({"_id": 9, "mailed": "no. 1"})

    def method(self: Any) -> None:
        self.target = {"mailed": {"$exists": False}}
        send_mail(self)
        self.update = {"$set": {"mailed": f"no. {self.doc['_id']}"}}

    post = post_with({f"{scope}migration01__mail": once(method), "on_error": "raise"})

    def run() -> list[Any]:
        if scope:
            return list(post.migration_handler(post).migrate_all().errors)
        return _rush(iter(post.objects.order_by("key").no_cache()))[1]

    for _ in range(3):
        (failure,) = run()
        assert isinstance(failure, MigrationFailed)
        assert failure.document_id == 1
        assert "E11000" in str(failure)
        assert claimed(mongoengine_db) == []
    posts.delete_one({"_id": 9})
    assert run() == []
    assert mails(mongoengine_db) == {0: 1, 1: 1, 2: 1}
    assert [each["mailed"] for each in posts.find().sort("_id")] == ["no. 0", "no. 1", "no. 2"]


@pytest.mark.parametrize("scope", ["", "all"])
@pytest.mark.parametrize(
    ("update", "message"),
    [({"$set": {"n": 7}}, "end the match"), ({"$sett": {"mailed": 1}}, "$sett")],
)
def test_an_update_that_would_repeat_the_effect_is_not_written(
    mongoengine_db: Database[Any],
    caplog: pytest.LogCaptureFixture,
    scope: str,
    update: Any,
    message: str,
) -> None:
    """An update that is none, or leaves the match, fails each time; its effect happens once."""
    mongoengine_db["post"].insert_one({"_id": 1})

    def method(self: Any) -> None:
        self.target = {"mailed": {"$exists": False}}
        send_mail(self)
        self.update = update

    post = mailed_post(once(method), scope)
    for _ in range(3):
        if scope:
            (failure,) = post.migration_handler(post).migrate_all().errors
        else:
            with pytest.raises(MigrationFailed) as caught:
                post.objects.get()
            failure = caught.value
        assert "its effect has happened" in str(failure)
        assert message in str(failure)
        assert failure.rule == f"{scope}migration01__mail"
    assert mails(mongoengine_db) == {1: 1}
    assert mongoengine_db["post"].find_one() == {"_id": 1}
    told = [each for each in caplog.records if "will try again" in each.getMessage()]
    assert [each.levelname for each in told] == ["ERROR"]


def test_a_document_that_may_not_carry_a_claim_has_no_effect(
    mongoengine_db: Database[Any],
) -> None:
    """Where the validator of the collection refuses the claim, nothing happens but an error."""
    mongoengine_db["post"].insert_many([{"_id": n} for n in range(3)])
    allowed = {"$or": [{"_id": {"$ne": 1}}, {CLAIM: {"$exists": False}}]}
    mongoengine_db.command("collMod", "post", validator=allowed)
    keys, (failure,) = _rush(iter(mailed_post().objects.order_by("key").no_cache()))
    assert keys == [0, 2]
    assert isinstance(failure, MigrationFailed)
    assert "validation" in str(failure)
    assert mails(mongoengine_db) == {0: 1, 2: 1}


def test_a_lost_claim_is_told(
    mongoengine_db: Database[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """An owner whose claim another has taken writes nothing, says so, and waits for the other."""
    mongoengine_db["post"].insert_one({"_id": 1})

    def effect(self: Any) -> None:
        send_mail(self)
        claim(mongoengine_db, 1, seconds=600, owner="the other")

    post = mailed_post(mailing(effect, wait=0.05))
    with pytest.raises(MigrationInProgress, match="the other"):
        post.objects.get()
    assert "the claim was gone" in caplog.text
    stored = mongoengine_db["post"].find_one()
    assert stored is not None
    assert set(stored) == {"_id", CLAIM}
    claim(mongoengine_db, 1, seconds=-1)
    assert mailed_post().objects.get().mailed
    assert mails(mongoengine_db) == {1: 1}


def test_a_connection_that_breaks_behind_the_effect_repeats_nothing(
    mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim stays with this process, which sends the update again without the effect."""
    mongoengine_db["post"].insert_one({"_id": 1})
    post = mailed_post(mailing(wait=0))
    broken = [AutoReconnect("gone")]
    send = claimant.Claimant._send

    def sending(self: Any, own: Any, evaluation: Any) -> Any:
        if broken:
            raise broken.pop()
        return send(self, own, evaluation)

    monkeypatch.setattr(claimant.Claimant, "_send", sending)
    assert post.objects.get().mailed
    assert not broken
    assert mails(mongoengine_db) == {1: 1}
    assert claimed(mongoengine_db) == []


def test_what_a_process_remembers_is_bounded(
    mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of effects whose update is not written, the newest are remembered."""
    monkeypatch.setattr(memory, "_MOST", 2)
    mongoengine_db["post"].insert_many([{"_id": n} for n in range(3)])

    def method(self: Any) -> None:
        self.target = {"mailed": {"$exists": False}}
        send_mail(self)
        self.update = {"$set": {"n": 1}}

    post = mailed_post(once(method))
    for _ in range(2):
        for n in (2, 1, 0):
            with pytest.raises(MigrationFailed):
                post.objects.get(key=n)
        with pytest.raises(MigrationFailed):
            post.objects.get(key=0)
    assert sum(mails(mongoengine_db).values()) == 6
    assert len(memory.unwritten) == 2


def test_skip_shows_a_held_document_as_it_is(mongoengine_db: Database[Any]) -> None:
    """With `on_error = "skip"` a document that stays held is loaded in its old shape."""
    mongoengine_db["post"].insert_many([{"_id": n, "n": n} for n in range(3)])
    claim(mongoengine_db, 1, seconds=600)
    post = mailed_post(mailing(wait=0), on_error="skip")
    loaded = [(each.n, each.mailed) for each in post.objects.order_by("key")]
    assert loaded == [(0, True), (1, None), (2, True)]


# Time limits


def test_a_time_limit_does_not_tear_an_effect_apart(mongoengine_db: Database[Any]) -> None:
    """An effect that outlasts `lazy_timeout` is neither cut short nor left without its update."""
    mongoengine_db["post"].insert_one({"_id": 1})

    def slow(self: Any) -> None:
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            self.collection.find_one({})
        send_mail(self)

    later = rule({"name": {"$exists": False}}, {"$set": {"name": "x"}})
    rules = {"migration01__mail": mailing(slow), "migration02__name": later}
    (loaded,) = post_with(rules, lazy_timeout=0.2).objects
    assert (loaded.mailed, loaded.name) == (True, "x")
    assert mails(mongoengine_db) == {1: 1}
    assert claimed(mongoengine_db) == []


def test_a_held_write_lock_bounds_a_load(
    mongoengine_db: Database[Any], client: MongoClient[Any]
) -> None:
    """A transaction that holds the document against the claim is a MigrationTimeout."""
    mongoengine_db["post"].insert_one({"_id": 1})
    post = mailed_post(lazy_timeout=0.3)
    with client.start_session() as session, session.start_transaction():
        posts = client[mongoengine_db.name]["post"]
        posts.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)
        with pytest.raises(MigrationTimeout):
            post.objects.get(key=1)
        session.abort_transaction()
    assert mails(mongoengine_db) == {}
    assert post.objects.get(key=1).mailed


def test_a_write_lock_behind_the_effect_bounds_a_load(
    mongoengine_db: Database[Any], client: MongoClient[Any]
) -> None:
    """A transaction that comes in between ends the load in time; the effect is not repeated."""
    mongoengine_db["post"].insert_one({"_id": 1})
    with client.start_session() as session:

        def effect(self: Any) -> None:
            send_mail(self)
            session.start_transaction()
            posts = client[mongoengine_db.name]["post"]
            posts.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)

        post = mailed_post(mailing(effect), lazy_timeout=0.5)
        with pytest.raises(MigrationTimeout):
            post.objects.get(key=1)
        session.commit_transaction()
    loaded = post.objects.get(key=1)
    assert (loaded.n, loaded.mailed) == (1, True)
    assert mails(mongoengine_db) == {1: 1}
    assert claimed(mongoengine_db) == []


# Reports, signals, costs


def test_reports_never_run_an_effect(old_posts: Database[Any]) -> None:
    """get_status() and get_deprecated() count by the target, and send no mail."""
    post = mailed_post()
    migration = post.migration_handler(post)
    (status,) = migration.get_status()
    assert (status.remaining, status.static, status.converges) == (COUNT, False, True)
    assert migration.get_deprecated() == {"deprecated": [], "active": ["migration01__mail"]}
    assert mails(old_posts) == {}
    migration.migrate_pending()
    assert migration.get_status()[0].remaining == 0
    assert migration.get_deprecated() == {"deprecated": ["migration01__mail"], "active": []}


@pytest.mark.parametrize("scope", ["", "all"])
def test_a_rule_is_needed_until_its_last_claim_is_gone(any_db: Any, scope: str) -> None:
    """A claim in a document that matches no more keeps the rule active; a bulk run removes it."""
    any_db["post"].insert_many([{"_id": n, "mailed": True} for n in range(3)])
    name = f"{scope}migration01__mail"
    post = mailed_post(scope=scope)
    migration = post.migration_handler(post)
    run = migration.migrate_all if scope else migration.migrate_pending
    claim(any_db, 1, seconds=600, rule=name)
    assert migration.get_deprecated()["active"] == [name]
    run()
    assert claimed(any_db) == [1]
    claim(any_db, 1, seconds=-1, rule=name)
    claim(any_db, 2, seconds=-1, rule="migration07__other")
    run()
    assert claimed(any_db) == [2]
    assert migration.get_deprecated() == {"deprecated": [name], "active": []}


def test_signals_are_sent_as_for_other_rules(mongoengine_db: Database[Any]) -> None:
    """pre_migration, post_migration and migration_failed name the once rule and the document."""
    mongoengine_db["post"].insert_many([{"_id": n} for n in range(3)])
    claim(mongoengine_db, 2, seconds=600)
    post = mailed_post(mailing(_failing_for(1, _Oh()), wait=0))
    sent: list[Any] = []

    def listen(name: str) -> Any:
        def receive(_model: Any, document_id: Any, rules: Any, **_more: Any) -> None:
            sent.append((name, document_id, rules))

        return receive

    names = ("pre_migration", "post_migration", "migration_failed")
    with ExitStack() as stack:
        for name in names:
            signal = getattr(signals, name)
            stack.enter_context(signal.connected_to(listen(name), sender=post))
        _rush(iter(post.objects.no_cache()))
    rules = ("migration01__mail",)
    assert Counter(sent) == Counter(
        [
            *[("pre_migration", n, rules) for n in range(3)],
            ("post_migration", 0, rules),
            ("migration_failed", 1, rules),
            ("migration_failed", 2, rules),
        ]
    )


def test_a_document_costs_two_commands(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """A claim, and the update with the release: no more is sent for a document that is free."""
    monitored_db["post"].insert_many([{"_id": n} for n in range(3)])
    post = mailed_post(mailing(lambda _self: None))
    command_log.clear()
    assert len(list(post.objects)) == 3
    assert command_log.names == ["find", *["findAndModify", "update"] * 3, "find"]
    command_log.clear()
    assert len(list(post.objects)) == 3
    assert command_log.names == ["find"]


@pytest.mark.parametrize("given", [WriteConcern(), WriteConcern(w=1), WriteConcern(w=0)])
def test_a_claim_survives_a_change_of_the_primary(
    monitored_db: Database[Any], command_log: CommandLog, given: WriteConcern
) -> None:
    """Claim and update are acknowledged by a majority, whatever the collection's own concern."""
    monitored_db["post"].insert_one({"_id": 1})
    post = mailed_post(mailing(lambda _self: None), scope="all")
    collection = command_log.client[monitored_db.name]["post"].with_options(write_concern=given)
    command_log.clear()
    post.migration_handler(post).migrate_all(collection)
    concerns = [
        command.get("writeConcern")
        for name, command in command_log.commands
        if command[name] == "post"
        and (name == "findAndModify" or (name == "update" and not command["updates"][0]["multi"]))
    ]
    assert concerns == [{"w": "majority"}] * 2


def test_writes_other_than_known_are_told(
    mongoengine_db: Database[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A rule that writes more than it is known to write is obeyed, and reported once."""
    mongoengine_db["post"].insert_many([{"_id": n} for n in range(3)])
    more: dict[str, Any] = {}

    def method(self: Any) -> None:
        self.target = {"mailed": {"$exists": False}}
        self.update = {"$set": {"mailed": True}}
        if not self.status:
            self.update = {"$set": {"mailed": True, **more}}

    post = mailed_post(once(method))
    more["name"] = "receipt"
    assert [each.name for each in post.objects] == ["receipt"] * 3
    told = [each for each in caplog.records if "writes other paths" in each.getMessage()]
    assert len(told) == 1


def test_queries_see_what_a_once_rule_is_known_to_write(old_posts: Database[Any]) -> None:
    """A query by a path of the rule brings documents up to date first; another query does not."""
    post = mailed_post()
    assert post.objects(name="x").count() == 0
    assert mails(old_posts) == {}
    assert post.objects(key__lt=3, mailed=True).count() == 3
    assert mails(old_posts) == {0: 1, 1: 1, 2: 1}


def test_queries_settle_what_may_be_written(old_posts: Database[Any]) -> None:
    """What the source of a once rule says that it writes, queries are answered by."""

    def method(self: Any) -> None:
        self.target = {"mailed": {"$exists": False}}
        send_mail(self)
        self.update = {"$set": {"mailed": True, "name": "x"}}

    assert mailed_post(once(method)).objects(name="x").count() == COUNT
    assert mails(old_posts) == EVERY_MAIL
