"""What loading costs: up-to-date documents, one by one and many; and stale ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from pymongo import UpdateMany
from pymongo.collection import Collection
from pymongo.database import Database

from benchmarks.data import (
    OLD_SHAPE,
    PENDING,
    Raw,
    RuleData,
    contents,
    fill,
    handler,
    lazy_model,
    person,
    plain_model,
    restore,
    size,
)
from benchmarks.measure import Benchmark, Comparison, Side

__all__ = ["getting", "iterating", "iterating_stale", "iterating_wide", "without_rules"]

_PLAIN = "plain MongoEngine"
_BATCH = 100
_STALE_RULES = PENDING[:5]


def _load_all(model: Any) -> list[Any]:
    # Without iter(), list() would ask for the length first.
    return list(iter(model.objects))


def _get_each(model: Any, ids: Iterable[Any]) -> list[Any]:
    return [model.objects.get(id=document_id) for document_id in ids]


def iterating(database: Database[Raw], scale: float) -> Benchmark:
    """Up-to-date documents of 10 fields."""
    return _iterating(database, scale, "iterate", 10, {1: 1.02, 5: 1.02, 20: 1.02})


def iterating_wide(database: Database[Raw], scale: float) -> Benchmark:
    """Up-to-date documents of 40 fields."""
    return _iterating(database, scale, "iterate-wide", 40, {1: 1.02, 5: 1.02, 20: 1.02})


def _iterating(
    database: Database[Raw], scale: float, name: str, width: int, limits: dict[int, float]
) -> Benchmark:
    collection, count = _up_to_date(database, name, size(20_000, scale), width)
    sides = [Side(_PLAIN, partial(_load_all, plain_model(collection, width)))]
    comparisons = []
    for rules, limit in limits.items():
        model = lazy_model(collection, handler(PENDING[:rules]), width)
        sides.append(Side(f"{rules} rules", partial(_load_all, model)))
        what = f"iterate {count} up-to-date, {width} fields, {rules} rules"
        comparisons.append(Comparison(what, f"{rules} rules", _PLAIN, limit))
    return Benchmark(name, tuple(sides), tuple(comparisons), partial(contents, collection))


def without_rules(database: Database[Raw], scale: float) -> Benchmark:
    """A model whose handler has no rules left."""
    collection, count = _up_to_date(database, "no-rules", size(20_000, scale))
    return Benchmark(
        "no-rules",
        (
            Side("no rules", partial(_load_all, lazy_model(collection, handler(())))),
            Side(_PLAIN, partial(_load_all, plain_model(collection))),
        ),
        (Comparison(f"iterate {count}, all rules gone", "no rules", _PLAIN, 1.01),),
        partial(contents, collection),
    )


def getting(database: Database[Raw], scale: float) -> Benchmark:
    """One up-to-date document by its id, again and again."""
    collection, count = _up_to_date(database, "get", size(1_000, scale))
    ids = collection.distinct("_id")
    return Benchmark(
        "get",
        (
            Side("5 rules", partial(_get_each, lazy_model(collection, handler(PENDING[:5])), ids)),
            Side(_PLAIN, partial(_get_each, plain_model(collection), ids)),
        ),
        (Comparison(f"get by id, {count} times, 5 rules", "5 rules", _PLAIN, 1.05),),
        partial(contents, collection),
    )


def _up_to_date(
    database: Database[Raw], name: str, count: int, width: int = 10
) -> tuple[Collection[Raw], int]:
    collection = database[name]
    fill(collection, (person(number, width) for number in range(1, count + 1)))
    return collection, count


def iterating_stale(database: Database[Raw], scale: float) -> Benchmark:
    """Documents that five static rules match, each of them."""
    count = size(10_000, scale)
    template, collection = database["stale-template"], database["stale"]
    fill(template, (person(number) for number in range(1, count + 1)))
    template.update_many({}, OLD_SHAPE)
    plain = plain_model(collection)
    build: Callable[[Raw], Any] = plain._from_son  # noqa: SLF001 - MongoEngine's load of a raw document
    # MongoKit's way takes minutes for all of them.
    sample = min(count, 500)
    old_shape = partial(restore, template, collection.name)
    sides = (
        Side(
            "lazymig", partial(_load_all, lazy_model(collection, handler(_STALE_RULES))), old_shape
        ),
        Side("by hand", partial(_by_hand, collection, _STALE_RULES, build), old_shape),
        Side(
            "MongoKit's way",
            partial(_as_mongokit, collection, _STALE_RULES, build, sample),
            old_shape,
            factor=count / sample,
        ),
    )
    what = f"iterate {count} stale, {len(_STALE_RULES)} static rules"
    return Benchmark(
        "stale",
        sides,
        (
            Comparison(what, "lazymig", "by hand", 1.0),
            Comparison(what, "lazymig", "MongoKit's way", 1 / 60),
        ),
        partial(contents, collection),
    )


def _by_hand(
    collection: Collection[Raw], rules: Sequence[RuleData], build: Callable[[Raw], Any]
) -> list[Any]:
    """The same batches with PyMongo alone, and MongoEngine's load of what they give."""
    documents: list[Any] = []
    cursor = collection.find()
    while batch := list(itertools.islice(cursor, _BATCH)):
        ids = {"$in": [raw["_id"] for raw in batch]}
        writes = [UpdateMany({"_id": ids, **rule.target}, rule.update) for rule in rules]
        collection.bulk_write(writes, ordered=True)
        documents.extend(build(raw) for raw in collection.find({"_id": ids}))
    return documents


def _as_mongokit(
    collection: Collection[Raw],
    rules: Sequence[RuleData],
    build: Callable[[Raw], Any],
    sample: int,
) -> list[Any]:
    """One update and one read for each document and rule, as MongoKit's migration does it."""
    documents: list[Any] = []
    for raw in collection.find(limit=sample):
        own = {"_id": raw["_id"]}
        fresh: Any = raw
        for rule in rules:
            collection.update_one({**rule.target, **own}, rule.update)
            fresh = collection.find_one(own)
        documents.append(build(fresh))
    return documents
