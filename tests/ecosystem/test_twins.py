"""The twins themselves: they start out different, and plain MongoEngine cannot tell them apart."""

from __future__ import annotations

import pytest

from tests.ecosystem.twins import AuthorMigration, BookMigration, Twins, needed


def test_the_lazy_twin_is_old(twins: Twins) -> None:
    """Every rule has something to do when a test starts."""
    with twins.shop(lazy=True) as shop:
        for handler, model in ((AuthorMigration, shop.Author), (BookMigration, shop.Book)):
            assert handler(model).get_deprecated()["deprecated"] == []


def test_mongoengine_answers_the_same(twins: Twins) -> None:
    """Filters, orders and loads of MongoEngine give the same on both sides."""

    def play(shop):
        books = shop.Book.objects
        return (
            [book.to_mongo().to_dict() for book in books.order_by("title")],
            [book.title for book in books(cents__gte=950).order_by("-cents", "title")],
            [book.title for book in books(tags="ice").order_by("title")],
            [book.author.name for book in books(reviews__rating=5).order_by("title")],
        )

    documents, dear, icy, praised = twins.same(play)
    assert [one["title"] for one in documents][:3] == ["Autumn", "Harvest", "Midwinter"]
    assert dear == ["Summer", "Harvest", "Winter", "Monsoon", "Spring"]
    assert icy == ["Midwinter", "Winter"]
    assert praised == ["Ben", "Cid", "Ada"]


def test_a_difference_is_seen(twins: Twins) -> None:
    """What comes out differently, or is stored differently, is a failure."""
    with pytest.raises(AssertionError):
        twins.same(lambda shop: shop.database.book.count_documents({"title": {"$exists": True}}))
    with pytest.raises(AssertionError):
        twins.same(lambda shop: shop.database.book.delete_many({"cents": 1250}) and None)


def test_a_missing_package_skips_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is not installed skips its file; where all are required, it fails."""
    monkeypatch.delenv("LAZYMIG_ECOSYSTEM", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such is not installed"):
        needed("no_such_package", "no-such")
    monkeypatch.setenv("LAZYMIG_ECOSYSTEM", "1")
    with pytest.raises(ModuleNotFoundError):
        needed("no_such_package", "no-such")
