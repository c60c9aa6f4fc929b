"""atlasq: a second manager, whose filters are those of Atlas Search.

There is no Atlas here. Its index holds what is stored, so that a `$search` finds what a `$match`
for the same finds in stored documents: that stands in for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from mongoengine import Document
from pymongo.collection import Collection

from tests.ecosystem.twins import Bases, BookMigration, Shop, Twins, needed

atlasq = needed("atlasq", "atlasq")


class Searchable(Document):
    """The base of an application's documents, with managers beside `objects`."""

    atlas = atlasq.AtlasManager("books")
    plain = atlasq.AtlasManager(None)
    meta = {"abstract": True}


@pytest.fixture
def bases() -> Bases:
    """Books that can be searched."""
    return Bases(document=Searchable)


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was searched; every `$search` is answered from what is stored."""
    seen: list[Any] = []
    aggregate = Collection.aggregate

    def answered(self: Any, pipeline: Any, *args: Any, **kwargs: Any) -> Any:
        stages = []
        for stage in pipeline:
            if "$search" in stage:
                seen.append(stage["$search"])
                stages += _matched(stage["$search"])
            elif stage == {"$project": {"meta": "$$SEARCH_META"}}:
                stages += [{"$count": "n"}, {"$project": {"meta.count.total": "$n"}}]
            else:
                stages.append(stage)
        return aggregate(self, stages, *args, **kwargs)

    monkeypatch.setattr(Collection, "aggregate", answered)
    return seen


def _matched(search: Mapping[str, Any]) -> list[Any]:
    """The stages that find what a search by words, numbers and ranges would find."""
    conditions: list[Any] = []
    for each in search["compound"].get("filter", ()):
        ((kind, asked),) = each.items()
        if kind == "text":
            conditions.append({asked["path"]: {"$regex": asked["query"], "$options": "i"}})
        elif kind == "equals":
            conditions.append({asked["path"]: asked["value"]})
        else:
            assert kind == "range"
            bounds = {f"${name}": value for name, value in asked.items() if name != "path"}
            conditions.append({asked["path"]: bounds})
    stages: list[Any] = [{"$match": {"$and": conditions}}]
    if "sort" in search:
        stages.append({"$sort": search["sort"]})
    return stages


def test_a_manager_without_an_index_is_mongoengines(twins: Twins) -> None:
    """Where no index is named the manager sees through rules as `objects` does."""

    def play(shop: Shop) -> Any:
        books = shop.Book.plain
        return (
            [book.title for book in books(cents__gte=950).order_by("-cents", "title")],
            books(tags="ice").count(),
            books(reviews__rating=5).order_by("title").first().to_mongo().to_dict(),
            sorted(books.distinct("title")),
        )

    twins.same(play)


def _play(shop: Shop) -> Any:
    """What an application searches; none of it is there twice, so that the order is no matter."""
    books = shop.Book.atlas
    return (
        sorted(book.title for book in books(title="winter")),
        sorted(book.title for book in books(cents__gte=950)),
        [book.title for book in books(cents__gt=950).order_by("cents")],
        books(title="winter").count(),
        [one["title"] for one in books(title="harvest").aggregate([{"$project": {"title": 1}}])],
        books(title="autumn").first().to_mongo().to_dict(),
        books(title="nothing like it").first(),
    )


def test_the_second_manager_leaves_a_migrated_collection_alone(
    twins: Twins, searched: list[Any]
) -> None:
    """After a bulk run, with the rules still in the code, searches give what they always gave."""

    def play(shop: Shop) -> Any:
        if shop.lazy:
            BookMigration(shop.Book).migrate_pending()
        return _play(shop)

    found = twins.same(play)
    assert found[0] == ["Midwinter", "Winter"]
    assert found[3] == 2


def test_a_search_finds_what_is_stored(twins: Twins, searched: list[Any]) -> None:
    """The index knows nothing of rules: what is old is missed, and what is found is migrated."""
    with twins.shop(lazy=True) as shop:
        books = shop.Book.atlas
        assert list(books(title="winter")) == []
        assert books(title="winter").count() == 0
        # Autumn and Monsoon, not Winter and Summer; Monsoon is migrated as it is loaded.
        found = {book.title: list(book.tags) for book in books(cents__lt=1000, cents__gte=800)}
        assert found == {"Autumn": ["leaves"], "Spring": ["buds", "rain"], "Monsoon": ["rain"]}
        assert shop.database.book.count_documents({"title": "Monsoon", "tags": "rain"}) == 1


def test_what_is_searched_for_can_be_brought_up_to_date(twins: Twins, searched: list[Any]) -> None:
    """With `objects.up_to_date` of the searched fields before, a search is right."""

    def play(shop: Shop) -> Any:
        if shop.lazy:
            shop.Book.objects.up_to_date("title", "cents")
        return _play(shop)

    twins.same(play)
