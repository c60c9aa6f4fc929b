"""Iteration while documents move in the index that it walks: each comes once, none is missed."""

from __future__ import annotations

import copy
import gc
import random
import threading
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import mongoengine
import pytest
from mongoengine import (
    CASCADE,
    NULLIFY,
    BooleanField,
    Document,
    IntField,
    ListField,
    PointField,
    ReferenceField,
    StringField,
)
from mongoengine.queryset import QuerySet, QuerySetNoCache
from pymongo import monitoring
from pymongo.errors import AutoReconnect

from lazymig import LazyMigrationMixin
from lazymig.engines.reading import id_store, pinned
from tests.support.handlers import ADD_ENABLED, handler, rule
from tests.support.sessions import needs_bound_sessions

FORWARD = rule(*ADD_ENABLED)
BACKWARD = rule({"state": "old"}, {"$set": {"state": "active"}})
MULTIKEY = rule({"tags": "old"}, {"$set": {"tags": ["blue", "green"]}})
COUNT = 250
# Enough for two answers of the server, of which the first has 101 documents; for tests that load
# them one by one.
FEW = 130


class Own(QuerySet):
    """A user's own class that takes the documents by its own __next__."""

    def __next__(self):
        return super().__next__()


class OwnNoCache(QuerySetNoCache):
    """The same without a cache."""

    def __next__(self):
        return super().__next__()


def user_model(*indexes, queryset_class=QuerySet, **rules):
    """A model `User` with these indexes on the real server."""
    migration = handler(**(rules or {"migration01__enable": FORWARD}))
    own = queryset_class

    class User(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        name = StringField()
        enabled = BooleanField()
        state = StringField()
        status = StringField()
        tags = ListField(StringField())
        migration_handler = migration
        meta = {
            "collection": "user",
            "indexes": list(indexes),
            "index_background": False,
            "queryset_class": own,
        }

    User.ensure_indexes()
    return User


def fill(database, count=COUNT, **fields):
    """Old users, in an order of insertion that is not that of their `_id`s."""
    numbers = list(range(count))
    random.Random(count).shuffle(numbers)
    database["user"].insert_many([{"_id": number, **fields} for number in numbers])


def ids(documents):
    """The `_id`s of documents, in order."""
    return [document.id for document in documents]


# Doors that hand out all documents of a queryset.
DOORS = {
    "list": lambda users: ids(list(users)),
    "loop": lambda users: [user.id for user in users],
    "no_cache": lambda users: ids(users.no_cache()),
    "len": lambda users: len(users) and ids(users),
    "scalar": lambda users: [number for number, _ in users.scalar("id", "enabled")],
    "values_list": lambda users: list(users.values_list("id")),
    "only": lambda users: ids(users.only("enabled", "state", "tags")),
    "exclude": lambda users: ids(users.exclude("name")),
    "limit beyond": lambda users: ids(users.limit(10_000)),
    "slice": lambda users: ids(users[0:10_000]),
    "slices": lambda users: [*ids(users.order_by("id")[:170]), *ids(users.order_by("id")[170:])],
    "after a slice": lambda users: ids(users) if ids(users[:5]) else [],
    "select_related": lambda users: ids(users.select_related()),
    "no_dereference": lambda users: ids(users.no_dereference()),
    "read_preference": lambda users: ids(
        users.read_preference(mongoengine.get_db().read_preference)
    ),
    "comment": lambda users: ids(users.comment("a comment").max_time_ms(60_000)),
    "timeout": lambda users: ids(users.timeout(False).allow_disk_use(True)),
    "clone": lambda users: ids(users.clone()),
}

CASES = {
    "forward": ({"migration01__a": FORWARD}, ["enabled"], {}, {"enabled": True}),
    "backward": ({"migration01__a": BACKWARD}, ["state"], {"state": "old"}, {"state": "active"}),
    "multikey": ({"migration01__a": MULTIKEY}, ["tags"], {"tags": ["old"]}, {"tags": "green"}),
    "compound": (
        {"migration01__a": FORWARD},
        [("status", "enabled")],
        {"status": "s"},
        {"status": "s"},
    ),
    "several rules": (
        {"migration01__a": FORWARD, "migration02__b": BACKWARD, "migration03__c": MULTIKEY},
        ["state", "enabled", "tags"],
        {"state": "old", "tags": ["old"]},
        {"state": "active", "enabled": True},
    ),
    "partial": (
        {"migration01__a": FORWARD},
        [{"fields": ["status"], "partialFilterExpression": {"enabled": True}}],
        {"status": "s"},
        {"status": "s", "enabled": True},
    ),
    "sparse": (
        {"migration01__a": BACKWARD},
        [{"fields": ["state"], "sparse": True}],
        {"state": "old"},
        {"state": "active"},
    ),
    "wildcard": ({"migration01__a": FORWARD}, ["$**"], {}, {"enabled": True}),
    "hashed": ({"migration01__a": BACKWARD}, ["#state"], {"state": "old"}, {"state": "active"}),
}


def prepared(database, case, queryset_class=QuerySet, count=COUNT):
    """A case's model, its old users and the queryset that finds them all."""
    rules, indexes, old, query = CASES[case]
    plain = [index for index in indexes if index != "$**"]
    model = user_model(*plain, queryset_class=queryset_class, **rules)
    if plain != indexes:
        database["user"].create_index([("$**", 1)])
    fill(database, count, **old)
    return model.objects(**query)


@pytest.mark.parametrize(
    ("case", "door"),
    [
        (case, door)
        for case in CASES
        for door in DOORS
        if case in ("forward", "backward", "compound") or door in ("list", "no_cache", "only")
    ],
)
def test_each_document_comes_once(mongoengine_db, case, door):
    """Whatever index a rule changes, every door gives each document once."""
    users = prepared(mongoengine_db, case)

    found = DOORS[door](users)

    assert sorted(found) == list(range(COUNT))


@pytest.mark.parametrize("size", [1, 2, 7, 50, 64, 65, 100, 101, 129, 130, 131, 1000])
@pytest.mark.parametrize("case", ["forward", "backward", "compound"])
def test_batches_of_every_size(mongoengine_db, case, size):
    """Each document comes once, whatever the size of the batches is."""
    users = prepared(mongoengine_db, case, count=FEW).batch_size(size)

    assert sorted(ids(users.no_cache())) == list(range(FEW))


@pytest.mark.parametrize("own", [Own, OwnNoCache])
@pytest.mark.parametrize("size", [None, 10])
@pytest.mark.parametrize("case", CASES)
def test_a_users_own_next_sees_each_document_once(mongoengine_db, case, size, own):
    """A queryset class with a __next__ of its own is given each document once."""
    users = prepared(mongoengine_db, case, queryset_class=own, count=FEW)

    assert sorted(ids(users.batch_size(size) if size else users)) == list(range(FEW))


@pytest.mark.parametrize("own", [QuerySet, Own])
@pytest.mark.parametrize("size", [None, 3, 60])
@pytest.mark.parametrize(("skip", "limit"), [(0, 140), (30, 140), (151, None), (5, 120), (0, 1)])
def test_skip_and_limit_are_exact(mongoengine_db, skip, limit, size, own):
    """By an index (status, enabled), skip() and limit() count as on migrated data."""
    model = user_model(("status", "enabled"), queryset_class=own)
    statuses = [f"s{number % 3}" for number in range(200)]
    mongoengine_db["user"].insert_many(
        [{"_id": number, "status": status} for number, status in enumerate(statuses)]
    )
    users = model.objects.order_by("status").skip(skip)
    users = users if limit is None else users.limit(limit)

    found = list(users.batch_size(size) if size else users)

    expected = sorted(statuses)[skip:][:limit]
    assert [user.status for user in found] == expected
    assert len(set(ids(found))) == len(expected)


def test_skipped_documents_do_not_come_later(mongoengine_db):
    """What skip() leaves out stays out when the documents that were taken have moved behind it."""
    model = user_model("state", migration01__a=BACKWARD)
    mongoengine_db["user"].insert_many(
        [{"_id": number, "state": "old" if number % 2 else "z"} for number in range(300)]
    )

    first = set(ids(model.objects(state__in=["active", "z"]).batch_size(10)[:120]))
    mongoengine_db["user"].update_many({"state": "active"}, {"$set": {"state": "old"}})
    rest = ids(model.objects(state__in=["active", "z"]).batch_size(10)[120:])

    assert len(first) == 120
    assert len(rest) == len(set(rest)) == 180


@pytest.mark.parametrize("case", ["load error", "not proved"])
def test_documents_that_are_rescued_move_too(mongoengine_db, case):
    """A rule that only an error starts moves its document as any other does."""

    def migration01__rescue(self):
        if self.doc.get("legacy"):
            self.target = {"legacy": True}
            self.update = {"$set": {"enabled": True}, "$unset": {"legacy": ""}}

    body = {"migration01__rescue": migration01__rescue, "validate_on_load": case == "not proved"}
    model = user_model("enabled", **body)
    fill(mongoengine_db, enabled=False, legacy=True)

    found = ids(model.objects(enabled__in=[False, True]))

    assert sorted(found) == list(range(COUNT))


def test_a_renamed_class(mongoengine_db):
    """MongoEngine's own index on `_cls` suffices to move documents; each comes once."""
    migration = handler(
        migration01__knights=rule({"_cls": "Human.Jedi"}, {"$set": {"_cls": "Human.Knight"}})
    )

    class Human(LazyMigrationMixin, Document):
        meta = {"allow_inheritance": True, "collection": "human"}
        migration_handler = migration

    class Knight(Human):
        pass

    for users in (
        Human.objects,
        Human.objects.no_cache(),
        Knight.objects,
        Knight.objects.no_cache().batch_size(20),
        Knight.objects.limit(200),
    ):
        mongoengine_db["human"].delete_many({})
        mongoengine_db["human"].insert_many([{"_cls": "Human.Jedi"} for _ in range(COUNT)])
        found = ids(users)
        assert len(found) == len(set(found)) == (users._limit or COUNT)


def test_text_scores_stay(mongoengine_db):
    """A text search gives each document once, with its score."""
    migration = handler(migration01__a=rule({"name": "old star"}, {"$set": {"name": "new star"}}))

    class User(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        name = StringField()
        migration_handler = migration
        meta = {"collection": "user", "indexes": [{"fields": ["$name"]}]}

    User.ensure_indexes()
    fill(mongoengine_db, name="old star")

    for order in ((), ("$text_score",)):
        mongoengine_db["user"].update_many({}, {"$set": {"name": "old star"}})
        found = list(User.objects.search_text("star").order_by(*order).batch_size(20))
        assert sorted(ids(found)) == list(range(COUNT))
        assert {user.get_text_score() for user in found} == {0.75}


def test_near_keeps_its_order(mongoengine_db):
    """What is near comes nearest first, each document once."""
    migration = handler(migration01__enable=FORWARD)

    class User(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        place = PointField()
        enabled = BooleanField()
        migration_handler = migration
        meta = {"collection": "user", "indexes": [[("place", "2dsphere"), ("enabled", 1)]]}

    User.ensure_indexes()
    mongoengine_db["user"].insert_many(
        [
            {"_id": number, "place": {"type": "Point", "coordinates": [number / 10, 0]}}
            for number in range(COUNT)
        ]
    )

    found = ids(User.objects(place__near=[0, 0], enabled=True).skip(7).limit(200).batch_size(20))

    assert found == list(range(7, 207))


def test_positional_projections_stay(mongoengine_db):
    """A projection by the element that the filter found holds for what is asked again."""
    model = user_model("enabled", "tags")
    mongoengine_db["user"].insert_many(
        [{"_id": number, "tags": ["red", f"t{number}"], "status": "s"} for number in range(COUNT)]
    )

    users = model.objects(tags="red").fields(elemMatch__tags={"$eq": "red"}, enabled=1)

    found = list(users.batch_size(30))
    assert sorted(ids(found)) == list(range(COUNT))
    assert {tuple(user.tags) for user in found} == {("red",)}


@pytest.mark.parametrize("own", [QuerySet, Own])
@pytest.mark.parametrize("size", [None, 20, 101])
@pytest.mark.parametrize("case", ["forward", "backward", "compound", "multikey"])
def test_a_loop_that_loads_others(mongoengine_db, case, size, own):
    """Documents that the body of the loop migrates come in their turn, once."""
    users = prepared(mongoengine_db, case, queryset_class=own, count=FEW)
    chance = random.Random(1)

    found = []
    for user in users.no_cache().batch_size(size) if size else users:
        found.append(user.id)
        users._document.objects.get(id=chance.randrange(FEW))

    assert sorted(found) == list(range(FEW))


@pytest.mark.parametrize("case", ["forward", "backward", "compound"])
def test_a_loop_that_migrates_all(mongoengine_db, case):
    """A bulk migration in the body of the loop neither repeats documents nor takes them away."""
    users = prepared(mongoengine_db, case)
    model = users._document

    found = []
    for user in users.batch_size(20):
        found.append(user.id)
        if len(found) == 30:
            model.migration_handler(model).migrate_pending()

    assert sorted(found) == list(range(COUNT))


@pytest.mark.parametrize("case", ["forward", "backward", "compound", "multikey"])
def test_threads_over_one_query(mongoengine_db, case):
    """Several threads that iterate one query at once see each document once."""
    users = prepared(mongoengine_db, case, count=400)
    start = threading.Barrier(4)

    def work(size):
        own = users.clone().batch_size(size)
        start.wait()
        return sorted(ids(own))

    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(work, [10, 33, 101, 200]))

    assert seen == [list(range(400))] * 4


class Meddler(monitoring.CommandListener):
    """Another process, which migrates as soon as this one has asked for more `_id`s."""

    def __init__(self, other, update):
        self.other, self.update, self.seen = other, update, 0

    def started(self, event):
        if event.command_name == "getMore":
            self.seen += 1
            self.other.update_many(*self.update)

    def succeeded(self, event):
        """Nothing to do."""

    def failed(self, event):
        """Nothing to do."""


def test_other_processes_move_documents_too(server_uri, database, monkeypatch):
    """What another process moves past the reading of the `_id`s is found at its end."""
    monkeypatch.setattr(pinned, "_ANSWER", 50)
    update = ({"state": "old", "_id": {"$gt": 150}}, {"$set": {"state": "active"}})
    meddler = Meddler(database["user"], update)
    mongoengine.connect(
        database.name, host=server_uri, event_listeners=[meddler], uuidRepresentation="standard"
    )
    model = user_model("state", migration01__a=BACKWARD)
    database["user"].insert_many([{"_id": number, "state": "old"} for number in range(COUNT)])
    found = ids(model.objects(state="active").no_cache())

    assert meddler.seen > 0
    assert sorted(found) == list(range(COUNT))


@pytest.mark.parametrize("limit", [None, 700])
def test_ids_are_read_window_by_window(monitored_db, command_log, monkeypatch, limit):
    """The `_id`s are read ahead in windows that grow: leaving the loop early costs little."""
    monkeypatch.setattr(pinned, "_WINDOW", 100)
    users = prepared(monitored_db, "forward", count=1000)
    command_log.clear()

    found = ids(users.limit(limit) if limit else users)

    assert len(found) == len(set(found)) == (limit or 1000)
    readings = [
        command["limit"]
        for name, command in command_log.commands
        if name == "find" and command.get("projection") == {"_id": 1}
    ]
    assert readings == [200, 600, 2200 if limit is None else 700]


def test_memory_is_bounded(mongoengine_db, monkeypatch):
    """The `_id`s of a long iteration are not kept in memory."""
    monkeypatch.setattr(id_store, "_IN_MEMORY", 10_000)
    monkeypatch.setattr(pinned, "_ANSWER", 500)
    model = user_model("enabled")
    fill(mongoengine_db, 6000, enabled=True)
    mongoengine_db["user"].update_one({"_id": 5999}, {"$unset": {"enabled": ""}})

    def peak(users):
        gc.collect()
        tracemalloc.start()
        try:
            seen = sum(1 for _user in users.no_cache().batch_size(50))
            return seen, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Unmeasured, which is four times as quick: whatever is made once is there then.
    assert sum(1 for _user in model.objects(enabled=True).no_cache().batch_size(50)) == 6000
    mongoengine_db["user"].update_many({}, {"$unset": {"enabled": ""}})
    few, small = peak(model.objects(enabled=True, id__lt=1000))
    mongoengine_db["user"].update_many({}, {"$unset": {"enabled": ""}})
    many, large = peak(model.objects(enabled=True))
    assert (few, many) == (1000, 6000)
    assert large < 2 * small


def test_nothing_is_left_open(mongoengine_db, monkeypatch):
    """An iteration that was left early leaves no temporary database behind."""
    monkeypatch.setattr(id_store, "_IN_MEMORY", 100)
    users = prepared(mongoengine_db, "forward").batch_size(20).no_cache()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, _user in enumerate(users):
            if number == 120:
                break
        assert _open_stores() == 1
        users.rewind()
        assert _open_stores() == 0


def _open_stores():
    gc.collect()
    return sum(
        type(thing) is id_store.IdStore and thing._database is not None
        for thing in gc.get_objects()
    )


@pytest.mark.parametrize("size", [1, 20])
def test_an_index_that_begins_with_the_id(mongoengine_db, size):
    """By an index (_id, path) the last document of an answer may be moved to the next one."""
    model = user_model()
    fill(mongoengine_db)
    mongoengine_db["user"].create_index([("_id", 1), ("enabled", 1)])

    for users in (model.objects.order_by("id"), model.objects(id__gte=0).order_by("id")):
        mongoengine_db["user"].update_many({}, {"$unset": {"enabled": ""}})
        found = ids(users.hint("_id_1_enabled_1").batch_size(size))
        assert found == list(range(COUNT))


@pytest.mark.parametrize("case", ["forward", "backward"])
def test_in_the_order_of_the_ids(mongoengine_db, case):
    """By an index (path, _id) MongoDB merges two walks, of which one may be ahead of the other."""
    users = prepared(mongoengine_db, case)
    model = users._document
    path = {"forward": "enabled", "backward": "state"}[case]
    mongoengine_db["user"].create_index([(path, 1), ("_id", 1)])
    mongoengine_db["user"].drop_index(f"{path}_1")
    mongoengine_db["user"].update_one(
        {"_id": COUNT - 1}, {"$set": {"enabled": True, "state": "active"}}
    )

    found = []
    for user in users.order_by("id").batch_size(20):
        found.append(user.id)
        model.objects.get(id=min(user.id + 77, COUNT - 1))

    assert found == list(range(COUNT))


def test_without_the_id(mongoengine_db):
    """Documents that are loaded without their `_id` come once too."""
    model = user_model("enabled")
    fill(mongoengine_db)
    for raw in list(mongoengine_db["user"].find()):
        mongoengine_db["user"].update_one(raw, {"$set": {"name": str(raw["_id"])}})

    found = list(model.objects(enabled=True).exclude("id").batch_size(30))

    assert {user.id for user in found} == {None}
    assert sorted(int(user.name) for user in found) == list(range(COUNT))


def test_ids_that_a_collation_does_not_tell_apart(mongoengine_db):
    """Under a collation `_id`s that differ in case alone are two documents still."""

    class User(LazyMigrationMixin, Document):
        id = StringField(primary_key=True)
        status = StringField()
        enabled = BooleanField()
        migration_handler = handler(migration01__enable=FORWARD)
        meta = {"collection": "user", "indexes": [("status", "enabled")]}

    User.ensure_indexes()
    names = [f"{letter}{number}" for number in range(110) for letter in "aA"]
    mongoengine_db["user"].insert_many([{"_id": name, "status": "s"} for name in names])

    users = (
        User.objects(status="S")
        .collation({"locale": "en", "strength": 2})
        .hint("status_1_enabled_1")
    )

    assert sorted(ids(users.batch_size(30))) == sorted(names)


def test_without_see_through(mongoengine_db):
    """Where queries go out as they are, cursors are MongoEngine's to copy and rewind."""
    body = {"migration01__enable": FORWARD, "see_through": False}
    model = user_model(("status", "enabled"), **body)
    fill(mongoengine_db, status="s")

    users = model.objects(status="s").no_cache().batch_size(20)
    first = [next(users).id for _ in range(130)]
    assert sorted(ids(users.clone())) == list(range(COUNT))
    assert sorted(first + [next(users).id for _ in range(COUNT - 130)]) == list(range(COUNT))
    users.rewind()
    assert sorted(ids(users)) == list(range(COUNT))


def test_get_with_small_batches(mongoengine_db):
    """get() finds the one document, or that there are two, in batches of one as well."""
    model = user_model("enabled")
    fill(mongoengine_db, 2)

    with pytest.raises(model.MultipleObjectsReturned):
        model.objects(enabled=True).batch_size(1).get()

    mongoengine_db["user"].update_many({}, {"$unset": {"enabled": ""}})
    mongoengine_db["user"].delete_one({"_id": 1})
    assert model.objects(enabled=True).batch_size(1).get().id == 0


# What it costs


def test_up_to_date_documents_cost_nothing_more(monitored_db, command_log):
    """Where nothing is old, an iteration sends what plain MongoEngine sends."""
    model = user_model("enabled")
    fill(monitored_db, 1000, enabled=True)
    command_log.clear()

    for users in (model.objects(enabled=True), model.objects(enabled=True).batch_size(400)):
        assert len(ids(users)) == 1000

    assert command_log.names == ["find", "getMore", "find", "getMore", "getMore"]


@pytest.mark.parametrize("count", [1, 100])
def test_what_comes_at_once_costs_nothing_more(monitored_db, command_log, count):
    """A result that fits the server's first answer costs its migration alone."""
    users = prepared(monitored_db, "forward", count=count)
    command_log.clear()

    assert len(ids(users)) == count

    assert command_log.names == ["find", "update", "find"]


def test_a_plain_walk_is_left_alone(monitored_db, command_log):
    """Without a filter and an order nothing can move, and nobody looks."""
    model = user_model("enabled")
    fill(monitored_db, 250)
    command_log.clear()

    assert sorted(ids(model.objects)) == list(range(250))

    assert "listIndexes" not in command_log.names
    assert command_log.names.count("find") == 4


@pytest.mark.parametrize(
    ("indexes", "query", "order"),
    [
        ((), {"enabled": True}, ()),
        (("name",), {"name": "n"}, ()),
        (("enabled",), {"name": "n"}, ()),
        (("enabled",), {"enabled": True}, ("id",)),
        (("enabled",), {}, ("-id",)),
        (("enabled", ("name", "enabled")), {"enabled": True}, ("name", "id")),
    ],
)
def test_indexes_that_no_rule_moves_documents_in(monitored_db, command_log, indexes, query, order):
    """If no index that the query may walk is changed, a look at the indexes is all it costs."""
    model = user_model(*indexes)
    fill(monitored_db, 250, name="n")
    command_log.clear()

    assert sorted(ids(model.objects(**query).order_by(*order))) == list(range(250))

    assert command_log.names.count("listIndexes") == 1
    assert command_log.names.count("find") == 4
    assert "killCursors" not in command_log.names


def test_the_readings_are_the_users_query(monitored_db, command_log):
    """What is asked once more carries the options of the queryset."""
    model = user_model(("status", "enabled"))
    fill(monitored_db, status="s")
    command_log.clear()
    users = (
        model.objects(status="S")
        .collation({"locale": "en", "strength": 2})
        .read_concern({"level": "local"})
        .allow_disk_use(True)
        .timeout(False)
        .batch_size(40)
        # MongoEngine makes the cursor here, and sends no option that is given behind.
        .comment("who asks")
        .max_time_ms(50_000)
    )

    assert sorted(ids(users)) == list(range(COUNT))

    first, *again = [command for name, command in command_log.commands if "comment" in command]
    assert first["find"] == "user"
    # What was migrated is read again with the comment and the time limit alone.
    asked = [command for command in again if "find" in command and "collation" in command]
    assert [command.get("projection") for command in asked] == [{"_id": 1}, *[None] * 6]
    for option in ("maxTimeMS", "collation", "readConcern", "allowDiskUse", "noCursorTimeout"):
        assert {str(command[option]) for command in asked} == {str(first[option])}


# A queryset amid its iteration


def test_a_queryset_amid_its_iteration(mongoengine_db):
    """Clones, slices, copies, pickles, counts and rewinds of a half-read queryset begin anew."""
    users = prepared(mongoengine_db, "forward").no_cache().batch_size(20)
    first = [next(users).id for _ in range(130)]

    assert sorted(ids(users.clone())) == list(range(COUNT))
    assert len(set(ids(users[:200]))) == 200
    assert len(set(ids(users.limit(150)))) == 150
    assert sorted(ids(copy.deepcopy(users))) == list(range(COUNT))
    assert users.first().id in range(COUNT)
    assert bool(users)
    assert repr(users.clone()).startswith("[<User: ")
    assert users.explain()["queryPlanner"]
    second = [next(users).id for _ in range(COUNT - 130)]
    assert sorted(first + second) == list(range(COUNT))
    assert next(users, None) is None
    users.rewind()
    assert sorted(ids(users)) == list(range(COUNT))
    next(users, None)
    assert users.count() == COUNT
    assert next(users).id in range(COUNT)


def test_one_cached_queryset_iterated_twice_at_once(mongoengine_db):
    """Two loops over one queryset share its cache, and each sees each document once."""
    users = prepared(mongoengine_db, "forward").batch_size(30)
    inner = []

    outer = []
    for number, user in enumerate(users):
        outer.append(user.id)
        if number == 40:
            inner = ids(users)
            assert len(users) == COUNT

    assert outer == inner
    assert sorted(outer) == list(range(COUNT))


def test_a_broken_connection_is_no_end(mongoengine_db, monkeypatch):
    """After an error of the driver amid the readings the next call goes on where it was."""
    users = prepared(mongoengine_db, "forward").no_cache().batch_size(20)
    failing = {"left": 2}
    original = pinned.Pinned._read_window

    def fails_at_first(self, lenient=False):
        if failing["left"]:
            failing["left"] -= 1
            raise AutoReconnect("lost")
        original(self, lenient=lenient)

    monkeypatch.setattr(pinned.Pinned, "_read_window", fails_at_first)
    found, errors = [], 0
    while True:
        try:
            found.append(next(users).id)
        except StopIteration:
            break
        except AutoReconnect:
            errors += 1

    assert errors == 2
    assert sorted(found) == list(range(COUNT))


@needs_bound_sessions
def test_within_a_bound_transaction(mongoengine_db):
    """Looking at the indexes does not end the transaction that is bound to the loop."""
    client = mongoengine.get_connection()
    users = prepared(mongoengine_db, "forward")

    with client.start_session() as session, session.bind(), session.start_transaction():
        found = ids(users)

    assert sorted(found) == list(range(COUNT))
    assert mongoengine_db["user"].count_documents({"enabled": True}) == COUNT


# Doors that ask by `_id`, and operations that iterate


def test_in_bulk_and_lists_of_references(mongoengine_db):
    """Documents that are asked for by their `_id`s come once, whatever indexes there are."""
    users = prepared(mongoengine_db, "forward")
    model = users._document

    class Team(Document):
        members = ListField(ReferenceField(model))
        meta = {"collection": "team"}

    assert sorted(model.objects.in_bulk(list(range(COUNT)))) == list(range(COUNT))
    mongoengine_db["user"].update_many({}, {"$unset": {"enabled": ""}})
    mongoengine_db["team"].insert_one({"members": list(range(COUNT))})

    assert ids(Team.objects.get().members) == list(range(COUNT))
    mongoengine_db["user"].update_many({}, {"$unset": {"enabled": ""}})
    assert ids(Team.objects.select_related()[0].members) == list(range(COUNT))
    assert mongoengine_db["user"].count_documents({"enabled": True}) == COUNT


@pytest.mark.parametrize("reaction", [CASCADE, NULLIFY])
@pytest.mark.parametrize("limit", [None, 180])
def test_delete_with_rules_meets_each_document(mongoengine_db, reaction, limit):
    """delete() with a limit or with delete rules deletes each document that it should, once."""
    users = prepared(mongoengine_db, "forward")
    model = users._document

    class Letter(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        user = ReferenceField(model, reverse_delete_rule=reaction)
        sent = BooleanField()
        migration_handler = handler(
            migration01__send=rule({"sent": {"$exists": False}}, {"$set": {"sent": True}})
        )
        meta = {"collection": "letter", "indexes": ["sent"]}

    mongoengine_db["letter"].insert_many(
        [{"_id": number, "user": number} for number in range(COUNT)]
    )
    chosen = users.limit(limit) if limit else users

    assert chosen.delete() == (limit or COUNT)

    left = COUNT - (limit or COUNT)
    assert mongoengine_db["user"].count_documents({}) == left
    letters = Letter.objects(sent=True)
    assert len(set(ids(letters))) == (left if reaction == CASCADE else COUNT)
    assert Letter.objects(user=None).count() == (0 if reaction == CASCADE else COUNT - left)


def test_a_self_reference_that_cascades(mongoengine_db):
    """A cascade within one collection, which iterates what it deletes, deletes all of it."""

    class User(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        enabled = BooleanField()
        boss = ReferenceField("self", reverse_delete_rule=CASCADE)
        migration_handler = handler(migration01__enable=FORWARD)
        meta = {"collection": "user", "indexes": ["enabled"]}

    mongoengine_db["user"].insert_many(
        [
            {"_id": number, **({"boss": number - 250} if number >= 250 else {})}
            for number in range(500)
        ]
    )

    assert User.objects(enabled=True, boss=None).delete() == 250

    assert mongoengine_db["user"].count_documents({}) == 0


def test_bulk_walks_meet_each_document_once(mongoengine_db):
    """A bulk run over a written, indexed path applies a rule that counts once to each document."""

    def migration01__turn(self):
        self.target = {"state": "old"}
        self.update = {"$set": {"state": "active", "status": str(int(self.doc["status"]) + 1)}}

    users = user_model("state", migration01__turn=migration01__turn)
    fill(mongoengine_db, 2500, state="old", status="0")

    report = users.migration_handler(users).migrate_pending()

    assert report.modified == 2500
    assert mongoengine_db["user"].count_documents({"state": "active", "status": "1"}) == 2500


def test_item_frequencies_count_each_document_once(mongoengine_db):
    """item_frequencies() counts migrated documents, each once."""
    users = prepared(mongoengine_db, "multikey")

    assert users.item_frequencies("tags") == {"blue": COUNT, "green": COUNT}
