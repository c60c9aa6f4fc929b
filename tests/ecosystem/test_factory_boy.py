"""factory_boy: documents that a factory creates stand beside old ones, and refer to them."""

from __future__ import annotations

from typing import Any

from tests.ecosystem.twins import ADA, CID, Shop, Twins, key, needed

factory = needed("factory", "factory_boy")
needed("factory.mongoengine", "factory_boy")


def _factories(shop: Shop) -> Any:
    """The factories of an application for the models of one side."""

    class AuthorFactory(factory.mongoengine.MongoEngineFactory):
        class Meta:
            model = shop.Author

        id = factory.Sequence(lambda number: key(100 + number))
        name = factory.Sequence(lambda number: f"Author {number}")

    class ReviewFactory(factory.mongoengine.MongoEngineFactory):
        class Meta:
            model = shop.Review

        by = "factory"
        rating = factory.Iterator([1, 5])

    class BookFactory(factory.mongoengine.MongoEngineFactory):
        class Meta:
            model = shop.Book

        title = factory.Sequence(lambda number: f"Book {number:03}")
        author = factory.SubFactory(AuthorFactory)
        cents = factory.Sequence(lambda number: 100 * number)
        tags = factory.List(["new"])
        reviews = factory.List([factory.SubFactory(ReviewFactory)])

    BookFactory.reset_sequence(1)
    AuthorFactory.reset_sequence(1)
    return BookFactory


def test_created_documents_stand_beside_old_ones(twins: Twins) -> None:
    """Filters and orders find what a factory has created, and what is old, alike."""

    def play(shop: Shop) -> Any:
        book = _factories(shop)
        book.create_batch(4)
        book(title="Yule", cents=2000)
        assert not book.build().pk
        books = shop.Book.objects
        return (
            [each.title for each in books(cents__gte=300).order_by("-cents", "title")],
            [each.title for each in books(reviews__rating=5).order_by("title")],
            sorted(each.author.name for each in books),
            books.sum("cents"),
        )

    twins.same(play)


def test_factories_take_old_documents(twins: Twins) -> None:
    """An iterator over a queryset, and a reference by hand, give documents of today's shape."""

    def play(shop: Shop) -> Any:
        book = _factories(shop)
        authors = factory.Iterator(shop.Author.objects.order_by("name"), getter=lambda one: one)
        made = [book(author=authors_next) for authors_next in _three(authors)]
        made.append(book(author=shop.Author.objects.get(id=CID)))
        titles = factory.Iterator(shop.Book.objects.order_by("title").scalar("title"))
        made += [book(title=f"After {title}") for title in _three(titles)]
        for one in made:
            one.reload()
        return [(one.title, one.author.name) for one in made]

    pairs = twins.same(play)
    assert pairs[:4] == [
        ("Book 001", "Ada"),
        ("Book 002", "Ben"),
        ("Book 003", "Cid"),
        ("Book 004", "Cid"),
    ]


def _three(iterator: Any) -> list[Any]:
    """What a factory's iterator hands over three times."""
    return [iterator.evaluate(None, None, None) for _ in range(3)]


def test_a_factory_that_gives_a_known_id_replaces_the_old_document(twins: Twins) -> None:
    """Nothing of the old document is left below what a factory saves under its `_id`."""

    def play(shop: Shop) -> Any:
        book = _factories(shop)
        book(id=key(11), title="Winter again", author=shop.Author.objects.get(id=ADA))
        return shop.Book.objects.get(id=key(11)).to_mongo().to_dict()

    found = twins.same(play)
    assert (found["title"], found["tags"]) == ("Winter again", ["new"])
