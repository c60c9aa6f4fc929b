"""pytest-mongo: its fixtures, and what they empty, beside an application's rules."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.database import Database

from tests.ecosystem.twins import needed

needed("pytest_mongo", "pytest-mongo")

CONFTEST = """
import mongoengine, pytest
from pytest_mongo import factories

running = factories.mongo_noproc(uri={uri!r})
mongo = factories.mongodb("running", dbname={name!r})

@pytest.fixture
def books(mongo):
    mongoengine.connect({name!r}, host={uri!r}, uuidRepresentation="standard")
    yield mongo[{name!r}]["book"]
    mongoengine.disconnect()
"""

TESTS = """
import pytest
from mongoengine import Document, IntField, StringField
from lazymig import DocumentMigration, LazyMigrationMixin, each

class Rules(DocumentMigration):
    def migration01__title(self):
        self.target = {"name": {"$exists": True}}
        self.update = {"$rename": {"name": "title"}}
    def migration02__cents(self):
        self.target = {"euros": {"$exists": True}}
        cents = int(round(self.doc["euros"] * 100))
        self.update = {"$set": {"cents": cents}, "$unset": {"euros": ""}}

class Book(LazyMigrationMixin, Document):
    key = IntField(primary_key=True)
    title = StringField(unique=True, sparse=True)
    cents = IntField()
    meta = {"collection": "book", "indexes": ["cents"]}
    migration_handler = Rules

OLD = [{"_id": 1, "name": "Winter", "euros": 12.5}, {"_id": 2, "title": "Autumn", "cents": 800}]

@pytest.mark.parametrize("again", range(3))
def test_each_test_begins_with_an_empty_database(books, again):
    assert Book.objects.count() == 0
    books.insert_many(OLD)
    assert Book.objects(cents__gte=1000).count() == 1
    assert [book.title for book in Book.objects.order_by("-cents")] == ["Winter", "Autumn"]
    assert books.find_one(1) == {"_id": 1, "title": "Winter", "cents": 1250}

def test_a_run_and_its_seals_are_of_one_test(books):
    books.insert_many(OLD)
    assert Rules(Book).migrate_pending().complete
    assert len(Rules(Book).seal().sealed) == 2

def test_nothing_is_sealed_any_more(books):
    books.insert_many(OLD)
    assert Book.objects.get(title="Winter").cents == 1250
    assert Rules(Book).get_deprecated()["active"] == []
"""


def test_an_application_is_tested_with_it(
    pytester: pytest.Pytester, database: Database[Any], server_uri: str
) -> None:
    """Tests on its fixtures see old documents as ever, and other databases are left alone."""
    neighbour = database.client[f"{database.name}_neighbour"]
    neighbour["book"].insert_one({"_id": 1, "name": "not yours"})
    try:
        pytester.makeconftest(CONFTEST.format(uri=server_uri, name=database.name))
        pytester.makepyfile(test_books=TESTS)
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "ignore")
        result.assert_outcomes(passed=5)
        assert list(neighbour["book"].find()) == [{"_id": 1, "name": "not yours"}]
        assert database.list_collection_names() == []
    finally:
        database.client.drop_database(neighbour.name)
