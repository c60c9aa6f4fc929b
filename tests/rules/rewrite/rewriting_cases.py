"""Rules that converge, the documents they meet, and the queries that read what they write."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from hypothesis import strategies as st

from lazymig.rules.rewrite.rewriting import Step
from lazymig.updates.convergence import ends_match
from lazymig.updates.update import check_update, written_paths
from tests.support.steps import compile_step

Raw = dict[str, Any]


class RuleCase(NamedTuple):
    """A static rule."""

    target: Raw
    update: Any

    def step(self, name: str = "rule") -> Step:
        """Compile it."""
        return compile_step(name, self.target, self.update)


# Rules that everyone writes.
ADDED = compile_step("added", {"enabled": {"$exists": False}}, {"$set": {"enabled": True}})
FILLED = compile_step("filled", {"enabled": None}, {"$set": {"enabled": True}})
RENAMED = compile_step("renamed", {"old": {"$exists": True}}, {"$rename": {"old": "new"}})


def one(key: Any, value: Any) -> Any:
    """Give mappings of one drawn key and one drawn value."""
    return st.tuples(key, value).map(lambda pair: dict([pair]))


# `d` and `d.x` are parents of dotted paths: documents or scalars. The others may be arrays.
PATHS = ["a", "b", "c", "d", "d.x", "d.y", "d.x.z", "_cls"]
BENEATH = ["a.q", "b.q", "a.0", "c.0.q", "d.x.q"]
# Few, so that they meet.
SCALARS: list[Any] = [None, 1, 1, 2, 1.0, True, "x", "x"]
scalars = st.sampled_from(SCALARS)
records = st.dictionaries(st.sampled_from("qr"), scalars, max_size=2)
values = st.one_of(
    scalars, scalars, st.lists(st.one_of(scalars, records), max_size=3), records, st.just([[1]])
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "_cls": st.sampled_from(["A", "A.B", "A.C"]),
        "a": values,
        "b": values,
        "c": values,
        "d": st.one_of(
            scalars,
            *[
                st.fixed_dictionaries(
                    {},
                    optional={
                        "x": st.one_of(
                            scalars, st.fixed_dictionaries({}, optional={"z": values, "q": values})
                        ),
                        "y": values,
                    },
                )
            ]
            * 3,
        ),
    },
)

ALIASES = ["null", "string", "int", "double", "number", "bool", "object", "array"]


def operators_on(comparands: Any) -> Any:
    """Give expressions of one operator."""
    return st.one_of(
        *[one(st.just("$exists"), st.booleans())] * 2,
        one(st.just("$type"), st.sampled_from(ALIASES)),
        one(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), comparands),
        one(st.sampled_from(["$in", "$nin", "$all"]), st.lists(comparands, max_size=3)),
        st.sampled_from([{"$size": 1}, {"$regex": "^x"}, {"$mod": [2, 0]}]),
        one(st.just("$elemMatch"), one(st.sampled_from("qr"), scalars)),
    )


conditions = st.one_of(
    values,
    operators_on(values),
    operators_on(scalars),
    st.tuples(operators_on(scalars), operators_on(scalars)).map(lambda two: {**two[0], **two[1]}),
    one(st.just("$not"), operators_on(scalars)),
)
leaves = one(st.sampled_from(PATHS * 2 + BENEATH), conditions)


def _combined(inner: Any) -> Any:
    several = st.lists(inner, min_size=1, max_size=3)
    pairs = st.tuples(inner, inner)
    both = pairs.map(lambda two: {**two[0], **two[1]})
    absorbing = pairs.map(lambda two: {"$or": [{"$and": list(two)}, two[0]]})
    return st.one_of(both, absorbing, one(st.sampled_from(["$and", "$or", "$nor"]), several))


# To make a strategy takes longer than to draw from it, so those for the paths drawn are kept.
@cache
def queries_on(*paths: str) -> Any:
    """Give queries most of whose conditions stand on these paths."""
    leaf = st.one_of(one(st.sampled_from(paths), conditions), leaves) if paths else leaves
    return st.recursive(leaf, _combined, max_leaves=5)


# --- Rules, most of them as people write them ------------------------------------------------

written = st.sampled_from(PATHS)
classes = st.sampled_from(["A", "A.B", "A.C"])
constants = st.one_of(scalars, values)


# Nothing, or one more condition.
_more_conditions = st.one_of(st.just({}), st.just({}), leaves)


def _narrowed(targets: Any) -> Any:
    """Give targets as they are, or with one more condition."""
    return st.builds(lambda target, more: {**more, **target}, targets, _more_conditions)


@cache
def _setting(path: str) -> Any:
    chosen = classes if path == "_cls" else scalars if path.startswith("d") else constants
    targets = st.one_of(
        *[st.just({path: {"$exists": False}})] * 2,
        st.just({path: None}),
        chosen.map(lambda value: {path: value}),
        chosen.map(lambda value: {path: {"$ne": value}}),
        st.just({path: {"$type": "string"}}),
        leaves,
    )
    return st.builds(
        lambda target, value: (target, {"$set": {path: value}}), _narrowed(targets), chosen
    )


@cache
def _unsetting(path: str) -> Any:
    targets = st.one_of(
        *[st.just({path: {"$exists": True}})] * 3, scalars.map(lambda value: {path: value})
    )
    return _narrowed(targets).map(lambda target: (target, {"$unset": {path: ""}}))


@cache
def _renaming(paths: tuple[str, str]) -> Any:
    source, destination = paths
    targets = st.one_of(
        *[st.just({source: {"$exists": True}})] * 3,
        *[st.just({source: {"$exists": True}, destination: {"$exists": False}})] * 3,
        st.just({"$or": [{source: {"$exists": True}}, {destination: None}]}),
        scalars.map(lambda value: {source: value}),
    )
    return _narrowed(targets).map(lambda target: (target, {"$rename": {source: destination}}))


_simple = st.one_of(
    written.flatmap(_setting),
    written.flatmap(_unsetting),
    st.tuples(written.filter(lambda path: path != "_cls"), written)
    .filter(lambda two: two[1] != "_cls")
    .flatmap(_renaming),
)
_more = st.one_of(
    one(st.just("$set"), one(written, scalars)),
    one(st.just("$unset"), one(written, st.just(""))),
    one(st.just("$rename"), one(st.sampled_from("abc"), st.sampled_from(["b", "c", "d.y"]))),
    one(st.just("$setOnInsert"), one(written, scalars)),
)


def _with_more(rule: tuple[Raw, Raw], more: Raw) -> tuple[Raw, Raw]:
    target, update = rule
    return target, {**more, **update}


# What is renamed need not be there: the target asks for something else.
_moving_too = st.builds(
    _with_more,
    st.sampled_from(["b", "c"]).flatmap(_setting),
    one(st.just("$rename"), one(st.just("a"), st.sampled_from(["d", "d.x", "d.y", "d.x.z"]))),
)
_operators = st.one_of(
    _simple, _simple, _simple, _moving_too, st.builds(_with_more, _simple, _more)
)
# What rewriting refuses wherever a query reads it.
_opaque = st.one_of(
    one(st.just("$inc"), one(written, st.just(1))),
    one(st.just("$push"), one(st.sampled_from("abc"), scalars)),
    one(st.just("$set"), st.sampled_from([{"a.0": 1}, {"c.$[].q": 1}])),
    st.just([{"$set": {"b": "$a"}}]),
)


def _converges(rule: RuleCase) -> bool:
    try:
        check_update(rule.update)
    except ValueError:
        return False
    return ends_match(rule.target, rule.update)


exact_rules = st.builds(lambda pair: RuleCase(*pair), _operators)
opaque_rules = st.builds(RuleCase, leaves, _opaque)
_any_rules = st.one_of(*[exact_rules] * 7, opaque_rules)
_rules = st.lists(_any_rules, min_size=5, max_size=5).map(
    lambda some: list(filter(_converges, some))[:4]
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Raw], list[RuleCase], list[Raw]]:
    """Give documents, rules in their order, and queries."""
    rules = draw(_rules)
    paths = {path for rule in rules for path in written_paths(rule.update) or ()}
    parents = {path.rpartition(".")[0] for path in paths} - {""}
    some_queries = st.lists(queries_on(*sorted(paths | parents)), min_size=8, max_size=8)
    return draw(st.lists(documents, min_size=6, max_size=6)), rules, draw(some_queries)
