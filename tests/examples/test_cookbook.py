"""The migrations of the cookbook, each from end to end: loaded, queried, in bulk, refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import mongoengine
import pytest
from mongoengine import Document
from mongoengine.queryset.base import BaseQuerySet
from pymongo.database import Database

from lazymig import MigrationFailed, check_documents
from tests.examples.cookbook import DOCS, RECIPES, Raw, Recipe
from tests.support.clients import kept_client
from tests.support.definitions import defined
from tests.support.registry import restored_registry
from tests.support.server import CLIENT_OPTIONS

each_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
each_scope = pytest.mark.parametrize("scope", ["migration", "allmigration"])


class World:
    """A recipe on a database of its own: the page, its models, and what is stored."""

    def __init__(self, recipe: Recipe, page: ModuleType, database: Database[Raw]) -> None:
        self.page = page
        self.model = getattr(page, recipe.model)
        self.own = self.model._get_collection_name()
        self._recipe = recipe
        self._database = database

    def documents(self, collection: str, *, new: bool) -> list[Raw]:
        """The documents that the page has for a collection, old or new."""
        given = self._recipe.documents[collection][new]
        documents: list[Raw] = getattr(self.page, given) if isinstance(given, str) else given
        return documents

    def fill(self, *, new: bool = False) -> None:
        """Put the old documents, or the new ones, in the place of everything; indexes stay."""
        for name in self._database.list_collection_names():
            self._database[name].delete_many({})
        for name in self._recipe.documents:
            for document in self.documents(name, new=new):
                self._database[name].insert_one({**document})

    def insert(self, document: Raw) -> None:
        """Insert one document more into the model's collection."""
        self._database[self.own].insert_one({**document})

    def refuse(self, document_id: Any) -> None:
        """Have MongoDB refuse each update of a document."""
        refused = {"_id": {"$ne": document_id}}
        self._database.command("collMod", self.own, validator=refused)

    def stored(self) -> dict[str, list[Raw]]:
        """What lies in the collections that the migration changes, in the order of `_id`."""
        return {
            name: list(self._database[name].find().sort("_id"))
            for name in (self.own, *self._recipe.also)
        }

    def migrated(self) -> dict[str, list[Raw]]:
        """What shall lie there after the migration."""
        return {name: self.documents(name, new=True) for name in (self.own, *self._recipe.also)}

    def migration(self) -> Any:
        """The rules, ready to run."""
        return self.model.migration_handler(self.model)

    def run(self, **options: Any) -> Any:
        """Run the rules of both scopes in bulk, and give the report of the one that has some."""
        migration = self.migration()
        scopes = {status.scope for status in migration.get_status()}
        assert len(scopes) == 1
        run = migration.migrate_pending if "lazy" in scopes else migration.migrate_all
        return run(**options)

    def loaded(self) -> list[Any]:
        """All documents of the model, as they are loaded."""
        return [shown(document) for document in self.model.objects.order_by("pk")]

    def answers(self) -> dict[str, Any]:
        """What the reads of the recipe give, each on documents that nobody has loaded yet."""
        return {name: self.answer(name) for name in self._recipe.reads}

    def answer(self, name: str) -> Any:
        """What one read gives; of a queryset, the count and the documents.

        A count writes nothing, unless Python computes what is counted by.
        """
        given = self._recipe.reads[name](self.page)
        if not isinstance(given, BaseQuerySet):
            return shown(given)
        before = self.stored()
        count = given.count()
        assert self.stored() == before or "python" in self._recipe.forms, name
        return count, shown(list(given.order_by("pk")))


def shown(value: Any) -> Any:
    """A value that can be compared with one of other models of the same names."""
    if isinstance(value, Document):
        return type(value).__name__, value.to_mongo().to_dict()
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    return value


@contextmanager
def world(recipe: Recipe, database: Database[Raw], uri: str, **form: Any) -> Iterator[World]:
    """A recipe with its old documents stored; with `plain`, the models without rules."""
    with restored_registry():
        mongoengine.connect(
            database.name, host=uri, mongo_client_class=kept_client, **CLIENT_OPTIONS
        )
        made = World(recipe, defined(DOCS / recipe.page, **form), database)
        recipe.prepare(made.page)
        made.fill(new=bool(form.get("plain")))
        yield made
    database.client.drop_database(database.name)


@each_recipe
def test_loads(recipe: Recipe, database: Database[Raw], server_uri: str) -> None:
    """Loads give what plain MongoEngine gives of documents migrated by hand, and store these."""
    with world(recipe, database, server_uri, plain=True) as by_hand:
        expected = by_hand.loaded()
    with world(recipe, database, server_uri, scope="migration") as lazy:
        assert lazy.loaded() == expected
        assert lazy.stored() == lazy.migrated()
        assert lazy.run().matched == 0
        assert lazy.loaded() == expected


@each_recipe
def test_queries(recipe: Recipe, database: Database[Raw], server_uri: str) -> None:
    """Reads of what rules write give the same before and after, and on documents done by hand."""
    with world(recipe, database, server_uri, plain=True) as by_hand:
        expected = by_hand.answers()
    with world(recipe, database, server_uri, scope="migration") as lazy:
        for name in recipe.reads:
            lazy.fill()
            assert lazy.answer(name) == expected[name], name
        lazy.fill()
        assert lazy.run().complete
        assert lazy.answers() == expected


@each_scope
@each_recipe
def test_bulk(recipe: Recipe, scope: str, database: Database[Raw], server_uri: str) -> None:
    """`migrate_pending()` and `migrate_all()` store what was migrated by hand; again is nothing."""
    with world(recipe, database, server_uri, scope=scope) as bulk:
        report = bulk.run()
        assert (report.complete, report.errors) == (True, ())
        assert report.modified > 0
        assert bulk.stored() == bulk.migrated()
        assert bulk.migration().get_deprecated()["active"] == []
        assert check_documents(bulk.model, None).findings == ()

        assert bulk.run().modified == 0
        assert bulk.stored() == bulk.migrated()


@each_scope
@each_recipe
def test_refused(recipe: Recipe, scope: str, database: Database[Raw], server_uri: str) -> None:
    """A document that cannot be migrated is reported, and left alone; all others are migrated."""
    with world(recipe, database, server_uri, scope=scope) as bulk:
        if recipe.bad is None:
            bad = bulk.documents(bulk.own, new=False)[0]
            bulk.refuse(bad["_id"])
        else:
            bad = recipe.bad
            bulk.insert(bad)
        report = bulk.run(max_errors=10)
        assert [error.document_id for error in report.errors] == [bad["_id"]]
        assert not report.complete
        assert bulk.migration().get_deprecated()["active"] != []
        expected = {document["_id"]: document for document in bulk.migrated()[bulk.own]}
        assert {document["_id"]: document for document in bulk.stored()[bulk.own]} == {
            **expected,
            bad["_id"]: bad,
        }
        if scope == "migration":
            with pytest.raises(MigrationFailed):
                bulk.model.objects.get(pk=bad["_id"])


@each_recipe
def test_forms(recipe: Recipe, database: Database[Raw], server_uri: str) -> None:
    """Each rule is what its page says: static, translated or Python."""
    with world(recipe, database, server_uri, scope="migration") as lazy:
        assert tuple(status.form for status in lazy.migration().get_status()) == recipe.forms


def test_enough() -> None:
    """The cookbook has 16 migrations at least, and each page of it is tested."""
    assert len({(recipe.page, recipe.model) for recipe in RECIPES.values()}) >= 16
    pages = {f"cookbook/{page.name}" for page in (DOCS / "cookbook").glob("*.md")}
    assert pages - {"cookbook/index.md"} <= {recipe.page for recipe in RECIPES.values()}
