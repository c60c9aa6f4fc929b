"""Filters see through pending rules: every door that takes one, and what is sent for it."""

from __future__ import annotations

import logging

import pytest
from bson.json_util import CANONICAL_JSON_OPTIONS
from mongoengine import (
    BooleanField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    IntField,
    ListField,
    Q,
    StringField,
)

from lazymig import as_stored
from tests.support.handlers import ADD_ENABLED, handler, model, rule

RULES = {
    "migration01__add_enabled": rule(*ADD_ENABLED),
    "migration02__rename_nick": rule({"nick": {"$exists": True}}, {"$rename": {"nick": "alias"}}),
    "migration03__remove_age": rule({"age": {"$exists": True}}, {"$unset": {"age": ""}}),
    "migration04__add_tags": rule({"info.tags": {"$exists": False}}, {"$set": {"info.tags": []}}),
}

OLD = [
    {"_id": 1, "name": "Ada", "nick": "a", "age": 3},
    {"_id": 2, "name": "Bob", "enabled": False, "nick": "b", "info": {"tags": ["x"]}},
    {"_id": 3, "name": "Cy", "enabled": True, "alias": "c", "info": {"tags": []}},
    {"_id": 4, "name": "Di", "alias": "d"},
]


class Info(EmbeddedDocument):
    tags = ListField(StringField())


def people(rules=RULES, **attributes):
    """Today's model: a name, `enabled`, an alias, tags within `info`; no age."""
    return model(
        handler(**rules, **attributes),
        name=StringField(),
        enabled=BooleanField(),
        alias=StringField(),
        info=EmbeddedDocumentField(Info),
    )


def keys(queryset):
    """The keys, sorted."""
    return sorted(document.key for document in queryset)


DOORS = {
    "iteration": (lambda o: keys(o(enabled=True)), [1, 3, 4]),
    "no_cache": (lambda o: keys(o(enabled=True).no_cache()), [1, 3, 4]),
    "get": (lambda o: o.get(alias="a").key, 1),
    "first": (lambda o: o(alias="b").first().key, 2),
    "first of none": (lambda o: o(alias="z").first(), None),
    "count": (lambda o: o(enabled=True).count(), 3),
    "count within a limit": (lambda o: o(enabled=True).limit(2).count(True), 2),
    "len": (lambda o: len(o(enabled=True)), 3),
    "bool": (lambda o: bool(o(alias="a")), True),
    "index": (lambda o: o(enabled=True).order_by("key")[1].key, 3),
    "slice": (lambda o: keys(o(enabled=True).order_by("key")[1:3]), [3, 4]),
    "in_bulk": (lambda o: sorted(o(enabled=True).in_bulk([1, 2])), [1, 2]),
    "Q or": (lambda o: keys(o(Q(alias="a") | Q(enabled=False))), [1, 2]),
    "Q and": (lambda o: keys(o(Q(alias="d") & Q(enabled=True))), [4]),
    "__raw__": (lambda o: keys(o(__raw__={"alias": {"$in": ["a", "c"]}})), [1, 3]),
    "not equal": (lambda o: keys(o(enabled__ne=True)), [2]),
    "in": (lambda o: keys(o(alias__in=["b", "d"])), [2, 4]),
    "regex": (lambda o: keys(o(alias__iexact="A")), [1]),
    "exists": (lambda o: keys(o(enabled__exists=False)), []),
    "removed": (lambda o: keys(o(__raw__={"age": {"$exists": True}})), []),
    "nested": (lambda o: keys(o(info__tags=[])), [1, 3, 4]),
    "nested size": (lambda o: keys(o(info__tags__size=1)), [2]),
    "parent": (lambda o: keys(o(info__exists=True)), [1, 2, 3, 4]),
    "scalar": (lambda o: sorted(o(enabled=True).scalar("name")), ["Ada", "Cy", "Di"]),
    "values_list": (
        lambda o: sorted(o(alias__lt="c").values_list("key", "alias")),
        [(1, "a"), (2, "b")],
    ),
    "only": (lambda o: sorted(d.alias for d in o(enabled=True).only("alias")), ["a", "c", "d"]),
    "exclude": (lambda o: sorted(d.name for d in o(alias="a").exclude("alias")), ["Ada"]),
    "chain of filters": (lambda o: keys(o(enabled=True).filter(alias="a")), [1]),
    "none": (lambda o: keys(o(enabled=True).none()), []),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_filter_finds_what_migrated_documents_would_give(mongoengine_db, door):
    """Each door that takes a filter answers on old documents as if all were migrated."""
    mongoengine_db["post"].insert_many(OLD)
    ask, expected = DOORS[door]

    assert ask(people().objects) == expected


@pytest.mark.parametrize("door", DOORS)
def test_a_filter_answers_the_same_once_all_is_migrated(mongoengine_db, door):
    """The expected answers above are those of plain MongoEngine on migrated documents."""
    mongoengine_db["post"].insert_many(OLD)
    post = people()
    assert post.migration_handler(post).migrate_pending().errors == ()
    with as_stored(post):
        ask, expected = DOORS[door]

        assert ask(post.objects) == expected


def test_counting_writes_nothing(mongoengine_db):
    """A filter that is rewritten migrates only what it loads."""
    mongoengine_db["post"].insert_many(OLD)
    post = people()

    assert post.objects(enabled=True, alias="a").count() == 1
    assert list(mongoengine_db["post"].find()) == OLD
    assert post.objects.get(alias="a").enabled is True
    assert list(mongoengine_db["post"].find({"_id": {"$ne": 1}})) == OLD[1:]


STORED = {
    "as_stored": lambda post: post.objects.as_stored()(alias="a").count(),
    "filter as_stored": lambda post: post.objects(alias="a").as_stored().count(),
    "as_pymongo": lambda post: len(list(post.objects(alias="a").as_pymongo())),
    "pymongo": lambda post: post._get_collection().count_documents({"alias": "a"}),
}


@pytest.mark.parametrize("door", STORED)
def test_stored_data_is_asked_as_it_is(mongoengine_db, door):
    """as_stored(), as_pymongo() and PyMongo answer from what is stored, and write nothing."""
    mongoengine_db["post"].insert_many(OLD)

    assert STORED[door](people()) == 0
    assert list(mongoengine_db["post"].find()) == OLD


def test_a_block_as_stored_asks_what_is_stored(mongoengine_db):
    """Within `with as_stored(Model)` a filter is sent as it is, and afterwards rewritten again."""
    mongoengine_db["post"].insert_many(OLD)
    post = people()
    with as_stored(post):
        assert post.objects(enabled=True).count() == 1
    assert post.objects(enabled=True).count() == 3


def test_a_handler_may_switch_it_off(mongoengine_db):
    """With see_through = False queries are asked of what is stored; loads still migrate."""
    mongoengine_db["post"].insert_many(OLD)
    post = people(see_through=False)

    assert post.objects(enabled=True).count() == 1
    assert post.objects.distinct("alias") == ["c", "d"]
    assert post.objects(alias="a").update(set__name="no one") == 0
    assert list(mongoengine_db["post"].find()) == OLD
    assert post.objects.get(key=1).alias == "a"
    assert mongoengine_db["post"].find_one({"_id": 1})["alias"] == "a"


def stages(plan):
    """The names of the stages of a winning plan, from the top."""
    yield plan["stage"]
    for inner in (*plan.get("inputStages", ()), *filter(None, [plan.get("inputStage")])):
        yield from stages(inner)


INDEXED = {
    "enabled": (["enabled"], {"enabled": True}, {}),
    "renamed": (["alias", "nick"], {"alias": "a"}, {}),
    "compound": ([("name", "enabled")], {"name": "Ada", "enabled": True}, {}),
    "ten rules": (
        ["enabled"],
        {"enabled": True},
        {
            f"migration{number}__more": rule(
                {f"f{number}": {"$exists": True}}, {"$unset": {f"f{number}": ""}}
            )
            for number in range(10, 16)
        },
    ),
}


@pytest.mark.parametrize("case", INDEXED)
def test_a_rewritten_filter_uses_the_index(mongoengine_db, case):
    """explain() shows an index scan for each branch of a rewritten filter, and no full scan."""
    indexes, filters, more = INDEXED[case]
    collection = mongoengine_db["post"]
    collection.insert_many({"_id": number, "name": f"n{number}"} for number in range(50))
    for index in indexes:
        collection.create_index([(name, 1) for name in ([index] if type(index) is str else index)])
    post = people({**RULES, **more})

    plan = post.objects(**filters).explain()["queryPlanner"]["winningPlan"]
    used = list(stages(plan.get("queryPlan", plan)))
    assert "COLLSCAN" not in used
    # MongoDB may make one scan of branches that share an index.
    assert 1 <= used.count("IXSCAN") <= 2


def test_what_is_sent_is_explained(mongoengine_db):
    """explain_migration() names the rules, the filter as it is sent, and what is shown, why."""
    objects = people().objects

    rewritten = objects(enabled=True).explain_migration()
    assert all(name in rewritten for name in RULES)
    sent = "{'$or': [{'enabled': {'$exists': False, '$eq': None}}, {'enabled': True}]}"
    assert sent in rewritten
    assert "Settled" not in rewritten
    assert "sent as it is: {'name': 'Ada'}" in objects(name="Ada").explain_migration()
    ordered = objects.order_by("alias").explain_migration()
    assert "Shown, because it sorts by alias." in ordered
    assert "Shown by: migration02__rename_nick." in ordered


def test_a_filter_that_cannot_be_rewritten_is_explained(mongoengine_db):
    """explain_migration() names the rule whose value is not known, and writes nothing."""

    def computed(self):
        self.target = {"alias": {"$exists": False}}
        self.update = {"$set": {"alias": self.doc["name"].lower()}}

    mongoengine_db["post"].insert_one({"_id": 1, "name": "Ada"})
    post = people({"migration01__compute": computed})

    text = post.objects(alias="ada").explain_migration()
    assert "because migration01__compute: 'alias'" in text
    assert "computed in Python for some of its documents" in text
    assert mongoengine_db["post"].find_one() == {"_id": 1, "name": "Ada"}
    assert "it is sent as it is" in post.objects(alias="ada").as_stored().explain_migration()


def test_a_rewritten_filter_is_logged_once(mongoengine_db, caplog):
    """Each kind of filter that is rewritten gives one DEBUG line, with both filters."""
    post = people()
    with caplog.at_level(logging.DEBUG, logger="lazymig"):
        for enabled in (True, False, True):
            post.objects(enabled=enabled).count()
        post.objects(name="Ada").count()
        post.objects(alias="a").count()

    lines = [record.getMessage() for record in caplog.records if "is asked as" in record.message]
    assert len(lines) == 2
    assert lines[0].startswith("Post: {'enabled': 'bool'} is asked as {'$or':")
    assert "'nick'" in lines[1]


@pytest.mark.parametrize(
    ("target", "null", "hinted"),
    [
        ({"enabled": {"$exists": False}}, False, True),
        ({"enabled": {"$exists": False}}, True, False),
        ({"enabled": None}, False, False),
    ],
)
def test_the_covered_target_is_hinted_at(caplog, target, null, hinted):
    """One DEBUG line at definition names the target that an index answers, where it is the same."""
    with caplog.at_level(logging.DEBUG, logger="lazymig"):
        model(
            handler(migration01__add=rule(target, ADD_ENABLED[1])), enabled=BooleanField(null=null)
        )

    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == hinted
    assert all("Post.migration01__add" in line and "{'enabled': None}" in line for line in lines)


NEVER = {"migration01__never": rule({"never": {"$exists": True}}, {"$unset": {"never": ""}})}

CALLS = {
    "iterate": keys,
    "filter": lambda o: keys(o(enabled=True)),
    "get": lambda o: o.get(key=3).name,
    "first": lambda o: o.order_by("name").first().key,
    "index": lambda o: o.order_by("-key")[1].key,
    "slice": lambda o: keys(o.order_by("key")[1:3]),
    "skip and limit": lambda o: keys(o.skip(1).limit(2)),
    "count": lambda o: o(enabled=True).count(),
    "count all": lambda o: o.count(),
    "len": lambda o: len(o(enabled=True)),
    "bool": lambda o: bool(o(enabled=True)),
    "in_bulk": lambda o: sorted(o.in_bulk([1, 2])),
    "with_id": lambda o: o.with_id(3).name,
    "scalar": lambda o: sorted(o(enabled=True).scalar("name")),
    "only": lambda o: [d.name for d in o(key=3).only("name")],
    "fields": lambda o: [d.name for d in o(key=3).fields(name=1)],
    "covered": lambda o: [d.name for d in o(name="Cy").only("name").exclude("key")],
    "no_cache": lambda o: keys(o(enabled=True).no_cache()),
    "order_by": lambda o: [d.key for d in o.order_by("-name")],
    "distinct": lambda o: sorted(o.distinct("name")),
    "sum": lambda o: o.sum("key"),
    "average": lambda o: o.average("key"),
    "aggregate": lambda o: list(
        o(enabled=True).aggregate([{"$group": {"_id": "$name"}}, {"$sort": {"_id": 1}}])
    ),
    "as_pymongo": lambda o: list(o(enabled=True).as_pymongo()),
    "to_json": lambda o: o(key=3).to_json(json_options=CANONICAL_JSON_OPTIONS),
    "explain": lambda o: o(name="Cy").explain()["queryPlanner"]["winningPlan"]["stage"],
    "hint": lambda o: keys(o(name="Cy").hint([("name", 1)])),
    "collation": lambda o: keys(o(name="cy").collation({"locale": "en", "strength": 2})),
    "comment": lambda o: keys(o(name="Cy").comment("why")),
    "none": lambda o: keys(o.none()),
    "update": lambda o: o(enabled=True).update(set__name="Eve"),
    "update_one": lambda o: o(key=3).update_one(set__name="Eve"),
    "upsert": lambda o: o(key=9).update_one(upsert=True, set__name="Eve"),
    "delete": lambda o: o(enabled=True).delete(),
    "insert": lambda o: o.insert(o._document(key=8, name="Flo")).key,
    "create": lambda o: o.create(key=8, name="Flo").key,
}


def conversation(rules, call, command_log):
    """What a call gives on a model with these rules, and the commands that it sends."""
    fields = {"name": StringField(), "enabled": BooleanField(), "alias": StringField()}
    if rules is None:
        meta = {"collection": "post"}
        body = {"key": IntField(primary_key=True), "meta": meta, **fields}
        post = type(Document)("Post", (Document,), body)
    else:
        post = model(handler(**rules), **fields)
    post.objects.first()
    command_log.clear()
    result = call(post.objects)
    unlike = ("lsid", "txnNumber", "$clusterTime", "cursor", "getMore")
    return result, [
        (name, {key: value for key, value in command.items() if key not in unlike})
        for name, command in command_log.commands
    ]


@pytest.mark.parametrize("call", CALLS)
def test_an_idle_rule_changes_nothing(monitored_db, command_log, call):
    """A rule on a path that is asked for nowhere: plain MongoEngine's results and commands."""
    documents = [
        {"_id": 1, "name": "Ada", "enabled": True},
        {"_id": 2, "name": "Bob", "enabled": False, "alias": "b"},
        {"_id": 3, "name": "Cy", "enabled": True, "alias": "c"},
    ]
    outcomes = []
    for rules in (None, NEVER):
        monitored_db["post"].drop()
        monitored_db["post"].create_index("name")
        monitored_db["post"].insert_many(documents)
        outcomes.append(conversation(rules, CALLS[call], command_log))

    assert outcomes[1] == outcomes[0]
