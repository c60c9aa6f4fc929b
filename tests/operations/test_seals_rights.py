"""Seals and the rights of a user: who may set them, and who may know of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from mongoengine import connect, disconnect
from pymongo import MongoClient

from lazymig import SealError
from lazymig.odm.sealed import SealWatch
from tests.support.handlers import ADD_ENABLED, handler, model, rule
from tests.support.server import CLIENT_OPTIONS, quick_server

READ_ONE = {"resource": {"db": "rights", "collection": "post"}, "actions": ["find", "update"]}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that asks who one is; the administrator is admin/admin."""
    key = tmp_path_factory.mktemp("server") / "key"
    key.write_text("bGF6eW1pZw==" * 4)
    key.chmod(0o600)
    with quick_server("--auth", "--keyFile", str(key)) as server:
        with MongoClient[Any](server.uri) as local:
            local.admin.command("createUser", "admin", pwd="admin", roles=["root"])
            with MongoClient[Any](server.uri, username="admin", password="admin") as root:
                roles = {"read_one": [READ_ONE]}
                for name, privileges in roles.items():
                    root["rights"].command("createRole", name, privileges=privileges, roles=[])
        yield server.uri


@pytest.fixture
def as_user(guarded: str) -> Iterator[Any]:
    """Connect MongoEngine as a user with roles in the database `rights`; gives root's database."""
    with MongoClient[Any](guarded, username="admin", password="admin") as root:

        def log_in(*roles: str) -> Any:
            root["rights"].command("createUser", "user", pwd="user", roles=list(roles))
            root["rights"].create_collection("post")
            connect(
                "rights",
                host=guarded,
                username="user",
                password="user",
                authentication_source="rights",
                **CLIENT_OPTIONS,
            )
            return root["rights"]

        yield log_in
        disconnect()
        root["rights"].command("dropUser", "user")
        root["rights"].drop_collection("post")


def post_model():
    """A model with a rule; MongoEngine makes no index for it."""
    return model(handler(migration01__enable=rule(*ADD_ENABLED)), meta={"strict": False})


def test_who_may_not_change_a_validator_is_told_so(as_user):
    """Without the right to collMod nothing is changed, and the error names right and role."""
    database = as_user("readWrite")
    post = post_model()
    with pytest.raises(SealError, match=r"collMod.*dbAdmin"):
        post.migration_handler(post).seal(collection=post._get_db()["post"])
    assert database["post"].options() == {}


def test_the_role_that_the_error_names_is_enough(as_user):
    """With the role dbAdmin besides, rules are sealed and unsealed."""
    database = as_user("readWrite", "dbAdmin")
    post = post_model()
    collection = post._get_db()["post"]
    assert post.migration_handler(post).seal(collection).sealed == ("migration01__enable",)
    assert "validator" in database["post"].options()
    assert post.migration_handler(post).unseal(collection) == ("Post.migration01__enable",)


def test_who_may_not_list_collections_goes_on_unsealed(as_user, caplog):
    """A process that may not ask for seals takes no rule for sealed, and says so once."""
    as_user("read_one")
    times = [0.0]
    watch = SealWatch(lambda: times[0])
    post = post_model()
    collection = post._get_db()["post"]
    family = watch.family_in(post, collection)
    for _ in range(3):
        times[0] += 31
        assert watch.family_in(post, collection) is family
        for thread in threading.enumerate():
            if thread.name == "lazymig-seals":
                thread.join()
    told = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert len([text for text in told if "its seals could not be read" in text]) == 1
    with pytest.raises(SealError, match="listCollections"):
        post.migration_handler(post).seal(collection)
