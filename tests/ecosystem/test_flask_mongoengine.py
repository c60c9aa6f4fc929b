"""flask-mongoengine-3: querysets that answer 404, pages, and JSON of documents and querysets."""

from __future__ import annotations

import json

import pytest

from tests.ecosystem.twins import Bases, Twins, key, needed

flask = needed("flask", "flask")
flask_mongoengine = needed(
    "flask_mongoengine",
    "flask-mongoengine-3",
    ((DeprecationWarning, "The '__version__' attribute"),),
)
exceptions = needed("werkzeug.exceptions", "werkzeug")


@pytest.fixture
def bases() -> Bases:
    """The package's own documents and fields."""
    db = flask_mongoengine.MongoEngine()
    return Bases(document=db.Document, embedded=db.EmbeddedDocument, fields=db)


def test_what_is_not_found_is_404(twins: Twins) -> None:
    """`get_or_404` and `first_or_404` find an old document by what it will be."""

    def play(shop):
        books = shop.Book.objects
        with pytest.raises(exceptions.NotFound) as no_such:
            books.get_or_404(title="Dusk", _message_404="no such book")
        with pytest.raises(exceptions.NotFound):
            books(cents=1).first_or_404()
        return (
            books.get_or_404(title="Winter").cents,
            books.get_or_404(tags="snow").title,
            books(cents__gt=1500).first_or_404().title,
            no_such.value.description,
        )

    assert twins.same(play) == (1250, "Winter", "Summer", "no such book")


def test_pages_are_equal(twins: Twins) -> None:
    """`paginate` counts and cuts old documents as it does migrated ones, forth and back."""

    def play(shop):
        def seen(page):
            return (
                [book.title for book in page.items],
                *(page.page, page.pages, page.total, page.has_prev, page.has_next),
                list(page.iter_pages()),
            )

        dear = shop.Book.objects(cents__gte=900).order_by("-cents", "title")
        first = dear.paginate(page=1, per_page=2)
        with pytest.raises(exceptions.NotFound):
            dear.paginate(page=4, per_page=2)
        return seen(first), seen(first.next()), seen(first.next().next().prev())

    first, second, again = twins.same(play)
    assert first[0] == ["Summer", "Harvest"]
    assert (first[2], first[3]) == (3, 5)
    assert second[0] == again[0] == ["Winter", "Monsoon"]


def test_pages_by_a_key_are_equal(twins: Twins) -> None:
    """`paginate_by_keyset` goes on behind the last value of a renamed field."""

    def play(shop):
        page = shop.Book.objects.paginate_by_keyset(3, "title", None)
        first = [book.title for book in page.items]
        return first, [book.title for book in page.next().items]

    first, second = twins.same(play)
    assert [*first, *second] == ["Autumn", "Harvest", "Midwinter", "Monsoon", "Spring", "Summer"]


def test_pages_of_a_list_are_equal(twins: Twins) -> None:
    """`paginate_field` slices an embedded list whose items are old."""

    def play(shop):
        books = shop.Book.objects
        pages = [books.paginate_field("reviews", key(11), page, 1) for page in (1, 2)]
        return [[(one.by, one.rating) for one in page.items] for page in pages], pages[0].total

    assert twins.same(play) == ([[("x", 3)], [("y", 5)]], 2)


def _sent(shop, answer) -> list:
    """What a view sends that answers with `answer()`."""
    app = flask.Flask(__name__)
    flask_mongoengine.override_json_encoder(app)
    app.add_url_rule("/", view_func=lambda: flask.jsonify(answer()))
    return json.loads(app.test_client().get("/").text)


def test_json_of_documents_is_equal(twins: Twins) -> None:
    """Documents, one or a list of them, are sent in today's shape."""

    def play(shop):
        books = shop.Book.objects.order_by("title")
        return _sent(shop, lambda: {"one": books.get(title="Winter"), "all": list(books)})

    sent = twins.same(play)
    assert sent["one"]["tags"] == ["ice", "snow"]
    assert len(sent["all"]) == 7


def test_json_of_a_queryset_is_what_is_stored(twins: Twins) -> None:
    """A queryset is sent by `as_pymongo()`, as it lies in the database; a list of it is right."""
    with twins.shop(lazy=True) as shop:
        books = shop.Book.objects(pk=key(11))
        assert _sent(shop, lambda: books)[0]["name"] == "Winter"
        assert _sent(shop, lambda: list(books))[0]["title"] == "Winter"
