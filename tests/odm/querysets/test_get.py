"""`get()` and `first()`: their shorter way for MongoEngine's own classes changes nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from mongoengine.queryset import QuerySet
from pymongo.database import Database

from tests.support.handlers import ADD_ENABLED, handler, model, rule


def _post(**body: Any) -> Any:
    return model(handler(migration01__enabled=rule(*ADD_ENABLED)), **body)


def test_get_leaves_the_queryset_as_it_was(mongoengine_db: Database[Any]) -> None:
    """A queryset that get() was called on keeps its conditions, order, limit and results."""
    mongoengine_db["post"].insert_many({"_id": key, "enabled": True} for key in range(5))
    queryset = _post(meta={"strict": False}).objects(key__gte=1).order_by("-key").limit(3)
    assert queryset.get(key=2).key == 2
    assert [post.key for post in queryset] == [4, 3, 2]
    assert queryset.get(key=1).key == 1
    assert [post.key for post in queryset] == [4, 3, 2]
    clone = queryset.clone()
    assert clone is not queryset
    assert [post.key for post in clone.filter(key__lt=3)] == [2, 1]


@pytest.mark.parametrize("name", ["__call__", "filter", "limit", "order_by"])
def test_get_calls_what_a_users_class_overrides(mongoengine_db: Database[Any], name: str) -> None:
    """A method of the user's own queryset class takes part in get(), on a queryset of its own."""
    seen = []

    def own(self: Any, *args: Any, **query: Any) -> Any:
        result = getattr(super(own_class, self), name)(*args, **query)
        seen.append(result is not self)
        return result

    own_class = type("Own", (QuerySet,), {name: own})
    mongoengine_db["post"].insert_one({"_id": 1})
    post = _post(meta={"queryset_class": own_class, "strict": False}).objects.get(key=1)
    assert post.key == 1
    assert seen
    assert all(seen)
    assert mongoengine_db["post"].find_one() == {"_id": 1, "enabled": True}


def test_first_leaves_the_queryset_as_it_was(mongoengine_db: Database[Any]) -> None:
    """A queryset that first() was called on keeps its conditions, order, limit and results."""
    mongoengine_db["post"].insert_many({"_id": key, "enabled": True} for key in range(5))
    queryset = _post(meta={"strict": False}).objects(key__gte=1).order_by("-key").limit(3)
    assert queryset.first().key == 4
    assert [post.key for post in queryset] == [4, 3, 2]
    assert queryset.first().key == 4
    assert queryset[1:].first().key == 3
    assert queryset.none().first() is None
    assert [post.key for post in queryset] == [4, 3, 2]


@pytest.mark.parametrize("name", ["__getitem__", "first"])
def test_first_calls_what_a_users_class_overrides(mongoengine_db: Database[Any], name: str) -> None:
    """Within first(), what a user's own queryset class overrides can make clones."""
    seen = []

    def own(self: Any, *args: Any) -> Any:
        seen.append(self.clone() is not self)
        return getattr(super(own_class, self), name)(*args)

    own_class = type("Own", (QuerySet,), {name: own})
    mongoengine_db["post"].insert_one({"_id": 1})
    post = _post(meta={"queryset_class": own_class, "strict": False}).objects(key=1).first()
    assert post.key == 1
    assert seen
    assert all(seen)
    assert mongoengine_db["post"].find_one() == {"_id": 1, "enabled": True}
