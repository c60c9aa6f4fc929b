"""What a pending rule costs: nothing old, 1,000 documents old, and sealed, each with its indexes.

Three rules are pending: a renamed, an added and a retyped field. All sides read and write documents
of one content by the same keys; rule indexes are there on all sides but that of the sealed rules.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from mongoengine import BooleanField, Document, IntField, StringField
from pymongo.collection import Collection
from pymongo.database import Database

from benchmarks.data import ALIAS, Raw, fill, restore, size
from benchmarks.measure import Benchmark, Comparison, Side
from lazymig import DocumentMigration, LazyMigrationMixin

__all__ = [
    "MAKE_OLD",
    "CustomerMigration",
    "Operation",
    "Work",
    "chosen_of",
    "count_by_email",
    "create_indexes",
    "fill_customers",
    "finding",
    "get_by_email",
    "model_of",
    "sort_by_email",
    "sorting",
    "summing",
    "untouched",
    "writing",
]

_PLAIN = "plain MongoEngine"
_NONE, _SOME, _SEALED = "none old", "1,000 old", "sealed"
_FULL = 1_000_000
_OLD = 1_000
_TIMES = 100

Operation = Callable[[Any, int], Any]
"""What is done by a model, once, for one of the documents."""


class Work:
    """An operation on chosen documents, of which all sides have to make the same."""

    def __init__(self, operation: Operation, chosen: Sequence[int]) -> None:
        self._operation = operation
        self._chosen = chosen
        self._made: list[Any] | None = None

    def by(self, model: Any) -> int:
        """Do it by one model; return how often.

        :raises ValueError: another model has made something else of it.
        """
        made = [self._operation(model, number) for number in self._chosen]
        if self._made is None:
            self._made = made
        if made != self._made:
            raise ValueError(f"{model.__name__}: {made!r} is not {self._made!r}")
        return len(made)


class CustomerMigration(DocumentMigration):
    """The rules that are pending."""

    def migration01__mail_is_email(self) -> None:
        self.target = {"mail": {"$exists": True}}
        self.update = {"$rename": {"mail": "email"}}

    def migration02__enabled(self) -> None:
        self.target = {"enabled": {"$exists": False}}
        self.update = {"$set": {"enabled": True}}

    def migration03__visits_is_a_number(self) -> None:
        self.target = {"visits": {"$type": "string"}}
        self.update = {"$set": {"visits": int(self.doc["visits"])}}


class HashMigration(DocumentMigration):
    """A rule that only Python can compute."""

    def migration01__digest(self) -> None:
        self.target = {"digest": {"$exists": False}}
        self.update = {"$set": {"digest": _digest(self.doc["name"])}}


def _digest(name: str) -> str:
    return name.encode().hex()[::-1]


_numbers = itertools.count(1)


def model_of(collection: Collection[Raw], rules: type[DocumentMigration] | None = None) -> Any:
    """A model of customers, plain or with the mixin and these rules."""
    bases: tuple[type, ...] = (Document,) if rules is None else (LazyMigrationMixin, Document)
    body: dict[str, Any] = {
        "number": IntField(primary_key=True),
        "name": StringField(),
        "city": StringField(),
        "email": StringField(),
        "enabled": BooleanField(),
        "visits": IntField(),
        "digest": StringField(),
        "meta": {
            "collection": collection.name,
            "db_alias": ALIAS,
            "indexes": ["email", "city", "visits"],
            "auto_create_index": False,
        },
    }
    if rules is not None:
        body["migration_handler"] = rules
    return type(Document)(f"Customer{next(_numbers)}", bases, body)


def _customer(number: int) -> Raw:
    return {
        "_id": number,
        "name": f"Customer {number}",
        "city": f"city {number // 20}",
        "email": _email(number),
        "enabled": number % 3 == 0,
        "visits": number % 1_000,
        "digest": "",
    }


def _email(number: int) -> str:
    return f"customer{number:08}@example.org"


class _Customers:
    """Collections of equal documents, and a model of each for the sides of a benchmark."""

    def __init__(self, database: Database[Raw], name: str, scale: float) -> None:
        self._count = size(_FULL, scale)
        self._chosen = chosen_of(self._count, scale)
        self._current, self._old, sealed = (
            database[f"{name}-{kind}"] for kind in ("current", "old", "sealed")
        )
        fill_customers(self._current, self._count)
        for copy in (self._old, sealed):
            restore(self._current, copy.name)
            create_indexes(copy)
        self._aged = list(range(0, self._count, max(1, self._count // _OLD)))[:_OLD]
        self._models = {
            _PLAIN: model_of(self._current),
            _NONE: model_of(self._current, CustomerMigration),
            _SOME: model_of(self._old, CustomerMigration),
            _SEALED: model_of(sealed, CustomerMigration),
        }
        for side in (_NONE, _SOME):
            CustomerMigration(self._models[side]).create_rule_indexes()
        CustomerMigration(self._models[_SEALED]).seal()
        # Looked up at once, not after the first requests.
        list(self._models[_SEALED].objects.limit(1))

    def _prepare(self, side: str) -> None:
        """Let a side find what it found at first: deleted documents, and old ones."""
        model = self._models[side]
        collection = model._get_collection()  # noqa: SLF001 - raw documents
        there = {one["_id"] for one in collection.find({"_id": {"$in": self._chosen}}, {"_id": 1})}
        gone = [number for number in dict.fromkeys(self._chosen) if number not in there]
        if gone:
            collection.insert_many(map(_customer, gone))
        if side == _SOME:
            collection.update_many({"_id": {"$in": self._aged}}, MAKE_OLD)

    def benchmark(self, name: str, operations: Mapping[str, tuple[Operation, Limits]]) -> Benchmark:
        """The operations by each side, held against plain MongoEngine."""
        sides = []
        for what, (operation, _) in operations.items():
            work = Work(operation, self._chosen)
            sides += [
                Side(f"{what}, {side}", partial(work.by, model), partial(self._prepare, side))
                for side, model in self._models.items()
            ]
        rows = [
            Comparison(
                f"{what}, {self._count}, {side}",
                f"{what}, {side}",
                f"{what}, {_PLAIN}",
                limit,
                called=_PLAIN,
            )
            for what, (_, limits) in operations.items()
            for side, limit in zip((_NONE, _SOME, _SEALED), limits, strict=True)
        ]
        # What is deleted comes back before the next turn.
        return Benchmark(name, tuple(sides), tuple(rows), partial(len, self._chosen))


def chosen_of(count: int, scale: float) -> list[int]:
    """Numbers of documents from all over a collection."""
    return [index * 7_919 % count for index in range(1, max(3, size(_TIMES, scale)) + 1)]


Limits = tuple[float, float, float]
"""The most that an operation may cost: nothing old, 1,000 documents old, and sealed."""

# What makes an old document of any: in no other way for one that is old already.
MAKE_OLD: list[Raw] = [
    {"$set": {"mail": {"$ifNull": ["$mail", "$email"]}, "visits": {"$toString": "$visits"}}},
    {"$unset": ["email", "enabled"]},
]


def fill_customers(collection: Collection[Raw], count: int) -> None:
    """Insert customers, with an index on each path that is asked for."""
    fill(collection, map(_customer, range(count)))
    create_indexes(collection)


def create_indexes(collection: Collection[Raw]) -> None:
    """Create the indexes that the models' own operations use."""
    for path in ("email", "city", "visits"):
        collection.create_index(path)


def finding(database: Database[Raw], scale: float) -> Benchmark:
    """Documents by a written, indexed path."""
    limits = (1.3, 1.5, 1.05)
    return _Customers(database, "pending-find", scale).benchmark(
        "pending-find",
        {
            "get by a renamed field": (get_by_email, limits),
            "first by a renamed field": (_first, limits),
            "limit(20) by a renamed field": (_some, limits),
        },
    )


def get_by_email(model: Any, number: int) -> Any:
    """One document by its renamed field."""
    return model.objects.get(email=_email(number)).number


def _first(model: Any, number: int) -> Any:
    return model.objects(email=_email(number)).first().number


def _some(model: Any, number: int) -> Any:
    # Which twenty is not said.
    return len(list(model.objects(email__gte=_email(number)).limit(20)))


def sorting(database: Database[Raw], scale: float) -> Benchmark:
    """Documents in the order of a written path."""
    return _Customers(database, "pending-sort", scale).benchmark(
        "pending-sort", {"order_by a renamed field, limit(20)": (sort_by_email, (1.3, 2.0, 1.05))}
    )


def sort_by_email(model: Any, _number: int) -> Any:
    """The first twenty in the order of a renamed field."""
    return [one.number for one in model.objects.order_by("email").limit(20)]


def writing(database: Database[Raw], scale: float) -> Benchmark:
    """Writes to documents that a written path finds."""
    limits = (1.5, 2.0, 1.05)
    return _Customers(database, "pending-write", scale).benchmark(
        "pending-write",
        {
            "update by a renamed field": (_update, limits),
            "upsert by a renamed field": (_upsert, limits),
            "modify by a renamed field": (_modify, limits),
            "delete by a renamed field": (_delete, limits),
        },
    )


def _update(model: Any, number: int) -> Any:
    return model.objects(email=_email(number)).update(set__name=f"Customer {number}")


def _upsert(model: Any, number: int) -> Any:
    return model.objects(email=_email(number)).update_one(upsert=True, inc__visits=1)


def _modify(model: Any, number: int) -> Any:
    return model.objects(email=_email(number)).modify(set__name=f"Customer {number}").number


def _delete(model: Any, number: int) -> Any:
    return model.objects(email=_email(number)).delete()


def summing(database: Database[Raw], scale: float) -> Benchmark:
    """Counts, distinct values and sums over what a written path finds."""
    limits = (1.3, 2.0, 1.05)
    return _Customers(database, "pending-sum", scale).benchmark(
        "pending-sum",
        {
            "count by a renamed field": (count_by_email, limits),
            "distinct by a renamed field": (_distinct, limits),
            "sum of a retyped field": (_sum, limits),
            "aggregate, $match by a renamed field": (_aggregate, limits),
        },
    )


def _emails(number: int) -> list[str]:
    return [_email(number + next_one) for next_one in range(20)]


def count_by_email(model: Any, number: int) -> Any:
    """How many have one of twenty values of a renamed field."""
    return model.objects(email__in=_emails(number)).count()


def _distinct(model: Any, number: int) -> Any:
    return len(model.objects(email__in=_emails(number)).distinct("city"))


def _sum(model: Any, number: int) -> Any:
    return model.objects(city=f"city {number // 20}").sum("visits") is not None


def _aggregate(model: Any, number: int) -> Any:
    stages = [
        {"$match": {"email": {"$in": _emails(number)}}},
        {"$group": {"_id": None, "found": {"$sum": 1}}},
    ]
    return [one["found"] for one in model.objects.aggregate(stages)]


def untouched(database: Database[Raw], scale: float) -> Benchmark:
    """Operations on paths that no rule touches, while a rule is pending that Python computes."""
    count = size(_FULL, scale)
    collection = database["pending-untouched"]
    fill_customers(collection, count)
    models = {_PLAIN: model_of(collection), _NONE: model_of(collection, HashMigration)}
    operations: dict[str, Operation] = {
        "list by city": _of_city,
        "order_by city, limit(20)": _by_city,
        "update by city": _update_city,
        "count by city": _count_city,
        "distinct by city": _distinct_city,
    }
    works = {what: Work(one, chosen_of(count, scale)) for what, one in operations.items()}
    return Benchmark(
        "pending-untouched",
        tuple(
            Side(f"{what}, {side}", partial(work.by, model))
            for what, work in works.items()
            for side, model in models.items()
        ),
        tuple(
            Comparison(
                f"{what}, {count}, a Python rule pending",
                f"{what}, {_NONE}",
                f"{what}, {_PLAIN}",
                1.05,
                called=_PLAIN,
            )
            for what in operations
        ),
        collection.estimated_document_count,
    )


def _of_city(model: Any, number: int) -> Any:
    return [one.number for one in model.objects(city=f"city {number // 20}")]


def _by_city(model: Any, number: int) -> Any:
    return len(model.objects(city__gte=f"city {number // 20}").order_by("city").limit(20))


def _update_city(model: Any, number: int) -> Any:
    return model.objects(city=f"city {number // 20}").update(inc__visits=1)


def _count_city(model: Any, number: int) -> Any:
    return model.objects(city=f"city {number // 20}").count()


def _distinct_city(model: Any, number: int) -> Any:
    return len(model.objects(city=f"city {number // 20}").distinct("name"))
