"""Seals: rules whose old shape MongoDB refuses, the reasons against it, and the way back."""

from __future__ import annotations

import datetime as dt
import re
from contextlib import suppress
from typing import Any

import pytest
from bson import Decimal128, Int64, encode
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from hypothesis import given, settings
from hypothesis import strategies as st
from mongoengine import BooleanField, IntField, StringField
from pymongo.errors import BulkWriteError, WriteError

from lazymig import MigrationFailed, RunOptionError, SealError, once, render_report, restore
from lazymig.engines.validators import Seal, read_validator, seals_in_refusal, set_validator
from lazymig.operations import seals
from lazymig.operations.sealable import Candidates
from tests.support.handlers import ADD_ENABLED, handler, model, rule
from tests.support.reports import rows_of

RENAME = ({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}})
AS_BYTES = CodecOptions(document_class=RawBSONDocument)
SCHEMA: dict[str, Any] = {
    "$jsonSchema": {
        "bsonType": "object",
        "properties": {"n": {"bsonType": ["int", "long"], "maximum": Int64(9)}},
    }
}


def sealed_model(**rules):
    """A model `Post` with these rules, or with one that renames."""
    rules = rules or {"migration01__rename": rule(*RENAME)}
    return model(
        handler(**rules),
        email=StringField(),
        enabled=BooleanField(default=True),
        n=IntField(),
        strict=False,
        meta={"strict": False},
    )


def seal(post, **options):
    """Seal the rules of a model."""
    return post.migration_handler(post).seal(**options)


def unseal(post, **options):
    """Unseal them."""
    return post.migration_handler(post).unseal(**options)


def options_of(collection):
    """The options of a collection, byte for byte."""
    command = {"listCollections": 1, "filter": {"name": collection.name}}
    (found,) = collection.database.command(command, codec_options=AS_BYTES)["cursor"]["firstBatch"]
    return found["options"].raw if "options" in found else b""


def reasons(report):
    """The reasons of a report, by rule."""
    return {each.rule: each.reason for each in report.not_sealed}


@pytest.fixture
def posts(mongoengine_db):
    """The collection of `Post`, which exists."""
    return mongoengine_db.create_collection("post")


def test_a_sealed_rule_s_shape_is_refused(posts):
    """Inserts, replacements and updates to a shape that a sealed rule looks for get error 121."""
    posts.insert_one({"_id": 1, "email": "a"})
    report = seal(sealed_model())

    assert (report.sealed, report.added, report.not_sealed) == (
        ("migration01__rename",),
        ("migration01__rename",),
        (),
    )
    for write in (
        lambda: posts.insert_one({"mail": "b"}),
        lambda: posts.update_one({"_id": 1}, {"$set": {"mail": "b"}}),
        lambda: posts.replace_one({"_id": 1}, {"mail": "b"}),
        lambda: posts.update_one({"_id": 7}, {"$set": {"mail": "b"}}, upsert=True),
    ):
        with pytest.raises(WriteError) as refused:
            write()
        assert refused.value.code == 121
    posts.update_one({"_id": 1}, {"$set": {"email": "c"}})
    assert list(posts.find()) == [{"_id": 1, "email": "c"}]


def test_a_rule_with_old_documents_is_not_sealed(posts):
    """A rule that documents match is left, with their count, and the validator as it was."""
    before = options_of(posts)
    posts.insert_many([{"_id": 1, "mail": "a"}, {"_id": 2, "mail": "b"}, {"_id": 3}])

    report = seal(sealed_model())

    (left,) = report.not_sealed
    assert (left.rule, left.remaining) == ("migration01__rename", 2)
    assert "2 documents still match" in left.reason
    assert "migrate_pending()" in left.reason
    assert report.sealed == ()
    assert options_of(posts) == before


def test_many_rules_are_sealed_together(posts, mongoengine_db):
    """All rules, lazy and bulk, are sealed by one change of the validator, made certain by one."""
    rules = {f"migration{n:02}__x": rule({f"f{n}": 1}, {"$unset": {f"f{n}": ""}}) for n in range(9)}
    rules["allmigration01__y"] = rule({"g": 1}, {"$unset": {"g": ""}})
    report = seal(sealed_model(**rules))

    assert len(report.sealed) == 10
    validator = posts.options()["validator"]
    assert len(validator["$nor"]) == 10
    with pytest.raises(WriteError):
        posts.insert_one({"g": 1})


@pytest.mark.parametrize(
    "given_validator",
    [
        SCHEMA,
        {"n": {"$lt": 10}},
        {"$and": [{"n": {"$lt": 10}}, {"$nor": [{"n": 3}]}]},
        {"$nor": [{"n": 3}]},
        {"at": {"$ne": dt.datetime(2020, 1, 1)}, "d": {"$ne": Decimal128("1.50")}},
        {"$expr": {"$ne": ["$n", {"$literal": Int64(3)}]}},
    ],
    ids=str,
)
def test_a_validator_comes_back_byte_for_byte(posts, given_validator):
    """What somebody else has set holds beside the seals, and is left by `unseal` as it was."""
    posts.database.command(
        "collMod",
        "post",
        validator=given_validator,
        validationLevel="strict",
        validationAction="error",
    )
    before = options_of(posts)
    post = sealed_model()
    seal(post)
    assert seal(post).added == ()
    if given_validator is SCHEMA:
        with pytest.raises(WriteError):
            posts.insert_one({"n": 10})
    with pytest.raises(WriteError):
        posts.insert_one({"mail": "a"})
    posts.insert_one({"n": 2, "at": 1, "d": 1})

    assert unseal(post) == ("Post.migration01__rename",)

    assert options_of(posts) == before


def test_no_validator_is_left_where_none_was(posts):
    """Without a validator before, `unseal` leaves none, and MongoDB's defaults."""
    post = sealed_model()
    seal(post)
    unseal(post)
    assert posts.options() == {"validationLevel": "strict", "validationAction": "error"}
    posts.insert_one({"mail": "a"})


@pytest.mark.parametrize(
    ("option", "value"),
    [("validationLevel", "moderate"), ("validationLevel", "off"), ("validationAction", "warn")],
)
def test_a_validator_that_does_not_refuse_is_an_error(posts, option, value):
    """Where MongoDB lets invalid documents through nothing is sealed, and the error says why."""
    posts.database.command("collMod", "post", validator=SCHEMA, **{option: value})
    before = options_of(posts)
    with pytest.raises(SealError, match=rf"{option} .*'{value}'.*collMod"):
        seal(sealed_model())
    assert options_of(posts) == before


def test_a_target_that_time_brings_about_is_left(posts):
    """A rule that documents come to match without being written is left, others are sealed."""
    post = sealed_model(
        allmigration01__late=rule({"$expr": {"$lt": ["$at", "$$NOW"]}}, {"$set": {"n": 1}}),
        migration01__rename=rule(*RENAME),
    )
    report = seal(post)
    assert "by the time alone" in reasons(report)["allmigration01__late"]
    assert report.sealed == ("migration01__rename",)


@pytest.mark.parametrize(
    "target",
    [
        {
            "x": 1,
            "$expr": {
                "$function": {"body": "function(a) {return a}", "args": ["$a"], "lang": "js"}
            },
        },
        {"x": 1, "$sampleRate": 0.5},
        {"x": 1, "$expr": {"$lt": [{"$rand": {}}, 0.5]}},
    ],
    ids=["JavaScript", "$sampleRate", "$rand"],
)
def test_a_target_that_no_validator_can_hold_is_left(posts, target):
    """What MongoDB refuses in a validator is left, in its words; the others are sealed."""
    post = sealed_model(
        migration01__rename=rule(*RENAME),
        allmigration01__odd=rule(target, {"$set": {"n": 1}}),
        allmigration02__more=rule({"g": 1}, {"$unset": {"g": ""}}),
    )
    report = seal(post)
    assert report.sealed == ("migration01__rename", "allmigration02__more")
    assert "refuses its target in a validator" in reasons(report)["allmigration01__odd"]


def test_rules_that_are_never_sealed_say_why(posts):
    """Undetermined rules, once rules and rules that write by themselves are left with a reason."""

    def undetermined(self):
        if self.doc["a"] == 1:
            self.target = {"a": 1}
            self.update = {"$set": {"a": 2}}

    def by_hand(self):
        self.target = {"h": 1}
        if not self.status:
            self.collection.update_many(self.target, {"$unset": {"h": ""}})

    @once()
    def effect(self):
        self.target = {"e": 1}
        if self.status:
            return
        self.update = {"$unset": {"e": ""}}

    post = sealed_model(
        migration01__undetermined=undetermined,
        allmigration01__by_hand=by_hand,
        allmigration02__effect=effect,
    )
    found = reasons(seal(post))
    assert "needs a document" in found["migration01__undetermined"]
    assert "writes by itself" in found["allmigration01__by_hand"]
    assert "effects elsewhere" in found["allmigration02__effect"]


def test_a_rule_that_another_feeds_waits_for_it(posts):
    """A rule under whose target an unsealed one may bring documents is left until that one is."""
    post = sealed_model(
        migration01__name=rule({"nick": {"$exists": True}}, {"$rename": {"nick": "mail"}}),
        migration02__rename=rule(*RENAME),
        migration03__enabled=rule(*ADD_ENABLED),
    )
    posts.insert_one({"_id": 1, "nick": "a", "enabled": True})

    report = seal(post)
    assert report.sealed == ("migration03__enabled",)
    assert "migration01__name" in reasons(report)["migration02__rename"]

    post.migration_handler(post).migrate_pending()
    assert seal(post).not_sealed == ()


def test_documents_in_quarantine_keep_a_rule_from_being_sealed(posts):
    """A rule that a document in quarantine waits for is left, with the count."""
    posts.create_index("n", unique=True)
    posts.insert_many([{"_id": 1, "n": 1}, {"_id": 2, "x": 1}])
    post = sealed_model(allmigration01__n=rule({"x": 1}, {"$set": {"n": 1}, "$unset": {"x": ""}}))
    post.migration_handler(post).migrate_all()
    posts.update_one({"_id": 2}, {"$set": {"x": 1}})
    (left,) = seal(post).not_sealed
    assert "still matches" in left.reason or "quarantine" in left.reason


def test_a_document_that_comes_while_it_is_sealed_ends_the_sealing(posts, monkeypatch):
    """A document that is written between the count and the validator has the seal taken back."""
    post = sealed_model()
    plain = seals.set_validator

    def late(collection, validator):
        if "sealing" in str(validator) and not posts.count_documents({}):
            posts.insert_one({"_id": 1, "mail": "late"})
        plain(collection, validator)

    monkeypatch.setattr(seals, "set_validator", late)
    report = seal(post)

    (left,) = report.not_sealed
    assert left.remaining == 1
    assert "came while it was sealed" in left.reason
    assert report.sealed == ()
    assert posts.options().get("validator") is None
    posts.insert_one({"mail": "b"})


def meddling(monkeypatch, meddle, times=1):
    """Have somebody else do something after each of the first counts of protected documents."""
    plain, left = Candidates.count, [times]

    def count(self, rule, *, again=False):
        plain(self, rule, again=again)
        if again and left[0]:
            left[0] -= 1
            meddle()

    monkeypatch.setattr(Candidates, "count", count)


def set_by_others(posts, validator):
    """Replace the validator as another process does."""
    posts.database.command("collMod", "post", validator=validator)


def test_a_validator_that_others_set_meanwhile_stays(posts, monkeypatch):
    """What somebody else sets while rules are sealed stays, and the rules are sealed beside it."""
    meddling(monkeypatch, lambda: set_by_others(posts, {"n": {"$lt": 10}}))
    post = sealed_model()
    assert seal(post).sealed == ("migration01__rename",)
    for refused in ({"n": 10}, {"mail": "a"}):
        with pytest.raises(WriteError):
            posts.insert_one(refused)
    unseal(post)
    assert posts.options()["validator"] == {"n": {"$lt": 10}}


def test_a_document_that_came_while_others_took_the_protection_away_is_counted(posts, monkeypatch):
    """No rule is sealed by a count that was made before old documents could come again."""

    def meddle():
        set_by_others(posts, {})
        posts.insert_one({"_id": 1, "mail": "late"})

    meddling(monkeypatch, meddle)
    report = seal(sealed_model())
    assert (report.sealed, [each.remaining for each in report.not_sealed]) == ((), [1])
    assert "validator" not in posts.options()


def test_others_who_change_the_validator_all_the_time_are_told_of(posts, monkeypatch):
    """Where the validator changes at each attempt an error says so, and it is left to others."""
    values = iter(range(9))
    meddling(monkeypatch, lambda: set_by_others(posts, {"n": {"$ne": next(values)}}), times=9)
    with pytest.raises(SealError, match="changed by somebody else meanwhile"):
        seal(sealed_model())
    assert posts.options()["validator"] == {"n": {"$ne": 4}}


def test_what_others_set_during_the_first_count_stays(posts, monkeypatch):
    """A validator that was set since the first look is not replaced by what was there then."""
    plain, calls = Candidates.look, []

    def look(self):
        plain(self)
        if not calls:
            set_by_others(posts, {"n": {"$lt": 10}})
        calls.append(self)

    monkeypatch.setattr(Candidates, "look", look)
    post = sealed_model()
    seal(post)
    unseal(post)
    assert posts.options()["validator"] == {"n": {"$lt": 10}}


def test_old_documents_are_counted_by_the_rule_indexes(monitored_db, command_log):
    """With the rule's index, `seal` and `explain_migration` read only what is old."""
    monitored_db["post"].insert_many([{"_id": n, "enabled": True} for n in range(50)])
    post = sealed_model(migration01__enable=rule(*ADD_ENABLED))
    post.migration_handler(post).create_rule_indexes()
    command_log.clear()
    post.objects(enabled=True).explain_migration()
    assert seal(post).sealed == ("migration01__enable",)
    counted = [dict(sent) for name, sent in command_log.commands if name == "aggregate"]
    assert len(counted) == 3
    for sent in counted:
        explain = {key: sent[key] for key in ("aggregate", "pipeline", "cursor")}
        plan = monitored_db.command({"explain": explain, "verbosity": "executionStats"})
        assert "COLLSCAN" not in str(plan)


def test_a_call_that_was_killed_half_way_counts_for_nobody(posts):
    """A seal that was not made certain is none, and the next call makes it one, or takes it out."""
    clause = {"$and": [{"$comment": "lazymig: sealing Post.migration01__rename"}, RENAME[0]]}
    posts.insert_one({"_id": 1, "mail": "a"})
    posts.database.command("collMod", "post", validator={"$nor": [clause]})
    post = sealed_model()

    (status,) = post.migration_handler(post).get_status()
    assert (status.sealed, status.remaining) == (False, 1)
    assert seal(post).sealed == ()
    assert "validator" not in posts.options()

    posts.database.command("collMod", "post", validator={"$nor": [clause]})
    posts.delete_many({})
    assert seal(post).sealed == ("migration01__rename",)


def test_a_seal_of_another_target_does_not_count(posts):
    """A rule whose target was changed since is not sealed; sealed anew, the old seal is gone."""
    seal(sealed_model())
    changed = sealed_model(
        migration01__rename=rule({"mail": {"$type": "string"}}, {"$rename": {"mail": "email"}})
    )
    (status,) = changed.migration_handler(changed).get_status()
    assert not status.sealed

    assert seal(changed).sealed == ("migration01__rename",)
    assert len(posts.options()["validator"]["$nor"]) == 1


def test_the_seal_of_a_rule_that_is_gone_stays(posts):
    """When a rule's code goes its seal protects on, is listed, and goes by its name."""
    seal(sealed_model())
    without = sealed_model(migration02__enabled=rule(*ADD_ENABLED))
    report = seal(without)
    assert report.others == ("Post.migration01__rename",)
    with pytest.raises(WriteError):
        posts.insert_one({"mail": "a", "enabled": True})

    assert unseal(without, rules=["migration01__rename"]) == ("Post.migration01__rename",)
    posts.insert_one({"mail": "a", "enabled": True})
    with pytest.raises(WriteError):
        posts.insert_one({"mail": "a"})


def test_a_wrong_name_is_an_error(posts):
    """A name of no rule, or of a rule that is not sealed, is an error that lists the names."""
    post = sealed_model()
    with pytest.raises(RunOptionError, match=r"migration09__x.*migration01__rename"):
        seal(post, rules=["migration09__x"])
    with pytest.raises(RunOptionError, match="not sealed in"):
        unseal(post, rules=["migration01__rename"])
    for call in (seal, unseal):
        with pytest.raises(RunOptionError, match=r"rules: is the text 'migration01__rename'"):
            call(post, rules="migration01__rename")


def test_rules_are_chosen_by_name(posts):
    """`rules` names those that are to be sealed; the others stay as they are."""
    post = sealed_model(migration01__rename=rule(*RENAME), migration02__enabled=rule(*ADD_ENABLED))
    assert seal(post, rules=["migration02__enabled"]).sealed == ("migration02__enabled",)
    assert unseal(post, rules=["migration02__enabled"]) == ("Post.migration02__enabled",)


def test_a_field_that_may_be_left_out_is_warned_of(posts):
    """A seal that would refuse what the application itself may save comes with a warning."""
    post = model(
        handler(migration01__n=rule({"n": {"$exists": False}}, {"$set": {"n": 0}})), n=IntField()
    )
    (warning,) = seal(post).warnings
    assert "without n cannot be saved" in warning


def test_mongomock_has_no_validators(mock_db):
    """On mongomock nothing is sealed: the error says what seals need."""
    with pytest.raises(SealError, match=r"mongomock's.*need a MongoDB server"):
        seal(sealed_model())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"viewOn": "other", "pipeline": []}, "is a view"),
        ({"timeseries": {"timeField": "at"}}, "is a time-series collection"),
        (None, "does not exist"),
    ],
)
def test_what_has_no_validator_is_an_error(mongoengine_db, options, words):
    """A view, a time-series collection and one that does not exist are errors that say so."""
    if options is not None:
        mongoengine_db.create_collection("post", **options)
    post = sealed_model()
    with pytest.raises(SealError, match=words):
        seal(post, collection=mongoengine_db["post"])


def test_an_open_transaction_is_not_waited_for_long(posts, client):
    """A collection that a transaction holds is left as it was after some seconds, with an error."""
    before = options_of(posts)
    with client.start_session() as session:
        session.start_transaction()
        posts.insert_one({"email": "a"}, session=session)
        with pytest.raises(SealError, match="open transaction"):
            seal(sealed_model())
        session.abort_transaction()
    assert options_of(posts) == before


def test_status_and_deprecated_count_no_sealed_rule(monitored_db, command_log):
    """A sealed rule can go, and is reported as sealed without a query for its documents."""
    monitored_db.create_collection("post")
    post = sealed_model(migration01__rename=rule(*RENAME), migration02__enabled=rule(*ADD_ENABLED))
    seal(post, rules=["migration01__rename"])
    command_log.clear()

    first, second = post.migration_handler(post).get_status()
    assert (first.sealed, first.remaining, first.removable) == (True, 0, True)
    assert (second.sealed, second.remaining) == (False, 0)
    assert "mail" not in str([command for _, command in command_log.commands])
    assert post.migration_handler(post).get_deprecated()["deprecated"] == [
        "migration01__rename",
        "migration02__enabled",
    ]
    assert "mail" not in str([command for _, command in command_log.commands])


def test_the_page_shows_what_is_sealed(posts):
    """The HTML page names the rules that are sealed beside those that can go."""
    posts.insert_one({"_id": 1, "email": "a", "enabled": True})
    post = sealed_model(migration01__rename=rule(*RENAME), migration02__enabled=rule(*ADD_ENABLED))
    seal(post, rules=["migration01__rename"])
    rows = rows_of(render_report([post]), "m1-rules")
    assert rows["migration01__rename"][-1] == "can go sealed"
    assert "sealed" not in rows["migration02__enabled"][-1]


def test_the_rules_of_a_subclass_are_sealed_for_its_documents(posts):
    """The seal of a subclass's rule refuses that class's documents, and no other's."""
    meta = {"allow_inheritance": True, "strict": False}
    base = model(None, meta=meta)
    child = type(
        "Child",
        (base,),
        {
            "migration_handler": handler(migration01__rename=rule(*RENAME)),
            "__module__": __name__,
        },
    )
    report = seal(child)
    assert report.sealed == ("migration01__rename",)
    posts.insert_one({"_cls": "Post", "mail": "a"})
    with pytest.raises(WriteError):
        posts.insert_one({"_cls": "Post.Child", "mail": "a"})


def test_a_sealed_rule_of_another_class_is_not_warned_of(posts):
    """A rule that moves documents to another class is no danger to seals once it is sealed."""
    base = model(
        handler(migration01__rename=rule(*RENAME)),
        email=StringField(),
        meta={"allow_inheritance": True, "strict": False},
    )
    moves = handler(
        migration01__move=rule({"n": 1}, {"$set": {"_cls": "Post"}, "$unset": {"n": 1}})
    )
    child = type("Child", (base,), {"migration_handler": moves, "__module__": __name__})
    assert "migration01__move" in reasons(seal(base))["migration01__rename"]
    seal(child)
    report = seal(base)
    assert (report.sealed, report.warnings) == (("migration01__rename",), ())


values = st.one_of(
    st.integers(-3, 3), st.booleans(), st.none(), st.text("ab", max_size=2), st.just([1, "a"])
)
conditions = st.one_of(
    values,
    st.builds(lambda flag: {"$exists": flag}, st.booleans()),
    st.builds(lambda value: {"$in": [value, 2]}, values),
    st.builds(lambda value: {"$ne": value}, values),
    st.builds(lambda value: {"$gt": value}, st.integers(-3, 3)),
    st.just({"$type": ["int", "string"]}),
    st.just({"$elemMatch": {"$eq": 1}}),
    st.just(re.compile("^a")),
)
targets = st.dictionaries(st.sampled_from("abc"), conditions, min_size=1, max_size=2)
documents = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


@settings(max_examples=60)
@given(target=targets, written=st.lists(documents, min_size=1, max_size=8))
def test_exactly_what_the_target_matches_is_refused(database, target, written):
    """Whatever the target: of any documents, those that it matches are refused, and no others."""
    open_ones, sealed = database["open"], database["sealed"]
    for each in (open_ones, sealed):
        each.drop()
    database.create_collection("sealed")
    validator = read_validator(sealed)
    set_validator(sealed, validator.with_seals([Seal("Post", "migration01__x", encode(target))]))
    numbered = [{"_id": n, **each} for n, each in enumerate(written)]
    open_ones.insert_many(numbered)
    refused = set()
    try:
        sealed.insert_many(numbered, ordered=False)
    except BulkWriteError as error:
        refused = {entry["index"] for entry in error.details["writeErrors"]}

    assert refused == {each["_id"] for each in open_ones.find(target)}


@pytest.mark.parametrize("theirs", [{}, {"n": {"$lt": 9}}], ids=["ours", "ours and theirs"])
def test_a_restore_names_the_seals_that_refuse(posts, tmp_path, theirs):
    """Old documents of a backup are not put back past a seal; those that refuse them are named."""
    posts.insert_many(
        [
            {"_id": 1, "n": 1, "mail": "a", "enabled": True},
            {"_id": 2, "n": 1, "mail": "a"},
            {"_id": 3, "n": 1, "mail": "a", "enabled": True},
        ]
    )
    post = sealed_model(migration01__add=rule(*ADD_ENABLED), migration02__rename=rule(*RENAME))
    post.migration_handler(post).migrate_pending(backup=tmp_path / "backup")
    posts.database.command("collMod", "post", validator=theirs)
    posts.delete_one({"_id": 3})
    seal(post)

    report = restore(tmp_path / "backup", posts.database)
    assert (report.restored, report.conflict_count, report.refused) == (0, 3, 2)
    add, rename = names = ("Post.migration01__add", "Post.migration02__rename")
    assert set(report.seals) == set(names)
    old = "MongoDB refused it: it has the old shape of the sealed"
    assert {each.document_id: each.reason for each in report.conflicts} == {
        1: f"{old} rule {rename}",
        2: f"{old} rules {add}, {rename}",
        3: "it was deleted since",
    }
    assert restore(tmp_path / "backup", posts.database, force=True).refused == 3

    unseal(post, rules=report.seals)
    assert restore(tmp_path / "backup", posts.database, force=True).restored == 3


def test_a_restore_blames_no_seal_for_what_another_validator_refuses(posts, tmp_path):
    """What the user's own validator refuses is refused for that reason alone."""
    posts.insert_one({"_id": 1, "n": 99, "mail": "a"})
    post = sealed_model(migration01__less=rule({"n": 99, "mail": "a"}, {"$set": {"n": 1}}))
    post.migration_handler(post).migrate_pending(backup=tmp_path / "backup")
    posts.database.command("collMod", "post", validator={"n": {"$lt": 9}})
    more = sealed_model(migration02__rename=rule({"mail": "b"}, {"$set": {"mail": "c"}}))
    seal(more)
    report = restore(tmp_path / "backup", posts.database)
    assert (report.refused, report.seals) == (1, ())
    assert report.conflicts[0].reason == "MongoDB refused it: Document failed validation"


def test_a_server_that_does_not_say_which_seal_refuses(posts):
    """Without the details of a refusal all seals are named: one of them it was, or another."""
    seal(sealed_model(migration01__add=rule(*ADD_ENABLED), migration02__rename=rule(*RENAME)))
    validator = read_validator(posts)
    names = ("Post.migration01__add", "Post.migration02__rename")
    for said in ({}, {"errInfo": {}}):
        assert seals_in_refusal(validator, said) == names


def test_a_rule_whose_result_a_seal_refuses_says_so(posts):
    """A new rule that writes what a seal refuses is refused, and the error names the seals."""
    seal(sealed_model(migration02__rename=rule(*RENAME)))
    post = sealed_model(
        migration01__former=rule({"old": {"$exists": True}}, {"$rename": {"old": "mail"}}),
        migration02__rename=rule(*RENAME),
    )
    posts.insert_one({"_id": 1, "old": "a"})
    with pytest.raises(MigrationFailed, match="seal --show"):
        post.objects.first()
    (warning,) = seal(post).warnings
    assert "migration01__former may bring documents under its target" in warning


def test_an_upsert_that_a_seal_refuses_changes_nothing(posts):
    """A seal leaves the collection as it was, whatever is refused."""
    seal(sealed_model())
    with pytest.raises(WriteError):
        posts.update_one({"mail": "a"}, {"$set": {"n": 1}}, upsert=True)
    assert posts.count_documents({}) == 0


paths = st.sampled_from(["a", "b", "c"])
writes = st.one_of(
    st.builds(lambda each: ("insert", each), documents),
    st.builds(lambda path, value: ("update", {"$set": {path: value}}), paths, values),
    st.builds(lambda path: ("update", {"$unset": {path: ""}}), paths),
    st.builds(lambda path: ("update", [{"$set": {path: "$b"}}]), paths),
    st.builds(lambda each: ("replace", each), documents),
)


@settings(max_examples=40)
@given(wanted=st.lists(targets, min_size=1, max_size=3), written=st.lists(writes, max_size=12))
def test_no_write_brings_a_document_under_a_sealed_target(mongoengine_db, wanted, written):
    """Whatever is written after `seal`, no document matches a rule that is sealed."""
    mongoengine_db.drop_collection("post")
    collection = mongoengine_db.create_collection("post")
    collection.insert_one({"_id": 0, "a": "ab"})
    rules = {
        f"allmigration{number:02}__x": rule(target, {"$set": {"done": True}})
        for number, target in enumerate(wanted)
    }
    post = sealed_model(**rules)
    report = seal(post)
    for kind, value in written:
        with suppress(WriteError):
            if kind == "insert":
                collection.insert_one(dict(value))
            elif kind == "update":
                collection.update_many({}, value)
            else:
                collection.replace_one({"_id": 0}, value)

    counts = [collection.count_documents(target) for target in wanted]
    sealed = [name in report.sealed for name in rules]
    assert [count for count, is_sealed in zip(counts, sealed, strict=True) if is_sealed] == (
        [0] * sum(sealed)
    )
    assert all(
        (each.remaining or 0) > 0 or "may bring" in each.reason for each in report.not_sealed
    )
