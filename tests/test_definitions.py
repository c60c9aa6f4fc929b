"""Models and handlers that are written wrongly are refused, before anything is written."""

from __future__ import annotations

import types
from typing import Any

import pytest
from mongoengine import (
    BooleanField,
    DictField,
    Document,
    DynamicDocument,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    IntField,
    ListField,
    MapField,
    StringField,
)
from pymongo.database import Database

from lazymig import (
    DocumentMigration,
    LazyMigError,
    LazyMigrationMixin,
    RuleDefinitionError,
    UpdateQueryError,
)
from tests.support.handlers import ADD_ENABLED, handler, model, rule


class Inner(EmbeddedDocument):
    """Something that can be embedded."""

    name = StringField(db_field="n")
    tags = ListField(StringField())


FIELDS: dict[str, Any] = {
    "title": StringField(db_field="t"),
    "count": IntField(),
    "inner": EmbeddedDocumentField(Inner),
    "inners": EmbeddedDocumentListField(Inner),
    "lists": ListField(ListField(IntField())),
    "anything": DictField(),
    "map": MapField(EmbeddedDocumentField(Inner)),
}


def _with(update: Any, array_filters: Any = None, **more: Any) -> Any:
    target = {"mark": {"$exists": False}}
    method = rule(target, update, array_filters)
    return model(handler(allmigration01__x=method), **{**FIELDS, **more})


@pytest.mark.parametrize(
    ("update", "path"),
    [
        ({"$set": {"titel": 1}}, "titel"),
        ({"$set": {"title": "x"}}, "title"),
        ({"$inc": {"cuont": 1}}, "cuont"),
        ({"$push": {"tags": "x"}}, "tags"),
        ({"$set": {"inner.name": "x"}}, "inner.name"),
        ({"$set": {"inners.0.name": "x"}}, "inners.name"),
        ({"$set": {"inners.$[].nmae": "x"}}, "nmae"),
        ({"$set": {"map.some.nmae": "x"}}, "map.some.nmae"),
        ({"$set": {"count.x": 1}}, "count.x"),
        ({"$rename": {"old": "titel"}}, "titel"),
        ({"$unset": {"old": ""}, "$set": {"titel": 1}}, "titel"),
        ([{"$set": {"titel": 1}}], "titel"),
    ],
)
def test_an_unknown_path_is_refused(update: Any, path: str) -> None:
    """A write to a path that the model does not know names model, rule, path and remedy."""
    with pytest.raises(UpdateQueryError, match="add the field to the model, or correct") as caught:
        _with(update)
    assert path in str(caught.value)
    assert (caught.value.model, caught.value.rule) == ("Post", "allmigration01__x")


OLD = {"old": {"$exists": True}}
MID = {"mid": {"$exists": True}}
RENAMED = rule(OLD, {"$rename": {"old": "mid"}})


def _copied(self: Any) -> None:
    self.target = MID
    self.update = {"$set": {"t": self.doc["mid"]}, "$unset": {"mid": ""}}


@pytest.mark.parametrize(
    ("later", "remedy"),
    [
        (rule(MID, {"$rename": {"mid": "t"}}), "moves on to 't'; let this rule write 't' itself"),
        (rule(MID, [{"$set": {"t": "$mid"}}, {"$unset": "mid"}]), "moves on to 't'; let this rule"),
        (_copied, "moves on to 't'; let this rule write 't' itself, as migration02__b would"),
        (rule(MID, {"$unset": {"mid": ""}}), "migration02__b takes it away again; leave it out"),
        (rule(MID, {"$set": {"t": ""}}), "add the field to the model, or correct the path"),
    ],
)
def test_an_intermediate_value_is_named_as_such(later: Any, remedy: str) -> None:
    """Of a path that a later rule moves on, the error says so, and what to write instead."""
    with pytest.raises(UpdateQueryError) as caught:
        model(handler(migration01__a=RENAMED, migration02__b=later), **FIELDS)
    assert "migration01__a: writes 'mid', which the model does not know; " in str(caught.value)
    assert remedy in str(caught.value)


def test_the_remedy_for_an_intermediate_value(mongoengine_db: Database[Any]) -> None:
    """Once the rule writes the final value itself, documents of both former shapes are migrated."""
    rules = handler(
        migration01__a=rule(OLD, {"$rename": {"old": "t"}}),
        migration02__b=rule(MID, {"$rename": {"mid": "t"}}),
    )
    post = model(rules, **FIELDS)
    mongoengine_db.post.insert_many([{"_id": 1, "old": "a"}, {"_id": 2, "mid": "b"}])
    assert post.objects(title__in=["a", "b"]).count() == 2
    assert [each.title for each in post.objects.order_by("title")] == ["a", "b"]


@pytest.mark.parametrize(
    "update",
    [
        {"$set": {"t": "x"}},
        {"$set": {"count": 1, "inner.n": "x"}},
        {"$set": {"inners.0.n": "x"}},
        {"$set": {"inners.$[].n": "x"}},
        {"$push": {"inner.tags": "x"}},
        {"$set": {"lists.0.1": 1}},
        {"$set": {"anything.at.all": 1}},
        {"$set": {"map.some.n": "x"}},
        {"$set": {"inner": {"n": "x"}}},
        {"$unset": {"old": "", "inner.old": ""}},
        {"$rename": {"old": "t"}},
        {"$set": {"_cls": "Post"}},
        [{"$set": {"count": 1}}, {"$unset": "old"}],
    ],
)
def test_a_known_path_is_accepted(update: Any) -> None:
    """Database names of fields at any depth may be written, and lost paths may be removed."""
    assert _with(update).__name__ == "Post"


@pytest.mark.parametrize(
    ("bases", "meta"),
    [
        ((LazyMigrationMixin, DynamicDocument), {}),
        ((LazyMigrationMixin, Document), {"strict": False}),
    ],
)
def test_a_model_of_any_fields_accepts_any_path(bases: Any, meta: Any) -> None:
    """DynamicDocument and strict False models have no path that they do not know."""
    rules = handler(migration01__x=rule({"any": {"$exists": False}}, {"$set": {"any": 1}}))
    body = {"meta": {"collection": "post", **meta}, "migration_handler": rules}
    assert type(Document)("Post", bases, {**body, "__module__": __name__})


def _family(path: str, known_to: type | None) -> Any:
    class Base(LazyMigrationMixin, Document):
        meta = {"allow_inheritance": True, "collection": "post"}
        migration_handler = handler(
            migration01__x=rule({path: {"$exists": False}}, {"$set": {path: True}})
        )

    type(Document)("Sub", (Base,), {"enabled": BooleanField(), "__module__": __name__})
    return Base


def test_a_path_that_a_subclass_knows_is_accepted(mongoengine_db: Database[Any]) -> None:
    """A rule of the base may write a field that only a subclass has."""
    base = _family("enabled", None)
    mongoengine_db["post"].insert_one({"_id": "000000000000000000000001", "_cls": "Base.Sub"})
    assert base.objects.get().enabled is True


def test_a_path_that_no_class_knows_is_refused_before_writing(
    mongoengine_db: Database[Any],
) -> None:
    """Where a subclass might yet know the path, the first use says that none does."""
    base = _family("enabeld", None)
    mongoengine_db["post"].insert_one({"_cls": "Base.Sub", "enabled": True})
    with pytest.raises(UpdateQueryError, match="enabeld"):
        base.objects.first()
    assert mongoengine_db["post"].count_documents({"enabeld": {"$exists": True}}) == 0


@pytest.mark.parametrize(
    "update",
    [{"$sett": {"count": 1}}, {"$set": {"count": 1}, "count": 2}, {"count": 1}, "x", {}],
)
def test_what_is_no_update_is_refused(update: Any) -> None:
    """An unknown operator, or operators mixed with fields, names model, rule and remedy."""
    with pytest.raises(UpdateQueryError, match=r"^Post\.allmigration01__x: .*;"):
        _with(update)


@pytest.mark.parametrize("name", ["migration_01", "migration1x", "migration01"])
def test_a_wrong_name_is_refused_with_the_handler(name: str) -> None:
    """A rule's name that fits no form is refused when the handler class is defined."""
    with pytest.raises(RuleDefinitionError, match=rf"^Rules\.{name}: .*; name a method"):
        handler(**{name: rule(*ADD_ENABLED)})


def test_a_number_twice_is_refused_with_the_handler() -> None:
    """Two lazy rules of one number are refused when the handler class is defined."""
    with pytest.raises(RuleDefinitionError, match="number 1 like migration01__a"):
        handler(migration01__a=rule(*ADD_ENABLED), migration1__b=rule(*ADD_ENABLED))


@pytest.mark.parametrize("wrong", [5, object, "UserMigration", dict, handler()(None)])
def test_a_handler_must_be_a_document_migration(wrong: Any) -> None:
    """A migration_handler that is no subclass of DocumentMigration is refused with the model."""
    with pytest.raises(RuleDefinitionError, match=r"^Post: migration_handler is no Document") as e:
        model(wrong)
    assert "subclass of DocumentMigration" in str(e.value)


def test_the_wrong_order_of_bases_is_a_type_error() -> None:
    """Behind Document the mixin would see nothing: TypeError says how to write it."""
    with pytest.raises(TypeError, match=r"class Post\(LazyMigrationMixin, Document\)"):
        type(Document)("Post", (Document, LazyMigrationMixin), {"__module__": __name__})


def test_an_embedded_document_has_no_rules_of_its_own() -> None:
    """The mixin on an EmbeddedDocument is a TypeError that says where the rules belong."""
    with pytest.raises(TypeError, match="on the Document that embeds it"):
        type(EmbeddedDocument)(
            "In", (LazyMigrationMixin, EmbeddedDocument), {"__module__": __name__}
        )


def test_a_time_series_model_has_no_rules() -> None:
    """Rules for a time-series collection are refused with the model, saying what to do instead."""
    series = {"timeField": "at"}
    with pytest.raises(RuleDefinitionError, match=r"time-series collection.*; write"):
        model(handler(migration01__x=rule(*ADD_ENABLED)), meta={"timeseries": series})


def test_definition_errors_are_value_errors_of_lazymig() -> None:
    """Whoever catches ValueError or LazyMigError catches every error of definition."""
    with pytest.raises(ValueError, match="titel") as caught:
        _with({"$set": {"titel": 1}})
    assert isinstance(caught.value, LazyMigError)


def test_an_override_changes_the_rule_for_its_model(mongoengine_db: Database[Any]) -> None:
    """A handler that overrides one rule and takes another back runs what is left."""

    class Base(DocumentMigration):
        def migration01__a(self):
            self.target = {"a": {"$exists": False}}
            self.update = {"$set": {"a": 1}}

        def migration02__b(self):
            self.target = {"b": {"$exists": False}}
            self.update = {"$set": {"b": 1}}

    class Child(Base):
        migration02__b = None

        def migration01__a(self):
            self.target = {"a": {"$exists": False}}
            self.update = {"$set": {"a": 2}}

    mongoengine_db["post"].insert_one({"_id": 1})
    loaded = model(Child, a=IntField(), b=IntField()).objects.get()
    assert (loaded.a, loaded.b) == (2, None)


def test_a_read_only_target_works_throughout(mongoengine_db: Database[Any]) -> None:
    """A MappingProxyType as target is matched, written and reported with."""
    target = types.MappingProxyType({"enabled": types.MappingProxyType({"$exists": False})})
    rules = handler(migration01__x=rule(target, ADD_ENABLED[1]))
    post = model(rules, enabled=BooleanField())
    mongoengine_db["post"].insert_many([{"_id": 1}, {"_id": 2}, {"_id": 3}])
    assert post.objects.get(key=1).enabled is True
    assert post.objects.in_bulk([2])[2].enabled is True
    assert rules(post).get_status()[0].remaining == 1
    assert rules(post).migrate_pending().modified == 1
    assert rules(post).get_deprecated()["active"] == []
