"""What cannot be rewritten is settled: the documents concerned are brought up to date first."""

from __future__ import annotations

import pytest
from mongoengine import (
    BooleanField,
    IntField,
    OperationError,
    StringField,
)

from lazymig import RuleDefinitionError, SettleLimitExceeded
from lazymig.odm.versions import stages_of
from tests.odm.querysets.test_see_through import OLD, people
from tests.support.doors import stored
from tests.support.handlers import handler, model, rule

NEW = [
    {"_id": 1, "name": "Ada", "enabled": True, "alias": "a", "info": {"tags": []}},
    {"_id": 2, "name": "Bob", "enabled": False, "alias": "b", "info": {"tags": ["x"]}},
    {"_id": 3, "name": "Cy", "enabled": True, "alias": "c", "info": {"tags": []}},
    {"_id": 4, "name": "Di", "enabled": True, "alias": "d", "info": {"tags": []}},
]


def order(queryset):
    """The keys, as they come."""
    return [document.key for document in queryset]


READERS = {
    "order_by": (lambda o: order(o.order_by("-alias")), [4, 3, 2, 1]),
    "order_by in a filter": (lambda o: order(o(enabled=True).order_by("-alias")), [4, 3, 1]),
    "first by": (lambda o: o.order_by("alias").first().key, 1),
    "limit by": (lambda o: order(o.order_by("alias")[1:3]), [2, 3]),
    "scalar by": (lambda o: list(o.order_by("alias").scalar("alias")), ["a", "b", "c", "d"]),
    "distinct": (lambda o: sorted(o.distinct("alias")), ["a", "b", "c", "d"]),
    "distinct below": (lambda o: o.distinct("info.tags"), ["x"]),
    "item_frequencies": (
        lambda o: o.item_frequencies("alias"),
        {"a": 1, "b": 1, "c": 1, "d": 1},
    ),
    "frequencies in a filter": (lambda o: o(enabled=False).item_frequencies("alias"), {"b": 1}),
    "aggregate": (
        lambda o: list(
            o.aggregate([{"$group": {"_id": "$enabled", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}])
        ),
        [{"_id": False, "n": 1}, {"_id": True, "n": 3}],
    ),
    "aggregate whole documents": (lambda o: list(o(key=1).aggregate([])), [NEW[0]]),
    "map_reduce": (
        lambda o: sorted(
            (result.key, result.value)
            for result in o.map_reduce(
                "function() { emit(this.enabled, 1) }",
                "function(key, values) { return Array.sum(values) }",
                "inline",
            )
        ),
        [(False, 1.0), (True, 3.0)],
    ),
    "where": (lambda o: sorted(order(o.where("this.alias < 'c'"))), [1, 2]),
    "len where": (lambda o: len(o.where("this.enabled")), 3),
    "collation": (
        lambda o: sorted(order(o(alias="A").collation({"locale": "en", "strength": 2}))),
        [1],
    ),
}
# Where MongoEngine takes more than a list.
if stages_of(iter(()), ()) is not None:
    READERS["aggregate of a generator"] = (
        lambda o: list(o(key=1).aggregate(s for s in [{"$project": {"alias": 1}}])),
        [{"_id": 1, "alias": "a"}],
    )


@pytest.mark.parametrize("reader", READERS)
def test_a_settled_reader_gives_what_migrated_documents_would_give(mongoengine_db, reader):
    """Each reader that no rewriting serves answers as if all documents were migrated."""
    mongoengine_db["post"].insert_many(OLD)
    ask, expected = READERS[reader]

    assert ask(people().objects) == expected


NUMBERS = {
    "sum": (lambda o: o.sum("score"), 7),
    "average": (lambda o: o.average("score"), 3.5),
    "sum in a filter": (lambda o: o(score__gt=3).sum("score"), 4),
    "max by": (lambda o: o.order_by("-score").first().score, 4),
}


@pytest.mark.parametrize("reader", NUMBERS)
def test_numbers_are_settled(mongoengine_db, reader):
    """sum() and average() of a renamed field count its old documents too."""
    mongoengine_db["post"].insert_many([{"_id": 1, "points": 3}, {"_id": 2, "score": 4}])
    rename = rule({"points": {"$exists": True}}, {"$rename": {"points": "score"}})
    post = model(handler(migration01__rename=rename), score=IntField())
    ask, expected = NUMBERS[reader]

    assert ask(post.objects) == expected


def test_a_collated_filter_is_settled(mongoengine_db):
    """A constant of a rule is compared as MongoDB does it, where a collation says how."""
    mongoengine_db["post"].insert_one({"_id": 1})
    add = rule({"alias": {"$exists": False}}, {"$set": {"alias": "ada"}})
    post = model(handler(migration01__add=add), alias=StringField())

    assert order(post.objects(alias="ADA").collation({"locale": "en", "strength": 2})) == [1]


def test_a_text_search_is_settled(mongoengine_db):
    """A text search over a renamed field finds the documents in which it has the old name."""
    mongoengine_db["post"].insert_many([{"_id": 1, "text": "blue sky"}, {"_id": 2, "body": "sea"}])
    rename = rule({"text": {"$exists": True}}, {"$rename": {"text": "body"}})
    post = model(
        handler(migration01__rename=rename),
        body=StringField(),
        meta={"indexes": [{"fields": ["$body"]}]},
    )

    assert order(post.objects.search_text("blue")) == [1]


def _counted(objects):
    """What a map-reduce counts, which no stages can show documents to."""
    found = objects.map_reduce(
        "function() { emit(this.enabled, 1) }",
        "function(key, values) { return Array.sum(values) }",
        "inline",
    )
    return [(result.key, result.value) for result in found]


def test_only_the_documents_concerned_are_settled(mongoengine_db):
    """Settling applies the rules of the operation to the documents of the filter, and no others."""
    mongoengine_db["post"].insert_many(OLD)

    assert _counted(people().objects(key__in=[1, 3])) == [(True, 2.0)]
    assert stored(mongoengine_db["post"]) == [NEW[0], OLD[1], NEW[2], OLD[3]]


def test_a_reader_of_other_paths_settles_nothing(mongoengine_db):
    """Readers of paths that no rule writes write nothing, whatever they filter by."""
    mongoengine_db["post"].insert_many(OLD)
    objects = people().objects(enabled=True)

    assert sorted(objects.distinct("name")) == ["Ada", "Cy", "Di"]
    assert objects.sum("key") == 8
    assert list(objects.aggregate([{"$group": {"_id": None, "n": {"$sum": "$_id"}}}])) == [
        {"_id": None, "n": 8}
    ]
    assert list(mongoengine_db["post"].find()) == OLD


def _by_alias(objects):
    return list(
        objects.aggregate(
            [
                {"$match": {"alias": {"$in": ["a", "z"]}}},
                {"$group": {"_id": "$alias", "n": {"$sum": 1}}},
            ]
        )
    )


def test_an_aggregation_matches_what_will_match(mongoengine_db):
    """A first `$match` lets in what is stored under the old name, and nothing is written."""
    mongoengine_db["post"].insert_many(OLD)
    assert _by_alias(people().objects) == [{"_id": "a", "n": 1}]
    assert stored(mongoengine_db["post"]) == OLD


def test_an_aggregation_matches_nothing_that_matches_no_more(mongoengine_db):
    """What matches as it is stored, and will not match, is not let in by a first `$match`."""
    mongoengine_db["post"].insert_one({"_id": 1, "nick": "a", "alias": "b"})
    counted = people().objects.aggregate([{"$match": {"alias": "b"}}, {"$count": "n"}])
    assert list(counted) == []


def test_a_match_comes_after_the_limit(mongoengine_db):
    """Where a limit stands before the first `$match`, that match decides nothing."""
    mongoengine_db["post"].insert_many(OLD)
    assert _by_alias(people().objects.order_by("alias").limit(1)) == [{"_id": "a", "n": 1}]
    assert _by_alias(people().objects.order_by("-alias").limit(3)) == []


WRITES = {
    "filter alone": (lambda o: o(alias="a").update(set__name="X"), {1: {"name": "X"}}),
    "written path": (lambda o: o(key=1).update(set__alias="X"), {1: {"alias": "X"}}),
    "both": (lambda o: o(alias="b").update(set__enabled=True), {2: {"enabled": True}}),
    "unset": (lambda o: o(key=1).update(unset__alias=1), {1: {"alias": None}}),
    "all": (lambda o: o.update(set__enabled=False), {n: {"enabled": False} for n in (1, 2, 3, 4)}),
    "push": (lambda o: o(key=4).update(push__info__tags="y"), {4: {"info": {"tags": ["y"]}}}),
    "raw": (lambda o: o(key=1).update(__raw__={"$set": {"alias": "X"}}), {1: {"alias": "X"}}),
    "pipeline": (
        lambda o: o(key=1).update(__raw__=[{"$set": {"name": "$alias"}}]),
        {1: {"name": "a"}},
    ),
    "update_one": (lambda o: o(alias="a").update_one(set__enabled=False), {1: {"enabled": False}}),
    "modify": (lambda o: o(alias="a").modify(set__enabled=False), {1: {"enabled": False}}),
    "upsert_one": (lambda o: o(key=1).upsert_one(set__alias="X"), {1: {"alias": "X"}}),
    "upsert": (
        lambda o: o(alias="a").update_one(upsert=True, set__name="X"),
        {1: {"name": "X"}},
    ),
    "upsert of none": (
        lambda o: o(alias="z").update_one(upsert=True, set__key=9),
        {9: {"alias": "z"}},
    ),
    "modify by order": (
        lambda o: o.order_by("-alias").modify(set__name="X"),
        {4: {"name": "X"}},
    ),
    "delete": (lambda o: o(alias="a").delete(), {1: None}),
    "delete by order": (lambda o: o.order_by("-alias").limit(2).delete(), {3: None, 4: None}),
    "remove": (lambda o: o(alias="b").modify(remove=True), {2: None}),
    "document": (lambda o: o.get(alias="a").update(set__alias="X"), {1: {"alias": "X"}}),
    "save": (lambda o: _save(o.get(alias="a"), alias="X"), {1: {"alias": "X"}}),
    "save_condition": (
        lambda o: _save(o.get(alias="a"), {"enabled": True}, name="X"),
        {1: {"name": "X"}},
    ),
    "delete of a document": (lambda o: o.get(alias="a").delete(), {1: None}),
}


def _save(document, condition=None, **values):
    for name, value in values.items():
        setattr(document, name, value)
    document.save(save_condition=condition)


def changed(documents, changes):
    """Documents by key, with the fields of these changed; `None` takes one away."""
    after = {raw["_id"]: dict(raw) for raw in documents}
    for key, fields in changes.items():
        if fields is None:
            del after[key]
            continue
        document = after.setdefault(key, {"_id": key, "enabled": True, "info": {"tags": []}})
        document.update(fields)
        for name in [name for name, value in fields.items() if value is None]:
            del document[name]
    return [after[key] for key in sorted(after)]


@pytest.mark.parametrize("write", WRITES)
def test_a_write_is_as_on_migrated_documents(mongoengine_db, write):
    """After a write, and brought up to date, the collection is as if it was migrated before."""
    mongoengine_db["post"].insert_many(OLD)
    post = people()
    act, changes = WRITES[write]

    act(post.objects)

    post.migration_handler(post).migrate_pending().raise_for_errors()
    assert stored(mongoengine_db["post"]) == changed(NEW, changes)


@pytest.mark.parametrize(
    "write",
    [
        lambda o: o.update(set__alias="x"),
        lambda o: o.update(set__name="x"),
        lambda o: o.update(upsert=True, set__alias="x"),
        lambda o: o.modify(set__name="x"),
        lambda o: o.modify(upsert=True, set__alias="x"),
        lambda o: o.order_by("alias").modify(set__name="x"),
        lambda o: o.upsert_one(set__name="x"),
    ],
    ids=["settled", "not settled", "upsert", "modify", "upserting", "ordered", "upsert_one"],
)
def test_what_mongodb_refuses_before_an_update_is_mongoengines_own_error(mongoengine_db, write):
    """A filter that MongoDB refuses raises OperationError, be it in a look before the update."""
    mongoengine_db["post"].insert_many(OLD)

    with pytest.raises(OperationError, match="Update failed"):
        write(people().objects(__raw__={"name": {"$regex": "("}}))
    assert list(mongoengine_db["post"].find()) == OLD


def test_above_the_limit_nothing_is_written(mongoengine_db):
    """More documents than settle_limit are an error that names all that is needed to go on."""
    mongoengine_db["post"].insert_many(OLD)
    post = people(settle_limit=1)

    with pytest.raises(SettleLimitExceeded) as failure:
        post.objects.update(set__alias="x")

    error = failure.value
    assert (error.model, error.operation, error.limit) == ("Post", "update()", 1)
    assert error.rules == ("migration02__rename_nick",)
    assert error.documents > error.limit
    for part in ("Post: for update(),", "more than 1 document ", "migration02__rename_nick"):
        assert part in str(error)
    assert ".migrate_pending(), or raise settle_limit" in str(error)
    assert list(mongoengine_db["post"].find()) == OLD
    assert post.objects(enabled=True).count() == 3


@pytest.mark.parametrize("operation", ["update", "map_reduce", "where", "upsert"])
def test_each_operation_keeps_the_limit(mongoengine_db, operation):
    """With settle_limit = 0 no operation settles: each raises, and nothing is written."""
    mongoengine_db["post"].insert_many(OLD)
    objects = people(settle_limit=0).objects
    calls = {
        "update": lambda: objects.update(set__alias="x"),
        "map_reduce": lambda: _counted(objects),
        "where": lambda: list(objects.where("true")),
        "upsert": lambda: objects(alias="a").update(upsert=True, set__name="x"),
    }

    with pytest.raises(SettleLimitExceeded):
        calls[operation]()
    assert list(mongoengine_db["post"].find()) == OLD


def test_the_limit_counts_the_documents_concerned(mongoengine_db):
    """Only old documents of the filter count against settle_limit."""
    mongoengine_db["post"].insert_many([*OLD, *({**NEW[0], "_id": n} for n in range(10, 30))])
    post = people(settle_limit=1)

    assert _counted(post.objects(key__in=[1, *range(10, 30)])) == [(True, 21.0)]


@pytest.mark.parametrize(("attributes", "settles"), [({}, False), ({"settle_limit": None}, True)])
def test_the_default_limit(mongoengine_db, attributes, settles):
    """10,000 documents are settled by default, not one more; with None there is no bound."""
    documents = ({"_id": number, "nick": "a", "enabled": True} for number in range(10_001))
    mongoengine_db["post"].insert_many(documents)
    rename = rule({"nick": {"$exists": True}}, {"$rename": {"nick": "alias"}})
    post = model(
        handler(migration01__rename=rename, **attributes),
        alias=StringField(),
        enabled=BooleanField(),
    )

    if not settles:
        with pytest.raises(SettleLimitExceeded, match="more than 10000"):
            _counted(post.objects)
        assert mongoengine_db["post"].count_documents({"alias": "a"}) == 0
        assert _counted(post.objects(key__gt=0)) == [(True, 10_000.0)]
        assert mongoengine_db["post"].count_documents({"nick": "a"}) == 1
    else:
        assert _counted(post.objects) == [(True, 10_001.0)]
        assert mongoengine_db["post"].count_documents({"alias": "a"}) == 10_001


@pytest.mark.parametrize(
    "attributes",
    [{"settle_limit": -1}, {"settle_limit": "9"}, {"settle_limit": True}, {"see_through": None}],
)
def test_attributes_are_checked(attributes):
    """What is no number of documents, or no truth value, is refused at definition."""
    with pytest.raises(RuleDefinitionError, match=next(iter(attributes))):
        handler(**attributes)
