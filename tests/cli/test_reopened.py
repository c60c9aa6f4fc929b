"""A run that leaves documents to an earlier rule, on the command line."""

from __future__ import annotations

import pytest

NUMBERS = """
from mongoengine import Document, DynamicField, IntField
from lazymig import DocumentMigration, LazyMigrationMixin

class NumberMigration(DocumentMigration):
    def migration01__text(self):
        self.target = {"v": {"$in": [1, 2]}}
        self.update = {"$set": {"v": "small"}}

    def migration02__copy(self):
        self.target = {"v": {"$exists": False}}
        self.update = {"$set": {"v": self.doc["n"]}}

class Number(LazyMigrationMixin, Document):
    id = IntField(primary_key=True)
    n = IntField()
    v = DynamicField()
    migration_handler = NumberMigration
"""


@pytest.mark.parametrize("as_json", [False, True])
def test_the_rule_is_named_and_the_next_run_is_fine(shop, database, as_json):
    """The exit code is 1, the rule is named, the journal says so, and another run ends it."""
    shop.write("numbers_app.py", NUMBERS)
    database.number.insert_one({"_id": 1, "n": 2})
    call = ("migrate", "--yes", "--models", "numbers_app")
    if as_json:
        told = shop.json(*call, code=1)
        assert [run["reopened"] for run in told["runs"]][:1] == [["migration01__text"]]
    else:
        result = shop(*call)
        assert result.code == 1
        assert "later rules lead back to migration01__text: run it once more" in result.out
    (run,) = shop.json("runs")["runs"]
    assert (run["complete"], run["reopened"]) == (False, ["migration01__text"])
    shown = shop("runs", run["id"]).out
    assert "to be applied again: migration01__text" in shown
    assert shop(*call).code == 0
    assert database.number.find_one() == {"_id": 1, "n": 2, "v": "small"}
