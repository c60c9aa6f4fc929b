"""Sealed rules in a process: they cost nothing once it knows of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from mongoengine import IntField, StringField
from mongoengine.context_managers import switch_collection
from pymongo import ReadPreference
from pymongo.errors import OperationFailure, ServerSelectionTimeoutError

from lazymig import RuleDefinitionError, refresh_seals
from lazymig.engines.validators import Seal, read_validator, set_validator
from lazymig.odm import sealed
from lazymig.odm.plans import family_of
from lazymig.odm.sealed import SealWatch
from lazymig.rules.plan import Family
from tests.support.handlers import copying, handler, model, rule

ROOT = Path(__file__).parents[2]
RENAME = ({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}})
OLD = {"_id": 1, "mail": "a"}


def mail_model(**body):
    """A model whose one rule renames a field."""
    rules = body.pop("rules", None) or {"migration01__rename": rule(*RENAME)}
    attributes = body.pop("attributes", {})
    return model(
        handler(**rules, **attributes), email=StringField(), n=IntField(), meta={"strict": False}
    )


def seal(post):
    """Seal the rules of a model; nothing of them is old."""
    report = post.migration_handler(post).seal()
    assert report.not_sealed == ()


def slip_in(database, name="post", **document):
    """Store an old document past the validator."""
    database[name].with_options().insert_one({**OLD, **document}, bypass_document_validation=True)


def unseal_elsewhere(database):
    """Take the seals out behind this process's back."""
    database.command("collMod", "post", validator={})


def stored(database, name="post"):
    """What is stored."""
    return list(database[name].find())


def join_thread():
    """Wait for the thread that asks, if there is one."""
    for thread in threading.enumerate():
        if thread.name == "lazymig-seals":
            thread.join()


class Clock:
    """A clock that is set."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def posts(mongoengine_db):
    """The database with an empty collection `post`."""
    mongoengine_db.create_collection("post")
    return mongoengine_db


@pytest.mark.parametrize(
    "load",
    [
        lambda post: post.objects.first(),
        lambda post: next(iter(post.objects)),
        lambda post: post.objects.get(key=1),
        lambda post: post.objects.in_bulk([1])[1],
        lambda post: post.objects.only("email").first(),
        lambda post: post(key=1).reload(),
    ],
    ids=["first", "iterate", "get", "in_bulk", "only", "reload"],
)
def test_a_sealed_rule_is_not_matched(posts, load):
    """No way to a document matches a sealed rule: what was slipped in stays as it is stored."""
    post = mail_model()
    seal(post)
    slip_in(posts)

    assert load(post).email is None
    assert "mail" in stored(posts)[0]


def test_queries_do_not_see_through_a_sealed_rule(monitored_db, command_log):
    """A filter, a sort and an update by a path that a sealed rule writes are sent as they are."""
    monitored_db.create_collection("post")
    post = mail_model()
    seal(post)
    post.objects.first()
    command_log.clear()

    list(post.objects(email="a").order_by("email"))
    post.objects(email="a").update(email="b")
    post.objects(email="a").count()

    sent = [command for _, command in command_log.commands]
    assert "mail'" not in str(sent).replace("email'", "")
    assert command_log.names == ["find", "update", "aggregate"]
    assert "No rule is pending" in post.objects(email="a").explain_migration()


@pytest.mark.filterwarnings("ignore::lazymig.SettlingWarning")
def test_a_sealed_python_rule_settles_nothing(posts):
    """Queries by what a sealed rule computes in Python do not ask what is old."""

    def compute(self):
        self.target = {"mail": {"$exists": True}}
        text = self.doc["mail"]
        self.update = {"$set": {"email": text.title().swapcase()}, "$unset": {"mail": ""}}

    post = mail_model(rules={"migration01__compute": compute}, attributes={"settle_limit": 0})
    seal(post)
    slip_in(posts)
    assert list(post.objects(email="A")) == []


def test_a_save_does_not_ask_for_a_sealed_rule(monitored_db, command_log):
    """A save of a document that was made by hand does not look whether it is old."""
    monitored_db.create_collection("post").insert_one({"_id": 1, "email": "a"})
    post = mail_model()
    seal(post)
    document = post.objects.only("email").first()
    document.email = "b"
    command_log.clear()
    document.save()
    assert command_log.names == ["update"]


def test_other_rules_go_on(posts):
    """Beside a sealed rule the others are matched, seen through and applied as before."""
    rules = {"migration01__rename": rule(*RENAME), "migration02__copy": copying("b", "n")}
    post = mail_model(rules=rules)
    posts["post"].insert_one({"_id": 2, "b": 5})
    report = post.migration_handler(post).seal()
    assert report.sealed == ("migration01__rename",)
    slip_in(posts, n=6)

    assert [each.n for each in post.objects(n__gt=4).order_by("n")] == [5, 6]
    assert stored(posts) == [{"_id": 2, "b": 5, "n": 5}, {**OLD, "n": 6}]


def test_a_rule_that_waited_for_a_sealed_one_waits_no_more(posts):
    """Rules held back by one that no match starts start when that one is sealed."""
    rules = {
        "migration01__odd": rule({"mail": {"$exists": True}}, {"$set": {"email": "x"}}),
        "migration02__n": rule(
            {"email": {"$exists": True}, "n": {"$exists": False}}, {"$set": {"n": 1}}
        ),
    }
    with pytest.warns(UserWarning, match="does not provably end"):
        post = mail_model(rules=rules)
    posts["post"].insert_one({"_id": 2, "email": "a", "n": 1})
    seal(post)
    family = sealed.family_in(post, post._get_collection())
    assert family is None or not any(plan.lazy for plan in family.plans)


def test_validation_on_load_stays_as_it_was(posts):
    """Whether loads validate is decided by all rules, sealed or not."""
    rules = {
        "migration01__rename": rule(*RENAME),
        "migration02__n": rule({"x": 1}, {"$set": {"n": 1}}),
    }
    with pytest.warns(UserWarning, match="does not provably end"):
        post = mail_model(rules=rules)
    posts["post"].insert_one({"_id": 1, "x": 1})
    assert post.migration_handler(post).seal().sealed == ("migration01__rename",)
    assert family_of(post).validates
    assert sealed.family_in(post, post._get_collection()).validates


def test_unseal_counts_at_once_in_this_process(posts):
    """The process that unseals matches the rule again from that moment on."""
    post = mail_model()
    seal(post)
    slip_in(posts)
    post.migration_handler(post).unseal()
    assert post.objects.first().email == "a"


def test_an_unsealed_collection_falls_back(posts):
    """Once it has looked again, a process matches a rule that others have unsealed."""
    post = mail_model()
    seal(post)
    unseal_elsewhere(posts)
    slip_in(posts)
    assert post.objects.first().email is None

    refresh_seals(post)
    assert post.objects.first().email == "a"


@pytest.mark.parametrize("change", [{"validationAction": "warn"}, {"validationLevel": "moderate"}])
def test_a_validator_that_refuses_no_more_seals_nothing(posts, change):
    """Seals in a validator that lets documents through do not count."""
    post = mail_model()
    seal(post)
    posts.command("collMod", "post", **change)
    slip_in(posts)
    refresh_seals(post)
    assert post.objects.first().email == "a"


def test_a_rule_whose_target_was_changed_is_not_sealed(posts):
    """A seal counts for the target that it holds, not for the rule's name."""
    seal(mail_model())
    changed = mail_model(
        rules={
            "migration01__rename": rule(
                {"mail": {"$type": "string"}}, {"$rename": {"mail": "email"}}
            )
        }
    )
    refresh_seals(changed)
    slip_in(posts)
    assert changed.objects.first().email == "a"


def test_a_seal_counts_in_its_own_collection_alone(posts, other_db):
    """using(), switch_collection and switch_db know nothing of the seals of the model's own."""
    post = mail_model()
    seal(post)
    other_db["post"].insert_one(OLD)
    posts["elsewhere"].insert_one(OLD)

    assert post.objects.using("other").first().email == "a"
    with switch_collection(post, "elsewhere") as switched:
        assert switched.objects(email="a").first().email == "a"


def test_average_reads_the_collection_of_the_model(posts, other_db):
    """What MongoEngine reads from the model's own collection is settled by that one's seals."""
    rules = {"migration01__n": rule({"m": {"$exists": True}}, {"$rename": {"m": "n"}})}
    post = mail_model(rules=rules)
    other_db.create_collection("post")
    post.migration_handler(post).seal(collection=post.objects.using("other")._collection)
    posts["post"].insert_one({"_id": 1, "m": 4})
    assert post.objects.using("other").average("n") == 4


@pytest.mark.parametrize(
    "preference", [ReadPreference.SECONDARY_PREFERRED, ReadPreference.NEAREST], ids=str
)
def test_reads_from_secondaries_take_nothing_for_sealed(posts, preference):
    """What a secondary gives may be older than the seal: there it is matched as ever."""
    post = mail_model()
    seal(post)
    slip_in(posts)
    queryset = post.objects.read_preference(preference)
    assert queryset(email="a").count() == 1
    assert queryset.first().email == "a"


def test_a_process_asks_after_seal_refresh_and_not_in_the_request(posts):
    """A use of the model after `seal_refresh` seconds goes on with what is known, and asks."""
    clock, post = Clock(), mail_model()
    collection = post._get_collection()
    seal(post)
    family = family_of(post)
    watch = SealWatch(clock)

    assert watch.family_in(post, collection) is family
    clock.now += 29
    assert watch.family_in(post, collection) is family
    join_thread()
    assert watch.family_in(post, collection) is family

    clock.now += 1
    watch.family_in(post, collection)
    join_thread()
    assert watch.family_in(post, collection).plans == []


def unanswered(_collection):
    """What asking gives while there is no server."""
    raise ServerSelectionTimeoutError("no server")


def test_knowledge_that_is_too_old_is_dropped(posts, monkeypatch):
    """What was heard more than ten times `seal_refresh` ago is not relied on."""
    clock, post = Clock(), mail_model()
    collection = post._get_collection()
    seal(post)
    watch = SealWatch(clock)
    watch.refresh(collection)
    family = family_of(post)
    assert watch.family_in(post, collection).plans == []

    monkeypatch.setattr(sealed, "read_validator", unanswered)
    clock.now += 300
    assert watch.family_in(post, collection).plans == []
    join_thread()
    clock.now += 1
    assert watch.family_in(post, collection) is family


def test_an_answer_from_before_an_unseal_is_forgotten(posts, monkeypatch):
    """What was asked for before the seals were taken out does not bring them back."""
    post = mail_model()
    collection = post._get_collection()
    seal(post)
    watch = SealWatch()

    def slow(place):
        found = read_validator(place)
        watch.forget(place)
        return found

    monkeypatch.setattr(sealed, "read_validator", slow)
    watch.refresh(collection)
    assert watch.family_in(post, collection) is family_of(post)


def test_a_failure_to_ask_disturbs_nobody_and_is_logged_once(posts, monkeypatch, caplog):
    """Without the right to list collections nothing is sealed, and a warning says so, once."""
    clock, post = Clock(), mail_model()
    collection = post._get_collection()

    def forbidden(_collection):
        raise OperationFailure("not authorized", 13)

    monkeypatch.setattr(sealed, "read_validator", forbidden)
    watch = SealWatch(clock)
    for _ in range(3):
        watch.family_in(post, collection)
        clock.now += 31
        join_thread()
    join_thread()
    warned = [each for each in caplog.records if each.levelname == "WARNING"]
    assert ["seals could not be read" in each.getMessage() for each in warned] == [True]


def test_one_thread_asks_for_all_collections_of_a_client(posts):
    """At most one thread asks at a time, however many collections are due."""
    clock, post = Clock(), mail_model()
    watch = SealWatch(clock)
    collections = [post._get_db()[f"c{number}"] for number in range(20)]
    for each in collections:
        watch.family_in(post, each)
    clock.now += 31
    most = 0
    for each in collections:
        watch.family_in(post, each)
        most = max(most, sum(thread.name == "lazymig-seals" for thread in threading.enumerate()))
    join_thread()
    assert most <= 1


def test_none_for_seal_refresh_relies_on_no_seal(posts):
    """With `seal_refresh = None` a process never asks, and takes no rule for sealed."""
    post = mail_model(attributes={"seal_refresh": None})
    seal(post)
    slip_in(posts)
    assert post.objects.first().email == "a"


@pytest.mark.parametrize("value", [0, -1, True, "30"])
def test_a_seal_refresh_that_is_no_time_is_an_error(value):
    """`seal_refresh` is a number of seconds above 0, or None: anything else is no handler."""
    with pytest.raises(RuleDefinitionError, match="seal_refresh"):
        handler(seal_refresh=value)


def test_mongomock_is_never_asked(mock_db):
    """On mongomock no collection is asked for seals: loads go on as ever."""
    clock, post = Clock(), mail_model()
    mock_db["post"].insert_one(OLD)
    watch = SealWatch(clock)
    collection = post._get_collection()
    watch.refresh(collection)
    clock.now += 1000
    assert watch.family_in(post, collection) is family_of(post)
    assert post.objects.first().email == "a"


def test_a_forked_process_asks_for_itself(posts):
    """A fork while a thread asks leaves the child able to ask, without that thread."""
    clock, post = Clock(), mail_model()
    collection = post._get_collection()
    watch = SealWatch(clock)
    watch.family_in(post, collection)
    watch._queues[id(collection.database.client)] = sealed.deque()
    pid = os.fork()
    if pid == 0:
        # The thread may have ended before anybody looks for it.
        begun = []
        threading.Thread.start = lambda thread: begun.append(thread.name)
        clock.now += 31
        watch.family_in(post, collection)
        os._exit(0 if "lazymig-seals" in begun else 3)
    del watch._queues[id(collection.database.client)]
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


OLD_WRITER = """
import sys
from pymongo import MongoClient
from pymongo.errors import WriteError
try:
    MongoClient(sys.argv[1])[sys.argv[2]]["post"].insert_one({"_id": 9, "mail": "x"})
except WriteError as error:
    print(error.code)
"""

SEALER = """
import sys
import mongoengine
from tests.odm.test_sealed import mail_model, seal
mongoengine.connect(sys.argv[2], host=sys.argv[1])
seal(mail_model())
"""


def run(code, *arguments):
    """Run code in another process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        timeout=120,
    ).stdout.strip()


def test_processes_learn_from_each_other(posts, server_uri):
    """What one process has sealed is refused to an old version, and learnt by a look in others."""
    post = mail_model()
    assert post.objects.first() is None
    run(SEALER, server_uri, posts.name)
    assert run(OLD_WRITER, server_uri, posts.name) == "121"
    slip_in(posts)

    refresh_seals(post)
    assert post.objects.first().email is None


def test_a_seal_that_only_protects_counts_for_nobody(posts):
    """Until a seal was made certain, loads and queries go on as without it."""
    post = mail_model()
    posts["post"].insert_one(OLD)
    collection = post._get_collection()
    from bson import encode

    pending = Seal("Post", "migration01__rename", encode(RENAME[0]), proven=False)
    set_validator(collection, read_validator(collection).with_seals([pending]))
    refresh_seals(post)
    assert post.objects(email="a").count() == 1
    assert post.objects.first().email == "a"


def test_families_of_many_collections_are_shared(posts):
    """Collections with the same seals share one family without them."""
    post = mail_model()
    families = set()
    for name in ("a", "b"):
        collection = post._get_db().create_collection(name)
        post.migration_handler(post).seal(collection=collection)
        families.add(sealed.family_in(post, post._get_db()[name]))
    assert len(families) == 1
    assert isinstance(families.pop(), Family)


def keys_left(queryset):
    """The keys that a queryset is still to give; iter() would begin it anew."""
    found = []
    while (document := next(queryset, None)) is not None:
        found.append(document.key)
    return found


def test_a_seal_that_is_learnt_or_goes_during_an_iteration_ends_nothing(posts):
    """An iteration that is under way goes on as it was begun, whatever becomes of the seals."""
    post = mail_model()
    posts["post"].insert_many([{"_id": number, "email": "a"} for number in range(250)])
    begun = iter(post.objects.batch_size(10).no_cache())
    seen = [next(begun).key for _ in range(20)]
    seal(post)
    seen += [next(begun).key for _ in range(20)]
    sealed_now = iter(post.objects.batch_size(10).no_cache())
    other = [next(sealed_now).key]
    unseal_elsewhere(posts)
    refresh_seals(post)
    assert seen + keys_left(begun) == list(range(250))
    assert other + keys_left(sealed_now) == list(range(250))


def test_an_upsert_names_its_class_where_all_is_sealed(posts):
    """What an upsert inserts has its class, with former classes declared and all rules sealed."""
    meta = {"allow_inheritance": True, "strict": False}
    rules = handler(migration01__rename=rule(*RENAME), legacy_classes=("Former",))
    post = model(rules, email=StringField(), meta=meta)
    seal(post)
    post.objects(key=7).upsert_one(email="x")
    post.objects(key=8).modify(upsert=True, set__email="y")
    post.objects(key=9).update_one(upsert=True, set__email="z")
    assert {each["_id"]: each.get("_cls") for each in stored(posts)} == dict.fromkeys(
        (7, 8, 9), "Post"
    )


def test_seals_of_what_is_no_document_class() -> None:
    """Who asks for the seals of something else is told so."""
    with pytest.raises(TypeError, match=r"'shop\.User' is no document class"):
        refresh_seals("shop.User")
