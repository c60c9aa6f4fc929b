"""Options that hold for migrated documents alone: indexes of a part, `$`, and `as_stored`."""

from __future__ import annotations

import pytest
from mongoengine import (
    BooleanField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    IntField,
    ListField,
    StringField,
)

from lazymig import LazyMigrationMixin, as_stored
from tests.support.handlers import handler, model, rule

RENAME = ({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}})
ADD = ({"enabled": {"$exists": False}}, {"$set": {"enabled": True}})


def outcomes(database, rules, documents, fields, operation, indexes=()):
    """What an operation gives and leaves: on migrated documents, and on old ones with lazymig."""
    seen = []
    for lazy in (False, True):
        database["post"].drop()
        for keys, options in indexes:
            database["post"].create_index(keys, **options)
        database["post"].insert_many(documents)
        body = {"key": IntField(primary_key=True), "meta": {"collection": "post"}, **fields()}
        if lazy:
            numbered = {f"migration{number:02}__do": rule(*one) for number, one in enumerate(rules)}
            body["migration_handler"] = handler(**numbered)
        else:
            migrate(database["post"], rules)
        bases = (LazyMigrationMixin, Document) if lazy else (Document,)
        result = operation(type(Document)("Post", bases, body))
        migrate(database["post"], rules)
        seen.append((result, list(database["post"].find().sort("_id"))))
    return seen


def migrate(collection, rules):
    """The rules by MongoDB alone."""
    for target, update in rules:
        collection.update_many(target, update)


def user_fields():
    """A renamed field and a new one."""
    return {"name": StringField(), "email": StringField(), "enabled": BooleanField()}


USERS = [
    {"_id": 1, "mail": "a@x", "name": "n"},
    {"_id": 2, "email": "a@x", "name": "n", "enabled": False},
    {"_id": 3, "name": "n"},
    {"_id": 4, "mail": "b@x", "name": "m", "enabled": True},
]

SPARSE = [([("email", 1)], {"sparse": True})]
COMPOUND = [([("email", 1), ("enabled", 1)], {"sparse": True, "name": "both"})]
PARTIAL = [([("name", 1)], {"partialFilterExpression": {"enabled": True}, "name": "active"})]
FULL = [([("email", 1)], {})]
HASHED = [([("email", "hashed")], {})]

HINTS = {
    "sparse": (SPARSE, "email_1"),
    "sparse by keys": (SPARSE, [("email", 1)]),
    "compound": (COMPOUND, "both"),
    "partial": (PARTIAL, "active"),
    "full": (FULL, "email_1"),
    "hashed": (HASHED, "email_hashed"),
    "natural": ((), [("$natural", 1)]),
}


def as_document(hint):
    """A hint as PyMongo hands it on with an aggregation."""
    return dict(hint) if isinstance(hint, list) else hint


HINTED = {
    "count": lambda q: q.count(),
    "iterate": lambda q: sorted(d.key for d in q),
    "limit": lambda q: len(list(q.limit(1))),
    "comment": lambda q: sorted(d.key for d in q.comment("why")),
    "distinct": lambda q: sorted(q.distinct("name")),
    "aggregate": lambda q: sorted(
        d["_id"] for d in q.aggregate([{"$project": {"_id": 1}}], hint=as_document(q._hint))
    ),
}


@pytest.mark.parametrize("operation", HINTED)
@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize("query", [{}, {"email": "a@x"}, {"enabled": True}, {"name": "n"}], ids=str)
def test_a_hint_leads_to_what_its_index_would_hold(mongoengine_db, hint, operation, query):
    """A hinted query finds what it finds on migrated documents, by an index of whatever kind."""
    indexes, given = HINTS[hint]

    def ask(post):
        return HINTED[operation](post.objects(**query).hint(given))

    plain, lazy = outcomes(mongoengine_db, (RENAME, ADD), USERS, user_fields, ask, indexes)

    assert lazy == plain


def test_a_dropped_hint_writes_nothing(mongoengine_db):
    """The documents that a sparse index would hold are counted without one being migrated."""
    post = model(handler(migration01__rename=rule(*RENAME)), **user_fields())
    mongoengine_db["post"].insert_many(USERS)
    mongoengine_db["post"].create_index("email", sparse=True)

    assert post.objects.hint("email_1").count() == 3

    assert list(mongoengine_db["post"].find().sort("_id")) == USERS


class Note(EmbeddedDocument):
    """What the lists hold."""

    author = StringField()
    votes = IntField()


def note_fields():
    """A list that was renamed, and a number that is new."""
    return {"notes": ListField(EmbeddedDocumentField(Note)), "n": IntField(), "m": IntField()}


RENAMED = ({"old": {"$exists": True}}, {"$rename": {"old": "notes"}})
NUMBERED = ({"n": {"$exists": False}}, {"$set": {"n": 1}})
BY_SIZE = (
    {"n": {"$exists": False}, "$expr": {"$gt": [{"$size": {"$ifNull": ["$notes", []]}}, 1]}},
    {"$set": {"n": 1}},
)
TWO = [{"author": "a", "votes": 1}, {"author": "b", "votes": 2}]
ALL_NEW = [{"_id": 1, "notes": TWO, "n": 1}, {"_id": 2, "notes": TWO[1:], "n": 2}]
ALL_OLD = [{"_id": 1, "old": TWO}, {"_id": 2, "old": TWO[1:], "n": 2}]
HALF_OLD = [{"_id": 1, "notes": TWO}, {"_id": 2, "old": TWO[1:], "n": 2}]


def authors(documents):
    """The authors in each document."""
    return sorted((d.key, [(note.author, note.votes) for note in d.notes]) for d in documents)


POSITIONAL = {
    "update": lambda o: o(notes__author="b").update(set__notes__S__votes=9),
    "update by a raw one": lambda o: o(notes__author="b").update(
        __raw__={"$inc": {"notes.$.votes": 1}}
    ),
    "update_one": lambda o: o(notes__author="b", key=1).update_one(inc__notes__S__votes=1),
    "update in a range": lambda o: o(notes__votes__gt=1, n=1).update(set__notes__S__author="z"),
    "modify": lambda o: authors(
        [o(notes__author="b", key=1).modify(new=True, set__notes__S__votes=9)]
    ),
    "modify, the old image": lambda o: (
        o(notes__author="b", key=1).modify(set__notes__S__votes=9).key
    ),
    "modify nothing": lambda o: o(notes__author="q").modify(set__notes__S__votes=9),
    "upsert": lambda o: o(notes__author="b", key=1).update(upsert=True, set__notes__S__votes=9),
    "unset": lambda o: o(notes__author="b").update(unset__notes__S__votes=1),
    "every element": lambda o: o(notes__author="b").update(
        __raw__={"$set": {"notes.$[].votes": 5}}
    ),
    "only": lambda o: authors(o(notes__author="b").only("notes.$")),
    "only with a new field": lambda o: authors(o(notes__author="b").only("notes.$", "n")),
    "only where n": lambda o: authors(o(notes__author="b", n=1).only("notes.$")),
    "fields": lambda o: authors(o(notes__author="b").fields(notes__S=1)),
    "fields, first": lambda o: authors(
        [o(notes__author="b").order_by("id").fields(notes__S=1).first()]
    ),
    "fields, index": lambda o: authors([o(notes__author="b").order_by("id").fields(notes__S=1)[1]]),
    "fields, get": lambda o: authors([o(key=1, notes__author="b").fields(notes__S=1).get()]),
    "fields, no_cache": lambda o: authors(o(notes__author="b").fields(notes__S=1).no_cache()),
    "fields, collation": lambda o: authors(
        o(notes__author="B").collation({"locale": "en", "strength": 2}).fields(notes__S=1)
    ),
}


@pytest.mark.parametrize("documents", [ALL_NEW, HALF_OLD, ALL_OLD], ids=["new", "half", "old"])
@pytest.mark.parametrize("operation", POSITIONAL)
@pytest.mark.parametrize(
    "rules",
    [(RENAMED,), (NUMBERED,), (RENAMED, NUMBERED), (RENAMED, BY_SIZE)],
    ids=["renamed", "numbered", "both", "by an expression"],
)
def test_the_positional_operator_finds_its_element(mongoengine_db, rules, operation, documents):
    """An update or a projection with `$` meets the element that the user's filter names."""
    if RENAMED not in rules:
        documents = [
            {("notes" if name == "old" else name): value for name, value in document.items()}
            for document in documents
        ]

    def ask(post):
        return POSITIONAL[operation](post.objects)

    plain, lazy = outcomes(mongoengine_db, rules, documents, note_fields, ask)

    assert lazy == plain


def test_a_positional_update_of_new_documents_is_sent_as_it_is(monitored_db, command_log):
    """Where nothing is old the update carries the user's own filter."""
    post = model(handler(migration01__rename=rule(*RENAMED)), **note_fields())
    monitored_db["post"].insert_many(ALL_NEW)
    post.objects.first()
    command_log.clear()

    assert post.objects(notes__author="b").update(set__notes__S__votes=9) == 2

    (command,) = [command for name, command in command_log.commands if name == "update"]
    assert command["updates"][0]["q"] == {"notes.author": "b"}


RAW_ORDERS = {
    "a list": ["name", ("_id", -1)],
    "a string": "name",
    "pairs": [("name", 1)],
    "a mapping": {"name": 1, "_id": -1},
    "a written path": ["email", ("_id", -1)],
}


@pytest.mark.parametrize("order", RAW_ORDERS)
def test_a_raw_order_in_any_notation(mongoengine_db, order):
    """order_by(__raw__=...) takes what PyMongo takes, also while a rule is pending."""

    def ask(post):
        queryset = post.objects.order_by(__raw__=RAW_ORDERS[order])
        return [d.key for d in queryset], queryset.first().key, queryset.count()

    plain, lazy = outcomes(mongoengine_db, (RENAME, ADD), USERS, user_fields, ask)

    assert lazy[0] == plain[0]


def test_an_upsert_that_sets_the_class_settles_rules_of_the_class(mongoengine_db):
    """What MongoEngine adds to an upsert of a class with subclasses counts as written."""
    ranked = rule({"_cls": "Human.Jedi", "rank": {"$exists": False}}, {"$set": {"rank": 1}})

    class Human(LazyMigrationMixin, Document):
        key = IntField(primary_key=True)
        age = IntField()
        rank = IntField()
        meta = {"allow_inheritance": True, "collection": "human", "strict": False}
        migration_handler = handler(migration01__rank=ranked)

    class Jedi(Human):
        pass

    mongoengine_db["human"].insert_one({"_id": 4, "_cls": "Human.Jedi"})

    Human.objects(key=4).update(upsert=True, set__age=7)

    assert mongoengine_db["human"].find_one() == {"_id": 4, "_cls": "Human", "rank": 1, "age": 7}


# When as_stored counts


def stored_model(database):
    """A model with a former class and a rule, and an old document of each."""

    class Human(LazyMigrationMixin, Document):
        key = IntField(primary_key=True)
        enabled = BooleanField()
        meta = {"allow_inheritance": True, "collection": "human"}
        migration_handler = handler(migration01__add=rule(*ADD), legacy_classes=("Human.Gone",))

    class Jedi(Human):
        pass

    database["human"].insert_many([{"_id": 1, "_cls": "Human"}, {"_id": 2, "_cls": "Human.Jedi"}])
    return Human


MAKE = {
    "all": lambda o: o,
    "filtered": lambda o: o(enabled=True),
    "commented": lambda o: o(enabled=True).comment("why"),
    "limited": lambda o: o(enabled=True).max_time_ms(50_000).limit(5),
    "sliced": lambda o: o(enabled=True)[0:5],
    "not cached": lambda o: o(enabled=True).no_cache(),
}


@pytest.mark.parametrize("how", MAKE)
def test_a_block_counts_when_the_query_is_sent(mongoengine_db, how):
    """A queryset made before an as_stored block shows stored documents in it, and none after it."""
    human = stored_model(mongoengine_db)
    before = list(mongoengine_db["human"].find())
    outside = MAKE[how](human.objects)
    expected = 2 if how == "all" else 0

    with as_stored(human):
        inside = MAKE[how](human.objects)
        assert len(list(outside)) == len(list(outside.clone())) == outside.count() == expected
    assert list(mongoengine_db["human"].find()) == before

    assert inside.count() == 2
    assert [d.enabled for d in inside] == [True, True]
    assert mongoengine_db["human"].count_documents({"enabled": True}) == 2


def test_an_iteration_goes_on_as_it_began(mongoengine_db):
    """What a cursor shows is decided as it is begun, not in its midst."""
    human = stored_model(mongoengine_db)
    with as_stored(human):
        stored = iter(human.objects.no_cache().batch_size(1))
        assert next(stored).enabled is None
    assert next(stored).enabled is None
    assert mongoengine_db["human"].count_documents({"enabled": True}) == 0

    migrating = iter(human.objects.no_cache().batch_size(1))
    assert next(migrating).enabled is True
    with as_stored(human):
        assert next(migrating).enabled is True


@pytest.mark.parametrize("inside", [True, False])
def test_former_classes_are_no_part_of_what_is_stored(mongoengine_db, inside):
    """Whether documents of former classes are found is decided when the query is sent."""
    human = stored_model(mongoengine_db)
    mongoengine_db["human"].insert_one({"_id": 3, "_cls": "Human.Gone"})
    queryset = human.objects
    with as_stored(human):
        if inside:
            queryset = human.objects
        assert queryset.count() == 2
        assert queryset.as_stored().count() == 2
    assert queryset.count() == 3
    assert queryset.as_stored().count() == 2
