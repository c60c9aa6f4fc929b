"""Orders, and filters that cannot be rewritten, over documents that are old as yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mongoengine
import pytest
from mongoengine import IntField, ListField, StringField
from pymongo import ReadPreference
from pymongo.database import Database

from lazymig.errors import SettleLimitExceeded
from lazymig.odm.querysets.merged import MergedRead, ShownCursor
from tests.support.commands import CommandLog
from tests.support.handlers import handler, model, rule
from tests.support.sessions import needs_bound_sessions

Raw = dict[str, Any]

RENAME = rule({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}})
COUNTED = rule({"version": {"$exists": False}}, {"$inc": {"visits": 10}, "$set": {"version": 2}})

OLD = [
    {"_id": 1, "mail": "d", "visits": 1},
    {"_id": 2, "email": "b", "visits": 12, "version": 2},
    {"_id": 3, "mail": "a", "visits": 3},
    {"_id": 4, "visits": 4, "version": 2},
    {"_id": 5, "email": "c", "visits": 5},
    {"_id": 6, "mail": None, "visits": 26, "version": 2},
]


def _people(**attributes: Any) -> Any:
    """A model whose old documents may not be settled."""
    rules = handler(
        migration01__mail=RENAME, migration02__visits=COUNTED, settle_limit=0, **attributes
    )
    return model(
        rules, email=StringField(), visits=IntField(), version=IntField(), name=StringField()
    )


def _keys(queryset: Any) -> list[int]:
    return [one.key for one in queryset]


ORDERED: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "ascending": (lambda o: _keys(o.order_by("email", "key")), [4, 6, 3, 2, 5, 1]),
    "descending": (lambda o: _keys(o.order_by("-email", "key")), [1, 5, 2, 3, 4, 6]),
    "limit": (lambda o: _keys(o.order_by("email", "key").limit(3)), [4, 6, 3]),
    "limit by one key": (lambda o: _keys(o.order_by("-email").limit(4)), [1, 5, 2, 3]),
    "limit of those with one": (
        lambda o: _keys(o(email__ne=None).order_by("email").limit(2)),
        [3, 2],
    ),
    "skip": (lambda o: _keys(o.order_by("email", "key").skip(4)), [5, 1]),
    "skip and limit": (lambda o: _keys(o.order_by("-email").skip(1).limit(2)), [5, 2]),
    "slice": (lambda o: _keys(o.order_by("-email")[1:3]), [5, 2]),
    "long limit": (lambda o: _keys(o.order_by("-email", "key").limit(5000)), [1, 5, 2, 3, 4, 6]),
    "first": (lambda o: o.order_by("-email").first().key, 1),
    "index": (lambda o: o.order_by("-email")[2].key, 2),
    "index in a slice": (lambda o: o.order_by("-email")[1:3][1].key, 2),
    "twice": (
        lambda o: (_keys(o.order_by("-email")[:2]), _keys(o.order_by("visits")[:2]))[1],
        [4, 1],
    ),
    "only": (lambda o: [one.email for one in o.order_by("-email").only("email")[:2]], ["d", "c"]),
    "exclude": (
        lambda o: [one.email for one in o.order_by("-email").exclude("visits")[:2]],
        ["d", "c"],
    ),
    "values_list": (
        lambda o: list(o.order_by("-email").values_list("email", "key")[:1]),
        [("d", 1)],
    ),
    "no_cache": (lambda o: _keys(o.order_by("-email").no_cache()[:2]), [1, 5]),
    "batches": (lambda o: _keys(o.order_by("-email", "key").batch_size(2)), [1, 5, 2, 3, 4, 6]),
    "options": (
        lambda o: _keys(o.order_by("-email").comment("why").max_time_ms(60_000)[:2]),
        [1, 5],
    ),
    "a hint": (lambda o: _keys(o.order_by("-email", "key").hint("_id_")[:3]), [1, 5, 2]),
    "cloned": (lambda o: _keys(_begun(o.order_by("-email", "key")).clone()[:3]), [1, 5, 2]),
    "rewound": (lambda o: _rewound(o.order_by("-email", "key").no_cache()), [1, 5, 2, 3, 4, 6]),
    "a filter": (lambda o: _keys(o(visits__gt=12)), [3, 5, 6]),
    "a filter, counted": (lambda o: o(visits__gt=12).count(), 3),
    "a filter, counted in part": (
        lambda o: o(visits__gt=12).skip(1).limit(2).count(with_limit_and_skip=True),
        2,
    ),
    "a filter, got": (lambda o: o(visits=13).get().key, 3),
    "a filter, first": (lambda o: o(visits=13).first().key, 3),
    "a filter, none": (lambda o: o(visits=3).first(), None),
    "a filter and an order": (lambda o: _keys(o(visits__gt=11).order_by("-visits")[:3]), [6, 5, 3]),
    "a filter by another": (lambda o: _keys(o(email="a", visits=13)), [3]),
}


def _begun(queryset: Any) -> Any:
    next(iter(queryset))
    return queryset


def _rewound(queryset: Any) -> list[int]:
    assert _keys(queryset)
    queryset.rewind()
    return _keys(queryset)


@pytest.mark.parametrize("operation", ORDERED)
def test_nothing_is_settled(mongoengine_db: Database[Raw], operation: str) -> None:
    """Documents come in the order, and by the filter, of what they will be, whatever the limit."""
    mongoengine_db.post.insert_many(OLD)
    act, expected = ORDERED[operation]
    assert act(_people().objects) == expected


@pytest.mark.parametrize("operation", ORDERED)
def test_documents_that_are_not_handed_out_stay(
    mongoengine_db: Database[Raw], operation: str
) -> None:
    """What is migrated is what is handed out, and that comes up to date."""
    mongoengine_db.post.insert_many(OLD)
    act, _ = ORDERED[operation]
    handed: list[Any] = []
    people = _people()
    mongoengine.signals.post_init.connect(
        handed_out := lambda _class, document: handed.append(document.pk), sender=people
    )
    try:
        act(people.objects)
    finally:
        mongoengine.signals.post_init.disconnect(handed_out, sender=people)
    before = {one["_id"]: one for one in OLD}
    after = {one["_id"]: one for one in mongoengine_db.post.find()}
    assert {key for key in before if before[key] != after[key]} <= set(handed)


@needs_bound_sessions
@pytest.mark.parametrize("operation", ORDERED)
def test_in_a_transaction(mongoengine_db: Database[Raw], operation: str) -> None:
    """A transaction, in which MongoDB takes fewer stages, has the same documents in that order."""
    mongoengine_db.post.insert_many(OLD)
    act, expected = ORDERED[operation]
    session = mongoengine.get_connection().start_session()
    with session, session.start_transaction(), session.bind():
        assert act(_people().objects) == expected


WRITES = {"insert", "update", "delete", "findAndModify", "bulkWrite"}

READS: dict[str, Callable[[Any], Any]] = {
    "order": lambda o: list(o.order_by("email")._cursor),
    "limit": lambda o: list(o.order_by("email").limit(2)._cursor),
    "filter": lambda o: list(o(visits__gt=2)._cursor),
    "count": lambda o: o(visits__gt=2).count(),
}


@pytest.mark.parametrize("operation", READS)
def test_a_read_sends_no_write(
    monitored_db: Database[Raw], command_log: CommandLog, operation: str
) -> None:
    """Until documents are handed out nothing is written."""
    monitored_db.post.insert_many(OLD)
    objects = _people().objects
    command_log.clear()

    assert READS[operation](objects)
    assert "aggregate" in command_log.names
    assert WRITES.isdisjoint(command_log.names)
    assert list(monitored_db.post.find()) == OLD


@pytest.mark.parametrize("operation", READS)
def test_a_secondary_is_asked_alone(
    monitored_db: Database[Raw], command_log: CommandLog, operation: str
) -> None:
    """A secondary may be behind, so that no look at the primary says what it will find."""
    monitored_db.post.insert_many(OLD)
    objects = _people().objects.read_preference(ReadPreference.SECONDARY_PREFERRED)
    command_log.clear()

    READS[operation](objects)
    modes = [command["$readPreference"]["mode"] for _, command in command_log.commands]
    assert command_log.names == ["aggregate"]
    # PyMongo asks a server that it is connected to directly by this name.
    assert modes == ["primaryPreferred"]


def test_nothing_old_is_sent_as_it_is(monitored_db: Database[Raw], command_log: CommandLog) -> None:
    """An order of everything is a find that walks its index, once a look has found nothing old."""
    monitored_db.post.insert_many([OLD[1], OLD[3]])
    objects = _people().objects
    command_log.clear()

    assert _keys(objects.order_by("email")) == [4, 2]
    assert _keys(objects(visits__gt=4)) == [2]
    assert command_log.names == ["find", "find"] * 2


def test_the_look_has_the_concern_of_the_read(
    monitored_db: Database[Raw], command_log: CommandLog
) -> None:
    """What is looked at for old documents is the state that is read then."""
    monitored_db.post.insert_many([OLD[1], OLD[3]])
    objects = _people().objects.read_concern({"level": "majority"})
    command_log.clear()

    assert _keys(objects.order_by("email")) == [4, 2]

    concerns = [body.get("readConcern", {}).get("level") for _name, body in command_log.commands]
    assert concerns == ["majority"] * 2


@pytest.mark.parametrize("order", [(), (("email", 1),)])
@pytest.mark.parametrize(("skip", "limit"), [(0, 0), (0, 2), (1, 2)])
def test_a_document_in_both_parts_comes_once(
    database: Database[Raw], order: Any, skip: int, limit: int
) -> None:
    """Whoever is migrated between the readings of the two parts is neither missed nor doubled."""
    database.post.insert_many({"_id": n, "email": "abcdef"[n]} for n in range(6))
    read = MergedRead(
        collection="post",
        within={},
        old={"_id": {"$lt": 3}},
        # They are migrated, all of them, by the time these are read.
        others={},
        stages=(),
        marking=None,
        asked={},
        order=order,
        stored_order=None,
        projection=None,
        in_front=False,
        looks=False,
    )

    found = list(database.post.aggregate(read.pipeline(skip, limit)))
    counted = list(database.post.aggregate(read.counting(skip, limit)))
    assert [one["_id"] for one in found] == [*range(6)][skip : skip + limit if limit else None]
    assert counted == [{"n": len(found)}]


def _sent(log: CommandLog) -> list[int]:
    """How many stages the aggregations had since the last look."""
    sent = [len(command["pipeline"]) for name, command in log.commands if name == "aggregate"]
    log.clear()
    return sent


def test_where_nothing_is_old_the_start_of_an_order_is_read_as_it_is(
    monitored_db: Database[Raw], command_log: CommandLog
) -> None:
    """One aggregation looks for what is old, and gives the documents if nothing is."""
    new = [{"_id": n, "email": str(n), "visits": n, "version": 2} for n in range(5)]
    monitored_db.post.insert_many(new)
    ordered = _people().objects.order_by("-email")
    command_log.clear()

    assert _keys(ordered.skip(1).limit(2)) == [3, 2]
    assert [one.email for one in ordered.only("email").limit(2)] == ["4", "3"]
    assert (ordered.first().key, ordered[2].key, _keys(ordered(key__gt=9).limit(2))) == (4, 2, [])
    assert _sent(command_log) == [4] * 5


def test_old_documents_are_shown_whenever_they_come(
    monitored_db: Database[Raw], command_log: CommandLog
) -> None:
    """Where some were met, others are taken to be there for a while, and then looked for."""
    posts, now = monitored_db.post, [100.0]
    read = MergedRead(
        collection="post",
        within={},
        old={"mail": {"$exists": True}},
        others={"mail": {"$exists": False}},
        stages=[{"$set": {"email": "$mail"}}],
        marking=None,
        asked={},
        order=(("email", 1),),
        stored_order=None,
        projection=None,
        in_front=False,
        looks=True,
    )
    plain = command_log.client[monitored_db.name].post.find()
    posts.insert_many([{"_id": 1, "email": "b"}, {"_id": 2, "email": "d"}])
    command_log.clear()

    def keys() -> list[int]:
        cursor = ShownCursor(plain, read, {}, (0, 3), lambda: False, lambda: now[0])
        return [one["_id"] for one in cursor]

    assert (keys(), _sent(command_log)) == ([1, 2], [4])
    posts.insert_one({"_id": 3, "mail": "c"})
    command_log.clear()
    look, shown = 4, len(read.pipeline(0, 3)) + 2
    assert (keys(), _sent(command_log)) == ([1, 3, 2], [look, shown])
    now[0] += 1
    assert (keys(), _sent(command_log)) == ([1, 3, 2], [shown])
    now[0] += 60
    assert (keys(), _sent(command_log)) == ([1, 3, 2], [look, shown])
    posts.delete_one({"_id": 3})
    command_log.clear()
    assert (keys(), _sent(command_log)) == ([1, 2], [shown])
    now[0] += 60
    assert (keys(), _sent(command_log)) == ([1, 2], [look])


def _measured(self: Any) -> None:
    self.target = {"level": {"$type": "string"}}
    self.update = {"$set": {"level": len(self.doc["level"].casefold())}}


def _measured_people(**attributes: Any) -> Any:
    rules = handler(migration01__level=_measured, **attributes)
    return model(rules, level=IntField(), tags=ListField(StringField()))


LEVELS: list[Raw] = [
    {"_id": 1, "level": "xxx", "tags": ["a", "b"]},
    {"_id": 2, "level": 2, "tags": ["b", "a"]},
    {"_id": 3, "level": "x", "tags": []},
]


@pytest.mark.filterwarnings("ignore::lazymig.errors.SettlingWarning")
def test_what_python_computes_is_settled(mongoengine_db: Database[Raw]) -> None:
    """A rule that stages cannot show is applied first, within the limit."""
    mongoengine_db.post.insert_many(LEVELS)
    assert _keys(_measured_people().objects(level__gt=1).order_by("-level")) == [1, 2]
    mongoengine_db.post.drop()
    mongoengine_db.post.insert_many(LEVELS)
    with pytest.raises(SettleLimitExceeded, match="order_by level"):
        _keys(_measured_people(settle_limit=1).objects.order_by("level"))


SETTLED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "where": (lambda o: o.order_by("email").where("true"), "nobody knows what where() reads"),
    "slice of a list": (
        lambda o: o.order_by("email").fields(slice__name=1),
        "it loads chosen elements of arrays",
    ),
    "no timeout": (lambda o: o.order_by("email").timeout(False), "its cursor must not time out"),
}


@pytest.mark.parametrize("option", SETTLED)
def test_an_option_that_no_aggregation_has_settles(
    mongoengine_db: Database[Raw], option: str
) -> None:
    """Where an option of a find is no option of an aggregation it settles, and says so."""
    mongoengine_db.post.insert_many(OLD)
    with_option, reason = SETTLED[option]
    people = _people()

    said = with_option(people.objects).explain_migration()
    assert "They are not shown, because" in said
    assert reason in said
    with pytest.raises(SettleLimitExceeded):
        _keys(with_option(people.objects))


def test_the_explanation_says_that_nothing_is_settled(mongoengine_db: Database[Raw]) -> None:
    """It names the way, the reason and the rules."""
    mongoengine_db.post.insert_many(OLD)
    said = _people().objects.order_by("email").limit(2).explain_migration()
    assert "shown as they will be, apart from all others. Nothing is written" in said
    assert "Shown, because it sorts by email." in said
    assert "Shown by: migration01__mail." in said
    assert list(mongoengine_db.post.find()) == OLD


@pytest.mark.parametrize("direction", [1, -1])
def test_a_short_order_examines_what_it_gives(
    mongoengine_db: Database[Raw], direction: int
) -> None:
    """With rule indexes neither part passes over the documents of the other one."""
    people = model(
        handler(migration01__mail=RENAME),
        email=StringField(),
        meta={"collection": "post", "indexes": ["email"]},
    )
    people.ensure_indexes()
    people.migration_handler(people).create_rule_indexes()
    mongoengine_db.post.insert_many(
        [{"_id": n, ("email" if n % 2 else "mail"): f"{n:03}"} for n in range(400)]
    )
    mongoengine_db.post.insert_many([{"_id": 1000}, {"_id": 1001}])

    ordered = people.objects.order_by("email" if direction > 0 else "-email")[:3]
    read = ordered._cursor._read
    for query, order in ((read.old, read.stored_order), (read.others, read.order)):
        found = mongoengine_db.post.find(query).sort(list(order)).limit(3)
        assert found.explain()["executionStats"]["totalDocsExamined"] <= 4
    assert _keys(ordered)[2] == (0 if direction > 0 else 397)
