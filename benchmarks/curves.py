"""What a pending rule costs over the size of a collection, and over the share of old documents."""

from __future__ import annotations

from functools import partial
from typing import Any

from pymongo.collection import Collection
from pymongo.database import Database

from benchmarks.data import Raw, restore, size
from benchmarks.measure import Benchmark, Comparison, Plot, Side
from benchmarks.pending import (
    MAKE_OLD,
    CustomerMigration,
    Operation,
    Work,
    chosen_of,
    count_by_email,
    create_indexes,
    fill_customers,
    get_by_email,
    model_of,
    sort_by_email,
)

__all__ = ["growing", "sharing"]

_PLAIN = "plain MongoEngine"
_SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
# Without an index each look reads the whole collection: so many are enough.
_FEW = 3

_SHARED = 100_000
# One document of so many is old; 0 for none.
_SHARES = {"none": 0, "0.1 %": 1_000, "1 %": 100, "10 %": 10, "50 %": 2, "all": 1}
_LOADED = 1_000


def growing(database: Database[Raw], scale: float) -> Benchmark:
    """`get` by a renamed field, nothing old, with rule indexes and without."""
    counts = list(dict.fromkeys(size(full, scale) for full in _SIZES))
    chosen = chosen_of(counts[0], scale)
    work = Work(get_by_email, chosen)
    few = Work(get_by_email, chosen[:_FEW])
    sides: list[Side] = []
    rows: list[Comparison] = []
    for count in counts:
        collection = database[f"growth-{count}"]
        bare = database[f"growth-bare-{count}"]
        fill_customers(collection, count)
        restore(collection, bare.name)
        create_indexes(bare)
        indexed = model_of(collection, CustomerMigration)
        CustomerMigration(indexed).create_rule_indexes()
        plain, with_indexes, without = (
            f"{count}, {side}" for side in ("plain", "rule indexes", "no rule indexes")
        )
        sides += [
            Side(plain, partial(work.by, model_of(collection))),
            Side(with_indexes, partial(work.by, indexed)),
            Side(
                without,
                partial(few.by, model_of(bare, CustomerMigration)),
                factor=len(chosen) / len(chosen[:_FEW]),
            ),
        ]
        rows += [
            Comparison(
                f"get by a renamed field, {side}",
                side,
                plain,
                None,
                called=_PLAIN,
                curve=curve,
                at=f"{count:,}",
            )
            for side, curve in ((with_indexes, "rule indexes"), (without, "no rule indexes"))
        ]
    # An exponent of 0.1 over the growth.
    small, large = counts[0], counts[-1]
    judged = Comparison(
        f"get by a renamed field, {large}, rule indexes",
        f"{large}, rule indexes",
        f"{small}, rule indexes",
        (large / small) ** 0.1,
    )
    return Benchmark(
        "pending-growth",
        tuple(sides),
        (*rows, judged),
        partial(len, chosen),
        Plot("get by a renamed field, nothing old: times plain MongoEngine", "documents"),
    )


def sharing(database: Database[Raw], scale: float) -> Benchmark:
    """Reads by written fields, over the share of documents that are old; with rule indexes."""
    count = size(_SHARED, scale)
    current = database["share-current"]
    fill_customers(current, count)
    plain = model_of(current)
    old = {share: _aged(database, current, every) for share, every in _SHARES.items()}
    chosen = chosen_of(count, scale)
    works = {
        "get by a renamed field": Work(get_by_email, chosen),
        "count by a renamed field": Work(count_by_email, chosen),
        "order_by a renamed field, limit(20)": Work(sort_by_email, chosen[:_FEW]),
        "sum of a retyped field, all": Work(_sum, [0]),
        f"load {size(_LOADED, scale)}": Work(_loading(size(_LOADED, scale)), [0]),
    }
    sides: list[Side] = []
    rows: list[Comparison] = []
    for what, work in works.items():
        sides.append(Side(f"{what}, {_PLAIN}", partial(_done, work, plain)))
        for share, every in _SHARES.items():
            model = old[share]
            side = f"{what}, {share} old"
            sides.append(
                Side(
                    side,
                    partial(_done, work, model),
                    partial(_age, model._get_collection(), every),  # noqa: SLF001 - raw documents
                )
            )
            rows.append(
                Comparison(
                    f"{what}, of {count} {share} old",
                    side,
                    f"{what}, {_PLAIN}",
                    None,
                    called=_PLAIN,
                    curve=what,
                    at=share,
                )
            )
    return Benchmark(
        "pending-share",
        tuple(sides),
        tuple(rows),
        partial(len, chosen),
        Plot(f"{count:,} documents: times plain MongoEngine", "share of old documents"),
    )


def _done(work: Work, model: Any) -> bool:
    return work.by(model) > 0


def _aged(database: Database[Raw], current: Collection[Raw], every: int) -> Any:
    """A model of a copy in which one document of so many is old, with indexes."""
    copy = database[f"share-{every}"]
    restore(current, copy.name)
    _age(copy, every)
    create_indexes(copy)
    model = model_of(copy, CustomerMigration)
    CustomerMigration(model).create_rule_indexes()
    return model


def _age(collection: Collection[Raw], every: int) -> None:
    """Let those be old, again, that were; in no other way those that still are."""
    if every:
        collection.update_many({"_id": {"$mod": [every, 0]}, "mail": {"$exists": False}}, MAKE_OLD)


def _sum(model: Any, _number: int) -> Any:
    return model.objects.sum("visits")


def _loading(count: int) -> Operation:
    def load(model: Any, _number: int) -> Any:
        return sum(one.visits for one in model.objects.order_by("number").limit(count))

    return load
