"""hypothesis-mongoengine: documents drawn from the fields of a model."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, assume, given, settings

from tests.ecosystem.twins import Shop, Twins, key, needed

OLD_NAMES = {"name", "euros", "keywords"}

strategies = needed("hypothesis_mongoengine.strategies", "hypothesis-mongoengine")


def _books(shop: Shop) -> Any:
    """Any book of one side, by no author: the package knows no references."""
    return strategies.documents(shop.Book, author=strategies.st.none(), id=strategies.st.none())


def test_what_is_drawn_is_saved_and_found_beside_old_documents(twins: Twins) -> None:
    """A drawn document, saved over an old one, leaves nothing of it, and is loaded as it was."""
    with twins.shop(lazy=True) as shop:
        known = set(shop.Book.objects.as_stored().distinct("title"))

        @settings(max_examples=15, suppress_health_check=list(HealthCheck))
        @given(_books(shop))
        def check(book: Any) -> None:
            # It is unique.
            assume(book.title not in known)
            shop.database.book.replace_one({"_id": key(11)}, {"name": "Winter", "euros": 12.5})
            book.id = key(11)
            book.save()
            assert not OLD_NAMES & shop.database.book.find_one({"_id": key(11)}).keys()
            loaded = shop.Book.objects.get(id=key(11))
            assert _values(loaded) == _values(book)
            assert [one.id for one in shop.Book.objects(title=book.title)] == [key(11)]

        check()


def _values(book: Any) -> Any:
    reviews = [(review.by, review.rating) for review in book.reviews or ()]
    return book.title, book.cents, list(book.tags or ()), reviews
