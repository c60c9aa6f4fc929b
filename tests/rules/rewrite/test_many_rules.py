"""Many rules on one path: the rewritten query is exact, and what it takes to make it is bounded."""

from __future__ import annotations

import itertools
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from bson import Regex
from pymongo.database import Database

from lazymig.rules.rewrite import rewriter as module
from lazymig.rules.rewrite.rewriter import Rewriter
from lazymig.rules.rewrite.rewriting import CannotRewrite, Step, rewrite
from tests.support.steps import compile_step

Raw = dict[str, Any]
Change = tuple[Raw, Raw]


def _state(n: int) -> Change:
    return {"v": f"s{n}"}, {"$set": {"v": f"s{n + 1}"}}


def _numbered(n: int) -> Change:
    return {"v": n}, {"$set": {"v": n + 1}}


def _merged(n: int) -> Change:
    return {"v": f"s{n}"}, {"$set": {"v": "done"}}


def _guarded(n: int) -> Change:
    return {"v": n, "k": None}, {"$set": {"v": n + 1}}


def _below(n: int) -> Change:
    return {"v": {"$lt": n + 1}}, {"$set": {"v": n + 1}}


def _typed(n: int) -> Change:
    return {"v": {"$type": "string"}, "k": n}, {"$set": {"v": n}}


def _filled(n: int) -> Change:
    return {"v": {"$exists": False}, "k": n}, {"$set": {"v": f"s{n}"}}


def _denied(n: int) -> Change:
    return {"k": n, "v": {"$ne": f"s{n}"}}, {"$set": {"v": f"s{n}"}}


def _renamed(n: int) -> Change:
    return {f"a{n}": {"$exists": True}}, {"$rename": {f"a{n}": f"a{n + 1}"}}


def _collected(n: int) -> Change:
    return {f"a{n}": {"$exists": True}}, {"$rename": {f"a{n}": "v"}}


SHAPES = {
    each.__name__: each
    for each in (
        *(_state, _numbered, _merged, _guarded, _below, _typed, _filled, _denied),
        *(_renamed, _collected),
    )
}
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)

CONDITIONS: list[Any] = [
    *("s30", "s5", 30, 5, "done", None, {"$ne": "s30"}, {"$ne": 7}, {"$exists": True}),
    *({"$exists": False}, {"$in": ["s30", "s5", 3, None]}, {"$nin": ["s3", "s30", 30]}),
    *({"$gt": 3}, {"$type": "string"}, {"$not": {"$gt": 4}}, {"$gte": "s2", "$ne": "s4"}),
]


def _steps(shape: Callable[[int], Change], count: int) -> list[Step]:
    return [compile_step(f"rule {n}", *shape(n)) for n in range(count)]


def _queries(shape: Callable[[int], Change], count: int) -> Iterator[Raw]:
    path = f"a{count}" if shape is _renamed else "v"
    for condition in CONDITIONS:
        yield {path: condition}
        yield {path: condition, "k": 3}
        yield {"$or": [{path: condition}, {"k": {"$in": [1, 2]}}]}


def _documents() -> Iterator[Raw]:
    states = [f"s{n}" for n in range(0, 32, 3)]
    values: list[Any] = [
        *states,
        *range(0, 32, 4),
        None,
        True,
        ["s1", "s30"],
        [3, 30],
        [],
        {"x": 1},
    ]
    for value, extra in itertools.product(values, [{}, {"k": None}, {"k": 3}, {"k": [2, 3]}]):
        yield {"v": value, **extra}
    for n in range(32):
        yield {"k": n}
        yield {f"a{n}": f"s{n}"}
        yield {f"a{n}": n, "v": "s30", f"a{(n * 7) % 30}": 5}
        yield {"k": n, "v": f"s{n}"}
        yield {"k": n, "v": n}


@shapes
@pytest.mark.parametrize("count", [13, 30])
def test_rewriting_is_exact_for_many_rules(
    scratch: Database[Raw], shape: Callable[[int], Change], count: int
) -> None:
    """A query through many rules on one path finds what the query finds after migration."""
    documents = [{"_id": number, **each} for number, each in enumerate(_documents())]
    for collection in (scratch.stored, scratch.migrated):
        collection.delete_many({})
        collection.insert_many(documents)
    for n in range(count):
        scratch.migrated.update_many(*shape(n))
    rewriter = Rewriter(tuple(_steps(shape, count)))
    rewritten = 0
    for query in _queries(shape, count):
        try:
            seen = rewriter.rewrite(query)
        except CannotRewrite:
            continue
        rewritten += 1
        found = {each["_id"] for each in scratch.stored.find(seen, {"_id": 1})}
        expected = {each["_id"] for each in scratch.migrated.find(query, {"_id": 1})}
        assert found == expected, (query, seen)
    assert rewritten


def _calls(work: Callable[[], Any]) -> int:
    """Count the calls of functions, which no load of the machine changes."""
    count = 0

    def counted(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        work()
    except CannotRewrite:
        pass
    finally:
        sys.setprofile(None)
    return count


def _most_calls(shape: Callable[[int], Change], count: int) -> int:
    steps = _steps(shape, count)
    queries = itertools.islice(_queries(shape, count), 0, None, 5)
    return max(_calls(partial(rewrite, query, steps)) for query in queries)


@shapes
def test_the_work_grows_little_faster_than_the_rules(shape: Callable[[int], Change]) -> None:
    """Of a query through 120 rules no more is done than the square of their number asks for."""
    few, many = (_most_calls(shape, count) for count in (30, 120))
    assert many <= 12 * few + 5_000
    assert many <= 600_000


def test_what_a_path_must_not_be_is_one_condition() -> None:
    """Thirty rules that each take one value away are one `$nin`."""
    assert rewrite({"v": {"$gt": 3}}, _steps(_state, 30)) == {
        "v": {"$gt": 3, "$nin": [f"s{n}" for n in reversed(range(30))]}
    }


def test_what_is_missing_is_equal_to_null_on_top_alone() -> None:
    """`null` finds what is missing, but not in the elements of an array."""
    flat = {"$or": [{"v": None, "k": 1}, {"w": {"$exists": False}}, {"w": None}]}
    deep = {"$or": [{"v": None, "k": 1}, {"d.w": {"$exists": False}}, {"d.w": None}]}
    step = compile_step("rule", {"v": None}, {"$set": {"v": 1}})
    assert rewrite(flat, [step]) == {"w": None}
    assert rewrite(deep, [step]) == {"$or": [{"d.w": {"$exists": False}}, {"d.w": None}]}


def test_a_refusal_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused once is refused again without a second attempt, with the same reason."""
    attempts: list[Any] = []

    def counted(query: Any, steps: Any) -> Any:
        attempts.append(query)
        return rewrite(query, steps)

    monkeypatch.setattr(module, "rewrite", counted)
    rewriter = Rewriter(tuple(_steps(_renamed, 60)))
    reasons = []
    for _ in range(3):
        with pytest.raises(CannotRewrite) as caught:
            rewriter.rewrite({"a60": 1})
        reasons.append(str(caught.value))
    assert len(attempts) == 1
    assert len(set(reasons)) == 1


@pytest.mark.parametrize(
    "asked",
    [
        lambda: {"v": re.compile("^s", re.IGNORECASE)},
        lambda: {"v": Regex("^s", "i")},
        lambda: {"v": {"$not": re.compile("s1$")}},
        lambda: {"v": {"$mod": (3, 1)}},
        lambda: {"v": uuid.UUID(int=1)},
        lambda: {"v": b"s1"},
    ],
)
def test_a_query_of_any_kind_is_remembered(
    monkeypatch: pytest.MonkeyPatch, asked: Callable[[], Raw]
) -> None:
    """What MongoEngine makes anew for each query, such as a pattern, is known again."""
    rewriter = Rewriter(tuple(_steps(_state, 5)))
    before = rewriter.rewrite(asked())
    calls: list[Any] = []
    monkeypatch.setattr(module, "rewrite", lambda *given: calls.append(given))
    assert rewriter.rewrite(asked()) == before
    assert not calls


def test_patterns_with_other_flags_are_others() -> None:
    """What is remembered of one pattern is not taken for another one."""
    rewriter = Rewriter(tuple(_steps(_state, 5)))
    patterns = [re.compile("^S"), re.compile("^S", re.IGNORECASE), Regex("^S"), Regex("^S", "i")]
    for pattern in patterns:
        query = {"v": pattern}
        assert rewriter.rewrite(query) == rewrite(query, rewriter.steps)


def test_only_the_rules_of_a_path_are_asked() -> None:
    """A rewriter knows which of many rules write what a query reads."""
    steps = [compile_step(f"rule {n}", {f"f{n}": None}, {"$set": {f"f{n}": 1}}) for n in range(50)]
    rewriter = Rewriter(tuple(steps))
    assert sorted(rewriter.concerning({"f3": 1, "$or": [{"f7.x": 1}, {"name": 2}]})) == [3, 7]
    assert list(rewriter.concerning({"$expr": {"$eq": ["$f9", 1]}})) == [9]
    assert len(list(rewriter.concerning({"$where": "1"}))) == 50
    assert not rewriter.is_concerned({"name": 1})
