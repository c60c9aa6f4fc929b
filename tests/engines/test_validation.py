"""Validation on load: when it runs, what it starts, and that it never keeps a document away."""

from __future__ import annotations

from typing import Any

import pytest
from mongoengine import IntField, StringField
from mongoengine.errors import ValidationError
from pymongo.database import Database

from lazymig import ConvergenceWarning
from tests.support.handlers import ADD_ENABLED, handler, model, rule


class Counting:
    """Counts how often a model's documents are validated and cleaned."""

    def __init__(self) -> None:
        self.validated = 0
        self.cleaned = 0

    def fields(self) -> dict[str, Any]:
        counting = self

        class Watched(StringField):
            def validate(self, value: Any, **kwargs: Any) -> None:
                counting.validated += 1
                super().validate(value, **kwargs)

        def clean(_self: Any) -> None:
            counting.cleaned += 1

        return {"title": Watched(), "clean": clean, "n": IntField(), "enabled": IntField()}


CONVERGING = rule(*ADD_ENABLED)
# Its match does not end, and it makes an old title a string.
MENDING = rule({"n": 1}, {"$set": {"title": "mended"}})


@pytest.mark.parametrize(
    ("method", "setting", "validates"),
    [
        (CONVERGING, None, False),
        (CONVERGING, False, False),
        (CONVERGING, True, True),
        (MENDING, None, True),
        (MENDING, False, False),
        (MENDING, True, True),
    ],
)
@pytest.mark.filterwarnings("ignore::lazymig.ConvergenceWarning")
def test_when_loading_validates(
    mongoengine_db: Database[Any], method: Any, setting: Any, validates: bool
) -> None:
    """None validates while a rule needs it, True always, False never; clean() is never run."""
    counting = Counting()
    mongoengine_db["post"].insert_one({"_id": 1, "title": "x", "enabled": 1, "n": 2})
    rules = handler(migration01__x=method, validate_on_load=setting)
    post = model(rules, **counting.fields())
    assert post.objects.get().title == "x"
    assert (counting.validated > 0, counting.cleaned) == (validates, 0)


@pytest.mark.parametrize(
    "load",
    [
        lambda p: p.objects.get(),
        lambda p: p.objects.in_bulk([1])[1],
        lambda p: next(iter(p.objects)),
        lambda p: p.objects[0],
    ],
)
def test_an_invalid_document_starts_the_rules(mongoengine_db: Database[Any], load: Any) -> None:
    """A document that loads and does not validate is mended by a rule that no match starts."""
    mongoengine_db["post"].insert_one({"_id": 1, "title": 5, "n": 1})
    with pytest.warns(ConvergenceWarning):
        post = model(handler(migration01__x=MENDING), title=StringField(), n=IntField())
    assert load(post).title == "mended"
    assert mongoengine_db["post"].find_one() == {"_id": 1, "title": "mended", "n": 1}


def test_without_validation_an_invalid_document_loads_as_it_is(
    mongoengine_db: Database[Any],
) -> None:
    """Under validate_on_load = False a wrong scalar is what plain MongoEngine makes of it."""
    mongoengine_db["post"].insert_one({"_id": 1, "title": 5, "n": 1})
    with pytest.warns(ConvergenceWarning):
        post = model(
            handler(migration01__x=MENDING, validate_on_load=False),
            title=StringField(),
            n=IntField(),
        )
    assert post.objects.get().title == 5


@pytest.mark.filterwarnings("ignore::lazymig.ConvergenceWarning")
@pytest.mark.parametrize("setting", [None, True])
def test_a_document_that_stays_invalid_loads_still(
    mongoengine_db: Database[Any], setting: Any
) -> None:
    """If no rule makes a document valid, it loads as in plain MongoEngine."""
    mongoengine_db["post"].insert_many([{"_id": n, "title": 5, "n": 2} for n in range(3)])
    rules = handler(migration01__x=MENDING, validate_on_load=setting)
    post = model(rules, title=StringField(), n=IntField())
    found = list(post.objects.order_by("key"))
    assert [(each.key, each.title) for each in found] == [(0, 5), (1, 5), (2, 5)]
    with pytest.raises(ValidationError):
        found[0].validate()


def test_a_partial_document_is_never_validated(mongoengine_db: Database[Any]) -> None:
    """A projection leaves required fields out: that makes no document invalid."""
    mongoengine_db["post"].insert_one({"_id": 1, "n": 1, "title": "x"})
    with pytest.warns(ConvergenceWarning):
        post = model(
            handler(migration01__x=MENDING), title=StringField(required=True), n=IntField()
        )
    assert post.objects.only("n").get().n == 1
    assert mongoengine_db["post"].find_one() == {"_id": 1, "n": 1, "title": "x"}
