"""Map-reduce by filters that rules have rewritten, on a server that reads some of them wrongly."""

from __future__ import annotations

from typing import Any

import pytest
from mongoengine import Document, IntField, Q, StringField
from pymongo.database import Database

from lazymig import DocumentMigration, LazyMigrationMixin

Raw = dict[str, Any]


class StrayMigration(DocumentMigration):
    """Rules of a subclass: its first one never matches a document of that class."""

    def migration01__stray(self) -> None:
        """Takes documents of a class that is not concerned."""
        self.target = {"_cls": "Human.Gone"}
        self.update = {"$set": {"_cls": "Human"}}

    def migration02__rename(self) -> None:
        """Renames a field."""
        self.target = {"old": {"$exists": True}}
        self.update = {"$rename": {"old": "name"}}


class FormerMigration(DocumentMigration):
    """A rule whose documents have another class: each branch has a class condition."""

    def migration01__former(self) -> None:
        """Renames a class."""
        self.target = {"_cls": "Human.Former"}
        self.update = {"$set": {"_cls": "Human.Master"}}


def _models(root_handler: Any, handler: Any) -> tuple[Any, Any]:
    class Human(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        name = StringField()
        meta = {"allow_inheritance": True, "indexes": ["name"]}
        migration_handler = root_handler

    class Master(Human):
        migration_handler = handler

    Human.ensure_indexes()
    return Human, Master


@pytest.mark.parametrize("handlers", [(None, StrayMigration), (FormerMigration, FormerMigration)])
@pytest.mark.parametrize("others", [0, 2])
def test_item_frequencies_through_rules(
    mongoengine_db: Database[Raw], handlers: tuple[Any, Any], others: int
) -> None:
    """A map-reduce answers as a query does, whichever branches of its filter find anything."""
    human, master = _models(*handlers)
    mongoengine_db.human.insert_many(
        [
            {"_id": 1, "_cls": "Human", "name": "a"},
            *({"_id": 2 + n, "_cls": "Human.Master", "name": "b"} for n in range(others)),
        ]
    )
    for _ in range(3):
        assert human.objects(name="a").item_frequencies("name") == {"a": 1}
        either = human.objects(Q(name="a") | Q(name="b"))
        assert either.item_frequencies("name") == ({"a": 1, "b": others} if others else {"a": 1})
        assert master.objects(name="b").item_frequencies("name") == ({"b": 2} if others else {})
        emitted = human.objects(name="a").map_reduce(
            "function(){emit(this.name, 1)}", "function(k, v){return v.length}", "inline"
        )
        assert [(one.key, one.value) for one in emitted] == [("a", 1)]


def test_a_branch_that_the_class_asked_for_excludes_is_not_sent(
    mongoengine_db: Database[Raw],
) -> None:
    """MongoEngine's own class condition counts beside the rules' ones: what excludes it goes."""
    human, master = _models(None, StrayMigration)
    stray = "Human.Gone"
    assert stray not in repr(human.objects(name="a")._query)
    assert stray not in repr(master.objects(name="a")._query)
    only_human = human.objects(name="a").no_sub_classes()
    assert only_human._query == {"name": "a", "_cls": "Human"}
