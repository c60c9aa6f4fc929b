"""Loads that write nothing: old documents in today's shape, and saves that find them as stored."""

from __future__ import annotations

import copy
import logging
import os
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

import mongoengine
import pytest
from mongoengine import (
    DictField,
    Document,
    IntField,
    ListField,
    ReferenceField,
    StringField,
)
from mongoengine.errors import FieldDoesNotExist

from lazymig import (
    ConvergenceWarning,
    LazyMigrationMixin,
    MigrationFailed,
    MigrationTimeout,
    RuleDefinitionError,
    ShowError,
    as_stored,
    once,
    signals,
    without_writing,
)
from tests.support.doors import (
    ALL_DOORS,
    CASES,
    LOAD_ERROR,
    MATCH,
    SINGLE_DOORS,
    as_raw,
    case_id,
    new,
    old_people,
    person_model,
    stored,
)
from tests.support.handlers import (
    ADD_ENABLED,
    copying_in_python,
    handler,
    model,
    quiet_handler,
    rule,
)

WRITES = {"insert", "update", "delete", "findAndModify", "bulkWrite"}
MODIFYING = {"modify, new image", "modify, old image", "modify of a document", "upsert_one"}
READING = {name: door for name, door in SINGLE_DOORS.items() if name not in MODIFYING}
OLD = [MATCH.raw(number) for number in (1, 2, 3)]

RENAMED = rule({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}})
COUNTED = rule({"count": {"$exists": False}}, {"$set": {"count": 0}})


def shout(self: Any) -> None:
    """A rule that only Python computes."""
    self.target = {"loud": {"$exists": False}, "email": {"$exists": True}}
    self.update = {"$set": {"loud": copy.copy(self.doc["email"]) + "!"}}


def post_model(**rules: Any) -> Any:
    """A model whose loads write nothing, with a rule in Python between two others."""
    rules = rules or {
        "migration01__rename": RENAMED,
        "migration02__shout": shout,
        "migration03__count": COUNTED,
    }
    return model(
        quiet_handler(**rules),
        mail=StringField(),
        email=StringField(),
        loud=StringField(),
        count=IntField(),
        tags=ListField(StringField()),
        extra=DictField(),
    )


def written(log: Any) -> set[str]:
    """The names of the commands in a log that write."""
    return WRITES.intersection(log.names)


@pytest.mark.parametrize("case", CASES, ids=case_id)
@pytest.mark.parametrize("door", {**ALL_DOORS, **READING})
def test_every_door_shows_and_leaves_no_trace(any_db, case, door):
    """Whatever starts the rules, each door gives today's shape, and what is stored stays."""
    people = old_people(any_db, case)
    before = stored(any_db["person"])

    with without_writing(people):
        loaded = {**ALL_DOORS, **READING}[door](people)
        loaded = loaded if door in ALL_DOORS and isinstance(loaded, list) else [loaded]
        found = [as_raw(document) for document in loaded]

    assert sorted(found, key=lambda raw: raw["_id"]) == [new(n + 1) for n in range(len(found))]
    assert stored(any_db["person"]) == before


@pytest.mark.parametrize("door", sorted(MODIFYING))
def test_what_modifies_writes(any_db, door):
    """An operation that modifies a document brings it up to date first, and no other."""
    people = old_people(any_db, MATCH)

    with without_writing(people):
        loaded = SINGLE_DOORS[door](people)

    assert as_raw(loaded) == new(1)
    assert stored(any_db["person"]) == [new(1), *OLD[1:]]


@pytest.mark.parametrize("number", [1, 3, 150, 350])
def test_a_stale_batch_costs_a_constant_number_of_commands(monitored_db, command_log, number):
    """One aggregation, and one more for each rule in Python, whatever the size of a batch."""
    posts = post_model()
    monitored_db.post.insert_many({"_id": n, "mail": f"{n}"} for n in range(number))
    posts.objects.count()
    command_log.clear()

    found = list(posts.objects.no_cache().batch_size(100))

    assert [post.loud for post in found] == [f"{n}!" for n in range(number)]
    batches = -(-number // 100)
    assert command_log.names.count("aggregate") == 2 * batches
    assert len(command_log.names) == 2 * batches + command_log.names.count("getMore") + 1
    assert command_log.names.count("getMore") < max(batches, 2)


def test_up_to_date_documents_cost_nothing(monitored_db, command_log):
    """A batch of documents of today's shape costs no command."""
    posts = post_model()
    monitored_db.post.insert_many(
        {"_id": n, "email": f"{n}", "loud": "!", "count": n} for n in range(3)
    )
    posts.objects.count()
    command_log.clear()

    assert [post.count for post in posts.objects] == [0, 1, 2]

    assert command_log.names == ["find"]


def test_a_rule_in_python_is_given_what_the_rules_before_it_leave(mongoengine_db):
    """Rules run in their order, and the update of one in Python is computed by MongoDB."""

    def pushed(self: Any) -> None:
        self.target = {"n": {"$exists": False}, "email": {"$exists": True}}
        self.update = {"$push": {"tags": copy.copy(self.doc["email"])}, "$inc": {"n": 2}}

    posts = model(
        quiet_handler(
            migration01__rename=RENAMED,
            migration02__push=pushed,
            migration03__add=rule({"n": 2}, {"$inc": {"n": 1}}),
        ),
        email=StringField(),
        n=IntField(),
        tags=ListField(StringField()),
    )
    mongoengine_db.post.insert_many(
        [{"_id": 1, "mail": "a", "tags": ["x"]}, {"_id": 2, "email": "b", "n": 2}, {"_id": 3}]
    )

    found = [(post.email, post.n, post.tags) for post in posts.objects.order_by("key")]

    assert found == [("a", 3, ["x", "a"]), ("b", 3, []), (None, None, [])]


@pytest.mark.parametrize(
    "projected",
    [
        lambda posts: posts.only("loud"),
        lambda posts: posts.only("loud", "tags"),
        lambda posts: posts.exclude("email", "tags"),
        lambda posts: posts.exclude("key", "email"),
        lambda posts: posts.fields(slice__tags=1),
        lambda posts: posts.fields(slice__tags=[1, 1]),
        lambda posts: posts.fields(slice__tags=-1),
        lambda posts: posts.fields(slice__tags=0),
        lambda posts: posts.only("loud").fields(slice__tags=1),
        lambda posts: posts.only("extra__inner", "count"),
        lambda posts: posts.exclude("extra__inner"),
    ],
    ids=["one", "two", "without", "no id", "first", "second", "last", "none", "both", "in", "out"],
)
def test_partial_loads_show_what_was_asked_for(mongoengine_db, projected):
    """A projection of an old document gives what it gives of the migrated one."""
    posts = post_model()
    raw = {"_id": 1, "mail": "a", "tags": ["x", "y"], "extra": {"inner": 1, "outer": [{"a": 1}]}}
    mongoengine_db.post.insert_one(raw)

    shown = [as_raw(post) for post in projected(posts.objects)]

    assert stored(mongoengine_db.post) == [raw]
    posts.migration_handler(posts).migrate_pending()
    assert shown == [as_raw(post) for post in projected(posts.objects)]


def test_parts_of_arrays_that_cannot_be_shown_are_errors(mongoengine_db):
    """An old document of which $elemMatch asks is an error; its neighbours of today are not."""
    posts = post_model()
    raw = [
        {"_id": 1, "mail": "a", "tags": ["x"]},
        {"_id": 2, "email": "b", "loud": "b!", "count": 0, "tags": ["x"]},
    ]
    mongoengine_db.post.insert_many(raw)

    queryset = posts.objects.fields(elemMatch__tags={"$eq": "x"}, email=1)

    assert queryset.get(key=2).tags == ["x"]
    with pytest.raises(ShowError, match=r"elemMatch.*migrate_pending"):
        queryset.get(key=1)
    assert stored(mongoengine_db.post) == raw


# --- Saves ------------------------------------------------------------------------------------


def test_a_save_finds_the_stored_document_and_brings_it_up_to_date(mongoengine_db):
    """What was only shown is brought up to date by the save that meets a rule, and by no other."""
    posts = post_model()
    mongoengine_db.post.insert_one({"_id": 1, "mail": "a", "tags": ["x"]})

    post = posts.objects.get()
    post.tags.append("y")
    post.save()
    assert mongoengine_db.post.find_one() == {"_id": 1, "mail": "a", "tags": ["x", "y"]}

    post.email = "b"
    post.save()
    assert mongoengine_db.post.find_one() == {
        "_id": 1,
        "email": "b",
        "tags": ["x", "y"],
        "loud": "a!",
        "count": 0,
    }


@pytest.mark.parametrize(
    "reach",
    [
        lambda posts: posts.objects.get(),
        lambda posts: next(iter(posts.objects)),
        lambda posts: posts.objects.in_bulk([1])[1],
        lambda posts: posts(pk=1).reload(),
        lambda posts: copy.deepcopy(posts.objects.get()),
        lambda posts: posts.objects.only("email").get(),
    ],
    ids=["get", "iteration", "in_bulk", "reload", "copy", "partial"],
)
def test_no_rule_overwrites_what_was_saved(mongoengine_db, reach):
    """However a document was loaded: a save of what a rule writes survives the rule."""
    posts = post_model()
    mongoengine_db.post.insert_one({"_id": 1, "mail": "a"})

    post = reach(posts)
    post.email = "b"
    post.save()
    posts.migration_handler(posts).migrate_pending()

    assert mongoengine_db.post.find_one()["email"] == "b"
    assert "mail" not in mongoengine_db.post.find_one()


def test_a_document_that_was_changed_meanwhile_is_saved_over_what_is_stored_then(mongoengine_db):
    """What somebody else has written since the load stays, but for what was changed here."""
    posts = post_model()
    mongoengine_db.post.insert_one({"_id": 1, "mail": "a"})
    post = posts.objects.get()

    mongoengine_db.post.update_one({"_id": 1}, {"$set": {"mail": "c", "tags": ["z"]}})
    post.count = 5
    post.save()

    assert mongoengine_db.post.find_one() == {
        "_id": 1,
        "email": "c",
        "loud": "c!",
        "count": 5,
        "tags": ["z"],
    }


def test_what_an_old_version_writes_meanwhile_is_brought_up_to_date_by_a_save(mongoengine_db):
    """Under the setting a save looks at what is stored, though its document was up to date once."""
    posts = post_model()
    post = posts(key=1, email="a", loud="a!", count=0).save()

    mongoengine_db.post.update_one({"_id": 1}, {"$set": {"mail": "b"}, "$unset": {"email": ""}})
    post.email = "c"
    post.save()

    found = mongoengine_db.post.find_one()
    assert found["email"] == "c"
    assert "mail" not in found


@pytest.mark.parametrize("reload", [False, True])
def test_a_save_after_a_rescue_rescues_what_is_stored(any_db, reload):
    """A document that only an error's rules make loadable is stored in today's shape by a save."""
    people = old_people(any_db, LOAD_ERROR)

    with without_writing(people):
        person = people(id=1).reload() if reload else people.objects.get(id=1)
        person.name = "Eve"
        person.save()

    assert stored(any_db["person"])[0] == {"_id": 1, "name": "Eve", "enabled": True}
    assert stored(any_db["person"])[1:] == [LOAD_ERROR.raw(2), LOAD_ERROR.raw(3)]


def test_queries_that_write_settle(mongoengine_db):
    """update() and delete() of what a rule writes bring documents up to date, and are right."""
    posts = post_model()
    mongoengine_db.post.insert_many({"_id": n, "mail": f"{n}"} for n in range(4))

    assert posts.objects(email="1").update(set__loud="x") == 1
    assert posts.objects(loud="2!").delete() == 1
    assert posts.objects.order_by("-loud").limit(1).delete() == 1

    assert posts.objects.count() == 2
    posts.migration_handler(posts).migrate_pending()
    assert stored(mongoengine_db.post) == [
        {"_id": 0, "email": "0", "loud": "0!", "count": 0},
        {"_id": 3, "email": "3", "loud": "3!", "count": 0},
    ]


# --- What cannot be shown -----------------------------------------------------------------------


def test_a_read_that_would_have_to_write_is_an_error(monitored_db, command_log):
    """What cannot be answered without a write names operation, rule and remedy; nothing is sent."""
    posts = post_model()
    monitored_db.post.insert_many({"_id": n, "mail": f"{n}"} for n in range(2))
    command_log.clear()

    with pytest.raises(ShowError, match=r"loud.*migrate_pending") as caught:
        list(posts.objects(loud="1!"))

    assert "shout" in caught.value.rule
    assert not written(command_log)
    posts.migration_handler(posts).migrate_pending()
    assert [post.loud for post in posts.objects(loud="1!")] == ["1!"]


def test_what_mongodb_would_refuse_is_the_error_of_its_document(mongoengine_db):
    """A refused document raises MigrationFailed, its neighbours are shown, nothing is written."""
    raw = [{"_id": 1, "n": "text"}, {"_id": 2, "n": 1}]
    mongoengine_db.post.insert_many(raw)
    rules = {"migration01__inc": rule({"done": {"$exists": False}}, {"$inc": {"n": 1, "done": 1}})}
    posts = model(quiet_handler(**rules), n=IntField(), done=IntField())

    assert posts.objects.get(key=2).n == 2
    with pytest.raises(MigrationFailed, match="would refuse") as caught:
        posts.objects.get(key=1)
    assert (caught.value.rule, caught.value.document_id) == ("migration01__inc", 1)
    documents = iter(posts.objects.order_by("-key").no_cache())
    assert next(documents).n == 2
    with pytest.raises(MigrationFailed):
        next(documents)

    skipping = model(
        quiet_handler(on_error="skip", **rules), n=IntField(), done=IntField(), name_of_class="Two"
    )
    assert [post.done for post in skipping.objects.order_by("-key")] == [1, None]
    assert stored(mongoengine_db.post) == raw


def test_what_a_rule_in_python_sets_may_be_refused_too(mongoengine_db):
    """An update that MongoDB would refuse for one document fails for that one alone."""
    raw = [{"_id": 1, "a": 1, "n": "text"}, {"_id": 2, "a": 2, "n": 1}]
    mongoengine_db.post.insert_many(raw)

    def added(self: Any) -> None:
        self.target = {"b": {"$exists": False}, "a": {"$exists": True}}
        self.update = {"$inc": {"n": copy.copy(self.doc["a"])}, "$set": {"b": 1}}

    posts = model(quiet_handler(migration01__add=added), a=IntField(), b=IntField(), n=IntField())

    assert posts.objects.get(key=2).n == 3
    with pytest.raises(MigrationFailed, match="would refuse"):
        posts.objects.get(key=1)
    assert stored(mongoengine_db.post) == raw


def test_a_rule_that_raises_fails_its_document_alone(mongoengine_db):
    """The rule's own exception is the cause, as in a load that writes."""
    mongoengine_db.post.insert_many([{"_id": 1, "a": 1}, {"_id": 2, "a": 0}])

    def inverse(self: Any) -> None:
        self.target = {"b": {"$exists": False}}
        self.update = {"$set": {"b": round(1 / self.doc["a"])}}

    posts = model(quiet_handler(migration01__invert=inverse), a=IntField(), b=IntField())

    assert posts.objects.get(key=1).b == 1
    with pytest.raises(MigrationFailed) as caught:
        posts.objects.get(key=2)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_rule_that_leaves_the_match_is_refused(mongoengine_db):
    """An update in Python that does not end its match is refused, as in a load that writes."""
    mongoengine_db.post.insert_many([{"_id": 1, "a": 1}, {"_id": 2, "a": 5}])

    def halve(self: Any) -> None:
        self.target = {"a": {"$gte": 1}}
        self.update = [{"$set": {"a": {"$subtract": ["$a", copy.copy(self.doc["_id"])]}}}]

    posts = model(quiet_handler(migration01__halve=halve), a=IntField())

    assert posts.objects.get(key=1).a == 0
    with pytest.raises(MigrationFailed, match="still match"):
        posts.objects.get(key=2)


def test_a_slow_rule_is_a_timeout(mongoengine_db):
    """Documents whose turn does not come within lazy_timeout raise it, with the rule's name."""
    mongoengine_db.post.insert_many([{"_id": 1, "a": 1}, {"_id": 2, "a": 1}])
    over = threading.Event()

    def slow(self: Any) -> None:
        self.target = {"b": {"$exists": False}}
        over.wait(0.2)
        self.update = {"$set": {"b": copy.copy(self.doc["a"])}}

    posts = model(
        quiet_handler(migration01__slow=slow, lazy_timeout=0.1), a=IntField(), b=IntField()
    )

    documents = iter(posts.objects.order_by("key").no_cache())
    assert next(documents).b == 1
    with pytest.raises(MigrationTimeout, match="migration01__slow"):
        next(documents)


def test_a_document_too_large_to_be_shown_fails_alone(mongoengine_db):
    """Where MongoDB could not hold the result, the document fails and its neighbours do not."""
    large = "x" * (9 << 20)
    mongoengine_db.post.insert_many([{"_id": 1, "a": large}, {"_id": 2, "a": "y"}])
    target = {"a": {"$exists": True}, "b": {"$exists": False}}
    doubled = rule(target, [{"$set": {"b": "$a"}}])
    posts = model(quiet_handler(migration01__double=doubled), a=StringField(), b=StringField())

    assert posts.objects.get(key=2).b == "y"
    documents = iter(posts.objects.order_by("-key").no_cache())
    assert next(documents).b == "y"
    with pytest.raises(MigrationFailed, match=r"[Ss]ize|large"):
        next(documents)


@pytest.mark.parametrize("number", [1, 2])
def test_rules_that_cannot_be_shown_are_errors_at_definition(number):
    """A rule that needs a write is an error where the handler says that nothing is written."""

    @once
    def mailed(self: Any) -> None:
        self.target = {"sent": {"$exists": False}}
        self.update = {"$set": {"sent": self.doc["_id"]}}

    def stamped(self: Any) -> None:
        self.target = {"at": {"$exists": False}}
        self.update = {"$set": {"at": datetime.now(timezone.utc)}}

    method = {1: mailed, 2: stamped}[number]
    with pytest.raises(RuleDefinitionError, match=r"cannot be shown.*write_on_load"):
        model(
            quiet_handler(migration01__it=method),
            sent=IntField(),
            at=mongoengine.DateTimeField(),
        )


def test_within_a_block_they_are_errors_of_the_documents_they_concern(mongoengine_db):
    """Where the class is there already, the first load of such a document says what and why."""

    def stamped(self: Any) -> None:
        self.target = {"at": {"$exists": False}}
        self.update = {"$set": {"at": datetime.now(timezone.utc)}}

    raw = [{"_id": 1}, {"_id": 2, "at": datetime(2020, 1, 1)}]
    mongoengine_db.post.insert_many(raw)
    posts = model(
        handler(migration01__at=stamped, migration02__count=COUNTED, on_error="skip"),
        at=mongoengine.DateTimeField(),
        count=IntField(),
    )

    with without_writing(posts):
        assert posts.objects.get(key=2).count == 0
        with pytest.raises(ShowError, match=r"migration01__at.*present time.*migrate_pending"):
            posts.objects.get(key=1)
    assert stored(mongoengine_db.post) == raw


# --- The switch -----------------------------------------------------------------------------------


def test_a_block_is_for_its_models_and_its_thread(mongoengine_db):
    """without_writing(Model) holds for its collection in that thread, until an exception."""
    people = old_people(mongoengine_db, MATCH)
    from_thread = []

    with without_writing(Document):
        assert people.objects.get(id=1).enabled is True
    assert stored(mongoengine_db["person"]) == OLD

    with suppress(KeyError), without_writing(people):
        other = threading.Thread(target=lambda: from_thread.append(people.objects.get(id=2)))
        other.start()
        other.join()
        assert people.objects.get(id=1).enabled is True
        with as_stored(people):
            assert people.objects.get(id=1).enabled is None
        raise KeyError

    assert as_raw(from_thread[0]) == new(2)
    assert stored(mongoengine_db["person"]) == [OLD[0], new(2), OLD[2]]
    assert as_raw(people.objects.get(id=1)) == new(1)
    assert stored(mongoengine_db["person"]) == [new(1), new(2), OLD[2]]


def test_a_block_holds_for_subclasses_and_for_the_whole_collection(mongoengine_db):
    """A subclass in the block stands for its collection, and a base for its subclasses."""

    class Animal(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        enabled = mongoengine.BooleanField()
        meta = {"allow_inheritance": True, "collection": "animal"}
        migration_handler = handler(migration01__enable=rule(*ADD_ENABLED))

    class Dog(Animal):
        pass

    raw = [{"_id": 1, "_cls": "Animal.Dog"}, {"_id": 2, "_cls": "Animal"}]
    mongoengine_db.animal.insert_many(raw)

    for named in (Animal, Dog):
        with without_writing(named):
            assert [each.enabled for each in Animal.objects] == [True, True]
            assert Dog.objects.get().enabled is True
    assert stored(mongoengine_db.animal) == raw


def test_references_obey_it(any_db):
    """A reference to a model whose loads write nothing shows its document."""
    people = old_people(any_db, MATCH)

    class Holder(Document):
        one = ReferenceField(people)
        several = ListField(ReferenceField(people))
        meta = {"collection": "holders"}

    any_db["holders"].insert_one({"one": 1, "several": [2, 3]})

    with without_writing(people):
        holder = Holder.objects.first()
        assert [each.enabled for each in (holder.one, *holder.several)] == [True] * 3
    assert stored(any_db["person"]) == OLD


def test_a_document_that_a_rule_hands_over_gets_the_rules_of_its_new_class(mongoengine_db):
    """Classes with handlers of their own: the rules of both are shown, one after the other."""

    class Animal(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        legs = IntField()
        meta = {"allow_inheritance": True, "collection": "animal"}
        migration_handler = quiet_handler(
            migration01__dog=rule(
                {"_cls": "Animal", "barks": True}, {"$set": {"_cls": "Animal.Dog"}}
            )
        )

    class Dog(Animal):
        barks = mongoengine.BooleanField()
        migration_handler = quiet_handler(
            migration01__legs=rule({"legs": {"$exists": False}}, {"$set": {"legs": 4}})
        )

    mongoengine_db.animal.insert_one({"_id": 1, "_cls": "Animal", "barks": True})

    found = Animal.objects.get()

    assert (type(found), found.legs, found.barks) == (Dog, 4, True)
    assert Dog.objects.get().legs == 4
    assert stored(mongoengine_db.animal) == [{"_id": 1, "_cls": "Animal", "barks": True}]


def test_nothing_is_announced(any_db, caplog):
    """Of documents that are only shown no signal of a migration is sent; the log has a detail."""
    people = old_people(any_db, MATCH)
    heard: list[Any] = []

    def hear(_model: Any, **told: Any) -> None:
        heard.append(told)

    signals.pre_migration.connect(hear)
    signals.post_migration.connect(hear)
    try:
        with without_writing(people), caplog.at_level(logging.DEBUG, logger="lazymig"):
            assert people.objects.get(id=1).enabled is True
    finally:
        signals.pre_migration.disconnect(hear)
        signals.post_migration.disconnect(hear)

    assert heard == []


def test_calls_by_hand_write(any_db):
    """migrate() and migrate_pending() are asked to write, and do."""
    people = person_model(quiet_handler(migration01__enable=rule(*ADD_ENABLED)))
    any_db["person"].insert_many(OLD)

    people.migration_handler(people).migrate(1)
    assert stored(any_db["person"]) == [new(1), *OLD[1:]]
    assert people.migration_handler(people).migrate_pending().modified == 2
    assert stored(any_db["person"]) == [new(1), new(2), new(3)]


def test_the_attribute_is_checked():
    """Another value than a truth value is an error of the handler."""
    with pytest.raises(RuleDefinitionError, match="write_on_load"):
        handler(write_on_load="no")


PROGRAM = """
import sys, mongoengine
from mongoengine import Document, BooleanField, IntField
from lazymig import DocumentMigration, LazyMigrationMixin

class Rules(DocumentMigration):
    def migration01__enable(self):
        self.target = {"enabled": {"$exists": False}}
        self.update = {"$set": {"enabled": True}}

class Person(LazyMigrationMixin, Document):
    id = IntField(primary_key=True)
    enabled = BooleanField()
    meta = {"strict": False}
    migration_handler = Rules

mongoengine.connect(sys.argv[2], host=sys.argv[1], uuidRepresentation="standard")
print([person.enabled for person in Person.objects])
"""


@pytest.mark.parametrize(
    ("value", "expected", "migrated"),
    [("0", "[True]", False), ("1", "[True]", True), (None, "[True]", True), ("no", None, False)],
)
def test_the_environment_decides_for_a_process(
    server_uri, database, tmp_path, value, expected, migrated
):
    """LAZYMIG_WRITE_ON_LOAD is 0, 1 or not set; anything else is an error that says so."""
    database.person.insert_one({"_id": 1})
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    environment = {key: text for key, text in os.environ.items() if key != "LAZYMIG_WRITE_ON_LOAD"}
    if value is not None:
        environment["LAZYMIG_WRITE_ON_LOAD"] = value
    done = subprocess.run(
        [sys.executable, program, server_uri, database.name],
        capture_output=True,
        check=False,
        text=True,
        env=environment,
    )

    if expected is None:
        assert done.returncode
        assert "LAZYMIG_WRITE_ON_LOAD is 'no'" in done.stderr
    else:
        assert done.stdout.strip() == expected, done.stderr
    assert ("enabled" in database.person.find_one()) is migrated


def test_a_document_that_nothing_helps_raises_mongoengines_own_error(any_db):
    """What no rule makes loadable raises the exception of plain MongoEngine, with the note."""
    with pytest.warns(ConvergenceWarning):
        people = person_model(
            quiet_handler(
                migration01__try=rule({"legacy": {"$exists": True}}, {"$set": {"enabled": True}})
            )
        )
    any_db["person"].insert_one({"_id": 1, "legacy": 1})

    with pytest.raises(FieldDoesNotExist):
        people.objects.get(id=1)
    assert stored(any_db["person"]) == [{"_id": 1, "legacy": 1}]


def test_a_computed_rule_is_asked_of_copies_on_mongomock(mock_db):
    """On mongomock rules in Python are shown as well."""
    posts = model(
        quiet_handler(migration01__copy=copying_in_python("a", "b")), a=IntField(), b=IntField()
    )
    mock_db.post.insert_one({"_id": 1, "a": 3})

    assert posts.objects.get().b == 3
    assert list(mock_db.post.find()) == [{"_id": 1, "a": 3}]
    assert mock_db.list_collection_names() == ["post"]
