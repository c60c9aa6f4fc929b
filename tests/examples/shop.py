"""A shop after two changes of its orders: the model and the rules of today, orders of each time.

The rules are written as people write Python, and the migrated orders by hand, as a script would.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from mongoengine import (
    BooleanField,
    DateTimeField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    IntField,
    ListField,
    StringField,
)

from lazymig import DocumentMigration, LazyMigrationMixin

__all__ = ["ORDERS", "Order", "OrderMigration", "PlainOrder", "migrated_order", "stored_order"]

ORDERS = 20_000
_FIRST, _SECOND = 4_000, 9_000  # orders before these numbers are of the first, the second time

_BEGINNING = datetime(2024, 1, 1)
_STATES = {1: "new", 2: "paid", 3: "sent"}
_NAMES = ("Ada Lovelace", "Alan Turing", "Grace Hopper", "Kurt Goedel", "Emmy Noether")


class OrderMigration(DocumentMigration):
    """The rules that bring an order of the first time to today's shape."""

    def migration01__items_in_cents(self):
        self.target = {"items.price": {"$exists": True}}
        self.update = {
            "$set": {
                "items": [
                    {"sku": item["sku"], "n": item["qty"], "cents": round(item["price"] * 100)}
                    for item in self.doc["items"]
                ]
            }
        }

    def migration02__customer_in_parts(self):
        self.target = {"customer": {"$type": "string"}}
        name = self.doc["customer"].split(" ")
        self.update = {"$set": {"customer": {"first": name[0], "last": name[1]}}}

    def migration03__state_by_name(self):
        self.target = {"state": {"$exists": True}}
        self.update = {
            "$set": {"status": _STATES[self.doc["state"]]},
            "$unset": {"state": ""},
        }

    def migration04__total_is_a_number(self):
        self.target = {"total": {"$type": "string"}}
        self.update = {"$set": {"total": int(self.doc["total"])}}

    def migration05__mail_is_email(self):
        self.target = {"mail": {"$exists": True}}
        self.update = {"$rename": {"mail": "email"}}

    def migration06__label(self):
        self.target = {"label": {"$exists": False}}
        self.update = {"$set": {"label": f"order {self.doc['_id']}"}}

    def migration07__created_is_a_date(self):
        self.target = {"created": {"$type": "string"}}
        self.update = {"$set": {"created": datetime.fromisoformat(self.doc["created"])}}

    def migration08__gift(self):
        self.target = {"gift": {"$exists": False}}
        self.update = {"$set": {"gift": False}}


class Item(EmbeddedDocument):
    """A line of an order."""

    sku = StringField()
    n = IntField()
    cents = IntField()


class Customer(EmbeddedDocument):
    """Whose order it is."""

    first = StringField()
    last = StringField()


def _fields() -> dict[str, Any]:
    return {
        "number": IntField(primary_key=True),
        "city": StringField(),
        "items": ListField(EmbeddedDocumentField(Item)),
        "customer": EmbeddedDocumentField(Customer),
        "status": StringField(),
        "total": IntField(),
        "email": StringField(),
        "label": StringField(),
        "created": DateTimeField(),
        "gift": BooleanField(),
    }


def _order(name: str, collection: str, bases: tuple[type, ...], **body: Any) -> Any:
    meta = {"collection": collection, "indexes": ["email", "city", "created"]}
    return type(Document)(name, bases, {"meta": meta, "__module__": __name__, **_fields(), **body})


Order = _order("Order", "orders", (LazyMigrationMixin, Document), migration_handler=OrderMigration)
PlainOrder = _order("PlainOrder", "migrated", (Document,))


def stored_order(number: int) -> dict[str, Any]:
    """An order as the application of its time stored it."""
    if number >= _SECOND:
        return migrated_order(number)
    created = _BEGINNING + timedelta(minutes=number)
    order: dict[str, Any] = {
        "_id": number,
        "city": f"city {number % 50}",
        "items": [
            {"sku": f"sku{number % 40}", "n": 1 + number % 3, "cents": 250},
            {"sku": "box", "n": 1, "cents": 100 + number % 7},
        ][: number % 3],
        "customer": {"first": _NAMES[number % 5].split()[0], "last": _NAMES[number % 5].split()[1]},
        "status": _STATES[1 + number % 3],
        "total": 1_000 + number % 900,
        "mail": f"customer{number}@example.org",
        "created": created.isoformat(),
    }
    if number < _FIRST:
        order["items"] = [
            {"sku": item["sku"], "qty": item["n"], "price": item["cents"] / 100}
            for item in order["items"]
        ]
        order["customer"] = _NAMES[number % 5]
        order["state"] = 1 + number % 3
        del order["status"]
        order["total"] = str(order["total"])
    return order


def migrated_order(number: int) -> dict[str, Any]:
    """The same order in today's shape, made by hand."""
    first, last = _NAMES[number % 5].split()
    return {
        "_id": number,
        "city": f"city {number % 50}",
        "items": [
            {"sku": f"sku{number % 40}", "n": 1 + number % 3, "cents": 250},
            {"sku": "box", "n": 1, "cents": 100 + number % 7},
        ][: number % 3],
        "customer": {"first": first, "last": last},
        "status": _STATES[1 + number % 3],
        "total": 1_000 + number % 900,
        "email": f"customer{number}@example.org",
        "created": _BEGINNING + timedelta(minutes=number),
        "label": f"order {number}",
        "gift": False,
    }
