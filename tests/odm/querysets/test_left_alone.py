"""Operations that touch no path of a rule are left alone, in whatever Python it is written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from bson import ObjectId
from mongoengine import DynamicDocument, IntField
from pymongo.database import Database

from lazymig import DocumentMigration, LazyMigrationMixin, SettleLimitExceeded
from lazymig.errors import MigrationFailed
from tests.support.commands import CommandLog

COUNT = 5


def _handler(compute: Callable[[Any], Any], **attributes: Any) -> type[DocumentMigration]:
    def rule(self: Any) -> None:
        self.target = {"x": {"$exists": True}}
        self.update = {"$set": {"y": compute(self.doc)}, "$unset": {"x": ""}}

    return type("Rules", (DocumentMigration,), {"migration01__x": rule, **attributes})


def _model(rules: type[DocumentMigration] | None) -> Any:
    body = {
        "key": IntField(primary_key=True),
        "meta": {"collection": "post", "auto_create_index": False},
        "migration_handler": rules,
        "__module__": __name__,
    }
    bases = (DynamicDocument,) if rules is None else (LazyMigrationMixin, DynamicDocument)
    return type("Post", bases, body)


IDIOMS: dict[str, Callable[[Any], Any]] = {
    "int": lambda doc: int(doc["x"]),
    "text": lambda doc: f"{doc['x']}!",
    "loop": lambda doc: [one for one in str(doc["x"])],  # noqa: C416
    "sorted": lambda doc: sorted(str(doc["x"])),
    "date": lambda doc: datetime.fromtimestamp(float(doc["x"]), timezone.utc),
    "id": lambda doc: ObjectId(doc["x"].zfill(24)),
    "joined": lambda doc: ",".join(map(str, doc["x"])),
    "isinstance": lambda doc: doc["x"] if isinstance(doc["x"], str) else "",
    "is": lambda doc: doc.get("z") is None,
    "type": lambda doc: type(doc["x"]) is str,
}


def _in_python(doc: Any) -> Any:
    """What `int` gives, by a function that the server does not have."""
    return int(doc["x"].swapcase())


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "get": lambda objects: objects.as_pymongo().get(other=1),
    "count": lambda objects: objects(other__gt=1).count(),
    "first": lambda objects: objects(other=3).only("other").first().other,
    "order": lambda objects: [one.key for one in objects.only("other").order_by("-other")],
    "distinct": lambda objects: objects.distinct("other"),
    "sum": lambda objects: objects.sum("other"),
    "update": lambda objects: objects(other=2).update(set__more=1),
    "delete": lambda objects: objects(other=2).delete(),
    "aggregate": lambda objects: list(
        objects.aggregate([{"$match": {"other": 2}}, {"$count": "n"}])
    ),
}


@pytest.mark.filterwarnings("ignore::lazymig.SettlingWarning")
@pytest.mark.parametrize("idiom", IDIOMS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_touches_no_path_of_a_rule_is_sent_as_it_is(
    monitored_db: Database[Any], command_log: CommandLog, idiom: str, operation: str
) -> None:
    """An operation on other fields than a computed rule's costs what it costs without the rule."""
    seen = []
    for rules in (None, _handler(IDIOMS[idiom], settle_limit=0)):
        monitored_db["post"].drop()
        documents = [{"_id": n, "x": str(n), "other": n} for n in range(COUNT)]
        monitored_db["post"].insert_many(documents)
        post = _model(rules)
        assert post.objects(key=-1).count() == 0
        command_log.clear()
        result = OPERATIONS[operation](post.objects)
        unlike = ("lsid", "txnNumber", "$clusterTime", "cursor")
        commands = [
            (name, {key: value for key, value in command.items() if key not in unlike})
            for name, command in command_log.commands
        ]
        seen.append((result, commands, list(monitored_db["post"].find())))
    assert seen[1] == seen[0]


@pytest.mark.parametrize("field", ["x", "y", "x.deep", "y.0"])
def test_what_touches_a_path_of_a_rule_is_not(mongoengine_db: Database[Any], field: str) -> None:
    """A query by what a computed rule writes is answered as if the rule had been applied.

    One that Python computes is applied first; one that the server can compute is seen through.
    """
    mongoengine_db["post"].insert_many([{"_id": n, "x": str(n)} for n in range(COUNT)])
    found = 1 if field == "y" else 0
    post = _model(_handler(IDIOMS["int"], settle_limit=0))
    assert post.objects(__raw__={field: 3}).count() == found
    assert mongoengine_db["post"].count_documents({"x": {"$exists": True}}) == COUNT
    strict = _model(_handler(_in_python, settle_limit=0))
    with pytest.raises(SettleLimitExceeded):
        strict.objects(__raw__={field: 3}).count()
    post = _model(_handler(_in_python))
    assert post.objects(__raw__={field: 3}).count() == found


def test_a_write_to_what_a_rule_reads_comes_after_the_rule(mongoengine_db: Database[Any]) -> None:
    """An update of a field that a computed rule reads finds the rule applied, as it must."""
    mongoengine_db["post"].insert_one({"_id": 1, "x": "1", "factor": 2})
    post = _model(_handler(lambda doc: int(doc["x"]) * doc["factor"]))
    assert post.objects(key=1).update(set__factor=10) == 1
    assert mongoengine_db["post"].find_one() == {"_id": 1, "y": 2, "factor": 10}


def test_an_update_beyond_the_declared_paths_leaves_the_document_alone(
    mongoengine_db: Database[Any],
) -> None:
    """What a rule declares is checked for each document; the error names path and remedy."""

    def rule(self: Any) -> None:
        self.target = {"x": {"$exists": True}}
        self.writes = ("a", "x")
        self.update = {"$set": {self.doc["x"]: 1}, "$unset": {"x": ""}}

    old = [{"_id": 1, "x": "a"}, {"_id": 2, "x": "b"}]
    mongoengine_db["post"].insert_many(old)
    post = _model(type("Rules", (DocumentMigration,), {"migration01__x": rule}))
    assert post.objects.get(key=1).a == 1
    with pytest.raises(MigrationFailed, match=r"writes 'b' for a document.*self\.writes"):
        post.objects.get(key=2)
    assert mongoengine_db["post"].find_one(2) == old[1]
    assert "is sent as it is" in post.objects(other=1).explain_migration()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_undetermined_rule_holds_no_query_up(
    mongoengine_db: Database[Any], order: tuple[int, int]
) -> None:
    """A rule whose target needs the document concerns its own paths alone, as any other does."""

    def undetermined(self: Any) -> None:
        if isinstance(self.doc.get("u"), str):
            self.target = {"u": {"$type": "string"}}
            self.update = {"$set": {"u": int(self.doc["u"])}}

    def computed(self: Any) -> None:
        self.target = {"x": {"$exists": True}}
        self.update = {"$set": {"y": len(self.doc["x"])}, "$unset": {"x": ""}}

    rules = [undetermined, computed]
    body = {f"migration{n:02}__x": rules[place] for n, place in enumerate(order, 1)}
    mongoengine_db["post"].insert_many([{"_id": n, "x": "ab", "other": n} for n in range(COUNT)])
    post = _model(type("Rules", (DocumentMigration,), {**body, "settle_limit": 0}))
    assert [one.key for one in post.objects.only("other").order_by("-other")] == [4, 3, 2, 1, 0]
    assert mongoengine_db["post"].count_documents({"x": {"$exists": True}}) == COUNT
