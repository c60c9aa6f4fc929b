"""What happens on a delete to documents whose reference has the name that a rule changes."""

from __future__ import annotations

import pytest
from mongoengine import (
    CASCADE,
    DENY,
    NULLIFY,
    PULL,
    IntField,
    ListField,
    OperationError,
    ReferenceField,
    StringField,
)

from tests.support.doors import stored
from tests.support.handlers import handler, model, rule


def linked(database, reverse):
    """Posts 1 and 9; today's Link refers by `goal` or `goals`, an old one by `target(s)`."""
    post = model(None, name=StringField())
    rules = handler(
        migration01__rename=rule({"target": {"$exists": True}}, {"$rename": {"target": "goal"}}),
        migration02__rename=rule({"targets": {"$exists": True}}, {"$rename": {"targets": "goals"}}),
    )
    if reverse == PULL:
        one, many = IntField(), ListField(ReferenceField(post, reverse_delete_rule=PULL))
    else:
        one, many = ReferenceField(post, reverse_delete_rule=reverse), ListField(IntField())
    link = model(rules, name_of_class="Link", meta={"collection": "link"}, goal=one, goals=many)
    database["post"].insert_many([{"_id": 1}, {"_id": 9}])
    return post, link


CASCADES = {
    CASCADE: [{"_id": 3, "goal": 9}],
    NULLIFY: [{"_id": 1}, {"_id": 2}, {"_id": 3, "goal": 9}],
}


@pytest.mark.parametrize("through", ["document", "queryset"])
@pytest.mark.parametrize("reverse", CASCADES)
def test_a_cascade_finds_old_references(mongoengine_db, reverse, through):
    """CASCADE and NULLIFY reach documents whose reference has the name that a rule changes."""
    links = [{"_id": 1, "target": 1}, {"_id": 2, "goal": 1}, {"_id": 3, "target": 9}]
    mongoengine_db["link"].insert_many(links)
    post, link = linked(mongoengine_db, reverse)

    (post.objects.get(key=1) if through == "document" else post.objects(key=1)).delete()

    link.migration_handler(link).migrate_pending()
    assert stored(mongoengine_db["link"]) == CASCADES[reverse]


def test_a_pull_finds_old_references(mongoengine_db):
    """PULL takes the deleted document out of lists that have the name that a rule changes."""
    links = [{"_id": 1, "targets": [1, 9]}, {"_id": 2, "goals": [1]}, {"_id": 3, "targets": [9]}]
    mongoengine_db["link"].insert_many(links)
    post, link = linked(mongoengine_db, PULL)

    post.objects.get(key=1).delete()

    link.migration_handler(link).migrate_pending()
    expected = [{"_id": 1, "goals": [9]}, {"_id": 2, "goals": []}, {"_id": 3, "goals": [9]}]
    assert stored(mongoengine_db["link"]) == expected


def test_a_denial_finds_old_references(mongoengine_db):
    """DENY keeps a document that only an old reference names; nothing is written."""
    mongoengine_db["link"].insert_one({"_id": 1, "target": 1})
    post, _ = linked(mongoengine_db, DENY)

    with pytest.raises(OperationError, match="refers to it"):
        post.objects.get(key=1).delete()
    post.objects.get(key=9).delete()
    assert stored(mongoengine_db["post"]) == [{"_id": 1}]
    assert stored(mongoengine_db["link"]) == [{"_id": 1, "target": 1}]
