"""Flask-Admin: its MongoEngine views list, search, filter, edit, create and delete documents."""

from __future__ import annotations

import re

import pytest

from tests.ecosystem.twins import ADA, BEN, Twins, key, needed

flask = needed("flask", "flask")
flask_admin = needed("flask_admin", "flask-admin")
contrib = needed("flask_admin.contrib.mongoengine", "flask-admin")

# Flask-Admin's own choices, under today's WTForms.
pytestmark = pytest.mark.filterwarnings("ignore:Yielding raw tuples:DeprecationWarning")


class BookView(contrib.ModelView):
    """The page of the books."""

    column_list = ("title", "author", "cents", "tags")
    column_searchable_list = ("title",)
    column_filters = ("title", "cents", "author")
    column_editable_list = ("cents",)
    column_default_sort = "title"
    can_export = True
    page_size = 3
    can_set_page_size = True
    page_size_options = (2, 3, 20)


def _client(shop):
    """A browser on the admin pages of a shop."""
    app = flask.Flask(__name__)
    app.config.update(SECRET_KEY="a key of the tests", TESTING=True)
    admin = flask_admin.Admin(app)
    admin.add_view(BookView(shop.Book, endpoint="book"))
    admin.add_view(contrib.ModelView(shop.Author, endpoint="author"))
    return app.test_client()


def _page(client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.text


def _column(page: str, name: str) -> list[str]:
    """The texts of a column, from the top to the bottom."""
    cells = re.findall(rf'<td class="col-{name}">(.*?)</td>', page, re.DOTALL)
    return [re.sub(r"<[^>]*>", "", cell).strip() for cell in cells]


LISTS = {
    "by default": ("", ["Autumn", "Harvest", "Midwinter"]),
    "last page": ("?page=2", ["Winter"]),
    "by title, descending": ("?sort=0&desc=1", ["Winter", "Summer", "Spring"]),
    "by a computed value": ("?sort=2&page_size=2", ["Midwinter", "Autumn"]),
    "searched": ("?search=winter", ["Midwinter", "Winter"]),
    "searched from the start": ("?search=^s", ["Spring", "Summer"]),
    "title equals": ("?flt0_2=Winter", ["Winter"]),
}


def test_lists_are_equal(twins: Twins) -> None:
    """A page of the list is the same, whichever way it is sorted, searched and cut."""
    pages = twins.same(
        lambda shop: {
            name: _page(_client(shop), f"/admin/book/{query}")
            for name, (query, _titles) in LISTS.items()
        }
    )
    for name, (_query, titles) in LISTS.items():
        assert (name, _column(pages[name], "title")) == (name, titles)
    assert _column(pages["last page"], "author") == ["Ada"]


def test_exports_are_equal(twins: Twins) -> None:
    """The file of a list holds old documents in today's shape."""
    exported = twins.same(
        lambda shop: _page(_client(shop), "/admin/book/export/csv/?search=winter")
    )
    assert exported.splitlines()[1:] == [
        'Midwinter,Ben,500,"dark, ice"',
        'Winter,Ada,1250,"ice, snow"',
    ]


def _filters(shop) -> dict[str, int]:
    """The numbers of the filters of the list, by their names."""
    view = BookView(shop.Book, endpoint="other")
    return {
        f"{one.name} {one.operation()}": number for number, one in enumerate(view._filters or ())
    }


def test_filters_are_equal(twins: Twins) -> None:
    """Every filter that the page offers finds the same documents."""
    values = {"Title": "Winter", "Cents": "990", "Author": str(BEN)}
    special = {"in list": {"Title": "Winter,Spring", "Cents": "800,990"}, "not in list": {}}
    special["not in list"] = special["in list"]

    def play(shop):
        client = _client(shop)
        found = {}
        for name, number in _filters(shop).items():
            field, operation = name.split(" ", 1)
            value = "1" if operation == "empty" else special.get(operation, values)[field]
            page = _page(client, f"/admin/book/?flt0_{number}={value}&page_size=20")
            found[name] = _column(page, "title")
        return found

    found = twins.same(play)
    assert len(found) >= 15
    assert found["Cents greater than"] == ["Harvest", "Summer", "Winter"]
    assert found["Author ObjectId equals"] == ["Autumn", "Harvest", "Midwinter"]
    assert found["Title not in list"] == ["Autumn", "Harvest", "Midwinter", "Monsoon", "Summer"]


def test_forms_show_and_write_the_same(twins: Twins) -> None:
    """A form shows an old document in today's shape, and what it sends is stored likewise."""

    def play(shop):
        client = _client(shop)
        form = _page(client, f"/admin/book/edit/?id={key(11)}")
        sent = client.post(
            f"/admin/book/edit/?id={key(11)}",
            data={
                "title": "Deep Winter",
                "author": str(BEN),
                "cents": "1300",
                "tags-0": "snow",
                "reviews-0-by": "x",
                "reviews-0-rating": "4",
            },
        )
        editable = client.post(
            "/admin/book/ajax/update/", data={"list_form_pk": str(key(14)), "cents": "1999"}
        )
        return form, sent.status_code, editable.status_code, editable.text

    form, sent, edited, _text = twins.same(play)
    assert 'value="5"' in form
    assert (sent, edited) == (302, 200)


def test_documents_are_created_and_deleted(twins: Twins) -> None:
    """What the pages create and delete, one by one or as a batch, is the same on both sides."""

    def play(shop):
        client = _client(shop)
        answers = [
            client.post("/admin/book/new/", data={"title": "Dawn", "author": str(ADA)}),
            client.post("/admin/book/new/", data={"title": "Autumn"}),
            client.post("/admin/book/delete/", data={"id": str(key(13))}),
            client.post(
                "/admin/book/action/",
                data={"action": "delete", "rowid": [str(key(11)), str(key(14))]},
            ),
            client.post("/admin/author/new/", data={"name": "Dan"}),
        ]
        page = _page(client, "/admin/book/?page_size=20")
        return [one.status_code for one in answers], _column(page, "title")

    codes, titles = twins.same(play)
    assert codes == [302, 200, 302, 302, 302]
    assert titles == ["Autumn", "Dawn", "Harvest", "Midwinter", "Monsoon"]
