"""Example 6: a shop with orders of three times, used as any application uses its models."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import mongoengine
import pytest
from mongoengine import Document, Q
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database

from tests.examples.shop import (
    ORDERS,
    Item,
    Order,
    OrderMigration,
    PlainOrder,
    migrated_order,
    stored_order,
)
from tests.support.clients import kept_client
from tests.support.server import CLIENT_OPTIONS

# Each takes a model; what it gives is compared. Old orders 0-3,999 and 4,000-8,999.
READS: dict[str, Callable[[Any], Any]] = {
    "by key": lambda m: m.objects.get(number=17),
    "by key, second time": lambda m: m.objects.get(number=5_017),
    "by email": lambda m: m.objects.get(email="customer23@example.org"),
    "by email of today": lambda m: m.objects.get(email="customer12000@example.org"),
    "nobody's email": lambda m: m.objects(email="nobody@example.org").first(),
    "first by email": lambda m: m.objects(email="customer4100@example.org").first(),
    "email in": lambda m: _in_order(
        m.objects(email__in=[f"customer{n}@example.org" for n in (1, 4_500, 15_000)])
    ),
    "email prefix": lambda m: m.objects(email__startswith="customer123").count(),
    "email missing": lambda m: m.objects(email__exists=False).count(),
    "email not equal": lambda m: m.objects(email__ne="customer5@example.org").count(),
    "city": lambda m: m.objects(city="city 7").count(),
    "city and status": lambda m: m.objects(city="city 7", status="paid").count(),
    "status": lambda m: m.objects(status="sent").count(),
    "status in": lambda m: m.objects(status__in=["new", "sent"]).count(),
    "no such status": lambda m: m.objects(status="lost").count(),
    "total": lambda m: m.objects(total=1_234).count(),
    "total at least": lambda m: m.objects(total__gte=1_850).count(),
    "total between": lambda m: m.objects(total__gte=1_100, total__lt=1_110).count(),
    "label": lambda m: m.objects(label="order 77").get(),
    "label and city": lambda m: _in_order(
        m.objects(label__in=["order 50", "order 7000"], city="city 0")
    ),
    "gift": lambda m: m.objects(gift=False).count(),
    "gifts": lambda m: m.objects(gift=True).count(),
    "sku": lambda m: m.objects(items__sku="sku7").count(),
    "pieces": lambda m: m.objects(items__n=3).count(),
    "cents": lambda m: m.objects(items__cents=104).count(),
    "item": lambda m: m.objects(items__match={"sku": "box", "cents": 103}).count(),
    "one of several items": lambda m: m.objects(items__size=2, items__n__gte=2).count(),
    "no items": lambda m: m.objects(items__size=0).count(),
    "last name": lambda m: m.objects(customer__last="Noether").count(),
    "names": lambda m: m.objects(customer__first="Ada", customer__last__ne="Turing").count(),
    "either": lambda m: m.objects(Q(total=1_001) | Q(status="paid", city="city 3")).count(),
    "day": lambda m: m.objects(created__lt=datetime(2024, 1, 1, 0, 30)).count(),
    "some fields": lambda m: list(
        m.objects(number__lt=5).only("email", "total").order_by("number")
    ),
    "without items": lambda m: list(m.objects(number__lt=5).exclude("items").order_by("number")),
    "values": lambda m: list(
        m.objects(number__lt=5).order_by("number").values_list("email", "status")
    ),
    "page": lambda m: list(m.objects(city="city 9").order_by("number").skip(20).limit(10)),
    "in bulk": lambda m: m.objects.in_bulk([3, 4_003, 14_003]),
    "exists": lambda m: bool(m.objects(email="customer3999@example.org")),
}

# They sort or sum what rules write, so that old orders are migrated first.
SETTLING: dict[str, Callable[[Any], Any]] = {
    "newest": lambda m: list(m.objects.order_by("-created").limit(5)),
    "oldest": lambda m: list(m.objects.order_by("created").limit(5)),
    "by email, a page": lambda m: list(m.objects.order_by("email").skip(40).limit(20)),
    "dearest of a city": lambda m: list(
        m.objects(city="city 8").order_by("-total", "number").limit(5)
    ),
    "sum": lambda m: m.objects(city="city 1").sum("total"),
    "average": lambda m: m.objects(city="city 1", gift=False).average("total"),
    "distinct": lambda m: sorted(m.objects(city="city 2").distinct("status")),
    "frequencies": lambda m: m.objects(city="city 3").item_frequencies("status", normalize=False),
    "sales": lambda m: list(
        m.objects(city="city 4").aggregate(
            [
                {"$unwind": "$items"},
                {"$group": {"_id": "$items.sku", "cents": {"$sum": "$items.cents"}}},
                {"$sort": {"_id": 1}},
            ]
        )
    ),
    "totals by status": lambda m: list(
        m.objects.aggregate(
            [{"$group": {"_id": "$status", "total": {"$sum": "$total"}}}, {"$sort": {"_id": 1}}]
        )
    ),
}

WRITES: dict[str, Callable[[Any], Any]] = {
    "update by email": lambda m: m.objects(email="customer31@example.org").update(set__gift=True),
    "update by status": lambda m: m.objects(status="paid", city="city 5").update(
        set__status="sent"
    ),
    "increase": lambda m: m.objects(number__lt=10).update(inc__total=5),
    "rename a customer": lambda m: m.objects(customer__last="Goedel", city="city 3").update(
        set__customer__first="K."
    ),
    "push an item": lambda m: m.objects(number=44).update(
        push__items=Item(sku="new", n=1, cents=5)
    ),
    "change an item": lambda m: m.objects(number=47, items__sku="box").update(set__items__S__n=9),
    "update one": lambda m: m.objects(email="customer5000@example.org").update_one(
        set__label="mine"
    ),
    "upsert, there": lambda m: m.objects(email="customer61@example.org").update_one(
        upsert=True, set__total=1
    ),
    "modify": lambda m: m.objects(email="customer62@example.org").modify(
        set__status="lost", new=True
    ),
    "delete": lambda m: m.objects(email="customer63@example.org").delete(),
    "delete some": lambda m: m.objects(status="new", city="city 6", total__lt=1_300).delete(),
    "save": lambda m: _saved(m.objects.get(number=71)),
    "save a partial one": lambda m: _saved(m.objects(number=72).only("status").get()),
    "insert": lambda m: _new(m).save(),
}


def _in_order(orders: Any) -> list[Any]:
    return sorted(orders, key=lambda order: order.number)


def _new(model: Any) -> Any:
    return model(number=-1, email="new@example.org", status="new", label="new", gift=False)


def _saved(order: Any) -> Any:
    order.status = "saved"
    return order.save()


def _shown(value: Any) -> Any:
    if isinstance(value, Document):
        return value.to_mongo().to_dict()
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(item) for item in value]
    return value


def _contents(collection: Collection[Any]) -> list[Any]:
    return list(collection.find().sort("_id", 1))


@pytest.fixture(scope="module")
def orders(client: MongoClient[Any]) -> Iterator[Database[Any]]:
    """A database with the orders of three times, and the same migrated by hand."""
    database = client[f"lazymig_shop_{uuid.uuid4().hex}"]
    database.stored.insert_many(map(stored_order, range(ORDERS)))
    database.by_hand.insert_many(map(migrated_order, range(ORDERS)))
    yield database
    client.drop_database(database)


@pytest.fixture
def shop(server_uri: str, orders: Database[Any]) -> Iterator[Database[Any]]:
    """The same, fresh, as the database of MongoEngine."""
    mongoengine.connect(
        orders.name, host=server_uri, mongo_client_class=kept_client, **CLIENT_OPTIONS
    )
    _renew(orders)
    orders.by_hand.aggregate([{"$out": "migrated"}])
    yield orders
    mongoengine.disconnect()


def _renew(database: Database[Any]) -> None:
    database.stored.aggregate([{"$out": "orders"}])
    for model in (Order, PlainOrder):
        model.ensure_indexes()


def test_reads(shop: Database[Any]) -> None:
    """Reads of a shop give what they give on data migrated by hand, within the default limit."""
    for name, read in READS.items():
        assert _shown(read(Order)) == _shown(read(PlainOrder)), name


def test_sorts_and_sums(shop: Database[Any]) -> None:
    """Sorts, sums and aggregations do so too, each on orders that are old as yet."""
    for name, read in SETTLING.items():
        _renew(shop)
        assert _shown(read(Order)) == _shown(read(PlainOrder)), name


def test_writes(shop: Database[Any]) -> None:
    """Writes give and leave what they do on data migrated by hand."""
    for name, write in WRITES.items():
        assert _shown(write(Order)) == _shown(write(PlainOrder)), name
    report = OrderMigration(Order).migrate_pending()
    assert report.errors == ()
    assert _contents(shop.orders) == _contents(shop.migrated)


def test_all_is_computed_by_the_server(shop: Database[Any]) -> None:
    """Rules as people write them, with a table of states among them, are left to Python by none."""
    forms = {status.name: status.form for status in OrderMigration(Order).get_status()}
    assert "python" not in forms.values(), forms
    assert forms["migration03__state_by_name"] == "translated"


def test_enough() -> None:
    """The shop is used in 60 ways at least."""
    assert len(READS) + len(SETTLING) + len(WRITES) >= 60
