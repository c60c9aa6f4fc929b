"""Loads by a user of the database who may read and nothing else."""

from __future__ import annotations

from mongoengine import IntField

from lazymig import without_writing
from tests.support.handlers import copying_in_python, handler, model, rule
from tests.support.rights import as_user, guarded  # noqa: F401 - fixtures


def test_a_user_without_the_right_to_write_loads_todays_shape(as_user):  # noqa: F811
    """The stages of rules, and of computed updates, need no more than the right to read."""
    database = as_user("read")
    raw = {"_id": 1, "a": 2}
    database.post.insert_one(raw)
    posts = model(
        handler(
            migration01__copy=copying_in_python("a", "b"),
            migration02__count=rule({"n": {"$exists": False}}, {"$set": {"n": 1}}),
        ),
        a=IntField(),
        b=IntField(),
        n=IntField(),
    )

    with without_writing(posts):
        found = posts.objects.get(n=1)
        part = posts.objects.only("b").get()

    assert (found.a, found.b, found.n, part.b) == (2, 2, 1, 2)
    assert list(database.post.find()) == [raw]
