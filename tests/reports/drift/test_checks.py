"""What `check_documents` finds, that it goes on, and that it only reads."""

from __future__ import annotations

import enum
import itertools
import json
from datetime import datetime
from typing import Any

import pytest
from bson import DBRef, ObjectId
from bson.datetime_ms import DatetimeMS
from mongoengine import (
    CachedReferenceField,
    ComplexDateTimeField,
    Document,
    DynamicDocument,
    DynamicField,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    EnumField,
    FileField,
    FloatField,
    GenericEmbeddedDocumentField,
    GenericLazyReferenceField,
    GenericReferenceField,
    IntField,
    LazyReferenceField,
    ListField,
    MapField,
    ReferenceField,
    SequenceField,
    StringField,
    ValidationError,
)
from mongoengine.context_managers import query_counter
from pymongo.database import Database

from lazymig.errors import RunOptionError
from lazymig.reports.drift import checks
from lazymig.reports.drift.checks import check_documents
from lazymig.reports.drift.findings import CheckFinding, CheckReport
from tests.support.commands import CommandLog
from tests.support.handlers import ADD_ENABLED, handler, model, rule


def _plain(**fields: Any) -> Any:
    """A model `Post` without rules."""
    meta = {"collection": "post", "auto_create_index": False}
    body = {"meta": meta, "key": IntField(primary_key=True)}
    return type(Document)("Post", (Document,), {**body, **fields})


def _part(**fields: Any) -> Any:
    return type(EmbeddedDocument)("Part", (EmbeddedDocument,), fields)


def _kinds(report: CheckReport) -> set[tuple[str, str]]:
    return {(each.path, each.kind) for each in report.findings}


def _only(report: CheckReport) -> CheckFinding:
    (finding,) = report.findings
    return finding


# --- Faults -----------------------------------------------------------------------------


def test_sound_documents_have_no_finding(any_db: Database[Any]) -> None:
    """Documents as MongoEngine stores them are all right."""
    post = _plain(n=IntField(), tags=ListField(StringField()), part=EmbeddedDocumentField(_part()))
    any_db["post"].insert_many([{"_id": 1, "n": 1, "tags": ["x"], "part": {}}, {"_id": 2}])
    report = check_documents(post)
    assert report.ok
    assert report.documents == 2
    assert str(report).endswith("nothing is wrong")


class Color(enum.Enum):
    RED = "red"


FAULTS: dict[str, tuple[Any, Any, str]] = {
    "type": (IntField(), "x", "invalid"),
    "range": (IntField(min_value=3), 1, "invalid"),
    "type that fails to load": (FloatField(), [1], "not_loadable"),
    "choices": (StringField(choices=["x"]), "y", "choices"),
    "enumeration": (EnumField(Color), "blue", "choices"),
    "enumeration that cannot be looked up": (EnumField(Color), ["red"], "choices"),
    "required": (StringField(required=True), None, "required"),
    "required list": (ListField(IntField(), required=True), [], "invalid"),
    "text of a date": (ComplexDateTimeField(), "junk", "invalid"),
}


@pytest.mark.parametrize("holder", ["document", "embedded", "list", "map"])
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_wherever_it_is(any_db: Database[Any], fault: str, holder: str) -> None:
    """A fault is told with its path, in documents, embedded documents, lists and maps of them."""
    field, value, kind = FAULTS[fault]
    fields, raw = {"f": field, "g": StringField()}, {"f": value, "g": "x"}
    if holder == "embedded":
        fields, raw = {"part": EmbeddedDocumentField(_part(**fields))}, {"part": raw}
    elif holder == "list":
        fields = {"parts": EmbeddedDocumentListField(_part(**fields))}
        raw = {"parts": [{"g": "x", "f": None}, raw] if value is None else [raw, raw]}
    elif holder == "map":
        fields, raw = (
            {"parts": MapField(EmbeddedDocumentField(_part(**fields)))},
            {"parts": {"a": raw}},
        )
    any_db["post"].insert_one({"_id": 1, **raw})
    finding = _only(check_documents(_plain(**fields)))
    paths = {"document": "f", "embedded": "part.f", "list": "parts[].f", "map": "parts.*.f"}
    assert (finding.path, finding.kind) == (paths[holder], kind)
    assert (finding.model, finding.count, finding.ids) == ("Post", 1, (1,))
    assert finding.value == value


def test_unknown_fields_and_classes(any_db: Database[Any]) -> None:
    """Fields and classes that MongoEngine does not know are found at every level."""
    post = _plain(
        part=EmbeddedDocumentField(_part()),
        anything=GenericEmbeddedDocumentField(),
        other=GenericEmbeddedDocumentField(),
    )
    any_db["post"].insert_many(
        [
            {"_id": 1, "x": 1, "part": {"y": 2}},
            {"_id": 2, "part": {"_cls": "Gone"}, "anything": {"_cls": "Gone"}, "other": {}},
            {"_id": 3, "_cls": "Gone"},
        ]
    )
    assert _kinds(check_documents(post)) == {
        ("x", "unknown_field"),
        ("part.y", "unknown_field"),
        ("part._cls", "unknown_class"),
        ("anything._cls", "unknown_class"),
        ("other._cls", "unknown_class"),
        ("_cls", "unknown_class"),
    }


def test_one_fault_hides_no_other(any_db: Database[Any]) -> None:
    """All faults of a document are found, though MongoEngine stops at the first."""
    post = _plain(a=FloatField(), b=IntField(), c=EnumField(Color), d=StringField(required=True))
    any_db["post"].insert_many(
        [{"_id": 1, "x": 1, "y": 2, "a": [1], "b": "x", "c": ["y"]}, {"_id": 2, "b": "z", "d": "x"}]
    )
    report = check_documents(post)
    assert _kinds(report) == {
        ("x", "unknown_field"),
        ("y", "unknown_field"),
        ("a", "not_loadable"),
        ("b", "invalid"),
        ("c", "choices"),
        ("d", "required"),
    }
    assert report.findings[0].path == "b"
    assert report.findings[0].count == 2


def test_a_field_that_loads_but_cannot_be_read(any_db: Database[Any]) -> None:
    """Each field of a loaded document is read, in embedded documents as well."""

    class Strange(StringField):
        def __get__(self, instance: Any, owner: Any) -> Any:
            if instance is not None and instance._initialised:
                raise KeyError("strange")
            return super().__get__(instance, owner)

    post = _plain(a=Strange(), parts=EmbeddedDocumentListField(_part(b=Strange())))
    any_db["post"].insert_one({"_id": 1, "parts": [{"b": "x"}]})
    assert _kinds(check_documents(post)) == {("a", "unreadable"), ("parts[].b", "unreadable")}


def test_what_the_model_itself_says(any_db: Database[Any]) -> None:
    """What a model's own `clean` and `validate` raise is found, for the document as a whole."""

    def clean(self: Any) -> None:
        if self.n == 1:
            raise ValidationError("one is not allowed")
        if self.n == 2:
            raise ZeroDivisionError("two")

    post = _plain(n=IntField(), clean=clean)
    any_db["post"].insert_many([{"_id": number, "n": number} for number in range(4)])
    found = {each.message: each for each in check_documents(post).findings}
    assert found.keys() == {"one is not allowed", "two"}
    assert {each.path for each in found.values()} == {""}
    assert found["two"].error == "ZeroDivisionError"


def test_findings_are_grouped(any_db: Database[Any]) -> None:
    """The same fault is one finding of each class, with its count and ten `_id`s at most."""

    class Human(Document):
        meta = {"allow_inheritance": True, "collection": "human"}
        key = IntField(primary_key=True)
        age = IntField()

    class Jedi(Human):
        pass

    any_db["human"].insert_many(
        [{"_id": n, "_cls": "Human.Jedi" if n < 12 else "Human", "age": "x"} for n in range(15)]
    )
    first, second = check_documents(Human, None).findings
    assert (first.model, first.path, first.count) == ("Human.Jedi", "age", 12)
    assert first.ids == tuple(range(10))
    assert (second.model, second.count) == ("Human", 3)
    assert [each.model for each in check_documents(Jedi).findings] == ["Human.Jedi"]


def test_two_items_with_one_fault_are_one_document(any_db: Database[Any]) -> None:
    """A document counts once for each finding."""
    any_db["post"].insert_one({"_id": 1, "n": ["x", "y"]})
    assert _only(check_documents(_plain(n=ListField(IntField())))).count == 1


def test_a_document_that_cannot_be_decoded(mongoengine_db: Database[Any]) -> None:
    """A value that Python cannot hold is found, and ends nothing."""
    mongoengine_db["post"].insert_many(
        [{"_id": 1, "day": DatetimeMS(2**53)}, {"_id": 2, "x": 1}, {"_id": 3}]
    )
    assert _kinds(check_documents(_plain(day=DynamicField()))) == {
        ("", "not_decodable"),
        ("x", "unknown_field"),
    }


# --- References -------------------------------------------------------------------------


class Tag(Document):
    name = StringField()


class Key(Document):
    key = StringField(primary_key=True)


GONE = ObjectId()
REFERENCES: dict[str, tuple[Any, Any, str]] = {
    "reference": (ReferenceField(Tag), GONE, "f"),
    "text of a key": (ReferenceField(Tag), str(GONE), "f"),
    "DBRef": (ReferenceField(Tag, dbref=True), DBRef("tag", GONE), "f"),
    "other key": (ReferenceField(Key), "gone", "f"),
    "lazy": (LazyReferenceField(Tag), GONE, "f"),
    "generic": (GenericReferenceField(), {"_cls": "Tag", "_ref": DBRef("tag", GONE)}, "f"),
    "generic lazy": (GenericLazyReferenceField(), {"_cls": "Tag", "_ref": DBRef("tag", GONE)}, "f"),
    "cached": (CachedReferenceField(Tag, fields=["name"]), {"_id": GONE, "name": "x"}, "f"),
    "list": (ListField(ReferenceField(Tag)), [GONE], "f[]"),
    "list of lists": (ListField(ListField(LazyReferenceField(Tag))), [[GONE]], "f[][]"),
    "map": (MapField(ReferenceField(Tag)), {"a": GONE}, "f.*"),
    "untyped list": (ListField(), [DBRef("tag", GONE)], "f[]"),
    "untyped generic": (ListField(), [{"_cls": "Tag", "_ref": DBRef("tag", GONE)}], "f[]"),
    "class that is gone": (GenericReferenceField(), {"_cls": "Gone", "_ref": DBRef("x", 1)}, "f"),
    "file": (FileField(), GONE, "f"),
}


@pytest.mark.parametrize(
    ("kind", "embedded"),
    # MongoEngine allows no cached reference in an embedded document.
    [(kind, False) for kind in REFERENCES] + [(k, True) for k in REFERENCES if k != "cached"],
)
def test_dangling_references(mongoengine_db: Database[Any], kind: str, embedded: bool) -> None:
    """A reference to what is not there is found, of whatever kind and wherever it is."""
    field, value, path = REFERENCES[kind]
    fields, raw = {"f": field}, {"f": value}
    if embedded:
        fields, raw = {"parts": EmbeddedDocumentListField(_part(**fields))}, {"parts": [raw]}
        path = f"parts[].{path}"
    mongoengine_db["post"].insert_one({"_id": 1, **raw})
    finding = _only(check_documents(_plain(**fields)))
    assert (finding.path, finding.kind) == (path, "dangling_reference")


@pytest.mark.parametrize("kind", [kind for kind in REFERENCES if kind != "class that is gone"])
def test_references_that_lead_somewhere(mongoengine_db: Database[Any], kind: str) -> None:
    """A reference to what is there is no finding."""
    mongoengine_db["tag"].insert_one({"_id": GONE})
    mongoengine_db["key"].insert_one({"_id": "gone"})
    mongoengine_db["fs.files"].insert_one({"_id": GONE})
    field, value, _path = REFERENCES[kind]
    mongoengine_db["post"].insert_one({"_id": 1, "f": value})
    assert check_documents(_plain(f=field)).ok


def test_references_of_dynamic_documents(mongoengine_db: Database[Any]) -> None:
    """References in undeclared fields of dynamic documents are looked up as well."""

    class Loose(DynamicDocument):
        pass

    mongoengine_db["loose"].insert_one({"x": [DBRef("tag", GONE)], "y": {"z": DBRef("tag", GONE)}})
    assert _kinds(check_documents(Loose)) == {
        ("x[]", "dangling_reference"),
        ("y.*", "dangling_reference"),
    }


def test_a_class_that_embeds_itself(mongoengine_db: Database[Any]) -> None:
    """References at any depth of a class that embeds itself are looked up."""

    class Comment(EmbeddedDocument):
        answers = EmbeddedDocumentListField("self")
        tag = ReferenceField(Tag)

    deep = {"answers": [{"answers": [{"tag": GONE}]}]}
    mongoengine_db["post"].insert_one({"_id": 1, "comment": deep})
    finding = _only(check_documents(_plain(comment=EmbeddedDocumentField(Comment))))
    assert finding.path == "comment.answers[].answers[].tag"


def test_references_are_looked_up_in_batches(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """A batch of documents costs one query for each collection it refers to."""
    post = _plain(tag=ReferenceField(Tag), tags=ListField(ReferenceField(Tag)))
    ids = [ObjectId() for _ in range(100)]
    monitored_db["tag"].insert_many([{"_id": each} for each in ids])
    monitored_db["post"].insert_many(
        [{"_id": number, "tag": each, "tags": ids[:3]} for number, each in enumerate(ids)]
    )
    command_log.clear()
    assert check_documents(post).ok
    finds = [command["find"] for name, command in command_log.commands if name == "find"]
    assert finds == ["tag"]


# --- Reading only -------------------------------------------------------------------------


def test_loading_migrates_nothing_and_takes_no_number(mongoengine_db: Database[Any]) -> None:
    """Documents are loaded as they are stored, referenced ones not at all, and none is changed."""
    rules = handler(migration01__add=rule({"name": {"$exists": False}}, {"$set": {"name": "x"}}))
    tag = model(rules, name=StringField(), meta={"collection": "tag"}, name_of_class="OldTag")
    post = model(
        handler(migration01__add=rule(*ADD_ENABLED)),
        enabled=IntField(),
        tag=ReferenceField(tag),
        tags=ListField(ReferenceField(tag)),
        number=SequenceField(),
    )
    mongoengine_db["tag"].insert_one({"_id": 1})
    mongoengine_db["post"].insert_one({"_id": 1, "tag": 1, "tags": [1]})
    assert check_documents(post).ok
    assert mongoengine_db["tag"].find_one() == {"_id": 1}
    assert mongoengine_db["post"].find_one() == {"_id": 1, "tag": 1, "tags": [1]}
    assert "mongoengine.counters" not in mongoengine_db.list_collection_names()


def test_what_a_model_loads_while_it_is_validated_is_not_migrated(
    mongoengine_db: Database[Any],
) -> None:
    """Documents that a model's `clean` loads are shown as they are stored."""
    rules = handler(migration01__add=rule({"name": {"$exists": False}}, {"$set": {"name": "x"}}))
    tag = model(rules, name=StringField(), meta={"collection": "tag"}, name_of_class="OldTag")
    post = _plain(clean=lambda _self: tag.objects.get())
    mongoengine_db["tag"].insert_one({"_id": 1})
    mongoengine_db["post"].insert_one({"_id": 1})
    assert check_documents(post).ok
    assert mongoengine_db["tag"].find_one() == {"_id": 1}


def test_the_check_leaves_mongoengine_as_it_was(mongoengine_db: Database[Any]) -> None:
    """After a check, fields follow references again and loads migrate."""
    post = model(
        handler(migration01__add=rule(*ADD_ENABLED)), enabled=IntField(), tag=ReferenceField(Tag)
    )
    key = mongoengine_db["tag"].insert_one({"name": "x"}).inserted_id
    mongoengine_db["post"].insert_one({"_id": 1, "tag": key})
    check_documents(post)
    loaded = post.objects.get()
    assert loaded.enabled
    assert loaded.tag.name == "x"


# --- Samples, progress ----------------------------------------------------------------------


def test_a_sample_and_the_whole(any_db: Database[Any]) -> None:
    """A sample has as many documents as were asked for; `None` is the whole collection."""
    any_db["post"].insert_many([{"_id": number, "x": 1} for number in range(30)])
    report = check_documents(_plain(), 10)
    assert (report.documents, report.sample_size, report.findings[0].count) == (10, 10, 10)
    assert check_documents(_plain(), None).documents == 30


def test_the_whole_collection_is_read_in_batches(
    any_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents are held one batch at a time, and progress is told after each."""
    monkeypatch.setattr(checks, "_BATCH", 4)
    any_db["post"].insert_many([{"_id": number} for number in range(10)])
    told: list[tuple[int, int]] = []
    check_documents(_plain(), None, progress=lambda done, total: told.append((done, total)))
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_references_known_to_exist_are_forgotten_at_a_bound(
    mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many documents are referred to, what is remembered of them is bounded."""
    monkeypatch.setattr(checks, "_BATCH", 2)
    monkeypatch.setattr(checks, "_MOST_KNOWN", 3)
    ids = [ObjectId() for _ in range(20)]
    mongoengine_db["tag"].insert_many([{"_id": each} for each in ids])
    mongoengine_db["post"].insert_many(
        [{"_id": number, "tag": each} for number, each in enumerate([*ids, GONE, *ids])]
    )
    check = checks._Check(_plain(tag=ReferenceField(Tag)), None, mongoengine_db["post"])
    finding = _only(check.report(None))
    assert (finding.count, finding.ids) == (1, (20,))
    assert len(check.known) <= 3 + 2


def test_another_collection(any_db: Database[Any]) -> None:
    """A collection that is given is checked in place of the model's."""
    any_db["other"].insert_one({"_id": 1, "x": 1})
    any_db["post"].insert_one({"_id": 1, "y": 1})
    assert _only(check_documents(_plain(), collection=any_db["other"])).path == "x"


@pytest.mark.parametrize("size", [0, -1, True, 1.5])
def test_a_sample_size_that_is_none(size: Any) -> None:
    """What is no number of documents is refused."""
    with pytest.raises(RunOptionError, match=r"^sample_size: is .*; use a number"):
        check_documents(_plain(), size)


def test_what_has_no_documents_is_refused() -> None:
    """Only a concrete document class can be checked."""
    with pytest.raises(TypeError, match="has no documents; give a MongoEngine Document class"):
        check_documents(EmbeddedDocument)


# --- Pending rules ------------------------------------------------------------------------


def test_what_pending_rules_cure(any_db: Database[Any]) -> None:
    """A finding names the rules after which none of its documents has the fault any more."""
    rules = handler(
        migration01__remove=rule({"old": {"$exists": True}}, {"$unset": {"old": True}}),
        migration02__age=rule({"age": {"$lt": 0}}, {"$set": {"age": 0}}),
        allmigration01__name=rule({"name": {"$exists": False}}, {"$set": {"name": "x"}}),
    )
    post = model(
        rules,
        age=IntField(min_value=0, max_value=9),
        name=StringField(required=True),
        size=IntField(),
    )
    any_db["post"].insert_many(
        [
            {"_id": 1, "old": 1, "age": -1, "size": "x"},
            {"_id": 2, "old": 1, "age": 12, "name": "y"},
        ]
    )
    before = list(any_db["post"].find())
    report = check_documents(post)
    cures = {each.path: each.cured_by for each in report.findings}
    assert cures == {
        "old": ("migration01__remove",),
        "age": (),
        "name": ("allmigration01__name",),
        "size": (),
    }
    assert {each.path for each in report.uncured} == {"age", "size"}
    assert list(any_db["post"].find()) == before
    assert any_db.list_collection_names() == ["post"]
    assert "    cured by the pending migration01__remove" in str(report).splitlines()


def _split_name(self: Any) -> None:
    """A rule that fails for every name that is no text, and for one that has no words."""
    self.target = {"name": {"$exists": True}}
    first, *_, last = self.doc["name"].split()
    self.update = {"$set": {"first": first, "last": last}, "$unset": {"name": True}}


@pytest.mark.parametrize(
    ("names", "failed"),
    [
        (["Ada B"] * 600, 0),
        ([*["Ada B"] * 600, 7, None], 2),
        (["", *["Ada B"] * 600], 1),
    ],
    ids=["none", "the rare types", "an example"],
)
def test_the_examples_are_among_the_copies(
    mongoengine_db: Database[Any], names: list[Any], failed: int
) -> None:
    """What a rule fails for, in a document that is shown or one of a rare type, is not cured."""
    post = model(
        handler(migration03__split_name=_split_name), first=StringField(), last=StringField()
    )
    mongoengine_db["post"].insert_many([{"_id": n, "name": name} for n, name in enumerate(names)])
    report = check_documents(post, None)
    finding = _only(report)
    assert (finding.path, finding.kind, finding.count) == ("name", "unknown_field", len(names))
    *others, computed = report.problems
    assert computed.startswith("Post.migration03__split_name: computed in Python, because ")
    if not failed:
        assert (finding.cured_by, others) == (("migration03__split_name",), [])
        return
    assert report.uncured == (finding,)
    (problem,) = others
    assert problem.startswith(f"a pending rule fails for {failed} of ")
    assert "Post.migration03__split_name: the rule raised " in problem
    assert f"  note: {problem}" in str(report).splitlines()


def test_where_another_rule_fails_nothing_is_cured(mongoengine_db: Database[Any]) -> None:
    """A fault that is gone from a copy for which a later rule fails is not cured."""
    rules = handler(
        migration01__remove=rule({"old": {"$exists": True}}, {"$unset": {"old": True}}),
        migration03__split_name=_split_name,
    )
    post = model(rules, first=StringField(), last=StringField(), name=DynamicField())
    mongoengine_db["post"].insert_many([{"_id": 1, "old": 1}, {"_id": 2, "old": 1, "name": 7}])
    report = check_documents(post)
    assert (_only(report).path, _only(report).cured_by) == ("old", ())
    assert [each.partition(": ")[0] for each in report.problems] == [
        "a pending rule fails for 1 of 2 copies",
        "Post.migration03__split_name",
    ]


def test_a_dangling_reference_that_a_rule_takes_away(mongoengine_db: Database[Any]) -> None:
    """Rules cure dangling references as they cure everything else."""
    rules = handler(
        migration01__remove=rule({"old_tag": {"$exists": True}}, {"$rename": {"old_tag": "tag"}}),
        migration02__drop=rule({"tag": GONE}, {"$unset": {"tag": True}}),
    )
    post = model(rules, tag=ReferenceField(Tag))
    mongoengine_db["post"].insert_one({"_id": 1, "tag": GONE})
    assert _only(check_documents(post)).cured_by == ("migration02__drop",)


# --- The report -------------------------------------------------------------------------


def test_the_report_is_plain_json(any_db: Database[Any]) -> None:
    """The report is JSON, whatever BSON was found, with the same keys each time."""
    values = [ObjectId(), b"x", datetime(2020, 1, 1), {"a": [1]}, [None], "x"]
    any_db["post"].insert_many([{"_id": key, "n": each} for key, each in enumerate(values)])
    report = json.loads(json.dumps(check_documents(_plain(n=IntField())).to_dict()))
    assert report.keys() == {
        *("model", "collection", "documents", "sample_size"),
        *("ok", "findings", "problems"),
    }
    assert report["ok"] is False
    assert {frozenset(each) for each in report["findings"]} == {
        frozenset(
            {"model", "path", "kind", "error", "message", "value", "count", "ids", "cured_by"}
        )
    }


def test_a_check_asks_nothing_for_each_document(mongoengine_db: Database[Any]) -> None:
    """Checking ten times the documents takes no more commands, as long as they are one batch."""
    post = _plain(n=IntField(), tag=ReferenceField(Tag))
    counts = []
    numbers = itertools.count()
    for size in (10, 100):
        mongoengine_db["post"].insert_many(
            [{"_id": next(numbers), "n": "x", "tag": GONE} for _ in range(size)]
        )
        with query_counter() as counter:
            check_documents(post)
            counts.append(int(counter))
    assert counts[0] == counts[1]
