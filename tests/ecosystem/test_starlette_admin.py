"""starlette-admin: its MongoEngine views list, search, filter, edit, create and delete."""

from __future__ import annotations

import re

import pytest

from tests.ecosystem.twins import ADA, BEN, Twins, key, needed

applications = needed("starlette.applications", "starlette-admin")
testclient = needed("starlette.testclient", "starlette-admin")
starlette_admin = needed("starlette_admin.contrib.mongoengine", "starlette-admin")


class BookView(starlette_admin.ModelView):
    """The pages of the books."""

    page_size = 3
    page_size_options = (3, 20)
    fields_default_sort = ("title",)
    inline_editable_fields = ("cents",)


def _client(shop):
    """A browser on the admin pages of a shop."""
    app = applications.Starlette()
    admin = starlette_admin.Admin(title="Shop", secret_key="a key of the tests, of some length")
    admin.add_view(BookView(shop.Book))
    admin.add_view(starlette_admin.ModelView(shop.Author))
    admin.mount_to(app)
    return testclient.TestClient(app, follow_redirects=False)


def _page(client, path: str) -> str:
    """A page, without what is drawn anew for each client."""
    answer = client.get(f"/admin/{path}")
    assert answer.status_code == 200, answer.text
    return re.sub(r'name="csrftoken" value="[^"]*"', "", answer.text)


def _send(client, path: str, data=None):
    client.get("/admin/book/list")
    token = client.cookies["starlette_admin_csrftoken"]
    return client.post(f"/admin/{path}", data=data or {}, headers={"X-CSRFToken": token})


TITLES = (
    *("Autumn", "Harvest", "Midwinter", "Monsoon", "Spring", "Summer", "Winter"),
    *("Dawn", "Deep Winter"),
)


def _titles(page: str) -> list[str]:
    """The titles of a list, from the top to the bottom."""
    rows = re.findall(r"<tr.*?</tr>", page, re.DOTALL)
    texts = [re.sub(r"<[^>]*>", " ", row) for row in rows]
    found = [[one for one in TITLES if re.search(rf"\s{one}\s", text)] for text in texts]
    return [titles[-1] for titles in found if titles]


LISTS = {
    "": ["Autumn", "Harvest", "Midwinter"],
    "?page=3": ["Winter"],
    "?sort=cents__desc&sort=title__asc": ["Summer", "Harvest", "Winter"],
    "?q=winter": ["Midwinter", "Winter"],
    "?filter=title__startswith=S": ["Spring", "Summer"],
    "?filter=cents__gte=990 AND (title__contains=winter OR title__eq=Monsoon)": [
        "Monsoon",
        "Winter",
    ],
    "?filter=cents__between=900..1000": ["Monsoon", "Spring"],
    "?filter=title__is_null": [],
}


@pytest.mark.parametrize("query", LISTS)
def test_lists_are_equal(twins: Twins, query: str) -> None:
    """A page of the list is the same, whichever way it is sorted, searched and filtered."""
    page = twins.same(lambda shop: _page(_client(shop), f"book/list{query}"))
    assert _titles(page) == LISTS[query]


def test_single_pages_are_equal(twins: Twins) -> None:
    """A document, its form, and the list of those that it may refer to, are in today's shape."""

    def play(shop):
        client = _client(shop)
        lookup = client.get("/admin/_api/author/relation-lookup?q=ad").json()
        return (
            _page(client, f"book/detail?pk={key(11)}"),
            _page(client, f"book/edit?pk={key(14)}"),
            lookup["total"],
            [one["name"] for one in lookup["items"]],
        )

    detail, form, total, names = twins.same(play)
    assert "Winter" in detail
    assert "Summer" in form
    assert (total, names) == (1, ["Ada"])


def test_writes_are_equal(twins: Twins) -> None:
    """What is edited, created and deleted, one by one or as a batch, is the same on both sides."""
    sent = {
        "title": "Deep Winter",
        "author": str(BEN),
        "cents": "1300",
        "tags.0": "snow",
        "reviews.0.by": "x",
        "reviews.0.rating": "4",
    }

    def play(shop):
        client = _client(shop)
        answers = [
            _send(client, f"book/edit?pk={key(11)}", sent),
            _send(client, "book/create", {"title": "Dawn", "author": str(ADA), "cents": "1"}),
            _send(client, f"_api/book/inline-edit?pk={key(16)}&field=cents", {"cents": "7"}),
            _send(client, f"_api/book/row-action?name=delete&pk={key(13)}"),
            _send(client, f"_api/book/action?name=delete&pks={key(14)}&pks={key(15)}"),
        ]
        return [one.status_code for one in answers], _titles(
            _page(client, "book/list?page_size=20")
        )

    codes, titles = twins.same(play)
    assert codes == [303, 303, 200, 200, 200]
    assert titles == ["Autumn", "Dawn", "Deep Winter", "Harvest", "Midwinter"]
