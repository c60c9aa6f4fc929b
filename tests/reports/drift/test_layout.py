"""The rows that MongoDB makes of documents, and how they are counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from bson import ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st
from mongoengine import (
    BooleanField,
    Document,
    DynamicEmbeddedDocument,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    FloatField,
    GenericEmbeddedDocumentField,
    IntField,
    ListField,
    MapField,
    StringField,
)
from pymongo.collation import Collation
from pymongo.database import Database

from lazymig.odm.fields import bson_type, classes_of
from lazymig.reports.drift import counts
from lazymig.reports.drift.counts import RowCounts, count_rows
from lazymig.reports.drift.layout import Layout
from lazymig.reports.drift.model_paths import ModelPath
from tests.support.commands import CommandLog

# Each one makes MongoDB read a large expression.
EXAMPLES = 60 if settings().max_examples <= 100 else settings().max_examples // 20


ABSENT: Final = object()


class Shade(EmbeddedDocument):
    meta = {"allow_inheritance": True}
    name = StringField(db_field="n")
    part = EmbeddedDocumentField("self")


class Tint(Shade):
    light = IntField(choices=[1, 2])


class Loose(DynamicEmbeddedDocument):
    size = IntField()


class Thing(Document):
    meta = {"allow_inheritance": True}
    a = StringField()
    b = IntField(db_field="c")
    yes = BooleanField()
    shade = EmbeddedDocumentField(Shade)
    shades = EmbeddedDocumentListField(Shade)
    grid = ListField(ListField(FloatField()))
    sizes = MapField(IntField())
    tints = MapField(EmbeddedDocumentField(Tint))
    any = GenericEmbeddedDocumentField(choices=[Shade, Loose])
    kind = StringField(choices=["x", "y"])
    kinds = ListField(StringField(choices=["x", "y"]))


class Heavy(Thing):
    weight = IntField()


def _layout(model: Any = Thing) -> Layout:
    return Layout([(facts, (facts.name,)) for facts in classes_of(model)])


def rows_in(layout: Layout, document: dict[str, Any]) -> Iterator[str]:
    """The rows of a document, made in memory of the model's paths; without what `$convert` says."""
    return _rows_of_object(layout, None, document)


def _beneath(layout: Layout, parent: ModelPath | None) -> list[ModelPath]:
    return [each for each in layout.places if each.parent is parent]


def _rows_of_object(
    layout: Layout, holder: ModelPath | None, document: dict[str, Any]
) -> Iterator[str]:
    name = document.get("_cls")
    for place in _beneath(layout, holder):
        if name in place.names:
            break
    else:
        yield _row(0 if holder is None else holder.index, ".", "!", _text_of(name)[:200])
        return
    yield _row(place.index, ".")
    known = {"_cls"}
    for field in _beneath(layout, place):
        assert field.facts is not None
        known.add(field.facts.stored)
        yield from _rows_of_value(layout, field, document.get(field.facts.stored, ABSENT))
    if not place.owner.lenient:
        for key in document.keys() - known:
            yield _row(place.index, bson_type(document[key]), "?", key)


def _rows_of_value(layout: Layout, place: ModelPath, value: Any) -> Iterator[str]:
    kind = "missing" if value is ABSENT else bson_type(value)
    facts = place.facts
    assert facts is not None
    is_known = facts.types is None or kind in facts.types
    absent = kind in ("missing", "null", "undefined")
    if facts.choices is not None and not absent and is_known and value not in facts.choices:
        yield _row(place.index, kind, "o", _text_of(value)[:200])
    else:
        yield _row(place.index, kind)
    beneath = _beneath(layout, place)
    if beneath and beneath[0].role == "object" and kind == "object":
        yield from _rows_of_object(layout, place, value)
    elif beneath and beneath[0].role == "item" and kind == ("object" if place.is_map else "array"):
        items = value.values() if place.is_map else value
        yield from {row for item in items for row in _rows_of_value(layout, beneath[0], item)}


def _row(index: int, *parts: str) -> str:
    return "\0".join((str(index), *parts))


def _text_of(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (str, int, float)) else ""


def _plain(row: str) -> str:
    """A row without what `$convert` said."""
    parts = row.split("\0")
    return "\0".join(parts[:2]) if len(parts) == 3 and parts[2] in "ilyn" else row


KEYS = ["_cls", "a", "c", "n", "part", "light", "shade", "size", "strange", "b.c", "$d", "yes"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 2**40),
    st.sampled_from([1.5, "x", "y", "Ä", "12", ObjectId("0" * 24), b"z", "", 2]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=8,
)
SHADES = st.dictionaries(
    st.sampled_from(["_cls", "n", "part", "light", "strange"]),
    VALUES | st.sampled_from(["Shade", "Tint", "Loose", "Gone"]),
    max_size=4,
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "_cls": st.sampled_from(["Thing", "Thing.Heavy", "Thing.Gone", 3, None]),
        "a": VALUES,
        "c": VALUES,
        "yes": VALUES,
        "shade": VALUES | SHADES,
        "shades": VALUES | st.lists(SHADES, max_size=3),
        "grid": VALUES | st.lists(st.lists(SCALARS, max_size=2), max_size=2),
        "sizes": VALUES,
        "tints": st.dictionaries(st.sampled_from(["p", "q.r"]), SHADES, max_size=2),
        "any": SHADES,
        "kind": VALUES,
        "kinds": st.lists(SCALARS, max_size=3),
        "weight": VALUES,
        "strange": VALUES,
        "x.y": SCALARS,
    },
)


@settings(max_examples=EXAMPLES, derandomize=True)
@given(documents=st.lists(DOCUMENTS, min_size=1, max_size=10))
def test_the_rows_in_memory_are_those_of_the_server(
    database: Database[Any], documents: list[dict[str, Any]]
) -> None:
    """For any documents the server makes the rows that the paths of the model ask for."""
    collection = database["thing"]
    collection.delete_many({})
    collection.insert_many([{**each, "_id": number} for number, each in enumerate(documents)])
    layout = _layout()
    answered = collection.aggregate([{"$project": {"rows": layout.expression}}])
    rows = {each["_id"]: sorted(map(_plain, each["rows"])) for each in answered}
    assert rows == {each["_id"]: sorted(rows_in(layout, each)) for each in collection.find()}


def _types(tally: RowCounts, layout: Layout, path: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for place in layout.places:
        if place.path == path and place.facts is not None:
            for kind, count in tally.types.get(place.index, {}).items():
                found[kind] = found.get(kind, 0) + count.documents
    return found


def _tally(collection: Any) -> tuple[RowCounts, Layout]:
    layout = _layout()
    return count_rows(collection, layout.expression, []), layout


def test_documents_are_counted_by_type_at_each_path(database: Database[Any]) -> None:
    """At each path a document counts once for each type, however many items of it there are."""
    database["thing"].insert_many(
        [
            {"_cls": "Thing", "a": "x", "shades": [{"n": "x"}, {"n": "y"}, {"n": 1}, "z"]},
            {"_cls": "Thing.Heavy", "a": None, "weight": 1, "grid": [[1.5, "x"], 2]},
        ]
    )
    tally, layout = _tally(database["thing"])
    assert _types(tally, layout, "a") == {"string": 1, "null": 1}
    assert _types(tally, layout, "shades[]") == {"object": 1, "string": 1}
    assert _types(tally, layout, "shades[].n") == {"string": 1, "int": 1}
    assert _types(tally, layout, "grid[]") == {"array": 1, "int": 1}
    assert _types(tally, layout, "grid[][]") == {"double": 1, "string": 1}
    assert _types(tally, layout, "weight") == {"int": 1}
    assert [tally.documents(place) for place in layout.roots] == [1, 1]


def test_counting_sends_one_command_and_reads_no_document(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """However many documents there are, one aggregation counts them, and none leaves the server."""
    monitored_db["thing"].insert_many([{"_cls": "Thing", "a": "x" * 1000} for _ in range(500)])
    collection = command_log.client[monitored_db.name]["thing"]
    command_log.clear()
    _tally(collection)
    assert command_log.names == ["aggregate"]
    (_name, command) = command_log.commands[0]
    assert [next(iter(stage)) for stage in command["pipeline"]] == ["$project", "$unwind", "$group"]
    assert command["allowDiskUse"] is True


def test_a_collation_of_the_collection_joins_no_names(database: Database[Any]) -> None:
    """Fields whose names differ by case alone are two, whatever the collection's collation says."""
    collation = Collation(locale="en", strength=1)
    collection = database.create_collection("thing", collation=collation)
    collection.insert_many([{"_cls": "Thing", "odd": 1}, {"_cls": "Thing", "ODD": 1}])
    tally, layout = _tally(collection)
    assert set(tally.unknown[layout.roots[0].index]) == {"odd", "ODD"}


def test_names_without_end_are_kept_up_to_a_bound(
    database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of too many unknown fields the frequent ones are kept, and the others counted."""
    monkeypatch.setattr(counts, "_MOST_UNKNOWN", 3)
    documents: list[dict[str, Any]] = [{"_cls": "Thing", f"k{number}": 1} for number in range(20)]
    documents += [{"_cls": "Thing", "often": 1, "k7": 1}] * 2
    database["thing"].insert_many([{**each, "_id": n} for n, each in enumerate(documents)])
    tally, layout = _tally(database["thing"])
    root = layout.roots[0].index
    assert len(tally.unknown[root]) == 3
    assert {"often", "k7"} < set(tally.unknown[root])
    assert tally.left_out[root] == 21 - 3


def test_values_without_end_are_kept_up_to_a_bound(
    database: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of too many values outside of the choices the frequent ones are kept."""
    monkeypatch.setattr(counts, "_MOST_VALUES", 2)
    kinds = [f"k{number}" for number in range(20)] + ["often"] * 5
    database["thing"].insert_many([{"_cls": "Thing", "kind": kind} for kind in kinds])
    tally, layout = _tally(database["thing"])
    (place,) = [each for each in layout.places if each.path == "kind" and _owner(each) == "Thing"]
    assert len(tally.outside[place.index]) <= 2 * 2
    assert tally.outside[place.index]["string", "often"].documents == 5
    assert tally.types[place.index]["string"].documents == len(kinds)


def _owner(place: ModelPath) -> str:
    return place.owner.name


def test_a_class_that_embeds_itself_is_followed_to_an_end() -> None:
    """A class that embeds itself is looked into twice, and what lies deeper is told."""
    layout = _layout()
    assert "shade.part" in {place.path for place in layout.places if place.role == "object"}
    assert "shade.part.part" in layout.unseen
