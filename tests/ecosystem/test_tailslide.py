"""tailslide: medians and percentiles, by an aggregation of the model's own collection."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ecosystem.twins import Bases, Shop, Twins, needed

# The package imports its part for Django with the one for MongoEngine.
needed("django", "Django")
TailslideQuerySet = needed("tailslide.mongoengine", "tailslide").TailslideQuerySet


class UpToDateQuerySet(TailslideQuerySet):
    """The user's way: what is about to be read is migrated first."""

    def percentile(self, field, percentile):
        # The twin's plain model has no rules, and no such method.
        queryset = self.up_to_date(field) if hasattr(self, "up_to_date") else self
        return super(UpToDateQuerySet, queryset).percentile(field, percentile)


@pytest.fixture
def bases() -> Bases:
    """Books with medians."""
    return Bases(meta={"queryset_class": UpToDateQuerySet})


FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "renamed": {"title__gte": "M"},
    "computed": {"cents__gt": 600},
    "in Python": {"tags": "ice"},
    "embedded": {"reviews__rating": 5},
    "nothing": {"title": "no such book"},
}


@pytest.mark.parametrize("asked", FILTERS.values(), ids=FILTERS)
def test_medians_are_those_of_migrated_documents(twins: Twins, asked: dict[str, Any]) -> None:
    """With `up_to_date` before, each median and percentile is that of migrated documents."""

    def play(shop: Shop) -> list[Any]:
        books = shop.Book.objects(**asked)
        return [books.median("cents"), *(books.percentile("cents", p) for p in (0, 0.3, 0.95, 1))]

    twins.same(play)


def test_only_the_books_of_the_filter_are_written(twins: Twins) -> None:
    """A median costs the writes of the documents that it is computed from, and of no other rule."""
    with twins.shop(lazy=True) as shop:
        assert shop.Book.objects(title="Winter").median("cents") == 1250
        (winter,) = shop.database.book.find({"cents": {"$exists": True}, "keywords": "snow, ice"})
        assert winter["title"] == "Winter"
        assert shop.database.book.count_documents({"euros": {"$exists": True}}) == 2


def test_without_it_the_median_is_of_what_is_stored(twins: Twins) -> None:
    """Tailslide aggregates the collection itself: silently, old documents do not count."""
    with twins.shop(lazy=True) as shop:
        plain = TailslideQuerySet(shop.Book, shop.Book._get_collection())
        assert plain.median("cents") == 970
        assert shop.Book.objects.median("cents") == 990
