"""mongoengine-softdelete: documents that are hidden by a field in place of being deleted."""

from __future__ import annotations

from typing import Any

import pytest
from mongoengine import BooleanField, IntField, StringField

from lazymig import DocumentMigration, LazyMigrationMixin
from tests.ecosystem.twins import Bases, Shop, Twins, needed

package = needed("mongoengine_softdelete.document", "mongoengine-softdelete")


class Hidden(package.SoftDeleteDocument):
    """The base of an application's documents."""

    deleted = BooleanField(default=False)
    meta = {"abstract": True, "soft_delete": {"deleted": True}}


@pytest.fixture
def bases() -> Bases:
    """Books and authors that can be hidden."""
    return Bases(document=Hidden, meta={"soft_delete": {"deleted": True}})


def _titles(queryset: Any) -> list[str]:
    return sorted(book.title for book in queryset)


def test_hidden_books_are_hidden_and_found_again(twins: Twins) -> None:
    """What is hidden is in no list, count or order; asked for, it is there in today's shape."""

    def play(shop: Shop) -> Any:
        for title in ("Winter", "Harvest", "Monsoon"):
            shop.Book.objects.get(title=title).soft_delete()
        books = shop.Book.objects
        seen = [
            _titles(books),
            len(books),
            books(cents__gte=950).count(),
            [book.title for book in books.order_by("-cents", "title")],
            _titles(shop.Book.objects.including_soft_deleted),
            _titles(shop.Book.objects.soft_deleted),
            shop.Book.objects.soft_deleted(tags="ice").count(),
            shop.Book.objects(reviews__rating=5).count(),
        ]
        (winter,) = shop.Book.objects.soft_deleted(title="Winter")
        seen.append(winter.is_soft_deleted)
        winter.soft_undelete()
        return [*seen, _titles(shop.Book.objects), winter.is_soft_deleted]

    seen = twins.same(play)
    assert seen[0] == ["Autumn", "Midwinter", "Spring", "Summer"]
    assert seen[5] == ["Harvest", "Monsoon", "Winter"]


class NoteMigration(DocumentMigration):
    """What hides a note had another name, and was a text."""

    def migration01__deleted(self):
        self.target = {"state": {"$exists": True}}
        self.update = [{"$set": {"deleted": {"$eq": ["$state", "gone"]}}}, {"$unset": "state"}]

    def migration02__text(self):
        self.target = {"body": {"$exists": True}}
        self.update = {"$rename": {"body": "text"}}


def _notes(*, lazy: bool) -> Any:
    mixins = (LazyMigrationMixin,) if lazy else ()

    class Note(*mixins, Hidden):
        number = IntField(primary_key=True)
        text = StringField()
        meta = {"collection": "note"}
        if lazy:
            migration_handler = NoteMigration

    return Note


OLD_NOTES = [
    {"_id": 1, "body": "a", "state": "gone"},
    {"_id": 2, "body": "b", "state": "here"},
    {"_id": 3, "text": "c", "deleted": True},
    {"_id": 4, "text": "d", "deleted": False},
    {"_id": 5, "text": "e", "state": "gone"},
    {"_id": 6, "body": "f"},
]
TODAYS_NOTES = [
    {"_id": 1, "text": "a", "deleted": True},
    {"_id": 2, "text": "b", "deleted": False},
    {"_id": 3, "text": "c", "deleted": True},
    {"_id": 4, "text": "d", "deleted": False},
    {"_id": 5, "text": "e", "deleted": True},
    {"_id": 6, "text": "f"},
]


def test_what_was_hidden_under_an_old_name_is_hidden(mongoengine_db: Any) -> None:
    """Where a rule writes the field that hides, old documents are hidden by what it will be."""

    def play(notes: Any) -> Any:
        found = [
            sorted(note.text for note in notes.objects),
            sorted(note.text for note in notes.objects.including_soft_deleted),
            sorted(note.text for note in notes.objects.soft_deleted),
            notes.objects.count(),
            sorted(notes.objects.distinct("text")),
            [note.text for note in notes.objects.order_by("-text")],
        ]
        for note in notes.objects(text__in=["b", "f"]):
            note.soft_delete()
        for note in notes.objects.soft_deleted(text="e"):
            note.soft_undelete()
        return [*found, sorted(note.text for note in notes.objects)]

    stored = mongoengine_db["note"]
    results = []
    for lazy, documents in ((False, TODAYS_NOTES), (True, OLD_NOTES)):
        stored.drop()
        stored.insert_many(documents)
        notes = _notes(lazy=lazy)
        results.append(play(notes))
        if lazy:
            NoteMigration(notes).migrate_pending()
        results.append(list(stored.find().sort("_id", 1)))
    assert results[0] == results[2]
    assert results[1] == results[3]
    assert results[0][0] == ["b", "d", "f"]
