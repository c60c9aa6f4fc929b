"""Seals and the rights of a user: who may set them, and who may know of them."""

from __future__ import annotations

import threading

import pytest

from lazymig import SealError
from lazymig.odm.sealed import SealWatch
from tests.support.handlers import ADD_ENABLED, handler, model, rule


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
