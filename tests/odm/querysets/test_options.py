"""Every option of a queryset times every operation: answers and commands of plain MongoEngine."""

from __future__ import annotations

import uuid
from collections import Counter

import pytest
from mongoengine import BooleanField, Document, IntField, ListField, ReferenceField, StringField
from mongoengine.errors import MongoEngineException
from mongoengine.queryset import CASCADE
from pymongo import ReadPreference
from pymongo.errors import PyMongoError

from lazymig import LazyMigrationMixin
from tests.support.handlers import ADD_ENABLED, handler, rule

RENAME = ({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}})

OLD = [
    {"_id": 1, "n": 1, "mail": "a@x", "tags": ["x"]},
    {"_id": 2, "n": 2, "email": "b@x", "enabled": True, "tags": ["x", "y"]},
    {"_id": 3, "n": 3, "mail": "c@x", "enabled": False, "tags": []},
    {"_id": 4, "n": 4, "email": "d@x", "tags": ["y"]},
    {"_id": 5, "n": 5, "mail": "e@x", "tags": ["x"]},
]

OPTIONS = {
    "none": (lambda q: q, ()),
    "hint": (lambda q: q.hint("n_1"), ("hint",)),
    "hint by keys": (lambda q: q.hint([("n", 1)]), ("hint",)),
    "max_time_ms": (lambda q: q.max_time_ms(50_000), ("maxTimeMS",)),
    "collation": (lambda q: q.collation({"locale": "en", "strength": 2}), ("collation",)),
    "comment": (lambda q: q.comment("why"), ("comment",)),
    "batch_size": (lambda q: q.batch_size(2), ("batchSize",)),
    "read_preference": (
        lambda q: q.read_preference(ReadPreference.SECONDARY_PREFERRED),
        ("$readPreference",),
    ),
    "read_concern": (lambda q: q.read_concern({"level": "majority"}), ("readConcern",)),
    "timeout": (lambda q: q.timeout(False), ("noCursorTimeout",)),
    "allow_disk_use": (lambda q: q.allow_disk_use(True), ("allowDiskUse",)),
    "snapshot": (lambda q: q.snapshot(True), ()),
    "select_related": (lambda q: q.select_related(), ()),
    "skip": (lambda q: q.order_by("id").skip(1), ("skip",)),
    "limit": (lambda q: q.order_by("id").limit(2), ("limit",)),
    "no_sub_classes": (lambda q: q.no_sub_classes(), ()),
    "where": (lambda q: q.where("this.n > 1"), ()),
    "comment, then a limit in time": (
        lambda q: q.comment("why").max_time_ms(50_000),
        ("comment", "maxTimeMS"),
    ),
    "a limit in time, then a filter": (lambda q: q.max_time_ms(50_000).filter(n__gt=0), ()),
    "comment, then an order": (lambda q: q.comment("why").order_by("-n"), ("comment",)),
    "a raw order": (lambda q: q.order_by(__raw__=["n", ("_id", -1)]), ()),
}


def shown(documents):
    """What documents carry, in the order of their keys."""
    return sorted((d.key, d.n, d.email, d.enabled, list(d.tags)) for d in documents)


MAP = "function() { emit(this.enabled, this.n) }"
REDUCE = "function(key, values) { return Array.sum(values) }"

OPERATIONS = {
    "iterate": shown,
    "iterate again": lambda q: [shown(q), q.rewind(), shown(q)][::2],
    "first": lambda q: shown([q.order_by("id").first()]),
    "index": lambda q: shown([q.order_by("id")[0]]),
    "slice": lambda q: shown(q.order_by("id")[0:2]),
    "get": lambda q: shown([q.get(key=2)]),
    "with a limit": lambda q: shown(q.order_by("id").limit(2)),
    "only": lambda q: shown(q.only("email")),
    "exclude": lambda q: shown(q.exclude("email")),
    "order_by": lambda q: [d.key for d in q.order_by("-n")],
    "no_cache": lambda q: shown(q.no_cache()),
    "no_cache again": lambda q: [shown(q), shown(q)] if (q := q.no_cache()) is not None else None,
    "count": lambda q: q.count(),
    "count of a part": lambda q: q.count(with_limit_and_skip=True),
    "len": len,
    "bool": bool,
    "distinct": lambda q: sorted(q.distinct("email")),
    "sum": lambda q: q.sum("n"),
    "average": lambda q: q.average("n"),
    "item_frequencies": lambda q: q.item_frequencies("tags"),
    "aggregate": lambda q: list(
        q.aggregate([{"$group": {"_id": "$enabled", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}])
    ),
    "map_reduce": lambda q: sorted((r.key, r.value) for r in q.map_reduce(MAP, REDUCE, "inline")),
    "in_bulk": lambda q: shown(q.in_bulk([1, 2]).values()),
    "update": lambda q: q.update(set__email="z@x"),
    "update with a write concern": lambda q: q.update(write_concern={"w": 1}, set__n=9),
    "update with a read concern": lambda q: q.update(read_concern={"level": "local"}, set__n=9),
    "update_one": lambda q: q.filter(key=1).update_one(set__email="z@x"),
    "modify": lambda q: shown([q.order_by("id").modify(new=True, set__n=9)]),
    "upsert_one": lambda q: shown([q.filter(key=1).upsert_one(set__n=9)]),
    "delete": lambda q: q.delete(),
    "delete with a write concern": lambda q: q.delete(write_concern={"w": 1}),
    "delete with rules": lambda q: (
        q._document.register_delete_rule(q._document.holder, "post", CASCADE),
        q.delete(),
        q._document.holder.objects.count(),
    )[1:],
    "explain": lambda q: sorted(q.explain())[:1],
    "scalar": lambda q: sorted(q.scalar("key", "email")),
    "to_json": lambda q: q.filter(key=2).to_json(),
    "select_related": lambda q: shown(q.select_related()),
}


def world(database, lazy, documents, *, with_holders):
    """A model of the documents: plain on migrated ones, or with lazymig on the old ones."""
    # To empty a collection takes a tenth of the time that making it anew does.
    database["post"].delete_many({})
    database["post"].insert_many(documents)
    if with_holders:
        database["holder"].delete_many({})
        database["holder"].insert_many([{"_id": key, "post": key} for key in (1, 3)])
    rules = (RENAME, ADD_ENABLED)
    body = {
        "key": IntField(primary_key=True),
        "n": IntField(),
        "email": StringField(),
        "enabled": BooleanField(),
        "tags": ListField(StringField()),
        "meta": {"collection": "post"},
    }
    if lazy:
        migrations = {f"migration{number:02}__do": rule(*one) for number, one in enumerate(rules)}
        body["migration_handler"] = handler(**migrations)
    else:
        bring_up(database["post"], rules)
    bases = (LazyMigrationMixin, Document) if lazy else (Document,)
    post = type(Document)("Post", bases, body)
    holder = {"key": IntField(primary_key=True), "post": ReferenceField(post)}
    post.holder = type(Document)("Holder", (Document,), holder)
    post.objects.first()
    return post


def bring_up(collection, rules=(RENAME, ADD_ENABLED)):
    """The rules by MongoDB alone."""
    for target, update in rules:
        collection.update_many(target, update)


GIVES_STORED = {"$replaceWith": {"$ifNull": ["$__lazymig_stored", "$$ROOT"]}}


def sent(commands, keys):
    """How often each of these options was sent with which command."""
    counted = Counter()
    for name, command in commands:
        inner = command[name] if name == "explain" else command
        # Distinct values of what is shown.
        is_distinct = name == "aggregate" and {"$sort": {"_id": 1}} in inner["pipeline"]
        sent_as = "distinct" if is_distinct else name
        if name == "aggregate" and GIVES_STORED in inner["pipeline"]:
            # In an order, or by a filter, over what is shown.
            sent_as = "find"
        counted.update((sent_as, key, str(inner[key])) for key in keys if key in inner)
    return counted


def outcome(database, log, lazy, documents, option, operation):
    """What an operation gives, the options that it sends, and the documents behind it."""
    post = world(database, lazy, documents, with_holders=operation == "delete with rules")
    change, keys = OPTIONS[option]
    log.clear()
    try:
        result = OPERATIONS[operation](change(post.objects(email__ne="e@x", enabled__exists=True)))
    except (MongoEngineException, PyMongoError, AttributeError, TypeError, ValueError) as error:
        result = type(error).__name__
    options = sent(log.commands, keys)
    bring_up(database["post"])
    return result, options, list(database["post"].find().sort("_id"))


@pytest.fixture(scope="module")
def shared(client):
    """One database for all tests of the module; `world` empties its collections."""
    name = f"lazymig_{uuid.uuid4().hex}"
    client[name]["post"].create_index("n")
    yield client[name]
    client.drop_database(name)


@pytest.fixture
def database(shared):
    """That database, for whatever connects MongoEngine."""
    return shared


@pytest.fixture(scope="module")
def states(shared):
    """The documents to begin with: old ones, and what MongoDB alone makes of them."""
    collection = shared["prepared"]
    collection.insert_many(OLD)
    bring_up(collection)
    return {"old": OLD, "nothing old": list(collection.find())}


@pytest.fixture
def plain(monitored_db, command_log, states, option, operation, of_plain):
    """What the operation gives and sends without lazymig, whose documents are never old."""
    if (option, operation) not in of_plain:
        of_plain[option, operation] = outcome(
            monitored_db, command_log, False, states["old"], option, operation
        )
    return of_plain[option, operation]


@pytest.fixture(scope="module")
def of_plain():
    """What `plain` has found so far."""
    return {}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("state", ["old", "nothing old"])
def test_an_option_reaches_what_is_sent(
    monitored_db, command_log, states, option, operation, state, plain
):
    """An operation answers, writes and sends its options as if no rule were pending."""
    lazy = outcome(monitored_db, command_log, True, states[state], option, operation)

    assert lazy[0] == plain[0]
    assert lazy[2] == plain[2]
    # Its own commands come on top, with the comment of the queryset, and no longer than its limit.
    missing = plain[1] - lazy[1]
    assert not missing
    allowed = {value for _name, key, value in plain[1] if key == "comment"}
    assert not allowed or {value for _name, key, value in lazy[1] if key == "comment"} == allowed
    limits = [int(value) for _name, key, value in lazy[1] if key == "maxTimeMS"]
    assert all(limit <= 50_000 for limit in limits)
