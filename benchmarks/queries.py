"""What queries through pending rules cost: to build, and to answer with half the documents old."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pymongo.collection import Collection
from pymongo.database import Database

from benchmarks.data import (
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

__all__ = [
    "building",
    "counting_covered",
    "counting_missing",
    "first",
    "getting",
    "iterating",
    "limited",
    "many_rules",
]

_PLAIN = "plain MongoEngine"
_MIGRATED = "migrated copy"
_MICROSECOND = 1e-6
_MISSING = PENDING[0]
_COVERED = RuleData({"enabled": None}, _MISSING.update)


def building(database: Database[Raw], scale: float) -> Benchmark:
    """Filters made into queries, by a model with five rules; nothing is sent."""
    count = size(1_000, scale)
    collection = database["building"]
    fill(collection, [person(1)])
    models = {
        "5 rules": lazy_model(collection, handler(PENDING[:5])),
        _PLAIN: plain_model(collection),
    }
    filters: dict[str, tuple[Raw, float]] = {
        "untouched": ({"name": "Person 7"}, 20),
        "touched": ({"enabled": True}, 100),
    }
    return Benchmark(
        "query-built",
        tuple(
            Side(f"{name}, {which}", partial(_build_each, models[name], fields, count))
            for which, (fields, _) in filters.items()
            for name in models
        ),
        tuple(
            Comparison(
                f"build {count} queries, {which} by 5 rules",
                f"5 rules, {which}",
                f"{_PLAIN}, {which}",
                1.0,
                allowance=count * most * _MICROSECOND,
                called=f"plain + {most:.0f} us each",
            )
            for which, (_, most) in filters.items()
        ),
        partial(contents, collection),
    )


def _build_each(model: Any, fields: Mapping[str, Any], count: int) -> int:
    return sum(bool(_sent(model, **fields)) for _ in range(count))


def many_rules(database: Database[Raw], scale: float) -> Benchmark:
    """Filters on one path that many rules write, each with a value never asked for before."""
    count = size(20, scale)
    collection = database["many-rules"]
    fill(collection, [person(1)])
    plain = plain_model(collection)
    sides = [Side(_PLAIN, partial(_build_new, plain, count))]
    rows = []
    for name, rule in {"values": _state, "two conditions": _guarded}.items():
        for rules, most in ((50, 5), (200, 20)):
            model = lazy_model(collection, handler([rule(number) for number in range(rules)]))
            side = Side(f"{rules} rules, {name}", partial(_build_new, model, count))
            sides.append(side)
            rows.append(
                Comparison(
                    f"build {count} new queries by {side.name}",
                    side.name,
                    _PLAIN,
                    1.0,
                    allowance=count * most * 1_000 * _MICROSECOND,
                    called=f"plain + {most} ms each",
                )
            )
    return Benchmark("query-many-rules", tuple(sides), tuple(rows), partial(contents, collection))


def _state(number: int) -> RuleData:
    return RuleData({"name": f"state {number}"}, {"$set": {"name": f"state {number + 1}"}})


def _guarded(number: int) -> RuleData:
    return RuleData({**_state(number).target, "age": number}, _state(number).update)


_asked = itertools.count()


def _build_new(model: Any, count: int) -> int:
    return sum(bool(_sent(model, name=f"asked {next(_asked)}")) for _ in range(count))


def iterating(database: Database[Raw], scale: float) -> Benchmark:
    """All matches."""
    return _reading(database, scale, "query-iterate", "iterate all", _iterate)


def first(database: Database[Raw], scale: float) -> Benchmark:
    """One match, again and again."""
    return _reading(database, scale, "query-first", "first", partial(_limited, most=1))


def limited(database: Database[Raw], scale: float) -> Benchmark:
    """Twenty matches, again and again."""
    return _reading(database, scale, "query-limit", "limit(20)", partial(_limited, most=20))


def getting(database: Database[Raw], scale: float) -> Benchmark:
    """The one document that two conditions name, again and again."""
    return _reading(database, scale, "query-get", "get", _get_each)


def _reading(
    database: Database[Raw], scale: float, name: str, what: str, read: Callable[..., int]
) -> Benchmark:
    """Raw documents by the query that is sent: nothing is migrated, so that turns are alike."""
    mixed, migrated, count = _half_old(database, name, scale)
    times = size(200, scale)
    half_old = lazy_model(mixed, handler([_MISSING]))
    return Benchmark(
        name,
        (
            Side("half old", partial(read, mixed, half_old, times=times)),
            Side(_MIGRATED, partial(read, migrated, plain_model(migrated), times=times)),
        ),
        (Comparison(f"{what} of {count}, half old", "half old", _MIGRATED, 1.2),),
        partial(contents, mixed),
    )


def _half_old(
    database: Database[Raw], name: str, scale: float
) -> tuple[Collection[Raw], Collection[Raw], int]:
    """A collection in which every second document lacks `enabled`, and its migrated copy."""
    count = size(100_000, scale)
    mixed, migrated = database[name], database[f"{name}-migrated"]
    fill(mixed, (person(number) for number in range(1, count + 1)))
    mixed.update_many({"age": {"$mod": [2, 0]}}, {"$unset": {"enabled": ""}})
    restore(mixed, migrated.name)
    migrated.update_many(_MISSING.target, _MISSING.update)
    for collection in (mixed, migrated):
        collection.create_index("enabled")
        collection.create_index("name")
    return mixed, migrated, count


def _sent(model: Any, **fields: Any) -> Any:
    return model.objects(**fields)._query  # noqa: SLF001 - what is sent


def _iterate(collection: Collection[Raw], model: Any, *, times: int) -> int:
    # One turn reads them all, which is long enough to be timed.
    del times
    return sum(1 for _ in collection.find(_sent(model, enabled=True)))


def _limited(collection: Collection[Raw], model: Any, *, most: int, times: int) -> int:
    query = _sent(model, enabled=True)
    return sum(len(list(collection.find(query).limit(most))) for _ in range(times))


def _get_each(collection: Collection[Raw], model: Any, *, times: int) -> int:
    return sum(
        collection.find_one(_sent(model, enabled=True, name=f"Person {number}")) is not None
        for number in range(2, times + 2)
    )


def counting_covered(database: Database[Raw], scale: float) -> Benchmark:
    """`count`, with a target that finds missing and null alike, as an index holds them."""
    return _counting(database, scale, "count-covered", _COVERED, 1.2)


def counting_missing(database: Database[Raw], scale: float) -> Benchmark:
    """`count`, with a target that finds missing fields alone, for which documents are fetched."""
    return _counting(database, scale, "count-missing", _MISSING, 3.3)


def _counting(
    database: Database[Raw], scale: float, name: str, rule: RuleData, limit: float
) -> Benchmark:
    mixed, migrated, count = _half_old(database, name, scale)
    half_old = lazy_model(mixed, handler([rule]))
    return Benchmark(
        name,
        (
            Side("half old", partial(_count, half_old)),
            Side(_MIGRATED, partial(_count, plain_model(migrated))),
        ),
        (
            Comparison(
                f"count of {count}, half old, target {rule.target}", "half old", _MIGRATED, limit
            ),
        ),
        partial(contents, mixed),
    )


def _count(model: Any) -> int:
    return int(model.objects(enabled=True).count())
