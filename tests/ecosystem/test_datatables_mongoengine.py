"""datatables-mongoengine: a queryset class that aggregates what a DataTables page asks for."""

from __future__ import annotations

import pytest

from tests.ecosystem.twins import ADA, BEN, OLD, Bases, Twins, key, needed

datatables_mongoengine = needed("datatables_mongoengine", "datatables-mongoengine")


@pytest.fixture
def bases() -> Bases:
    """Models whose querysets are those of the package."""
    return Bases(meta={"queryset_class": datatables_mongoengine.DataTablesManager})


COLUMNS = ("title", "cents", "tags", "reviews")


def _asked(
    search: str = "",
    column: str = "title",
    *,
    descending: bool = False,
    start: int = 0,
    length: int = 3,
):
    """What the page sends."""
    return {
        "draw": "1",
        "columns": [{"data": name} for name in COLUMNS],
        "order": [{"column": COLUMNS.index(column), "dir": "desc" if descending else "asc"}],
        "search": {"value": search},
        "start": start,
        "length": length,
    }


@pytest.mark.parametrize(
    ("asked", "filters", "titles", "total"),
    [
        pytest.param(_asked(), {}, ["Autumn", "Harvest", "Midwinter"], 7, id="sorted"),
        pytest.param(
            _asked(descending=True), {}, ["Winter", "Summer", "Spring"], 7, id="sorted downwards"
        ),
        pytest.param(_asked(start=6), {}, ["Winter"], 7, id="last page"),
        pytest.param(
            _asked(column="cents", length=2),
            {},
            ["Midwinter", "Autumn"],
            7,
            id="sorted by a computed value",
        ),
        pytest.param(_asked("winter"), {}, ["Midwinter", "Winter"], 2, id="searched"),
        pytest.param(_asked("tags:ice"), {}, ["Midwinter", "Winter"], 2, id="one column searched"),
        pytest.param(
            _asked("s", length=100),
            {"author": ADA},
            ["Spring", "Winter"],
            2,
            id="filtered and searched",
        ),
        pytest.param(
            _asked(length=9),
            {"cents": {"$gte": 900}, "author": BEN},
            ["Harvest"],
            1,
            id="filtered by a computed value",
        ),
    ],
)
def test_pages_are_equal(twins: Twins, asked, filters, titles, total) -> None:
    """A page that is sorted, searched or filtered holds the same rows and numbers."""
    page = twins.same(lambda shop: shop.Book.objects.datatables(asked, **filters))
    assert [one["title"] for one in page["data"]] == titles
    assert page["recordsFiltered"] == total


def test_pages_write_what_only_python_computes(twins: Twins) -> None:
    """A page is aggregated: what MongoDB can show of old documents is not written."""
    with twins.shop(lazy=True) as shop:
        shop.Book.objects.datatables(_asked("winter"))
        shown = (key(13), key(14))
        assert list(shop.database.book.find({"_id": {"$in": shown}})) == [
            one for one in OLD["book"] if one["_id"] in shown
        ]
        assert shop.database.book.count_documents({"keywords": {"$exists": True}}) == 0
