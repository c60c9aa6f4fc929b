"""Updates whose path goes through a list of the model by a name, and remedies that work."""

from __future__ import annotations

import ast
import re
import warnings
from typing import Any

import pytest
from mongoengine import (
    DictField,
    Document,
    DynamicDocument,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    GeoPointField,
    IntField,
    ListField,
    MapField,
    SortedListField,
    StringField,
)
from pymongo.database import Database

from lazymig import LazyMigrationMixin, UpdateQueryError, each
from tests.support.handlers import handler, model, rule


class Part(EmbeddedDocument):
    size = IntField()


class Line(EmbeddedDocument):
    x = StringField()
    y = IntField()
    tags = ListField(StringField())
    parts = EmbeddedDocumentListField(Part)


class Order(EmbeddedDocument):
    lines = EmbeddedDocumentListField(Line, db_field="l")


FIELDS: dict[str, Any] = {
    "l": lambda: EmbeddedDocumentListField(Line),
    "listed": lambda: ListField(EmbeddedDocumentField(Line)),
    "sorted": lambda: SortedListField(EmbeddedDocumentField(Line), ordering="y"),
    "any": ListField,
    "dicts": lambda: ListField(DictField()),
    "rows": lambda: ListField(ListField(EmbeddedDocumentField(Line))),
    "by_name": lambda: MapField(EmbeddedDocumentListField(Line)),
    "named": lambda: MapField(EmbeddedDocumentField(Line)),
    "order": lambda: EmbeddedDocumentField(Order),
    "place": GeoPointField,
    "old": StringField,
}


def _post(*rules: Any, **body: Any) -> Any:
    """A model with one field of each kind, and these rules in their order."""
    named = {f"migration{number:02}__r": each for number, each in enumerate(rules, 1)}
    fields = {name: make() for name, make in FIELDS.items()}
    return model(handler(**named), **{**fields, **body})


PLAIN = {"flag": {"$exists": False}}


@pytest.mark.parametrize(
    ("path", "crossed"),
    [
        ("l.y", "l"),
        ("listed.y", "listed"),
        ("sorted.y", "sorted"),
        ("any.y", "any"),
        ("dicts.y", "dicts"),
        ("rows.$[].y", "rows.$[]"),
        ("rows.0.y", "rows.0"),
        ("by_name.k.y", "by_name.k"),
        ("order.l.y", "order.l"),
        ("l.$[].parts.size", "l.$[].parts"),
        ("l.0.parts.size", "l.0.parts"),
        ("named.k.parts.size", "named.k.parts"),
        ("place.y", "place"),
    ],
)
@pytest.mark.parametrize("update", [{"$set": 1}, {"$unset": ""}, {"$inc": 1}, {"$push": 1}])
def test_a_name_does_not_lead_into_a_list(path: str, crossed: str, update: dict[str, Any]) -> None:
    """Each operator is refused at definition for each kind of list, wherever it lies."""
    ((operator, value),) = update.items()
    with pytest.raises(UpdateQueryError) as caught:
        _post(rule(PLAIN, {operator: {path: value}}))
    said = f"Post.migration01__r: {operator} of {path!r} goes through {crossed!r}, which the model "
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("names", [("l.old", "l.x"), ("l.old", "old"), ("old", "l.x")])
def test_a_rename_does_not_lead_into_a_list(names: tuple[str, str]) -> None:
    """From, to and within a list."""
    with pytest.raises(UpdateQueryError, match=r"goes through 'l'.*use (a pipeline|each)"):
        _post(rule(PLAIN, {"$rename": {names[0]: names[1]}}))


def _counted(self: Any) -> None:
    self.target = {"l.y": {"$exists": False}}
    self.update = {"$set": {"l.y": int(self.doc["old"])}}


def _in_a_branch(self: Any) -> None:
    self.target = {"l.old": {"$exists": True}}
    if self.doc.get("kind") == 1:
        self.update = {"$unset": {"old": ""}}
    else:
        self.update = {"$rename": {"l.old": "l.x"}}


def _asks_for_types(self: Any) -> None:
    self.target = {"l.old": {"$exists": True}}
    if isinstance(self.doc["l"], dict):
        self.update = {"$set": {"l.y": 1}}
    else:
        self.update = {"$unset": {"l.$[].old": ""}}


@pytest.mark.parametrize("method", [_counted, _in_a_branch])
def test_a_computed_update_is_held_against_the_model_too(method: Any) -> None:
    """Its paths are known by a run with a stand-in, or from its source."""
    with pytest.raises(UpdateQueryError, match="goes through 'l'"):
        _post(method)


@pytest.mark.parametrize(
    "update",
    [
        {"$set": {"l.$[].y": 1}},
        {"$set": {"l.0.y": 1, "l.0.parts.1.size": 1}},
        {"$unset": {"rows.$[].$[].old": ""}},
        {"$set": {"by_name.k.0.y": 1}},
        {"$set": {"named.k.y": 1}},
        {"$unset": {"named.k.old": ""}},
        {"$push": {"l": {"y": 1}}},
        {"$pull": {"l": {"old": {"$exists": True}}}},
        {"$set": {"l": []}},
        {"$rename": {"old_lines": "l"}},
        {"$unset": {"former.y": ""}},
        [{"$set": {"l.y": 1}}],
        [{"$unset": "l.old"}],
    ],
)
@pytest.mark.filterwarnings("ignore::lazymig.ConvergenceWarning")
def test_what_mongodb_follows_is_taken(update: Any) -> None:
    """Elements by position, keys of maps, whole lists, unknown fields and pipelines are taken."""
    _post(rule({"flag": 1}, update))


@pytest.mark.parametrize(
    "target",
    [
        {"l": {"$type": "object"}},
        {"l": {"$type": ["null", 3]}},
        {"l": {"$type": "object", "$not": {"$type": "array"}}},
        {"l.old": {"$exists": True}, "l": {"$not": {"$type": "array"}}},
        {"$and": [{"flag": 1}, {"l": {"$type": "object"}}]},
    ],
)
@pytest.mark.filterwarnings("ignore::lazymig.ConvergenceWarning")
def test_a_target_may_say_that_it_was_a_document(target: Any) -> None:
    """The plain path is right where the old shape has a sub-document in place of the list."""
    _post(rule(target, {"$set": {"l.y": 1}}))


@pytest.mark.parametrize(
    "target", [{"l": {"$exists": False}}, {"l": {"$not": {"$type": "object"}}}, {"l.0.y": 1}]
)
def test_a_target_may_leave_it_open(target: Any) -> None:
    """Where the list is missing, a plain path would make a sub-document of it."""
    with pytest.raises(UpdateQueryError, match="goes through 'l'"):
        _post(rule(target, {"$set": {"l.y": 1}}))


def _listed(self: Any) -> None:
    self.target = {"l": {"$type": "object", "$not": {"$type": "array"}}}
    self.update = {"$set": {"l": [self.doc["l"]]}}


@pytest.mark.filterwarnings("ignore::lazymig.ConvergenceWarning")
def test_a_later_rule_may_make_the_list() -> None:
    """Then an earlier rule meets the sub-document; one that is not before it meets the list."""
    within = rule({"l.old": {"$exists": True}}, {"$unset": {"l.old": ""}})
    for later in (_listed, rule(PLAIN, [{"$set": {"l": ["$l"]}}]), _renamed_to("l")):
        _post(within, later)
        with pytest.raises(UpdateQueryError, match=r"migration02__r: \$unset of 'l\.old'"):
            _post(later, within)
    with pytest.raises(UpdateQueryError, match="migration01__r"):
        _post(within, rule(PLAIN, {"$push": {"l": {"y": 1}}}))
    model(
        handler(migration05__within=within, allmigration01__make=_listed),
        l=EmbeddedDocumentListField(Line),
    )


def _renamed_to(path: str) -> Any:
    return rule({"lines": {"$exists": True}}, {"$rename": {"lines": path}})


@pytest.mark.filterwarnings("ignore::lazymig.ConvergenceWarning")
@pytest.mark.usefixtures("mongoengine_db")
def test_where_the_model_leaves_it_open_nothing_is_refused() -> None:
    """Types that a rule asks for, fields without a type, and classes that disagree."""
    _post(_asks_for_types)
    plain = handler(migration01__r=rule(PLAIN, {"$set": {"l.y": 1}}))
    type("Loose", (LazyMigrationMixin, DynamicDocument), {"migration_handler": plain})
    body = {"migration_handler": plain, "meta": {"allow_inheritance": True}}
    base: Any = type("Base", (LazyMigrationMixin, Document), body)
    type("Listed", (base,), {"l": EmbeddedDocumentListField(Line)})
    type("Single", (base,), {"l": EmbeddedDocumentField(Line)})
    assert plain(base).get_status()


# --- the remedies -------------------------------------------------------------------------------


def _told(target: Any, update: Any) -> str:
    with pytest.raises(UpdateQueryError) as caught:
        _post(rule(target, update))
    return str(caught.value)


def _followed(
    database: Database[Any], lists: list[Any], target: Any, update: Any, filters: Any = None
) -> list[Any]:
    """What a rule as a message has it makes of lists; it starts on a match, and all load."""
    stored = [{"_id": 0}, {"_id": 1, "l": []}]
    stored += [{"_id": number, "l": each} for number, each in enumerate(lists, 2)]
    database["post"].insert_many(stored)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        posts = _post(rule(target, update, filters))
    assert [each.key for each in posts.objects] == list(range(len(stored)))
    after = [raw.get("l") for raw in database["post"].find().sort("_id", 1)]
    assert after[:2] == [None, []]
    return after[2:]


def _remedy(told: str) -> tuple[str, Any, Any]:
    """The path, the array filters and the target that a message spells out."""
    (path,) = re.findall(r"write '([^']*)'", told)
    (filters,) = re.findall(r"array_filters (\[.*?\]),", told)
    (target,) = re.findall(r"such as (\{.*?\});", told)
    return path, ast.literal_eval(filters), ast.literal_eval(target)


def test_the_remedy_for_elements_works(mongoengine_db: Database[Any]) -> None:
    """What the message spells out reaches the elements that lack it, and no other one."""
    path, filters, target = _remedy(_told({"l.y": {"$exists": False}}, {"$set": {"l.y": 5}}))
    lists = [[{"x": "a"}, {"x": "b"}], [{"y": 7}], [{"y": 9}, {"x": "a"}]]
    after = _followed(mongoengine_db, lists, target, {"$set": {path: 5}}, filters)
    assert after == [
        [{"x": "a", "y": 5}, {"x": "b", "y": 5}],
        [{"y": 7}],
        [{"y": 9}, {"x": "a", "y": 5}],
    ]


@pytest.mark.parametrize("operator", ["$inc", "$max", "$pull", "$push"])
def test_no_target_is_spelled_out_that_need_not_fit(operator: str) -> None:
    """Such an update is not for the elements that lack the field."""
    told = _told({"l.y": {"$lt": 3}}, {operator: {"l.y": 5}})
    assert "write 'l.$[].y', or $[name]" in told
    assert "such as" not in told


def test_the_remedy_for_lists_in_lists_works(mongoengine_db: Database[Any]) -> None:
    """Each list that the path meets has its elements named."""
    told = _told({"l.parts.size": None}, {"$set": {"l.parts.size": 1}})
    path, filters, target = _remedy(told)
    after = _followed(
        mongoengine_db,
        [[{"parts": [{}, {"size": 3}]}, {"parts": []}], [{"parts": [{"size": 2}]}]],
        target,
        {"$set": {path: 1}},
        filters,
    )
    assert after == [
        [{"parts": [{"size": 1}, {"size": 3}]}, {"parts": []}],
        [{"parts": [{"size": 2}]}],
    ]


def test_the_remedy_for_unset_works(mongoengine_db: Database[Any]) -> None:
    """The spelled path takes the field out of each element, with the target as it was."""
    target = {"l.old": {"$exists": True}}
    (path,) = re.findall(r"write '([^']*)'", _told(target, {"$unset": {"l.old": ""}}))
    after = _followed(
        mongoengine_db, [[{"old": 1}, {"y": 1, "old": 2}]], target, {"$unset": {path: ""}}
    )
    assert after == [[{}, {"y": 1}]]


def test_the_remedy_for_rename_works(mongoengine_db: Database[Any]) -> None:
    """The `each` of the message renames in each element that has the old name."""
    told = _told({"l.old": {"$exists": True}}, {"$rename": {"l.old": "l.x"}})
    (path, renamed) = re.findall(r"use each\((.*?), rename=(\{.*?\})\)", told)[0]
    after = _followed(
        mongoengine_db,
        [[{"old": "a"}, {"x": "b"}], [{"x": "c"}]],
        None,
        each(ast.literal_eval(path), rename=ast.literal_eval(renamed)),
    )
    assert after == [[{"x": "a"}, {"x": "b"}], [{"x": "c"}]]


def test_the_remedy_for_former_documents_works(mongoengine_db: Database[Any]) -> None:
    """With the target of the message the plain path is taken, and meets sub-documents alone."""
    told = _told({"l.y": None}, {"$set": {"l.y": 1}})
    (asked,) = re.findall(r"say so in the target \((\{.*?\})\)", told)
    target = {"l.y": {"$exists": False}, **ast.literal_eval(asked)}
    posts = _post(rule(target, {"$set": {"l.y": 1}}), _listed)
    mongoengine_db["post"].insert_many([{"_id": 1, "l": {"x": "a"}}, {"_id": 2, "l": [{"x": "b"}]}])
    assert [[(one.x, one.y) for one in each.l] for each in posts.objects.order_by("key")] == [
        [("a", 1)],
        [("b", None)],
    ]
