"""Views and the rights of a user: who may create, change, drop, list and read them."""

from __future__ import annotations

from typing import Any

import pytest
from mongoengine import StringField

from lazymig import ViewError
from lazymig.reports.looks import look
from tests.support.handlers import ADD_ENABLED, handler, model, rule

RENAME = ({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}})


@pytest.fixture(autouse=True)
def _in_python() -> None:
    """Rules are translated, as they are for users."""


def post(**rules: Any) -> Any:
    """A model with these rules; MongoEngine makes no index for it."""
    rules = rules or {"migration01__rename": rule(*RENAME)}
    return model(handler(**rules), email=StringField(), meta={"strict": False})


def calls(a_model: Any) -> tuple[Any, Any]:
    """The calls of a model's handler, and the collection, as the user who has logged in."""
    return a_model.migration_handler(a_model), a_model._get_db()["post"]


def test_who_may_write_may_create_and_drop(as_user):
    """The role readWrite is enough to create and to drop a view; to change one it is not."""
    database = as_user("readWrite")
    database["post"].insert_one({"_id": 1, "mail": "a"})
    today, collection = calls(post())
    today.create_view("today", collection)
    assert database["today"].find_one() == {"_id": 1, "email": "a"}

    rules = {"migration01__rename": rule(*RENAME), "migration02__add": rule(*ADD_ENABLED)}
    later, _ = calls(post(**rules))
    with pytest.raises(ViewError, match=r"collMod.*dbAdmin.*drop it and create it again"):
        later.create_view("today", collection)
    assert database["today"].find_one() == {"_id": 1, "email": "a"}

    later.drop_view("today", collection)
    later.create_view("today", collection)
    assert database["today"].find_one() == {"_id": 1, "email": "a", "enabled": True}


def test_the_role_that_the_error_names_is_enough(as_user):
    """With the role dbAdmin besides, a view is brought up to date."""
    as_user("readWrite", "dbAdmin")
    today, collection = calls(post())
    today.create_view("today", collection)
    rules = {"migration01__rename": rule(*RENAME), "migration02__add": rule(*ADD_ENABLED)}
    later, _ = calls(post(**rules))
    assert [each.current for each in later.views(collection)] == [False]
    assert later.create_view("today", collection).current


def test_who_may_not_read_is_told_so(as_user):
    """A rule that is known for some documents only has the collection read; the error says so."""
    as_user("dbAdmin")

    def number(self: Any) -> None:
        self.target = {"n": {"$type": "string"}}
        self.update = {"$set": {"n": int(self.doc["n"])}}

    today, collection = calls(post(migration01__number=number))
    with pytest.raises(ViewError, match=r"right to read the collection \(find\).*role read"):
        today.create_view("today", collection)


def test_who_may_only_read_is_told_so(as_user):
    """Without the right to create and drop errors name right and role; views are read."""
    database = as_user("read")
    database["post"].insert_one({"_id": 1, "mail": "a"})
    today, collection = calls(post())
    with pytest.raises(ViewError, match=r"createCollection.*readWrite"):
        today.create_view("today", collection)

    pipeline = [{"$match": {"$comment": "lazymig: view of Post"}}]
    database.command("create", "today", viewOn="post", pipeline=pipeline)
    assert [each.name for each in today.views(collection)] == ["today"]
    assert collection.database["today"].find_one() == {"_id": 1, "mail": "a"}
    with pytest.raises(ViewError, match=r"dropCollection.*readWrite"):
        today.drop_view("today", collection)


def test_who_may_read_the_view_alone_reads_it(as_user):
    """A user who may read nothing but the view sees today's shape, and not what is stored."""
    database = as_user("readWrite")
    database["post"].insert_one({"_id": 1, "mail": "a"})
    today, collection = calls(post())
    today.create_view("today", collection)
    database.command("updateUser", "user", roles=["read_view"])
    assert collection.database["today"].find_one() == {"_id": 1, "email": "a"}
    with pytest.raises(Exception, match="not authorized"):
        collection.find_one()


def test_who_may_not_list_collections_has_the_rest(as_user):
    """Without the right to list collections errors say so; `status` has its counts all the same."""
    database = as_user("read_some")
    database["post"].insert_one({"_id": 1, "mail": "a"})
    a_model = post()
    today, collection = calls(a_model)
    for call in (today.create_view, today.drop_view):
        with pytest.raises(ViewError, match=r"listCollections.*role read"):
            call("today", collection)
    standing = look(a_model, collection, keep=False)
    assert (standing.views, standing.rules[0].remaining) == ((), 1)
