"""Models with structure: embedded documents, lists of them, and references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from mongoengine import (
    CASCADE,
    NULLIFY,
    PULL,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    IntField,
    ListField,
    ReferenceField,
    StringField,
)

from tests.equivalence.changes import (
    BOOLEANS,
    IDS,
    LISTS,
    NO_ARRAY,
    NUMBERS,
    STRINGS,
    Bodies,
    Change,
    Draw,
    Group,
    Path,
    Raw,
    Strategy,
    World,
    called,
    converted,
    inside,
    maybe,
    missing,
)

# --- Embedded documents -----------------------------------------------------------------


def _nested(bases: tuple[type, ...], bodies: Bodies) -> dict[str, Any]:
    address = type(EmbeddedDocument)(
        "Address",
        (EmbeddedDocument,),
        {
            "city": StringField(),
            "zip": StringField(db_field="z"),
            "country": StringField(),
            "floor": IntField(),
        },
    )
    model = type(Document)(
        "Nested",
        bases,
        {
            "meta": {"collection": "subject"},
            "name": StringField(),
            "address": EmbeddedDocumentField(address),
            "phone": StringField(),
            **bodies.get("Nested", {}),
        },
    )
    return {"Nested": model, "Address": address}


def _nested_document(draw: Draw) -> Raw:
    document: Raw = {}
    maybe(draw, document, "name", STRINGS)
    maybe(draw, document, "phone", STRINGS)
    if draw(st.integers(0, 4)):
        address: Raw = {}
        maybe(draw, address, "city", STRINGS)
        maybe(draw, address, "z", STRINGS)
        maybe(draw, address, "country", STRINGS)
        maybe(draw, address, "floor", NUMBERS)
        document["address"] = address
    return document


def _city_outside(draw: Draw, document: Raw) -> None:
    document["city"] = draw(STRINGS)
    if draw(BOOLEANS):
        document.pop("address", None)
    elif isinstance(document.get("address"), dict):
        document["address"].pop("city", None)


def _phone_inside(draw: Draw, document: Raw) -> None:
    if isinstance(document.get("address"), dict):
        document["address"]["phone"] = draw(STRINGS)


NESTED_PATHS = (
    Path("name", "name", STRINGS, "string"),
    Path("phone", "phone", STRINGS, "string"),
    Path("address__city", "address.city", STRINGS, "string"),
    Path("address__zip", "address.z", STRINGS, "string"),
    Path("address__country", "address.country", STRINGS, "string"),
    Path("address__floor", "address.floor", NUMBERS, "number"),
)
NESTED_CHANGES = (
    Change(
        "city_moved_in",
        {"city": {"$exists": True}},
        {"$rename": {"city": "address.city"}},
        _city_outside,
    ),
    Change(
        "phone_moved_out",
        {"address.phone": {"$exists": True}},
        {"$rename": {"address.phone": "phone"}},
        _phone_inside,
    ),
    Change(
        "zip_shortened",
        {"address.zip": {"$exists": True}},
        {"$rename": {"address.zip": "address.z"}},
        inside("address", called("zip", "z")),
    ),
    Change(
        "country_added",
        {"address": {"$exists": True}, "address.country": {"$exists": False}},
        {"$set": {"address.country": "a"}},
        inside("address", missing("country")),
    ),
    Change(
        "zip_retyped",
        {"address.z": {"$type": "number"}},
        lambda doc: {"$set": {"address.z": str(doc["address"]["z"])}},
        inside("address", converted("z", lambda _: 1, str)),
    ),
    Change(
        "floor_computed",
        {"address.floor": {"$type": "string"}},
        [{"$set": {"address.floor": {"$toInt": "$address.floor"}}}],
        inside("address", converted("floor", str, int)),
    ),
    Change(
        "phone_moved_out_by_pipeline",
        {"address.phone": {"$exists": True}},
        [{"$set": {"phone": "$address.phone"}}, {"$unset": "address.phone"}],
        _phone_inside,
    ),
    Change(
        "city_moved_in_by_pipeline",
        {"city": {"$exists": True}},
        [{"$set": {"address.city": {"$toString": "$city"}}}, {"$unset": "city"}],
        _city_outside,
    ),
    Change(
        "address_added",
        {"address": {"$exists": False}},
        {"$set": {"address": {"city": "b", "floor": 1}}},
        missing("address"),
    ),
    Change(
        "address_built",
        {"address": {"$exists": False}, "city": {"$exists": True}},
        lambda doc: {"$set": {"address": {"city": doc["city"]}}, "$unset": {"city": ""}},
        _city_outside,
    ),
)


NESTED_WORLD = World(
    "nested",
    _nested,
    (Group("Nested"),),
    NESTED_PATHS,
    NESTED_CHANGES,
    _nested_document,
    ("city", "address.phone", "address.zip", "address"),
)


# --- Lists of embedded documents --------------------------------------------------------


def _lists(bases: tuple[type, ...], bodies: Bodies) -> dict[str, Any]:
    comment = type(EmbeddedDocument)(
        "Comment",
        (EmbeddedDocument,),
        {"author": StringField(), "votes": IntField(db_field="n")},
    )
    model = type(Document)(
        "Lists",
        bases,
        {
            "meta": {"collection": "subject"},
            "title": StringField(),
            "tags": ListField(StringField()),
            "comments": ListField(EmbeddedDocumentField(comment)),
            "size": IntField(),
            "form": IntField(),
            **bodies.get("Lists", {}),
        },
    )
    return {"Lists": model, "Comment": comment}


def _lists_document(draw: Draw) -> Raw:
    document: Raw = {}
    maybe(draw, document, "title", STRINGS)
    maybe(draw, document, "tags", LISTS)
    maybe(draw, document, "size", NUMBERS)
    if draw(st.integers(0, 3)):
        document["comments"] = []
        for _ in range(draw(st.integers(0, 2))):
            comment: Raw = {}
            maybe(draw, comment, "author", STRINGS)
            maybe(draw, comment, "n", NUMBERS)
            document["comments"].append(comment)
    return document


def _in_comments(before: Callable[[Draw, Raw], None]) -> Callable[[Draw, Raw], None]:
    def inner(draw: Draw, document: Raw) -> None:
        for comment in document.get("comments", ()):
            if draw(BOOLEANS):
                before(draw, comment)

    return inner


def _with_votes(doc: Any) -> Raw:
    comments = [{"n": 0, **comment} for comment in doc["comments"]]
    return {"$set": {"comments": comments}}


_VOTES_RENAMED_IN_EACH: Raw = {
    "$cond": [
        {"$isArray": ["$comments"]},
        {
            "$map": {
                "input": "$comments",
                "as": "one",
                "in": {
                    "$cond": [
                        {"$eq": [{"$type": "$$one.votes"}, "missing"]},
                        "$$one",
                        {
                            "$unsetField": {
                                "field": "votes",
                                "input": {"$mergeObjects": ["$$one", {"n": "$$one.votes"}]},
                            }
                        },
                    ]
                },
            }
        },
        "$comments",
    ]
}


def _renamed_votes(doc: Any) -> Raw:
    comments = []
    for comment in doc["comments"]:
        kept = {name: value for name, value in comment.items() if name != "votes"}
        comments.append({**kept, "n": comment["votes"]} if "votes" in comment else kept)
    return {"$set": {"comments": comments}}


LISTS_PATHS = (
    Path("title", "title", STRINGS, "string"),
    Path("tags", "tags", STRINGS, "list"),
    Path("comments__author", "comments.author", STRINGS, "string"),
    Path("comments__votes", "comments.n", NUMBERS, "number"),
    Path("size", "size", NUMBERS, "number"),
)
LISTS_CHANGES = (
    Change(
        "votes_renamed",
        {"comments.votes": {"$exists": True}},
        _renamed_votes,
        _in_comments(called("votes", "n")),
    ),
    Change(
        "votes_renamed_by_pipeline",
        {"comments.votes": {"$exists": True}, "form": {"$exists": False}},
        [{"$set": {"comments": _VOTES_RENAMED_IN_EACH, "form": 2}}],
        _in_comments(called("votes", "n")),
    ),
    Change(
        "votes_added",
        {"comments": {"$elemMatch": {"n": {"$exists": False}}}},
        _with_votes,
        _in_comments(missing("n")),
    ),
    Change(
        "tags_listed",
        {"tags": NO_ARRAY},
        [{"$set": {"tags": ["$tags"]}}],
        converted("tags", lambda tags: tags[0] if tags else "a", list),
    ),
    Change("tags_added", {"tags": {"$exists": False}}, {"$set": {"tags": []}}, missing("tags")),
    Change(
        "tags_renamed",
        {"labels": {"$exists": True}},
        {"$rename": {"labels": "tags"}},
        called("labels", "tags"),
    ),
    Change(
        "sized",
        {"size": {"$exists": False}},
        lambda doc: {"$set": {"size": len(doc.get("comments") or ())}},
        missing("size"),
    ),
    Change(
        "first_comment",
        {"comments": {"$exists": False}, "note": {"$exists": True}},
        lambda doc: {"$set": {"comments": [{"author": doc["note"]}]}, "$unset": {"note": ""}},
        lambda draw, document: document.update(note=draw(STRINGS)) or document.pop("comments", 0),
    ),
    Change(
        "note_dropped",
        {"note": {"$exists": True}},
        {"$unset": {"note": ""}, "$addToSet": {"tags": "noted"}},
        missing(),
    ),
)


LISTS_WORLD = World(
    "lists",
    _lists,
    (Group("Lists"),),
    LISTS_PATHS,
    LISTS_CHANGES,
    _lists_document,
    ("labels", "note", "comments.votes", "comments", "tags.0", "comments.0.n"),
)


# --- References -------------------------------------------------------------------------


def _library(bases: tuple[type, ...], bodies: Bodies) -> dict[str, Any]:
    author = type(Document)(
        "Author", (Document,), {"meta": {"collection": "author"}, "name": StringField()}
    )
    book = type(Document)(
        "Book",
        bases,
        {
            "meta": {"collection": "subject"},
            "title": StringField(),
            "author": ReferenceField(author, reverse_delete_rule=CASCADE),
            "editor": ReferenceField(author, reverse_delete_rule=NULLIFY),
            "readers": ListField(ReferenceField(author, reverse_delete_rule=PULL)),
            **bodies.get("Book", {}),
        },
    )
    return {"Book": book, "Author": author}


AUTHORS: Strategy = st.sampled_from(IDS[:3])


def _library_document(draw: Draw) -> Raw:
    document: Raw = {}
    maybe(draw, document, "title", STRINGS)
    maybe(draw, document, "author", AUTHORS)
    maybe(draw, document, "editor", AUTHORS)
    maybe(draw, document, "readers", st.lists(AUTHORS, max_size=2))
    return document


LIBRARY_PATHS = (
    Path("title", "title", STRINGS, "string"),
    Path("author", "author", AUTHORS, "reference"),
    Path("editor", "editor", AUTHORS, "reference"),
    Path("readers", "readers", AUTHORS, "reference"),
)
LIBRARY_CHANGES = (
    Change(
        "author_renamed",
        {"writer": {"$exists": True}},
        {"$rename": {"writer": "author"}},
        called("writer", "author"),
    ),
    Change(
        "editor_copied",
        {"editor": {"$exists": False}, "author": {"$exists": True}},
        lambda doc: {"$set": {"editor": doc["author"]}},
        missing("editor"),
    ),
    Change(
        "readers_listed",
        {"reader": {"$exists": True}},
        [{"$set": {"readers": ["$reader"]}}, {"$unset": "reader"}],
        lambda draw, document: document.update(reader=draw(AUTHORS)),
    ),
    Change(
        "anonymous",
        {"author": {"$exists": False}, "writer": {"$exists": False}},
        {"$set": {"author": IDS[0]}},
        missing("author"),
    ),
)


LIBRARY_WORLD = World(
    "library",
    _library,
    (Group("Book"),),
    LIBRARY_PATHS,
    LIBRARY_CHANGES,
    _library_document,
    ("writer", "reader"),
    beside={"author": tuple({"_id": id_, "name": "a"} for id_ in IDS[:3])},
)
