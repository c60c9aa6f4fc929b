"""The recipes of the cookbook: which documents each has in its page, and what it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias

from bson import ObjectId

__all__ = ["DOCS", "RECIPES", "Raw", "Recipe"]

LISTS: Final = "guides/embedded-lists.md"
DOCS: Final = Path(__file__).parents[2] / "docs"

Raw: TypeAlias = dict[str, Any]
Documents: TypeAlias = "str | list[Raw]"
"""Documents, or the name of the constant of the page that has them."""


@dataclass(frozen=True)
class Recipe:
    """One migration of a page.

    `model` is the model with the rules. `documents` are the old and the new ones, by collection;
    those of the model's own collection, and of the collections in `also`, are compared afterwards.
    `forms` are what the page says of the rules, in order. `reads` ask for what rules write; each
    takes the page, as a module; a queryset is counted and loaded. `bad` is an old document that the
    rules cannot migrate; if there is none, a validator refuses the first one. `prepare` is done
    before anything is stored.
    """

    page: str
    model: str
    documents: Mapping[str, tuple[Documents, Documents]]
    forms: tuple[str, ...]
    reads: Mapping[str, Callable[[Any], Any]]
    bad: Raw | None = None
    also: tuple[str, ...] = ()
    prepare: Callable[[Any], object] = id


_FIRST, _SECOND, _OTHER = (ObjectId(f"65a00000000000000000000{number}") for number in (1, 2, 9))


RECIPES: Final = {
    "dates": Recipe(
        page="cookbook/dates.md",
        model="Concert",
        documents={"concert": ("OLD", "NEW")},
        forms=("static",),
        reads={
            "at": lambda page: page.Concert.objects(starts=datetime(2024, 7, 1, 18)),
            "from": lambda page: page.Concert.objects(starts__gte=datetime(2024, 3, 1)),
            "order": lambda page: list(page.Concert.objects.order_by("starts", "pk").limit(3)),
            "distinct": lambda page: page.Concert.objects.distinct("starts"),
        },
        bad={"_id": 99, "starts": "tomorrow"},
    ),
    "money": Recipe(
        page="cookbook/money.md",
        model="Product",
        documents={"product": ("OLD", "NEW")},
        forms=("static",),
        reads={
            "exactly": lambda page: page.Product.objects(price=Decimal("19.99")),
            "at least": lambda page: page.Product.objects(price__gte=Decimal("7.5")),
            "none": lambda page: page.Product.objects(price=None),
            "sum": lambda page: page.Product.objects.sum("price"),
            "order": lambda page: list(page.Product.objects.order_by("-price", "pk")),
        },
        bad={"_id": 99, "price": "n/a"},
    ),
    "text ids": Recipe(
        page="cookbook/text-ids.md",
        model="Article",
        documents={"article": ("OLD", "NEW"), "user": ("USERS", "USERS")},
        forms=("translated", "static"),
        reads={
            "author": lambda page: page.Article.objects(author=page.ADA),
            "follower": lambda page: page.Article.objects(followers=page.BOB),
            "several": lambda page: page.Article.objects(followers__all=[page.ADA, page.BOB]),
            "name": lambda page: page.Article.objects.get(pk=2).author.name,
            "authors": lambda page: page.Article.objects.item_frequencies("author"),
        },
        bad={"_id": 99, "author": "nobody"},
    ),
    "text ids in a list": Recipe(
        page="cookbook/text-ids.md",
        model="Article",
        documents={"article": ("OLD", "NEW"), "user": ("USERS", "USERS")},
        forms=("translated", "static"),
        reads={"none": lambda page: page.Article.objects(followers=[])},
        bad={"_id": 99, "followers": ["nobody"]},
    ),
    "DBRefs": Recipe(
        page="cookbook/dbrefs.md",
        model="Task",
        documents={"task": ("OLD", "NEW"), "member": ("MEMBERS", "MEMBERS")},
        forms=("static", "static"),
        reads={
            "owner": lambda page: page.Task.objects(owner=page.EVE),
            "watcher": lambda page: page.Task.objects(watchers=page.TOM),
            "nobody": lambda page: page.Task.objects(watchers__size=0),
            "name": lambda page: page.Task.objects.get(pk=1).watchers[0].name,
            "owners": lambda page: page.Task.objects.distinct("owner"),
        },
    ),
    "split": Recipe(
        page="cookbook/split-class.md",
        model="Payment",
        documents={
            "payment": ("OLD", "NEW"),
            "order": ("ORDERS", "ORDERS"),
            "entry": ("ENTRIES", "ENTRIES"),
        },
        forms=("static", "static"),
        reads={
            "cards": lambda page: page.CardPayment.objects,
            "transfers": lambda page: page.Transfer.objects(cents__gte=700),
            "all": lambda page: page.Payment.objects,
            "referred to": lambda page: page.Order.objects.get(pk=1).payment,
            "generically": lambda page: page.Entry.objects.get(pk=1).about,
            "sum": lambda page: page.CardPayment.objects.sum("cents"),
        },
    ),
    "merge": Recipe(
        page="cookbook/merge-classes.md",
        model="Animal",
        documents={"animal": ("OLD", "NEW"), "visit": ("VISITS", "VISITS")},
        forms=("static",) * 3,
        reads={
            "kind": lambda page: page.Animal.objects(kind="cat"),
            "other kinds": lambda page: page.Animal.objects(kind__ne="cat"),
            "visited": lambda page: page.Visit.objects.get(pk=1).animal.kind,
            "kinds": lambda page: page.Animal.objects.item_frequencies("kind"),
        },
    ),
    "move": Recipe(
        page="cookbook/move-class.md",
        model="Vehicle",
        documents={"vehicle": ("OLD", "NEW"), "trip": ("OLD_TRIPS", "NEW_TRIPS")},
        forms=("translated",),
        reads={
            "trucks": lambda page: page.Truck.objects,
            "motors": lambda page: page.Motor.objects(load__gt=5),
            "all": lambda page: page.Vehicle.objects,
            "tankers": lambda page: page.Tanker.objects.sum("load"),
        },
    ),
    "move, referring": Recipe(
        page="cookbook/move-class.md",
        model="Trip",
        documents={"trip": ("OLD_TRIPS", "NEW_TRIPS"), "vehicle": ("OLD", "NEW")},
        forms=("translated",),
        reads={
            "led to": lambda page: page.Trip.objects.get(pk=1).by,
            "by": lambda page: page.Trip.objects(by=page.Tanker.objects.get(pk=2)),
        },
    ),
    "rename": Recipe(
        page="cookbook/rename-class.md",
        model="Pet",
        documents={"pet": ("OLD", "NEW"), "owner": ("OLD_OWNERS", "NEW_OWNERS")},
        forms=("static",),
        reads={
            "cats": lambda page: page.Cat.objects,
            "Tom": lambda page: page.Cat.objects(name="Tom").get(),
            "referred to": lambda page: page.Owner.objects.get(pk=1).cat,
        },
    ),
    "rename, referring": Recipe(
        page="cookbook/rename-class.md",
        model="Owner",
        documents={"owner": ("OLD_OWNERS", "NEW_OWNERS"), "pet": ("OLD", "NEW")},
        forms=("static",),
        reads={
            "by id": lambda page: page.Owner.objects(cat=1).get(),
            "by reference": lambda page: page.Owner.objects.get(pk=1).former,
            "generically": lambda page: page.Owner.objects.get(pk=1).favourite,
            "whose": lambda page: page.Owner.objects(favourite=page.Cat.objects.get(pk=1)),
        },
    ),
    "generic references": Recipe(
        page="cookbook/generic-references.md",
        model="Comment",
        documents={
            "comment": ("OLD", "NEW"),
            "ticket": ("TICKETS", "TICKETS"),
            "page": ("PAGES", "PAGES"),
        },
        forms=("static",),
        reads={
            "on a ticket": lambda page: page.Comment.objects(on=page.Ticket.objects.get(pk=7)),
            "on a page": lambda page: page.Comment.objects(on=page.Page.objects.get(pk=7)),
            "on nothing": lambda page: page.Comment.objects(on=None),
            "led to": lambda page: page.Comment.objects.get(pk=1).on,
        },
    ),
    "flags": Recipe(
        page="cookbook/flags.md",
        model="User",
        documents={"user": ("OLD", "NEW")},
        forms=("translated",),
        reads={
            "state": lambda page: page.User.objects(state=page.State.ACTIVE),
            "other state": lambda page: page.User.objects(state__ne=page.State.NEW),
            "states": lambda page: page.User.objects.item_frequencies("state"),
            "order": lambda page: list(page.User.objects.order_by("state", "pk")),
        },
    ),
    "GeoJSON": Recipe(
        page="cookbook/geojson.md",
        model="Shop",
        documents={"shop": ("OLD", "NEW")},
        forms=("static",),
        reads={
            "within": lambda page: page.Shop.objects(place__geo_within=page.ROME),
            "nowhere": lambda page: page.Shop.objects(place=None),
            "at": lambda page: page.Shop.objects(place=page.NEW[1]["place"]),
        },
    ),
    "UUIDs": Recipe(
        page="cookbook/uuids.md",
        model="Device",
        documents={"device": ("OLD", "NEW")},
        forms=("python",),
        reads={
            "key": lambda page: page.Device.objects(key=page.FIRST).get(),
            "other key": lambda page: page.Device.objects(key__ne=page.FIRST),
            "keys": lambda page: page.Device.objects.distinct("key"),
        },
    ),
    "embed": Recipe(
        page="cookbook/embed.md",
        model="Shop",
        documents={"shop": ("OLD", "NEW")},
        forms=("static", "static", "static", "translated", "static"),
        reads={
            "city": lambda page: page.Shop.objects(address__city="Rome"),
            "city and phone": lambda page: page.Shop.objects(address__city="Rome", phone="1"),
            "language": lambda page: page.Shop.objects(title__lang="en"),
            "without": lambda page: page.Shop.objects(title=None),
            "order": lambda page: list(page.Shop.objects.order_by("address.city", "-phone")),
            "cities": lambda page: page.Shop.objects.distinct("address.city"),
        },
        bad={"_id": 99, "address": "Via 1", "city": "Rome"},
    ),
    "new ids": Recipe(
        page="cookbook/new-ids.md",
        model="FormerCountry",
        documents={"country": ("OLD_COUNTRIES", "COPIED"), "countries": ([], "NEW_COUNTRIES")},
        also=("countries",),
        forms=("python",),
        reads={
            "copied": lambda page: page.FormerCountry.objects(copied=True),
            "not copied": lambda page: page.FormerCountry.objects(copied__ne=True),
        },
        bad={"_id": _OTHER, "code": "xx"},
    ),
    "new ids, referring": Recipe(
        page="cookbook/new-ids.md",
        model="City",
        documents={
            "city": ("OLD", "NEW"),
            "country": ("COPIED", "COPIED"),
            "countries": ("NEW_COUNTRIES", "NEW_COUNTRIES"),
        },
        forms=("python",),
        reads={
            "country": lambda page: page.City.objects(country="it"),
            "nowhere": lambda page: page.City.objects(country=None),
            "name": lambda page: page.City.objects.get(pk=2).country.name,
            "countries": lambda page: page.City.objects.item_frequencies("country"),
        },
        bad={"_id": 99, "country": ObjectId("0" * 24)},
    ),
    "unique": Recipe(
        page="cookbook/unique.md",
        model="User",
        documents={"user": ("OLD", "NEW")},
        forms=("translated",),
        reads={
            "login": lambda page: page.User.objects.get(login="ada@example.org"),
            "prefix": lambda page: page.User.objects(login__startswith="bob"),
            "without": lambda page: page.User.objects(login=None),
            "order": lambda page: list(page.User.objects.order_by("-login", "pk")),
        },
        bad={"_id": 99, "mail": "EVE@example.org"},
        prepare=lambda page: page.User.ensure_indexes(),
    ),
    "validator": Recipe(
        page="cookbook/validators.md",
        model="Invoice",
        documents={"invoice": ("OLD", "NEW")},
        forms=("translated",),
        reads={
            "cents": lambda page: page.Invoice.objects(cents__gte=29),
            "currency": lambda page: page.Invoice.objects(currency="EUR"),
            "sum": lambda page: page.Invoice.objects(currency="EUR").sum("cents"),
        },
        bad={"_id": 99, "price": "free"},
        prepare=lambda page: page.db.create_collection("invoice", validator=page.VALIDATOR),
    ),
    "own document": Recipe(
        page="cookbook/own-document.md",
        model="Customer",
        documents={
            "customer": ("OLD", "NEW"),
            "postal_address": ("OLD_ADDRESSES", "NEW_ADDRESSES"),
        },
        also=("postal_address",),
        forms=("python",),
        reads={
            "address": lambda page: page.Customer.objects(address=8).get(),
            "none": lambda page: page.Customer.objects(address=None),
            "city": lambda page: page.Customer.objects.get(pk=7).address.city,
        },
    ),
    "embed a reference": Recipe(
        page="cookbook/embed-reference.md",
        model="Post",
        documents={"post": ("OLD", "NEW"), "author": ("AUTHORS", "AUTHORS")},
        forms=("python",),
        reads={
            "name": lambda page: page.Post.objects(author__name="Ada"),
            "none": lambda page: page.Post.objects(author=None),
            "names": lambda page: page.Post.objects.distinct("author.name"),
        },
    ),
    "items renamed": Recipe(
        page=LISTS,
        model="Cart",
        documents={
            "cart": (
                [
                    {"_id": _FIRST, "items": [{"sku": "cup", "qty": 2}, {"sku": "jug", "n": 1}]},
                    {"_id": _SECOND, "items": []},
                ],
                [
                    {"_id": _FIRST, "items": [{"sku": "cup", "n": 2}, {"sku": "jug", "n": 1}]},
                    {"_id": _SECOND, "items": []},
                ],
            )
        },
        forms=("static",),
        reads={
            "number": lambda page: page.Cart.objects(items__n=2),
            "one item": lambda page: page.Cart.objects(items__match={"sku": "cup", "n": 2}),
            "greater": lambda page: page.Cart.objects(items__n__gt=1),
        },
    ),
    "items retyped": Recipe(
        page=LISTS,
        model="Basket",
        documents={
            "basket": (
                [{"_id": _FIRST, "items": [{"sku": "cup", "quantity": "12"}, {"quantity": 3}]}],
                [{"_id": _FIRST, "items": [{"sku": "cup", "quantity": 12}, {"quantity": 3}]}],
            )
        },
        forms=("static",),
        reads={
            "quantity": lambda page: page.Basket.objects(items__quantity=12),
            "more": lambda page: page.Basket.objects(items__quantity__gt=3),
        },
        bad={"_id": _OTHER, "items": [{"quantity": "a dozen"}]},
    ),
    "items with a field more": Recipe(
        page=LISTS,
        model="Bill",
        documents={
            "bill": (
                [{"_id": _FIRST, "lines": [{"cents": 5}, {"cents": 7, "currency": "USD"}]}],
                [
                    {
                        "_id": _FIRST,
                        "lines": [
                            {"cents": 5, "currency": "EUR"},
                            {"cents": 7, "currency": "USD"},
                        ],
                    }
                ],
            )
        },
        forms=("static",),
        reads={
            "currency": lambda page: page.Bill.objects(lines__currency="EUR"),
            "currencies": lambda page: page.Bill.objects.distinct("lines.currency"),
        },
    ),
    "items with a field less": Recipe(
        page=LISTS,
        model="Parcel",
        documents={
            "parcel": (
                [
                    {
                        "_id": _FIRST,
                        "items": [{"sku": "cup", "note": "x"}, {"sku": "jug", "internal": 1}],
                    }
                ],
                [{"_id": _FIRST, "items": [{"sku": "cup"}, {"sku": "jug"}]}],
            )
        },
        forms=("static",),
        reads={"exactly": lambda page: page.Parcel.objects(items=[{"sku": "cup"}, {"sku": "jug"}])},
    ),
    "items split and merged": Recipe(
        page=LISTS,
        model="Sale",
        documents={
            "sale": (
                [
                    {
                        "_id": _FIRST,
                        "items": [{"price": 0.29}, {"cents": 40, "currency": "USD"}],
                        "buyers": [{"first": "Ada", "last": "Lovelace"}, {"last": "Noether"}],
                    }
                ],
                [
                    {
                        "_id": _FIRST,
                        "items": [
                            {"cents": 29, "currency": "EUR"},
                            {"cents": 40, "currency": "USD"},
                        ],
                        "buyers": [{"name": "Ada Lovelace"}, {"name": "Noether"}],
                    }
                ],
            )
        },
        forms=("static", "static"),
        reads={
            "cents": lambda page: page.Sale.objects(items__cents=29),
            "buyer": lambda page: page.Sale.objects(buyers__name="Noether").get(),
        },
        bad={"_id": _OTHER, "items": [{"price": "free"}], "buyers": []},
    ),
    "items of another class": Recipe(
        page=LISTS,
        model="Page",
        documents={
            "page": (
                [
                    {
                        "_id": _FIRST,
                        "blocks": [{"_cls": "Block.Picture", "url": "/a"}, {"_cls": "Block"}],
                    }
                ],
                [
                    {
                        "_id": _FIRST,
                        "blocks": [{"_cls": "Block.Image", "url": "/a"}, {"_cls": "Block"}],
                    }
                ],
            )
        },
        forms=("static",),
        reads={
            "class": lambda page: page.Page.objects(__raw__={"blocks._cls": "Block.Image"}),
        },
    ),
}
