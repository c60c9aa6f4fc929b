"""Proofs of convergence against the real server, for rules and documents as chance makes them."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple, TypeAlias

import pytest
from hypothesis import settings
from pymongo import MongoClient, UpdateMany, UpdateOne, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, OperationFailure

from lazymig.updates.convergence import assumed_parents, ends_match, keeps_match
from lazymig.updates.update import check_update
from tests.updates.proof_cases import Chance, Raw, Rule

LONG = os.environ.get("LAZYMIG_PROFILE") == "long"
PROVED = settings().max_examples if LONG else 1000
DOCUMENTS = 24
BATCH = 50


@pytest.fixture(scope="module")
def scratch(client: MongoClient[Raw]) -> Iterator[Collection[Raw]]:
    """One collection for all rules, in which nothing has to survive."""
    name = f"lazymig_{uuid.uuid4().hex}"
    yield client[name].get_collection("cases", write_concern=WriteConcern(w=1, j=False))
    client.drop_database(name)


Claim: TypeAlias = Callable[[Any, Any, Any], bool]


class Tried(NamedTuple):
    """A proved rule with the documents that are tried, by `_id`."""

    rule: Rule
    update: Any
    documents: dict[int, Raw]

    def found(self) -> Raw:
        """Return the query for those of its documents that its target matches."""
        return {"$and": [{"_id": {"$in": list(self.documents)}}, self.rule.target]}


def _is_proved(rule: Rule, claim: Claim) -> bool:
    try:
        check_update(rule.update, rule.array_filters)
        return claim(*rule)
    except ValueError:
        return False  # a rule that lazymig refuses


def _has_array(value: Any, parts: list[str]) -> bool:
    """Tell whether there is an array at a path, whose component $[] stands for elements."""
    if not parts:
        return isinstance(value, list)
    if isinstance(value, list):
        rest = parts[1:] if parts[0] == "$[]" else parts
        return any(_has_array(element, rest) for element in value)
    return isinstance(value, dict) and parts[0] in value and _has_array(value[parts[0]], parts[1:])


def _is_assumed_away(rule: Rule, document: Raw) -> bool:
    return any(_has_array(document, path.split(".")) for path in assumed_parents(*rule))


def _refused_rules(collection: Collection[Raw], batch: list[Tried]) -> set[int]:
    """Apply every rule to all of its documents at once; give those that MongoDB did not take."""
    requests = [
        UpdateMany(one.found(), one.update, array_filters=one.rule.array_filters) for one in batch
    ]
    try:
        collection.bulk_write(requests, ordered=False)
    except BulkWriteError as error:
        return {failure["index"] for failure in error.details["writeErrors"]}
    return set()


def _refused_documents(collection: Collection[Raw], batch: list[Tried]) -> set[int]:
    """Begin anew, document by document; give the ids of those that MongoDB refuses to update."""
    collection.delete_many({"_id": {"$in": [key for one in batch for key in one.documents]}})
    collection.insert_many([raw for one in batch for raw in one.documents.values()])
    keys = [(one, key) for one in batch for key in one.documents]
    requests = [
        UpdateOne(
            {"$and": [{"_id": key}, one.rule.target]},
            one.update,
            array_filters=one.rule.array_filters,
        )
        for one, key in keys
    ]
    try:
        collection.bulk_write(requests, ordered=False)
    except BulkWriteError as error:
        return {keys[failure["index"]][1] for failure in error.details["writeErrors"]}
    return set()


def _ids(collection: Collection[Raw], one: Tried) -> set[int]:
    try:
        return {found["_id"] for found in collection.find(one.found(), {"_id": 1})}
    except OperationFailure:
        return set()  # MongoDB refuses the target


def _counterexamples(
    collection: Collection[Raw], batch: list[Tried], claim: Claim, seen: Counter[str]
) -> Iterator[tuple[Rule, Any, Raw]]:
    """Yield each rule with a document that an accepted update leaves otherwise than claimed."""
    collection.delete_many({})
    collection.insert_many([raw for one in batch for raw in one.documents.values()])
    matched = [_ids(collection, one) for one in batch]
    again = [batch[index] for index in sorted(_refused_rules(collection, batch))]
    refused = _refused_documents(collection, again) if again else set()
    for one, before in zip(batch, matched, strict=True):
        updated = before - refused
        seen["rules"] += 1
        seen["documents"] += len(updated)
        seen["rules with documents"] += bool(updated)
        left = _ids(collection, one)
        for key in updated & left if claim is ends_match else updated - left:
            if claim is ends_match and _is_assumed_away(one.rule, one.documents[key]):
                seen["documents that were assumed away"] += 1
            else:
                yield one.rule, one.update, one.documents[key]


@pytest.mark.parametrize("claim", [ends_match, keeps_match])
def test_whatever_is_proved_holds_for_every_document(
    scratch: Collection[Raw], claim: Claim
) -> None:
    """No document that a target matches, of whatever shape, contradicts a proof once updated."""
    seed = Random().randrange(2**32) if LONG else 0
    chance = Chance(seed)
    seen: Counter[str] = Counter()
    while seen["rules"] < (PROVED if claim is ends_match else PROVED // 4):
        batch: list[Tried] = []
        while len(batch) < BATCH:
            rule = chance.rule()
            if _is_proved(rule, claim):
                update = chance.concrete(rule.update)
                drawn = chance.documents(rule._replace(update=update), DOCUMENTS)
                numbered = enumerate(drawn, len(batch) * DOCUMENTS)
                documents = {number: {"_id": number, **raw} for number, raw in numbered}
                batch.append(Tried(rule, update, documents))
        wrong = next(_counterexamples(scratch, batch, claim, seen), None)
        assert wrong is None, (seed, wrong)
    assert seen["rules with documents"] >= seen["rules"] // 2, seen
    assert seen["documents that were assumed away"] <= seen["documents"] // 20, seen


@pytest.mark.parametrize(
    "rule",
    [
        # An object literal is written into each element of an array.
        *(
            Rule(target, [{"$set": {"place": {"type": "Point", "coordinates": "$place"}}}])
            for target in (
                {"place": {"$type": "array"}},
                {"place": {"$size": 2}},
                {"place": {"$exists": True, "$not": {"$type": "object"}}},
                {"place": []},
                {"place.0": {"$exists": True}},
            )
        ),
        # A target that asks for an array at a parent is not proved away.
        Rule({"d": {"$type": "array"}, "d.x": {"$exists": False}}, [{"$set": {"d.x": 1}}]),
        Rule({"d": {"$size": 0}, "d.x": {"$exists": False}}, [{"$set": {"d.x": 1}}]),
        Rule({"d": {"$type": "array"}, "d.x": {"$exists": True}}, {"$unset": {"d.x": ""}}),
        Rule({"d": {"$elemMatch": {"x": 1}}, "d.x": 1}, {"$unset": {"d.x": ""}}),
        Rule(
            {"d": {"$not": {"$type": "object"}}, "d.x": {"$exists": False}},
            [{"$set": {"d.x": 1}}],
        ),
        # What an earlier stage took away is not there any more.
        Rule(
            {"d.x": {"$exists": True}, "b": {"$exists": False}},
            [{"$unset": "d"}, {"$set": {"d.y": 1}}, {"$set": {"b": "$d.x", "d": "$e"}}],
        ),
        Rule({"t": {"$elemMatch": {"$size": 1}}}, {"$pull": {"t": {"$size": 1}}}),
    ],
    ids=str,
)
def test_what_an_array_would_break_is_not_proved(rule: Rule) -> None:
    """A rule whose target asks for an array, or admits one in so many words, is not proved."""
    assert not ends_match(*rule)


ORDINARY = [
    (Rule({"address.zip": {"$type": "int"}}, {"$set": {"address.zip": "x"}}), set()),
    (Rule({"info.mail": {"$exists": True}}, {"$rename": {"info.mail": "mail"}}), set()),
    (Rule({"info.mail": {"$exists": True}}, {"$unset": {"info.mail": ""}}), {"info"}),
    (Rule({"info.mail": {"$exists": True}}, [{"$unset": "info.mail"}]), set()),
    (
        Rule(
            {"address.zip": {"$type": "int"}},
            [{"$set": {"address.zip": {"$toString": "$address.zip"}}}],
        ),
        set(),
    ),
    (Rule({"d.x": {"$exists": False}}, [{"$set": {"d.x": 1}}]), {"d"}),
    (Rule({"d": {"$type": "object"}, "d.x": {"$exists": False}}, [{"$set": {"d.x": 1}}]), set()),
    (Rule({"d": {"$exists": True}, "d.x": {"$exists": False}}, {"$set": {"d.x": 1}}), set()),
    (
        Rule({"title": {"$type": "string"}}, [{"$set": {"title": {"en": "$title"}}}]),
        set(),
    ),
    (
        Rule(
            {"tags": {"$type": "string", "$not": {"$type": "array"}}},
            [{"$set": {"tags": {"$split": ["$tags", ","]}}}],
        ),
        set(),
    ),
    (
        Rule(
            {"place": {"$type": "array"}},
            [{"$set": {"place": {"$mergeObjects": [{"coordinates": "$place"}]}}}],
        ),
        set(),
    ),
    (
        Rule(
            {"items": {"$elemMatch": {"qty": {"$exists": False}}}},
            {"$set": {"items.$[e].qty": 1}},
            [{"e.qty": {"$exists": False}}],
        ),
        {"items.$[]"},
    ),
    (Rule({"items.old": {"$exists": True}}, {"$unset": {"items.$[].old": ""}}), set()),
    (
        Rule(
            {"n": {"$type": "string"}},
            [{"$set": {"n": {"$convert": {"input": "$n", "to": "int", "onError": 0}}}}],
        ),
        set(),
    ),
    (
        Rule(
            {"price": {"$type": ["double", "int", "string"]}},
            [{"$set": {"price": {"$round": [{"$toDecimal": "$price"}, 2]}}}],
        ),
        set(),
    ),
    (
        Rule(
            {"cents": {"$type": ["double", "int", "long"]}},
            [{"$set": {"cents": {"$divide": [{"$toDecimal": "$cents"}, 100]}}}],
        ),
        set(),
    ),
]


@pytest.mark.parametrize(("rule", "assumed"), ORDINARY, ids=str)
def test_ordinary_rules_are_proved_with_few_assumptions(rule: Rule, assumed: set[str]) -> None:
    """Rules that everyone writes are proved; what a proof takes for granted is said."""
    assert ends_match(*rule)
    assert assumed_parents(*rule) == assumed
