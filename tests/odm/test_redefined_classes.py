"""Classes that were redefined, as in a notebook, live on unregistered: nobody counts them."""

from __future__ import annotations

from typing import Any

import pytest
from mongoengine import Document, EmbeddedDocument, EmbeddedDocumentField, StringField

from lazymig.odm.fields import facts_of
from lazymig.odm.schema import document_subclasses, field_path, knows_path, subclasses_of
from lazymig.testing.fields import field_at

INHERITED = {"allow_inheritance": True}


def subclass(base: Any, name: str, *fields: str, **meta: Any) -> Any:
    """Define a subclass of this name, anew if there is one."""
    body = {field: StringField() for field in fields}
    return type(base)(name, (base,), {**body, "meta": {"strict": True, **meta}})


def test_a_redefined_class_is_left_out():
    """Of two classes with one name below a model the one that MongoEngine knows is found."""

    class Animal(Document):
        meta = INHERITED

    stale = subclass(Animal, "Dog", "bark")
    dog = subclass(Animal, "Dog", "tail")
    assert list(Animal.__subclasses__()) == [stale, dog]
    assert list(subclasses_of(Animal)) == [dog]
    assert list(document_subclasses(Animal)) == [dog]
    assert knows_path(Animal, "tail")
    assert knows_path(Animal, "bark") is False
    assert field_at(Animal, ["bark"]) is None


def test_a_class_below_a_redefined_one_stays():
    """A registered class whose base was redefined is found still, once."""

    class Animal(Document):
        meta = INHERITED

    stale = subclass(Animal, "Dog", **INHERITED)
    puppy = subclass(stale, "Puppy", "toy")
    dog = subclass(Animal, "Dog", **INHERITED)
    assert set(subclasses_of(Animal)) == {dog, puppy}
    assert knows_path(Animal, "toy")


def test_a_class_whose_definition_failed_is_left_out():
    """A subclass that MongoEngine refused to define is none."""

    class Animal(Document):
        meta = INHERITED

    with pytest.raises(ValueError, match="Abstract"):
        subclass(Animal, "Ghost", abstract=True)
    assert list(subclasses_of(Animal)) == []


def test_embedded_classes_are_walked_likewise():
    """Paths and facts of a redefined embedded class are unknown to the model that embeds it."""

    class Part(EmbeddedDocument):
        meta = INHERITED

    class Machine(Document):
        part = EmbeddedDocumentField(Part)

    stale = subclass(Part, "Wheel", "spokes")
    wheel = subclass(Part, "Wheel", "tyre")
    assert knows_path(Machine, "part.tyre")
    assert knows_path(Machine, "part.spokes") is False
    assert field_path(Machine, "part.tyre") == "part__tyre"
    embedded = [facts.model for facts in facts_of(Machine).fields["part"].embedded()]
    assert embedded == [Part, wheel]
    assert stale not in embedded


def test_an_abstract_class_is_found_but_stores_nothing():
    """An abstract class below a base is one of its classes, and none of its document classes."""

    class Base(Document):
        meta = {"abstract": True}

    middle = subclass(Base, "Middle", abstract=True)
    leaf = subclass(middle, "Thing", "name")
    assert list(subclasses_of(Base)) == [middle, leaf]
    assert list(document_subclasses(Base)) == [leaf]
