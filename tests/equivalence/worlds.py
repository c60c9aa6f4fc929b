"""Models, the changes their documents have been through, and documents in all shapes between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId
from hypothesis import strategies as st
from mongoengine import (
    CASCADE,
    NULLIFY,
    PULL,
    BooleanField,
    Document,
    DynamicDocument,
    EmbeddedDocument,
    EmbeddedDocumentField,
    FloatField,
    IntField,
    ListField,
    ReferenceField,
    StringField,
)

from lazymig import LazyMigrationMixin

Raw = dict[str, Any]
Draw = Callable[[Any], Any]
Strategy = Any
Bodies = Mapping[str, Raw]

STRINGS: Strategy = st.sampled_from(["a", "b", "ab", "", "1"])
NUMBERS: Strategy = st.sampled_from([0, 1, 2, -1])
FLOATS: Strategy = st.sampled_from([0.0, 0.5, 1.0, 2.0])
BOOLEANS: Strategy = st.booleans()
LISTS: Strategy = st.lists(STRINGS, max_size=2)
IDS = [ObjectId(f"{number:024x}") for number in range(1, 9)]


@dataclass(frozen=True)
class Path:
    """A field: its name in MongoEngine's queries, its path in the database, its values."""

    name: str
    stored: str
    values: Strategy
    kind: str


@dataclass(frozen=True)
class Change:
    """A rule, and how a document of today's shape looked before it.

    `update` is a function of the raw document for a rule that reads it.
    """

    name: str
    target: Raw
    update: Any
    before: Callable[[Draw, Raw], None]
    array_filters: Any = None
    of: str = ""

    def method(self) -> Callable[[Any], None]:
        """The rule as a method of a handler."""
        target, update, array_filters = self.target, self.update, self.array_filters

        def static(handler: Any) -> None:
            handler.target = target
            handler.update = update
            handler.array_filters = array_filters

        def dynamic(handler: Any) -> None:
            handler.target = target
            handler.update = update(handler.doc)

        return dynamic if callable(update) else static

    def apply(self, collection: Any, concern: Raw) -> None:
        """Apply the rule to a collection, as a careful script would."""
        target = {"$and": [concern, self.target]} if concern else self.target
        if not callable(self.update):
            collection.update_many(target, self.update, array_filters=self.array_filters)
            return
        for raw in list(collection.find(target)):
            collection.update_one({"_id": raw["_id"]}, self.update(raw))


@dataclass(frozen=True)
class Group:
    """The handler on one class: whose documents it concerns, and which changes it holds."""

    owner: str
    concern: Raw = field(default_factory=dict)
    rules: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class World:
    """A model, or a tree of them, and all that may happen to it.

    :param define: makes the classes; takes the bases of the root, and by the names of the classes
        what is added to their bodies.
    :param paths: what operations read and write.
    :param document: a document of today's shape.
    :param groups: the handlers; each inherits from the one before.
    :param gone: database paths that only old documents have.
    :param beside: other collections, by name.
    """

    name: str
    define: Callable[[tuple[type, ...], Bodies], dict[str, Any]]
    groups: tuple[Group, ...]
    paths: tuple[Path, ...]
    changes: tuple[Change, ...]
    document: Callable[[Draw], Raw]
    gone: tuple[str, ...] = ()
    legacy_classes: tuple[str, ...] = ()
    beside: Mapping[str, tuple[Raw, ...]] = field(default_factory=dict)


def _maybe(draw: Draw, document: Raw, name: str, values: Strategy) -> None:
    chosen = draw(st.integers(0, 9))
    if chosen >= 2:
        document[name] = draw(values)
    elif chosen == 1:
        document[name] = None


def _missing(*names: str) -> Callable[[Draw, Raw], None]:
    def before(draw: Draw, document: Raw) -> None:
        for name in names:
            document.pop(name, None)

    return before


def _called(old: str, new: str) -> Callable[[Draw, Raw], None]:
    """The value was at another name; sometimes it is at both."""

    def before(draw: Draw, document: Raw) -> None:
        if new in document:
            document[old] = document[new] if draw(st.integers(0, 4)) == 0 else document.pop(new)

    return before


def _beside(name: str, values: Strategy) -> Callable[[Draw, Raw], None]:
    def before(draw: Draw, document: Raw) -> None:
        document[name] = draw(values)

    return before


def _as(name: str, convert: Callable[[Any], Any], types: Any) -> Callable[[Draw, Raw], None]:
    def before(draw: Draw, document: Raw) -> None:
        if isinstance(document.get(name), types):
            document[name] = convert(document[name])

    return before


def _inside(name: str, before: Callable[[Draw, Raw], None]) -> Callable[[Draw, Raw], None]:
    def inner(draw: Draw, document: Raw) -> None:
        if isinstance(document.get(name), dict):
            before(draw, document[name])

    return inner


# --- One flat model ---------------------------------------------------------------------


def _flat(bases: tuple[type, ...], bodies: Bodies) -> dict[str, Any]:
    model = type(Document)(
        "Flat",
        bases,
        {
            "meta": {"collection": "subject", "indexes": ["enabled", "$name"]},
            "name": StringField(),
            "age": IntField(),
            "enabled": BooleanField(),
            "score": FloatField(),
            "label": StringField(default="none"),
            "tags": ListField(StringField()),
            "version": IntField(),
            "count": IntField(),
            **bodies.get("Flat", {}),
        },
    )
    return {"Flat": model}


def _flat_document(draw: Draw) -> Raw:
    document: Raw = {}
    _maybe(draw, document, "name", STRINGS)
    _maybe(draw, document, "age", NUMBERS)
    _maybe(draw, document, "enabled", BOOLEANS)
    _maybe(draw, document, "score", FLOATS)
    _maybe(draw, document, "tags", LISTS)
    document["version"] = draw(NUMBERS)
    return document


def _status(draw: Draw, document: Raw) -> None:
    document["status"] = draw(st.sampled_from(["on", "off"]))
    document.pop("enabled", None)


_NO_ARRAY = {"$exists": True, "$not": {"$type": "array"}}

FLAT_PATHS = (
    Path("name", "name", STRINGS, "string"),
    Path("age", "age", NUMBERS, "number"),
    Path("enabled", "enabled", BOOLEANS, "bool"),
    Path("score", "score", FLOATS, "number"),
    Path("label", "label", STRINGS, "string"),
    Path("tags", "tags", STRINGS, "list"),
    Path("version", "version", NUMBERS, "number"),
)
FLAT_CHANGES = (
    Change(
        "renamed",
        {"nick": {"$exists": True}},
        {"$rename": {"nick": "name"}},
        _called("nick", "name"),
    ),
    Change(
        "retyped",
        {"age": {"$type": "string"}},
        lambda doc: {"$set": {"age": int(doc["age"])}},
        _as("age", str, int),
    ),
    Change(
        "retyped_by_pipeline",
        {"age": {"$type": "string"}},
        [{"$set": {"age": {"$toInt": "$age"}}}],
        _as("age", str, int),
    ),
    Change(
        "switched_on",
        {"status": "on"},
        {"$set": {"enabled": True}, "$unset": {"status": ""}},
        _status,
    ),
    Change(
        "switched_off",
        {"status": "off"},
        {"$set": {"enabled": False}, "$unset": {"status": ""}},
        _status,
    ),
    Change(
        "added",
        {"enabled": {"$exists": False}},
        {"$set": {"enabled": True}},
        _missing("enabled"),
    ),
    Change("added_null", {"enabled": None}, {"$set": {"enabled": False}}, _missing("enabled")),
    Change(
        "removed",
        {"legacy": {"$exists": True}},
        {"$unset": {"legacy": ""}},
        _beside("legacy", STRINGS),
    ),
    Change(
        "computed",
        {"label": {"$exists": False}},
        lambda doc: {"$set": {"label": f"{doc.get('name')}!"}},
        _missing("label"),
    ),
    Change(
        "computed_by_pipeline",
        {"label": {"$exists": False}},
        [{"$set": {"label": {"$concat": [{"$ifNull": ["$name", "?"]}, "-"]}}}],
        _missing("label"),
    ),
    Change(
        "copied",
        {"score": {"$exists": False}, "version": {"$exists": True}},
        lambda doc: {"$set": {"score": doc["version"] * 0.5}},
        _missing("score"),
    ),
    Change(
        "listed",
        {"tags": _NO_ARRAY},
        lambda doc: {"$set": {"tags": [doc["tags"]]}},
        _as("tags", lambda tags: tags[0] if tags else "a", list),
    ),
    Change(
        "counted",
        {"count": {"$exists": False}},
        {"$set": {"count": 1}, "$inc": {"version": 1}},
        _missing("count"),
    ),
    Change("pushed", {"tags": {"$ne": "z"}, "name": "a"}, {"$push": {"tags": "z"}}, _missing()),
    Change("replaced", {"name": "b"}, {"$set": {"name": "a"}}, _as("name", lambda _: "b", str)),
    Change(
        "moved_if",
        {"version": {"$lt": 0}},
        {"$set": {"version": 0, "score": 9.0}, "$rename": {"nick": "name"}},
        _missing(),
    ),
)


# --- Other names in the database --------------------------------------------------------


def _named(bases: tuple[type, ...], bodies: Bodies) -> dict[str, Any]:
    model = type(Document)(
        "Named",
        bases,
        {
            "meta": {"collection": "subject", "ordering": ["-title", "id"]},
            "title": StringField(db_field="t"),
            "views": IntField(db_field="v"),
            "owner": StringField(db_field="title"),
            "live": BooleanField(db_field="l", default=False),
            **bodies.get("Named", {}),
        },
    )
    return {"Named": model}


def _named_document(draw: Draw) -> Raw:
    document: Raw = {}
    _maybe(draw, document, "t", STRINGS)
    _maybe(draw, document, "v", NUMBERS)
    _maybe(draw, document, "title", STRINGS)
    _maybe(draw, document, "l", BOOLEANS)
    return document


def _swapped(draw: Draw, document: Raw) -> None:
    document["o"] = document.pop("title", "a")
    if "t" in document:
        document["title"] = document.pop("t")


NAMED_PATHS = (
    Path("title", "t", STRINGS, "string"),
    Path("views", "v", NUMBERS, "number"),
    Path("owner", "title", STRINGS, "string"),
    Path("live", "l", BOOLEANS, "bool"),
)
NAMED_CHANGES = (
    Change(
        "title_shortened",
        {"o": {"$exists": True}, "title": {"$exists": True}},
        {"$rename": {"title": "t"}},
        _swapped,
    ),
    Change(
        "owner_called_title",
        {"o": {"$exists": True}, "title": {"$exists": False}},
        {"$rename": {"o": "title"}},
        _swapped,
    ),
    Change(
        "views_shortened",
        {"views": {"$exists": True}},
        {"$rename": {"views": "v"}},
        _called("views", "v"),
    ),
    Change(
        "counted",
        {"v": {"$exists": False}, "views": {"$exists": False}},
        {"$set": {"v": 0}},
        _missing("v"),
    ),
    Change("live", {"l": {"$in": [None, "yes"]}}, {"$set": {"l": True}}, _missing("l")),
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
    _maybe(draw, document, "name", STRINGS)
    _maybe(draw, document, "phone", STRINGS)
    if draw(st.integers(0, 4)):
        address: Raw = {}
        _maybe(draw, address, "city", STRINGS)
        _maybe(draw, address, "z", STRINGS)
        _maybe(draw, address, "country", STRINGS)
        _maybe(draw, address, "floor", NUMBERS)
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
        _inside("address", _called("zip", "z")),
    ),
    Change(
        "country_added",
        {"address": {"$exists": True}, "address.country": {"$exists": False}},
        {"$set": {"address.country": "a"}},
        _inside("address", _missing("country")),
    ),
    Change(
        "zip_retyped",
        {"address.z": {"$type": "number"}},
        lambda doc: {"$set": {"address.z": str(doc["address"]["z"])}},
        _inside("address", _as("z", lambda _: 1, str)),
    ),
    Change(
        "floor_computed",
        {"address.floor": {"$type": "string"}},
        [{"$set": {"address.floor": {"$toInt": "$address.floor"}}}],
        _inside("address", _as("floor", str, int)),
    ),
    Change(
        "address_added",
        {"address": {"$exists": False}},
        {"$set": {"address": {"city": "b", "floor": 1}}},
        _missing("address"),
    ),
    Change(
        "address_built",
        {"address": {"$exists": False}, "city": {"$exists": True}},
        lambda doc: {"$set": {"address": {"city": doc["city"]}}, "$unset": {"city": ""}},
        _city_outside,
    ),
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
            **bodies.get("Lists", {}),
        },
    )
    return {"Lists": model, "Comment": comment}


def _lists_document(draw: Draw) -> Raw:
    document: Raw = {}
    _maybe(draw, document, "title", STRINGS)
    _maybe(draw, document, "tags", LISTS)
    _maybe(draw, document, "size", NUMBERS)
    if draw(st.integers(0, 3)):
        document["comments"] = []
        for _ in range(draw(st.integers(0, 2))):
            comment: Raw = {}
            _maybe(draw, comment, "author", STRINGS)
            _maybe(draw, comment, "n", NUMBERS)
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
        _in_comments(_called("votes", "n")),
    ),
    Change(
        "votes_added",
        {"comments": {"$elemMatch": {"n": {"$exists": False}}}},
        _with_votes,
        _in_comments(_missing("n")),
    ),
    Change(
        "tags_listed",
        {"tags": _NO_ARRAY},
        [{"$set": {"tags": ["$tags"]}}],
        _as("tags", lambda tags: tags[0] if tags else "a", list),
    ),
    Change("tags_added", {"tags": {"$exists": False}}, {"$set": {"tags": []}}, _missing("tags")),
    Change(
        "tags_renamed",
        {"labels": {"$exists": True}},
        {"$rename": {"labels": "tags"}},
        _called("labels", "tags"),
    ),
    Change(
        "sized",
        {"size": {"$exists": False}},
        lambda doc: {"$set": {"size": len(doc.get("comments") or ())}},
        _missing("size"),
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
        _missing(),
    ),
)


# --- A tree of classes ------------------------------------------------------------------


def _tree(bases: tuple[type, ...], bodies: Bodies) -> dict[str, Any]:
    human = type(Document)(
        "Human",
        bases,
        {
            "meta": {"collection": "subject", "allow_inheritance": True},
            "name": StringField(),
            "alive": BooleanField(),
            **bodies.get("Human", {}),
        },
    )
    good = type(Document)("GoodJedi", (human,), {"rank": IntField()})
    bad = type(Document)("BadSith", (human,), {"anger": IntField()})
    grand = type(Document)("GrandMaster", (good,), {"seat": StringField()})
    return {"Human": human, "GoodJedi": good, "BadSith": bad, "GrandMaster": grand}


def _tree_document(draw: Draw) -> Raw:
    name = draw(
        st.sampled_from(
            ["Human", "Human.GoodJedi", "Human.BadSith", "Human.GoodJedi.GrandMaster"],
        )
    )
    document: Raw = {"_cls": name}
    _maybe(draw, document, "name", STRINGS)
    _maybe(draw, document, "alive", BOOLEANS)
    if "GoodJedi" in name:
        _maybe(draw, document, "rank", NUMBERS)
    if name == "Human.BadSith":
        _maybe(draw, document, "anger", NUMBERS)
    if name.endswith("GrandMaster"):
        _maybe(draw, document, "seat", STRINGS)
    return document


def _class_before(names: Mapping[Any, Raw]) -> Callable[[Draw, Raw], None]:
    def before(draw: Draw, document: Raw) -> None:
        document.update(names.get(document.get("_cls"), {}))

    return before


def _without_class(draw: Draw, document: Raw) -> None:
    if document.get("_cls") == "Human":
        del document["_cls"]


TREE_PATHS = (
    Path("name", "name", STRINGS, "string"),
    Path("alive", "alive", BOOLEANS, "bool"),
    Path("rank", "rank", NUMBERS, "number"),
    Path("anger", "anger", NUMBERS, "number"),
    Path("seat", "seat", STRINGS, "string"),
)
_JEDI = {
    "Human.GoodJedi": {"_cls": "Human.Jedi", "dark_side": False},
    "Human.BadSith": {"_cls": "Human.Jedi", "dark_side": True},
}
TREE_CHANGES = (
    Change(
        "split_good",
        {"_cls": "Human.Jedi", "dark_side": False},
        {"$set": {"_cls": "Human.GoodJedi"}, "$unset": {"dark_side": ""}},
        _class_before(_JEDI),
    ),
    Change(
        "split_bad",
        {"_cls": "Human.Jedi", "dark_side": True},
        {"$set": {"_cls": "Human.BadSith"}, "$unset": {"dark_side": ""}},
        _class_before(_JEDI),
    ),
    Change(
        "renamed_class",
        {"_cls": {"$in": ["Human.Grand", "Human.Jedi.Grand"]}},
        {"$set": {"_cls": "Human.GoodJedi.GrandMaster"}},
        _class_before({"Human.GoodJedi.GrandMaster": {"_cls": "Human.Grand"}}),
    ),
    Change(
        "classed",
        {"_cls": {"$exists": False}},
        {"$set": {"_cls": "Human"}},
        _without_class,
    ),
    Change(
        "promoted",
        {"_cls": "Human.GoodJedi", "rank": 2},
        {"$set": {"_cls": "Human.GoodJedi.GrandMaster", "seat": "a"}},
        _class_before({"Human.GoodJedi.GrandMaster": {"_cls": "Human.GoodJedi", "rank": 2}}),
    ),
    Change("alive", {"alive": {"$exists": False}}, {"$set": {"alive": True}}, _missing("alive")),
    Change(
        "rank_renamed",
        {"level": {"$exists": True}},
        {"$rename": {"level": "rank"}},
        _called("level", "rank"),
    ),
    Change(
        "anger_computed",
        {"_cls": "Human.BadSith", "anger": {"$exists": False}},
        lambda doc: {"$set": {"anger": len(str(doc.get("name")))}},
        _missing("anger"),
    ),
    Change(
        "class_computed",
        {"_cls": "Human.Clone"},
        lambda doc: {
            "$set": {"_cls": "Human.BadSith" if doc.get("name") == "b" else "Human.GoodJedi"}
        },
        _class_before({"Human.BadSith": {"_cls": "Human.Clone", "name": "b"}}),
    ),
)


# --- A handler on a subclass ------------------------------------------------------------


def _branch(bases: tuple[type, ...], bodies: Bodies) -> dict[str, Any]:
    animal = type(Document)(
        "Animal",
        bases,
        {
            "meta": {"collection": "subject", "allow_inheritance": True},
            "name": StringField(),
            "weight": IntField(),
            **bodies.get("Animal", {}),
        },
    )
    dog = type(Document)("Dog", (animal,), {"trained": BooleanField(), **bodies.get("Dog", {})})
    cat = type(Document)("Cat", (animal,), {"lives": IntField(), "trained": BooleanField()})
    return {"Animal": animal, "Dog": dog, "Cat": cat}


def _branch_document(draw: Draw) -> Raw:
    document: Raw = {"_cls": draw(st.sampled_from(["Animal", "Animal.Dog", "Animal.Cat"]))}
    _maybe(draw, document, "name", STRINGS)
    _maybe(draw, document, "weight", NUMBERS)
    if document["_cls"] != "Animal":
        _maybe(draw, document, "trained", BOOLEANS)
    if document["_cls"] == "Animal.Cat":
        _maybe(draw, document, "lives", NUMBERS)
    return document


def _of_dogs(before: Callable[[Draw, Raw], None]) -> Callable[[Draw, Raw], None]:
    def inner(draw: Draw, document: Raw) -> None:
        if document.get("_cls") == "Animal.Dog":
            before(draw, document)

    return inner


BRANCH_PATHS = (
    Path("name", "name", STRINGS, "string"),
    Path("weight", "weight", NUMBERS, "number"),
    Path("trained", "trained", BOOLEANS, "bool"),
)
BRANCH_CHANGES = (
    Change(
        "hounds",
        {"_cls": "Animal.Hound"},
        {"$set": {"_cls": "Animal.Dog"}},
        _class_before({"Animal.Dog": {"_cls": "Animal.Hound"}}),
    ),
    Change(
        "trained",
        {"trained": {"$exists": False}},
        {"$set": {"trained": False}},
        _of_dogs(_missing("trained")),
    ),
    Change(
        "called",
        {"call": {"$exists": True}},
        {"$rename": {"call": "name"}},
        _of_dogs(_called("call", "name")),
    ),
    Change(
        "weighed",
        {"weight": {"$exists": False}},
        lambda doc: {"$set": {"weight": len(doc.get("name") or "")}},
        _of_dogs(_missing("weight")),
    ),
)


# --- A dynamic model --------------------------------------------------------------------


def _dynamic(bases: tuple[type, ...], bodies: Bodies) -> dict[str, Any]:
    model = type(Document)(
        "Dynamic",
        bases,
        {"meta": {"collection": "subject"}, "name": StringField(), **bodies.get("Dynamic", {})},
    )
    return {"Dynamic": model}


def _dynamic_document(draw: Draw) -> Raw:
    document: Raw = {}
    _maybe(draw, document, "name", STRINGS)
    _maybe(draw, document, "age", NUMBERS)
    _maybe(draw, document, "extra", st.one_of(STRINGS, NUMBERS, LISTS))
    if draw(BOOLEANS):
        document["info"] = {}
        _maybe(draw, document["info"], "x", st.one_of(STRINGS, NUMBERS))
    return document


DYNAMIC_PATHS = (
    Path("name", "name", STRINGS, "string"),
    Path("age", "age", NUMBERS, "number"),
    Path("extra", "extra", STRINGS, "string"),
    Path("info__x", "info.x", STRINGS, "string"),
)
DYNAMIC_CHANGES = (
    FLAT_CHANGES[0],
    FLAT_CHANGES[1],
    Change(
        "extra_added", {"extra": {"$exists": False}}, {"$set": {"extra": "a"}}, _missing("extra")
    ),
    Change(
        "x_moved_in",
        {"x": {"$exists": True}},
        {"$rename": {"x": "info.x"}},
        _beside("x", STRINGS),
    ),
    Change(
        "info_dropped",
        {"info.x": {"$in": [None, 0]}},
        {"$set": {"info.x": 1}},
        _inside("info", _missing("x")),
    ),
    Change(
        "aged",
        {"age": {"$exists": False}, "name": {"$exists": True}},
        lambda doc: {"$set": {"age": len(doc["name"] or "")}},
        _missing("age"),
    ),
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
    _maybe(draw, document, "title", STRINGS)
    _maybe(draw, document, "author", AUTHORS)
    _maybe(draw, document, "editor", AUTHORS)
    _maybe(draw, document, "readers", st.lists(AUTHORS, max_size=2))
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
        _called("writer", "author"),
    ),
    Change(
        "editor_copied",
        {"editor": {"$exists": False}, "author": {"$exists": True}},
        lambda doc: {"$set": {"editor": doc["author"]}},
        _missing("editor"),
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
        _missing("author"),
    ),
)


# --- A handler on the root, and one that inherits from it on a subclass -----------------

HEIRS_CHANGES = (
    Change(
        "hounds",
        {"_cls": "Animal.Hound"},
        {"$set": {"_cls": "Animal.Dog"}},
        _class_before({"Animal.Dog": {"_cls": "Animal.Hound"}}),
        of="root",
    ),
    Change(
        "called",
        {"call": {"$exists": True}},
        {"$rename": {"call": "name"}},
        _called("call", "name"),
        of="root",
    ),
    Change(
        "weighed",
        {"weight": {"$type": "string"}},
        lambda doc: {"$set": {"weight": int(doc["weight"])}},
        _as("weight", str, int),
        of="root",
    ),
    Change(
        "trained",
        {"trained": {"$exists": False}},
        {"$set": {"trained": False}},
        _of_dogs(_missing("trained")),
        of="dog",
    ),
    Change(
        "named",
        {"name": {"$exists": False}},
        lambda doc: {"$set": {"name": f"{doc.get('trained')}"}},
        _of_dogs(_missing("name")),
        of="dog",
    ),
    Change(
        "strays",
        {"_cls": "Animal.Dog", "weight": {"$lt": 0}},
        {"$set": {"_cls": "Animal", "weight": 0}, "$unset": {"trained": ""}},
        _of_dogs(_missing()),
        of="dog",
    ),
)

_ALL = (
    World(
        "flat",
        _flat,
        (Group("Flat"),),
        FLAT_PATHS,
        FLAT_CHANGES,
        _flat_document,
        ("nick", "status"),
    ),
    World(
        "named",
        _named,
        (Group("Named"),),
        NAMED_PATHS,
        NAMED_CHANGES,
        _named_document,
        ("views", "o"),
    ),
    World(
        "nested",
        _nested,
        (Group("Nested"),),
        NESTED_PATHS,
        NESTED_CHANGES,
        _nested_document,
        ("city", "address.phone", "address.zip", "address"),
    ),
    World(
        "lists",
        _lists,
        (Group("Lists"),),
        LISTS_PATHS,
        LISTS_CHANGES,
        _lists_document,
        ("labels", "note", "comments.votes", "comments", "tags.0", "comments.0.n"),
    ),
    World(
        "tree",
        _tree,
        (Group("Human"),),
        TREE_PATHS,
        TREE_CHANGES,
        _tree_document,
        ("dark_side", "level", "_cls"),
    ),
    World(
        "branch",
        _branch,
        (Group("Dog", {"_cls": {"$in": ["Animal.Dog", "Animal.Hound"]}}),),
        BRANCH_PATHS,
        BRANCH_CHANGES,
        _branch_document,
        ("call", "_cls"),
        legacy_classes=("Animal.Hound",),
    ),
    World(
        "heirs",
        _branch,
        (
            Group("Animal", {"_cls": {"$nin": ["Animal.Dog"]}}, ("root",)),
            Group("Dog", {"_cls": {"$in": ["Animal.Dog"]}}, ("root", "dog")),
        ),
        BRANCH_PATHS,
        HEIRS_CHANGES,
        _branch_document,
        ("call", "_cls"),
    ),
    World(
        "dynamic",
        _dynamic,
        (Group("Dynamic"),),
        DYNAMIC_PATHS,
        DYNAMIC_CHANGES,
        _dynamic_document,
        ("x", "info", "nick"),
    ),
    World(
        "library",
        _library,
        (Group("Book"),),
        LIBRARY_PATHS,
        LIBRARY_CHANGES,
        _library_document,
        ("writer", "reader"),
        beside={"author": tuple({"_id": id_, "name": "a"} for id_ in IDS[:3])},
    ),
)
WORLDS = {world.name: world for world in _ALL}


def bases_of(world: World, lazy: bool) -> tuple[type, ...]:
    """What the root of a world's models inherits."""
    plain = DynamicDocument if world.name == "dynamic" else Document
    return (LazyMigrationMixin, plain) if lazy else (plain,)
