"""`old_documents`: what it draws is a document of today, or of a shape that a rule is for."""

from __future__ import annotations

import copy
import enum
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any

import mongoengine as me
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from mongoengine import Document, EmbeddedDocument, IntField, StringField
from mongoengine.base import BaseField
from pymongo.database import Database

from lazymig import LazyMigrationMixin, each
from lazymig.odm.loading import builder_of
from lazymig.odm.plans import plan_for
from lazymig.query.matching import compile_query
from lazymig.testing import assert_idempotent, assert_lazy_equals_bulk, migrated, old_documents
from tests.support.handlers import ADD_ENABLED, copying, handler, model, rule

Raw = dict[str, Any]

FEW = settings(max_examples=15, derandomize=True, database=None)
MANY = settings(max_examples=120, derandomize=True, database=None)


def _each(strategy: st.SearchStrategy[Raw], check: Callable[[Raw], None]) -> None:
    @MANY
    @given(strategy)
    def run(raw: Raw) -> None:
        check(raw)

    run()


def _drawn(strategy: st.SearchStrategy[Raw]) -> list[Raw]:
    found: list[Raw] = []
    _each(strategy, found.append)
    return found


def _loads(cls: Any, raw: Raw) -> Any:
    document = builder_of(cls)(dict(raw))
    document.validate()
    return document


def _matches(query: Raw, raw: Raw) -> bool:
    return compile_query(query).judge(raw) is True


# --- Documents of today -----------------------------------------------------------------------


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


def _model_of_everything() -> Any:
    class Author(Document):
        key = StringField(primary_key=True, min_length=1)

    class Node(EmbeddedDocument):
        name = StringField(required=True, db_field="n")
        below = me.ListField(me.EmbeddedDocumentField("self"))

    class Shape(EmbeddedDocument):
        size = IntField(required=True)
        meta = {"allow_inheritance": True}

    class Circle(Shape):
        radius = me.FloatField(min_value=0, required=True)

    class Everything(LazyMigrationMixin, Document):
        text = StringField(min_length=2, max_length=4, db_field="t")
        pattern = StringField(regex=r"[A-Z]{2}\d")
        choice = StringField(choices=[("a", "first"), ("b", "second")])
        number = IntField(min_value=-3, max_value=3)
        above = IntField(min_value=10**7)
        long = getattr(me, "LongField", IntField)()
        real = me.FloatField(max_value=-(10**8))
        price = me.DecimalField(min_value=0, max_value=1, precision=2)
        exact = me.Decimal128Field()
        flag = me.BooleanField(null=True, default=True)
        moment = me.DateTimeField()
        day = me.DateField()
        precise = me.ComplexDateTimeField()
        url = me.URLField()
        email = me.EmailField()
        other_id = me.ObjectIdField()
        uuid = me.UUIDField()
        data = me.BinaryField(max_bytes=3)
        level = me.EnumField(Level)
        sequence = me.SequenceField()
        anything = me.DynamicField()
        even = IntField(validation=_be_even)
        shape = me.EmbeddedDocumentField(Shape, required=True)
        shapes = me.EmbeddedDocumentListField(Shape, max_length=2)
        some_shape = me.GenericEmbeddedDocumentField(choices=[Node, Shape])
        tree = me.EmbeddedDocumentField(Node)
        tags = me.ListField(StringField(max_length=3), required=True)
        sorted = me.SortedListField(IntField())
        loose = me.ListField()
        words = me.DictField()
        counts = me.MapField(IntField(), required=True)
        author = me.ReferenceField(Author)
        by_ref = me.ReferenceField(Author, dbref=True)
        lazy = me.LazyReferenceField(Author)
        authors = me.ListField(me.ReferenceField(Author))
        generic = me.GenericReferenceField(choices=[Author])
        generic_lazy = me.GenericLazyReferenceField(choices=[Author])
        place = me.GeoPointField()
        point = me.PointField()
        line = me.LineStringField()
        area = me.PolygonField()
        points = me.MultiPointField()
        lines = me.MultiLineStringField()
        areas = me.MultiPolygonField()
        file = me.FileField()
        migration_handler = handler()

    return Everything


def _be_even(value: int) -> None:
    if value % 2:
        raise me.ValidationError("odd")


@cache
def _drawn_of_everything() -> list[Raw]:
    """Documents of that model: the same for each test, as nothing random goes into them."""
    return _drawn(old_documents(_model_of_everything()))


def test_a_document_of_today_is_one_that_the_model_stores() -> None:
    """Whatever is drawn without rules loads, is valid, and would be saved as it is."""
    drawn = _drawn_of_everything()
    everything = _model_of_everything()
    for raw in drawn:
        assert _loads(everything, copy.deepcopy(raw)).to_mongo().to_dict() == raw


def test_every_field_is_drawn_and_left_out() -> None:
    """Each field is there in some documents, and absent in others if it may be."""
    drawn = _drawn_of_everything()
    everything = _model_of_everything()
    always = {"_id", "sequence", "shape", "tags", "counts", "flag"}
    with_default = {"shapes", "sorted", "loose", "words", "authors"}
    names = {one.db_field for one in everything._fields.values()} - {"file"}
    for name in names:
        there = [raw for raw in drawn if name in raw]
        assert there, name
        assert (len(there) == len(drawn)) == (name in always | with_default), name
    assert {raw["flag"] for raw in drawn if "flag" in raw} == {True, False, None}


def test_limits_and_choices_are_kept() -> None:
    """Numbers, lengths, patterns and choices are those that the fields allow."""
    drawn = _drawn_of_everything()
    numbers = {raw["number"] for raw in drawn if "number" in raw}
    assert len(numbers) > 3
    assert numbers <= set(range(-3, 4))
    assert {raw["choice"] for raw in drawn if "choice" in raw} == {"a", "b"}
    assert {raw["level"] for raw in drawn if "level" in raw} == {"low", "high"}
    assert all(2 <= len(raw["t"]) <= 4 for raw in drawn if "t" in raw)
    assert all(raw["tags"] for raw in drawn)
    assert {raw["shape"]["_cls"] for raw in drawn} == {"Shape", "Circle"}


def test_subclasses_are_drawn_too() -> None:
    """Of a model with inheritance every class is drawn, each with its own fields and rules."""

    class Animal(LazyMigrationMixin, Document):
        meta = {"allow_inheritance": True}
        migration_handler = handler()

    class Bird(Animal):
        wings = IntField(required=True)
        migration_handler = handler(migration01__feathers=_unset("feathers"))

    def check(raw: Raw) -> None:
        assert ("wings" in raw) == (raw["_cls"] == "Animal.Bird")
        assert "feathers" not in raw or raw["_cls"] == "Animal.Bird"

    drawn = _drawn(old_documents(Animal))
    assert {raw["_cls"] for raw in drawn} == {"Animal", "Animal.Bird"}
    assert any("feathers" in raw for raw in drawn)
    for raw in drawn:
        check(raw)
    assert {raw["_cls"] for raw in _drawn(old_documents(Bird))} == {"Animal.Bird"}


class Unheard(BaseField):
    """A kind of field that nothing is known of."""


def test_a_required_field_of_unknown_kind_is_asked_for() -> None:
    """What is required and cannot be drawn is an error that names the remedy, which works."""

    class Inner(EmbeddedDocument):
        odd = Unheard(required=True)

    class Holder(LazyMigrationMixin, Document):
        inner = me.EmbeddedDocumentField(Inner, required=True)
        optional = Unheard()
        migration_handler = handler()

    with pytest.raises(
        TypeError, match=r"Inner.odd: .* a Unheard; name a strategy for 'inner.odd'"
    ):
        _drawn(old_documents(Holder))
    drawn = _drawn(old_documents(Holder, fields={"inner.odd": st.just(5)}))
    assert {raw["inner"]["odd"] for raw in drawn} == {5}
    assert all("optional" not in raw for raw in drawn)


def test_a_chosen_field_has_to_be_one() -> None:
    """A name in `fields` that the model does not have is an error."""
    with pytest.raises(TypeError, match="'fields' names 'nmae', which is no attribute"):
        _drawn(old_documents(_model_of_everything(), fields={"nmae": st.none()}))


def test_what_the_model_refuses_is_not_drawn() -> None:
    """A document that only the model as a whole refuses is passed over."""

    class Pair(EmbeddedDocument):
        low = IntField(min_value=0, max_value=3, required=True)
        high = IntField(min_value=0, max_value=3, required=True)

        def validate(self, clean: bool = True) -> None:
            super().validate(clean)
            if self.low > self.high:
                raise me.ValidationError("upside down")

    class Holder(LazyMigrationMixin, Document):
        pair = me.EmbeddedDocumentField(Pair, required=True)
        migration_handler = handler()

    drawn = _drawn(old_documents(Holder))
    assert all(raw["pair"]["low"] <= raw["pair"]["high"] for raw in drawn)


def test_models_without_rules_are_refused() -> None:
    """As with all of the kit, a model needs the mixin."""

    class Plain(Document):
        pass

    with pytest.raises(TypeError, match="give the model whose rules are to be tested"):
        old_documents(Plain)


# --- Documents of old shapes ------------------------------------------------------------------


class Item(EmbeddedDocument):
    """An embedded document for the rules below."""

    unit = StringField(max_length=3)
    count = IntField(min_value=0, max_value=9)


def _unset(name: str) -> Callable[[Any], None]:
    return rule({name: {"$exists": True}}, {"$unset": {name: ""}})


def _post(**rules: Any) -> Any:
    return model(
        handler(**rules),
        enabled=me.BooleanField(required=True),
        name=StringField(max_length=3),
        login=StringField(max_length=3),
        n=IntField(min_value=0, max_value=9),
        copy=IntField(),
        item=me.EmbeddedDocumentField(Item),
        items=me.EmbeddedDocumentListField(Item),
        tags=me.ListField(StringField()),
        changed=me.DateTimeField(),
        words=me.DictField(),
        version=IntField(min_value=3, max_value=3, required=True),
    )


TARGETS = [
    ({"enabled": {"$exists": False}}, {"$set": {"enabled": True}}),
    ({"enabled": None}, {"$set": {"enabled": True}}),
    ({"age": {"$exists": True}}, {"$unset": {"age": ""}}),
    ({"nick": {"$exists": True}}, {"$rename": {"nick": "login"}}),
    ({"version": 2}, {"$set": {"version": 3}}),
    ({"version": {"$lt": 3}}, {"$set": {"version": 3}}),
    ({"version": {"$in": [1, 2]}}, {"$set": {"version": 3}}),
    ({"version": {"$nin": [3, None]}}, {"$set": {"version": 3}}),
    ({"version": {"$ne": 3}}, {"$set": {"version": 3}}),
    ({"version": {"$mod": [7, 5]}}, {"$set": {"version": 3}}),
    ({"changed": {"$lt": datetime(1950, 1, 1)}}, {"$unset": {"changed": ""}}),
    ({"name": {"$gt": "zzzz"}}, {"$set": {"name": "z"}}),
    ({"name": {"$type": "int"}}, {"$set": {"name": "?"}}),
    ({"name": {"$type": ["int", "bool"]}}, {"$set": {"name": "?"}}),
    ({"name": {"$regex": "^Mr\\. "}}, {"$set": {"name": "?"}}),
    ({"name": {"$not": {"$type": "string"}, "$exists": True}}, {"$set": {"name": "?"}}),
    ({"tags": {"$type": "string", "$not": {"$type": "array"}}}, {"$set": {"tags": []}}),
    ({"tags": {"$size": 7}}, {"$set": {"tags": []}}),
    ({"item.weight": {"$exists": True}}, {"$unset": {"item.weight": ""}}),
    ({"item.unit": "dozen"}, {"$set": {"item.unit": "box"}}),
    (
        {"items": {"$elemMatch": {"unit": "dozen", "count": {"$gte": 1}}}},
        {"$set": {"items": []}},
    ),
    ({"$or": [{"old": 1}, {"older": 1}]}, {"$unset": {"old": "", "older": ""}}),
    ({"$nor": [{"enabled": True}, {"enabled": False}]}, {"$set": {"enabled": True}}),
    (
        {"old": {"$exists": True}, "name": {"$exists": False}},
        [{"$set": {"name": "$old"}}, {"$unset": "old"}],
    ),
    *[
        (update.target, update)
        for update in (
            each("items", rename={"number": "count"}),
            each("items", unset=["old"]),
            each("items", add={"unit": "box"}),
            each("items", set={"unit": "box"}, where={"unit": "dozen"}),
        )
    ],
]


@pytest.mark.parametrize(("target", "update"), TARGETS)
def test_a_rule_is_undone(mongoengine_db: Database[Any], target: Raw, update: Any) -> None:
    """For each kind of target old documents are drawn, which the rule brings up to date."""
    post = _post(migration01__change=rule(target, update))
    old = []
    for raw in _drawn(old_documents(post)):
        if _matches(target, raw):
            old.append(raw)
        else:
            _loads(post, raw)
    today = migrated(post, old[-1])
    assert not _matches(target, today)
    _loads(post, today)


def test_a_renamed_field_keeps_its_kind_of_value() -> None:
    """The old name holds what the new one holds, be it renamed by $rename or by a pipeline."""
    for update in ({"$rename": {"m": "n"}}, [{"$set": {"n": "$m"}}, {"$unset": "m"}]):
        drawn = _drawn(old_documents(_post(migration01__n=rule({"m": {"$exists": True}}, update))))
        values = {raw["m"] for raw in drawn if "m" in raw}
        assert len(values) > 3
        assert values <= set(range(10))
        assert all("n" not in raw for raw in drawn if "m" in raw)


def test_rules_are_undone_from_the_last_to_the_first() -> None:
    """A chain of renames gives each of the names, one at a time, and never a later one besides."""
    rules = handler(
        migration01__b=rule({"a": {"$exists": True}}, {"$rename": {"a": "b"}}),
        migration02__n=rule({"b": {"$exists": True}}, {"$rename": {"b": "n"}}),
    )
    post = model(rules, n=IntField(), meta={"strict": False})
    names = {tuple(sorted(raw.keys() & {"a", "b", "n"})) for raw in _drawn(old_documents(post))}
    assert names == {(), ("a",), ("b",), ("n",)}


def test_what_the_update_sets_is_taken_away_at_times() -> None:
    """A path that the rule sets is missing in some old documents, though no target asks for it."""
    target = {"version": 2}
    post = _post(migration01__v3=rule(target, {"$set": {"version": 3, "enabled": True}}))
    old = [raw for raw in _drawn(old_documents(post)) if raw["version"] == 2]
    assert {"enabled" in raw for raw in old} == {True, False}


def test_what_the_update_removes_is_brought_back_at_times() -> None:
    """A path that the rule removes is there in some old documents, though no target asks for it."""
    target = {"version": 2}
    post = _post(migration01__v3=rule(target, {"$set": {"version": 3}, "$unset": {"age": ""}}))
    drawn = _drawn(old_documents(post))
    assert {"age" in raw for raw in drawn if raw["version"] == 2} == {True, False}
    assert all("age" not in raw for raw in drawn if raw["version"] == 3)


def test_what_has_to_be_there_may_be_of_another_kind() -> None:
    """A target that asks for a field of another kind is met where today's document lacks it."""
    target = {"name": {"$not": {"$type": "string"}, "$exists": True}}
    post = _post(migration01__name=rule(target, {"$set": {"name": "?"}}))
    drawn = _drawn(old_documents(post, fields={"name": st.none()}))
    assert any(_matches(target, raw) for raw in drawn)


def test_a_missing_parent_is_one_of_the_model() -> None:
    """An old field below an embedded document that is absent brings a whole one with it."""

    class Part(EmbeddedDocument):
        unit = StringField(required=True)

    rules = handler(migration01__weight=_unset("part.weight"))
    post = model(rules, part=me.EmbeddedDocumentField(Part))
    drawn = _drawn(old_documents(post, fields={"part": st.none()}))
    assert {frozenset(raw["part"]) for raw in drawn if "part" in raw} == {
        frozenset({"unit", "weight"})
    }


def test_old_values_may_be_chosen() -> None:
    """`old` says what a path of an old shape holds, wherever a rule is undone."""
    post = _post(migration01__age=_unset("age"), migration02__w=_unset("item.weight"))
    drawn = _drawn(old_documents(post, old={"age": st.just(7), "item.weight": st.just(1.5)}))
    assert {raw["age"] for raw in drawn if "age" in raw} == {7}
    weights = {raw["item"]["weight"] for raw in drawn if "weight" in raw.get("item", {})}
    assert weights == {1.5}


def _words_of_text(self: Any) -> None:
    self.target = {"words": {"$type": "string"}}
    self.update = {"$set": {"words": {"en": self.doc["words"]}}}


def _n_of_text(self: Any) -> None:
    self.target = {"text": {"$exists": True}}
    self.update = {"$set": {"n": int(self.doc["text"])}, "$unset": {"text": ""}}


def test_computed_rules_are_undone_where_their_input_is_known() -> None:
    """A rule that reads self.doc is undone if the target or `old` says what it reads."""
    post = _post(
        migration01__words=_words_of_text,
        migration02__copy=copying("n", "copy"),
        migration03__n=_n_of_text,
    )
    drawn = _drawn(old_documents(post))
    assert any(isinstance(raw["words"], str) for raw in drawn)
    assert any("n" in raw and "copy" not in raw for raw in drawn)
    assert all("text" not in raw for raw in drawn)
    texts = st.integers(0, 9).map(str)
    drawn = _drawn(old_documents(post, old={"text": texts}))
    assert {type(raw["text"]) for raw in drawn if "text" in raw} == {str}


def test_rules_that_cannot_be_undone_are_left_alone() -> None:
    """No rule is undone that writes by itself, or whose target only MongoDB can judge."""

    def by_hand(self: Any) -> None:
        self.target = {"age": {"$type": "int"}}
        if not self.status:
            self.collection.update_many(self.target, {"$unset": {"age": ""}})

    def undetermined(self: Any) -> None:
        if "draft" in self.doc:
            self.target = {"draft": {"$exists": True}}
            self.update = {"$unset": {"draft": ""}}

    unjudged = {"old": {"$exists": True}, "$expr": {"$gt": [{"$abs": "$old"}, 1]}}
    post = _post(
        migration01__draft=undetermined,
        migration02__old=rule(unjudged, {"$unset": {"old": ""}}),
        allmigration01__age=by_hand,
    )
    _each(old_documents(post, scope="all"), lambda raw: _loads(post, raw))


def test_a_rule_is_undone_where_an_expression_of_its_target_can_be_judged() -> None:
    """A comparison in `$expr` is judged without a database: what is drawn answers it."""
    judged = {"old": {"$exists": True}, "$expr": {"$gt": ["$old", 1]}}
    post = _post(migration01__old=rule(judged, {"$unset": {"old": ""}}))
    drawn = [raw["old"] for raw in _drawn(old_documents(post)) if "old" in raw]
    assert drawn
    # A text or a boolean is more than any number.
    assert all(
        not isinstance(old, (int, float)) or isinstance(old, bool) or old > 1 for old in drawn
    )


def test_rules_that_others_build_on_are_left_alone_with_them() -> None:
    """A rule is not undone where a later one, which touches what it writes, cannot be."""
    unjudged = {"b": {"$exists": True}, "$expr": {"$gt": [{"$abs": "$b"}, 1]}}
    rules = handler(
        migration01__b=rule({"a": {"$exists": True}}, {"$rename": {"a": "b"}}),
        migration02__n=rule(unjudged, {"$rename": {"b": "n"}}),
        migration03__c=_unset("c"),
    )
    drawn = _drawn(old_documents(model(rules, n=IntField(), meta={"strict": False})))
    assert all(raw.keys().isdisjoint({"a", "b"}) for raw in drawn)
    assert any("c" in raw for raw in drawn)


def test_a_rule_is_undone_only_where_its_inputs_are() -> None:
    """A rule that computes from a field is not undone in a document that lacks the field."""
    update = [{"$set": {"enabled": {"$gt": ["$n", 3]}}}]
    post = _post(migration01__enable=rule({"enabled": {"$exists": False}}, update))
    drawn = _drawn(old_documents(post))
    assert any("enabled" not in raw for raw in drawn)
    assert all("n" in raw for raw in drawn if "enabled" not in raw)


def test_the_scope_says_which_rules_are_undone() -> None:
    """Bulk rules are undone only where they are asked for."""
    post = _post(migration01__draft=_unset("draft"), allmigration01__age=_unset("age"))
    for scope, names in (("lazy", {"draft"}), ("bulk", {"age"}), ("all", {"draft", "age"})):
        drawn = _drawn(old_documents(post, scope=scope))
        found = {name for raw in drawn for name in raw.keys() & {"draft", "age"}}
        assert found == names


def test_the_id_is_never_touched() -> None:
    """A rule whose target asks for another kind of `_id` is not undone."""
    target = {"_id": {"$type": "string"}, "draft": {"$exists": True}}
    post = _post(migration01__draft=rule(target, {"$unset": {"draft": ""}}))
    assert all(isinstance(raw["_id"], int) for raw in _drawn(old_documents(post)))


def test_a_rule_that_changes_the_class_is_undone_for_that_class_only() -> None:
    """A document gets the old `_cls` if its own class is the one that the rule gives."""

    class Person(LazyMigrationMixin, Document):
        meta = {"allow_inheritance": True}
        migration_handler = handler(
            migration01__company=rule({"_cls": "Firm"}, {"$set": {"_cls": "Person.Company"}}),
            legacy_classes=("Firm",),
        )

    class Company(Person):
        seats = IntField(required=True)

    class Human(Person):
        age = IntField(required=True)

    drawn = _drawn(old_documents(Person))
    assert {raw["_cls"] for raw in drawn} == {
        *("Firm", "Person", "Person.Company", "Person.Human"),
    }
    assert all("seats" in raw for raw in drawn if raw["_cls"] == "Firm")


def test_a_computed_rule_that_changes_the_class_is_left_alone() -> None:
    """Which class a computed update gives is not known, so no document gets the old one."""

    def found_company(self: Any) -> None:
        self.target = {"_cls": "Firm"}
        self.update = {"$set": {"_cls": "Person.Company", "seats": self.doc["seats"]}}

    class Person(LazyMigrationMixin, Document):
        seats = IntField(required=True)
        meta = {"allow_inheritance": True}
        migration_handler = handler(migration01__company=found_company, legacy_classes=("Firm",))

    assert {raw["_cls"] for raw in _drawn(old_documents(Person))} == {"Person"}


def test_the_simplest_example_is_a_document_of_today() -> None:
    """What hypothesis shrinks to is today's shape; a rule is undone only where that matters."""
    rules = handler(migration01__enable=rule(*ADD_ENABLED), migration02__age=_unset("age"))
    post = model(rules, enabled=me.BooleanField(required=True), n=IntField())
    today = {"_id", "enabled"}
    shrinking = settings(MANY, phases=[Phase.generate, Phase.shrink])
    old = find(old_documents(post), lambda raw: "age" in raw, settings=shrinking)
    assert old.keys() == today | {"age"}


def test_whole_histories_come_up_to_date(mongoengine_db: Database[Any]) -> None:
    """What several rules have undone is brought up to date by them, on loads and in bulk alike."""
    post = _post(
        migration01__enable=rule(*ADD_ENABLED),
        migration02__nick=rule({"nick": {"$exists": True}}, {"$rename": {"nick": "login"}}),
        migration03__login=rule({"login": {"$type": "int"}}, {"$unset": {"login": ""}}),
        migration04__unit=rule({"item.unit": "dozen"}, {"$set": {"item.unit": "box"}}),
        migration05__words=_words_of_text,
        migration06__v3=rule({"version": {"$lt": 3}}, {"$set": {"version": 3}}),
    )
    plan = plan_for(post.migration_handler, post)
    undone: set[str] = set()

    @FEW
    @given(st.lists(old_documents(post), max_size=2, unique_by=lambda raw: raw["_id"]))
    def check(raws: list[Raw]) -> None:
        assert_lazy_equals_bulk(post, raws)
        for raw in raws:
            undone.update(one.name for one in plan.lazy if _matches(dict(one.target or {}), raw))
            _loads(post, migrated(post, raw))
            assert_idempotent(post, raw, scope="lazy")

    check()
    assert undone == {one.name for one in plan.lazy}
