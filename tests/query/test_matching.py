"""The matcher against MongoDB itself, and its delicate points one by one."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import bson
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from bson.son import SON
from hypothesis import given, settings
from pymongo.database import Database
from pymongo.errors import OperationFailure

from lazymig.query.matching import compile_query, query_paths
from tests.query.strategies import Raw, cases

NAN = float("nan")
NOON = datetime(2020, 1, 1, 12)
ID = ObjectId("5f0000000000000000000001")
ANY = object()  # a Python value that is no BSON


def judge(query: Mapping[str, Any], document: Mapping[str, Any]) -> bool | None:
    """What a query says of one document; its screen has to agree."""
    matcher = compile_query(query)
    answer = matcher.judge(document)
    assert answer is False or matcher.screen([{}, document])[-1:] == [1]
    return answer


MATCHES: list[tuple[str, Raw, Raw, bool]] = [
    ("null matches missing", {"a": None}, {}, True),
    ("null matches null", {"a": None}, {"a": None}, True),
    ("null matches an element", {"a": None}, {"a": [1, None]}, True),
    ("null is not false", {"a": None}, {"a": False}, False),
    ("null below a scalar", {"a.b": None}, {"a": 1}, True),
    ("null below scalars in an array", {"a.b": None}, {"a": [1, 2]}, False),
    ("null below documents in an array", {"a.b": None}, {"a": [{"b": 1}, {}]}, True),
    ("$ne null and missing", {"a": {"$ne": None}}, {}, False),
    ("$ne null and below an array of scalars", {"a.b": {"$ne": None}}, {"a": [1]}, True),
    ("$gte null matches missing", {"a": {"$gte": None}}, {}, True),
    ("$gt null matches nothing", {"a": {"$gt": None}}, {"a": None}, False),
    ("$in null matches missing", {"a": {"$in": [None, 5]}}, {}, True),
    ("$nin null and missing", {"a": {"$nin": [None]}}, {}, False),
    ("true is not one", {"a": 1}, {"a": True}, False),
    ("zero is not false", {"a": False}, {"a": 0}, False),
    ("true equals true", {"a": True}, {"a": True}, True),
    ("$in tells true from one", {"a": {"$in": [1]}}, {"a": True}, False),
    ("int equals double", {"a": 1}, {"a": 1.0}, True),
    ("int equals long", {"a": 1}, {"a": Int64(1)}, True),
    ("int equals decimal", {"a": 1}, {"a": Decimal128("1.00")}, True),
    ("decimal equals decimal by value", {"a": Decimal128("1.5")}, {"a": Decimal128("1.50")}, True),
    ("double 0.1 is not decimal 0.1", {"a": 0.1}, {"a": Decimal128("0.1")}, False),
    ("large long against double", {"a": 2.0**53}, {"a": Int64(2**53 + 1)}, False),
    ("minus zero equals zero", {"a": 0}, {"a": -0.0}, True),
    ("NaN equals NaN", {"a": NAN}, {"a": Decimal128("NaN")}, True),
    ("NaN is not below a number", {"a": {"$lt": 1}}, {"a": NAN}, False),
    ("NaN passes a negated range", {"a": {"$not": {"$gte": 1}}}, {"a": NAN}, True),
    ("$gte NaN matches NaN", {"a": {"$gte": NAN}}, {"a": NAN}, True),
    ("$gte NaN matches no number", {"a": {"$gte": NAN}}, {"a": 1}, False),
    ("infinity is above", {"a": {"$gt": 10**18}}, {"a": float("inf")}, True),
    ("ranges stay in their bracket", {"a": {"$gt": 1}}, {"a": "2"}, False),
    ("ranges of strings", {"a": {"$lt": "b"}}, {"a": "a"}, True),
    ("ranges of missing", {"a": {"$lt": 1}}, {}, False),
    ("range on an element", {"a": {"$gt": 5}}, {"a": [1, 7]}, True),
    ("two ranges on two elements", {"a": {"$gt": 5, "$lt": 3}}, {"a": [1, 7]}, True),
    ("$gt MinKey matches missing", {"a": {"$gt": MinKey()}}, {}, True),
    ("$lt MaxKey matches a string", {"a": {"$lt": MaxKey()}}, {"a": "x"}, True),
    ("$lt MinKey matches nothing", {"a": {"$lt": MinKey()}}, {"a": 1}, False),
    ("array equals array", {"a": [1, 2]}, {"a": [1, 2]}, True),
    ("array as an element", {"a": [1, 2]}, {"a": [[1, 2], 3]}, True),
    ("array order counts", {"a": [1, 2]}, {"a": [2, 1]}, False),
    ("empty array as an element", {"a": []}, {"a": [[]]}, True),
    ("tuple is an array", {"a": (1, 2)}, {"a": [1, 2]}, True),
    ("array range", {"a": {"$gt": [1]}}, {"a": [1, 0]}, True),
    ("document equals document", {"a": {"b": 1}}, {"a": {"b": 1.0}}, True),
    ("key order counts", {"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, False),
    ("more fields are another document", {"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, False),
    ("empty document is not any document", {"a": {}}, {"a": {"b": 1}}, False),
    ("type decides before the name", {"a": {"$gt": {"b": 1}}}, {"a": {"a": "x"}}, True),
    ("name decides before the value", {"a": {"$gt": {"b": 1}}}, {"a": {"a": 9}}, False),
    ("longer document is greater", {"a": {"$gt": {"b": 1}}}, {"a": {"b": 1, "c": None}}, True),
    ("$exists and null", {"a": {"$exists": True}}, {"a": None}, True),
    ("$exists: 0 is false", {"a": {"$exists": 0}}, {}, True),
    ("$exists: null is false", {"a": {"$exists": None}}, {"a": 1}, False),
    ("$exists: '' is true", {"a": {"$exists": ""}}, {"a": 1}, True),
    ("$exists below some", {"a.b": {"$exists": True}}, {"a": [{}, {"b": 1}]}, True),
    ("no $exists below some", {"a.b": {"$exists": False}}, {"a": [{}, {"b": 1}]}, False),
    ("no $exists below a scalar", {"a.b": {"$exists": False}}, {"a": 1}, True),
    ("no $exists below an empty array", {"a.b": {"$exists": False}}, {"a": []}, True),
    ("index", {"a.1": 2}, {"a": [1, 2]}, True),
    ("index of a document", {"a.0": {"b": 1}}, {"a": [{"b": 1}]}, True),
    ("index does not spread twice", {"a.0": 1}, {"a": [[1, 2]]}, False),
    ("index then name", {"a.0.b": 1}, {"a": [{"b": 1}, {"b": 2}]}, True),
    ("number as a name", {"a.0": 1}, {"a": {"0": 1}}, True),
    ("number as a name in an array", {"a.0": 1}, {"a": [5, {"0": 1}]}, True),
    ("null at the index of a document", {"a.0": None}, {"a": [{"b": 1}]}, True),
    ("leading zero is no index", {"a.00": 1}, {"a": [1]}, False),
    ("nested arrays hide names", {"a.b": 1}, {"a": [[{"b": 1}]]}, False),
    ("index opens a nested array", {"a.0.b": 1}, {"a": [[{"b": 1}]]}, True),
    ("$ne asks every element", {"a": {"$ne": 1}}, {"a": [1, 2]}, False),
    ("$nin asks every element", {"a": {"$nin": ["x"]}}, {"a": ["x", "y"]}, False),
    ("$not of a range includes missing", {"a": {"$not": {"$gt": 1}}}, {}, True),
    ("$not of a pattern", {"a": {"$not": re.compile("^a")}}, {"a": "ba"}, True),
    ("$not of several", {"a": {"$not": {"$gt": 1, "$lt": 5}}}, {"a": 7}, True),
    ("$in a pattern", {"a": {"$in": [re.compile("^a"), 1]}}, {"a": "ab"}, True),
    ("$in nothing", {"a": {"$in": []}}, {"a": 1}, False),
    ("$in an array", {"a": {"$in": [[1]]}}, {"a": [1]}, True),
    ("$type by alias", {"a": {"$type": "string"}}, {"a": "x"}, True),
    ("$type on an element", {"a": {"$type": "string"}}, {"a": [1, "x"]}, True),
    ("$type array", {"a": {"$type": "array"}}, {"a": []}, True),
    ("$type number", {"a": {"$type": "number"}}, {"a": Decimal128("1")}, True),
    ("$type number is not bool", {"a": {"$type": "number"}}, {"a": True}, False),
    ("$type int", {"a": {"$type": "int"}}, {"a": 1}, True),
    ("$type int is not long", {"a": {"$type": "int"}}, {"a": Int64(1)}, False),
    ("$type long in a plain int", {"a": {"$type": "long"}}, {"a": 2**31}, True),
    ("$type list", {"a": {"$type": ["null", 9.0]}}, {"a": NOON}, True),
    ("$type of missing", {"a": {"$type": "null"}}, {}, False),
    ("$type of a reference", {"a": {"$type": "object"}}, {"a": DBRef("c", 1)}, True),
    ("$type of code with scope", {"a": {"$type": 15}}, {"a": Code("x", {})}, True),
    ("$type minKey", {"a": {"$type": -1}}, {"a": MinKey()}, True),
    ("$size", {"a": {"$size": 2.0}}, {"a": [1, 2]}, True),
    ("$size of no array", {"a": {"$size": 1}}, {"a": "x"}, False),
    ("$size does not spread", {"a": {"$size": 1}}, {"a": [[1], 2]}, False),
    ("$all", {"a": {"$all": [1, 2]}}, {"a": [2, 3, 1]}, True),
    ("$all of a scalar", {"a": {"$all": [1]}}, {"a": 1}, True),
    ("$all of nothing", {"a": {"$all": []}}, {"a": []}, False),
    ("$all of an array", {"a": {"$all": [[1, 2]]}}, {"a": [1, 2]}, True),
    (
        "$all with $elemMatch",
        {"a": {"$all": [{"$elemMatch": {"b": 1}}, {"$elemMatch": {"b": 2}}]}},
        {"a": [{"b": 1}, {"b": 2}]},
        True,
    ),
    (
        "$elemMatch binds one",
        {"a": {"$elemMatch": {"b": 1, "c": 2}}},
        {"a": [{"b": 1}, {"c": 2}]},
        False,
    ),
    ("$elemMatch of values", {"a": {"$elemMatch": {"$gt": 1, "$lt": 3}}}, {"a": [0, 2]}, True),
    ("$elemMatch and no array", {"a": {"$elemMatch": {"$gt": 1}}}, {"a": 2}, False),
    (
        "$elemMatch in nested arrays",
        {"a": {"$elemMatch": {"$elemMatch": {"$gt": 1}}}},
        {"a": [[2]]},
        True,
    ),
    ("$elemMatch by index", {"a": {"$elemMatch": {"0": 1}}}, {"a": [[1]]}, True),
    (
        "$elemMatch with $or",
        {"a": {"$elemMatch": {"$or": [{"b": 1}, {"b": 2}]}}},
        {"a": [{"b": 2}]},
        True,
    ),
    ("$elemMatch of anything", {"a": {"$elemMatch": {}}}, {"a": [{}]}, True),
    ("$elemMatch $not", {"a": {"$elemMatch": {"$not": {"$gt": 1}}}}, {"a": [2, 0]}, True),
    ("$mod", {"a": {"$mod": [4, 1]}}, {"a": 5.9}, True),
    ("$mod keeps the sign", {"a": {"$mod": [4, -1]}}, {"a": -5}, True),
    ("$mod cuts its operands", {"a": {"$mod": [4.7, 1.9]}}, {"a": 5}, True),
    ("$mod of infinity", {"a": {"$mod": [4, 0]}}, {"a": float("inf")}, False),
    ("pattern", {"a": re.compile("^a.c$")}, {"a": "abc"}, True),
    ("pattern on an element", {"a": re.compile("b")}, {"a": ["a", "b"]}, True),
    ("pattern on no string", {"a": re.compile("1")}, {"a": 1}, False),
    ("pattern with options", {"a": {"$regex": "ABC", "$options": "i"}}, {"a": "xabc"}, True),
    ("digits are ASCII", {"a": re.compile(r"\d")}, {"a": "٣"}, False),
    ("bson pattern", {"a": Regex("^a")}, {"a": "ab"}, True),
    ("pattern against another stored one", {"a": re.compile("a")}, {"a": Regex("b")}, False),
    ("pattern and code", {"a": re.compile("a")}, {"a": Code("a")}, False),
    ("string is not code", {"a": "a"}, {"a": Code("a")}, False),
    ("$ne string and code", {"a": {"$ne": "a"}}, {"a": Code("a")}, True),
    ("aware dates are converted", {"a": NOON.replace(tzinfo=timezone.utc)}, {"a": NOON}, True),
    ("dates have milliseconds", {"a": NOON + timedelta(microseconds=900)}, {"a": NOON}, True),
    (
        "stored aware dates",
        {"a": {"$gt": NOON}},
        {"a": NOON.replace(tzinfo=timezone(timedelta(hours=-1)))},
        True,
    ),
    ("dates as milliseconds", {"a": NOON}, {"a": DatetimeMS(1577880000000)}, True),
    ("dates and timestamps", {"a": {"$gt": NOON}}, {"a": Timestamp(2**31, 1)}, False),
    ("timestamps", {"a": {"$gt": Timestamp(1, 1)}}, {"a": Timestamp(1, 2)}, True),
    ("object ids", {"a": ID}, {"a": ObjectId(str(ID))}, True),
    ("binary subtypes", {"a": b"x"}, {"a": Binary(b"x", 5)}, False),
    ("binary order is by length", {"a": {"$lt": b"b"}}, {"a": b"aa"}, False),
    ("UUID and another subtype", {"a": Binary(b"x" * 16, 5)}, {"a": UUID(int=1)}, False),
    ("UUID and longer bytes", {"a": {"$lt": b"x" * 17}}, {"a": UUID(int=1)}, True),
    ("references differ", {"a": DBRef("c", 1)}, {"a": DBRef("c", 2)}, False),
    ("into a reference", {"a.$id": 1}, {"a": DBRef("c", 1)}, True),
    ("$and", {"$and": [{"a": 1}, {"b": 2}]}, {"a": 1}, False),
    ("$or", {"$or": [{"a": 1}, {"b": 2}]}, {"b": 2}, True),
    ("$nor", {"$nor": [{"a": 1}, {"b": 2}]}, {"b": 2}, False),
    ("$bitsAllClear and missing", {"a": {"$bitsAllClear": 1}}, {}, False),
    ("$not $bitsAnySet and missing", {"a": {"$not": {"$bitsAnySet": 1}}}, {"b": 1}, True),
    ("$bitsAllSet below a scalar", {"a.b": {"$bitsAllSet": 1}}, {"a": 1}, False),
    ("$geoWithin and missing", {"a": {"$geoWithin": {"$box": [[0, 0], [1, 1]]}}}, {}, False),
    ("$comment", {"a": 1, "$comment": "why"}, {"a": 1}, True),
    ("empty query", {}, {"a": 1}, True),
    ("operator names inside a constant", {"a": {"b": {"$gt": 1}}}, {"a": {"b": 5}}, False),
]


@pytest.mark.parametrize(
    ("query", "document", "expected"),
    [pytest.param(*case[1:], id=case[0]) for case in MATCHES],
)
def test_delicate_points(query: Raw, document: Raw, expected: bool) -> None:
    """The matcher gives the known answer."""
    assert expected is judge(query, document)


def test_the_server_confirms_the_delicate_points(database: Database[Raw]) -> None:
    """Every known answer is MongoDB's own."""
    database.t.insert_many([{**case[2], "_id": i} for i, case in enumerate(MATCHES)])

    for i, (name, query, _, expected) in enumerate(MATCHES):
        found = database.t.find_one({"$and": [{"_id": i}, query]})
        assert (name, expected) == (name, found is not None)


def test_a_decimal_of_more_than_34_digits_is_zero(database: Database[Raw]) -> None:
    """Such a significand, which PyMongo 4.9 does not even print, is zero, as it is to MongoDB."""
    too_long = Decimal128.from_bid(b"\xff" * 14 + b"\xed\x31")
    database.t.insert_one({"a": too_long})
    for query, expected in (({"a": {"$lte": 0}}, True), ({"$expr": "$a"}, False)):
        assert (database.t.count_documents(query) == 1) is expected
        assert judge(query, {"a": too_long}) is expected


UNKNOWN: list[tuple[str, Raw, Raw, bool]] = [
    ("$expr", {"$expr": {"$eq": [{"$abs": "$a"}, 1]}}, {"a": 1}, False),
    ("$jsonSchema", {"$jsonSchema": {"required": ["a"]}}, {"a": 1}, False),
    ("$where", {"$where": "this.a"}, {"a": 1}, False),
    ("$bitsAllSet", {"a": {"$bitsAllSet": 1}}, {"a": 1}, False),
    ("$near with $maxDistance", {"a": {"$near": [0, 0], "$maxDistance": 1}}, {"a": [0, 0]}, False),
    ("lookahead", {"a": {"$regex": "a(?=b)"}}, {"a": "ab"}, False),
    ("multiline", {"a": re.compile("^a", re.MULTILINE)}, {"a": "b\na"}, False),
    ("ignored case beyond ASCII", {"a": re.compile("k", re.IGNORECASE)}, {"a": "\u212a"}, True),
    ("stored pattern with the same text", {"a": re.compile("a")}, {"a": Regex("a")}, True),
    ("reference with the same fields", {"a": DBRef("c", 1)}, {"a": DBRef("c", 1)}, True),
    ("undefined may be null", {"a": {"$type": "undefined"}}, {"a": None}, True),
    ("symbol may be string", {"a": {"$type": "symbol"}}, {"a": "x"}, True),
    ("UUID bytes", {"a": Binary.from_uuid(UUID(int=1))}, {"a": UUID(int=1)}, True),
    (
        "double and its 34 digits",
        {"a": 0.1},
        {"a": Decimal128("0.1000000000000000055511151231257827")},
        True,
    ),
    ("no BSON in the document", {"a": 1}, {"a": ANY}, True),
    ("no BSON in an array", {"a": 1}, {"a": [2, ANY]}, True),
    ("no BSON in the query", {"a": ANY}, {"a": 1}, False),
    ("no BSON in $in", {"a": {"$in": ["x", ANY]}}, {"a": "y"}, False),
    ("below no BSON", {"a.b": {"$exists": True}}, {"a": ANY}, True),
    ("empty name in the path", {"a..b": 1}, {"a": 1}, False),
    ("one unknown side of $and", {"$and": [{"a": 1}, {"$where": "1"}]}, {"a": 1}, False),
    ("one unknown side of $or", {"$or": [{"a": 2}, {"$where": "1"}]}, {"a": 1}, False),
    ("one unknown side of $nor", {"$nor": [{"a": 2}, {"$where": "1"}]}, {"a": 1}, False),
]


@pytest.mark.parametrize(
    ("query", "document", "exact"), [pytest.param(*case[1:], id=case[0]) for case in UNKNOWN]
)
def test_unknown_is_never_guessed(query: Raw, document: Raw, exact: bool) -> None:
    """What the decoded document does not tell is unknown; only what never tells is inexact."""
    assert judge(query, document) is None
    assert compile_query(query).exact is exact


@pytest.mark.parametrize(
    ("query", "document", "expected"),
    [
        ({"$and": [{"a": 2}, {"$where": "1"}]}, {"a": 1}, False),
        ({"$or": [{"a": 1}, {"$where": "1"}]}, {"a": 1}, True),
        ({"$nor": [{"a": 1}, {"$where": "1"}]}, {"a": 1}, False),
        ({"a": {"$exists": True}}, {"a": ANY}, True),
        ({"a": {"$size": 1}}, {"a": [ANY]}, True),
        ({"a": {"$type": "array"}}, {"a": [ANY]}, True),
        ({"a": 1}, {"a": [ANY, 1]}, True),
    ],
)
def test_unknown_parts_do_not_hide_what_is_known(query: Raw, document: Raw, expected: bool) -> None:
    """A part that decides alone decides, whatever is unknown beside it."""
    assert judge(query, document) is expected


MALFORMED: list[tuple[Raw, str]] = [
    ({"$foo": 1}, r"\$foo"),
    ({"$not": {"a": 1}}, r"\$not"),
    ({"a": {"$foo": 1}}, r"'a': \$foo"),
    ({"a": {"$gt": 1, "b": 2}}, "'a': b .*operators only"),
    ({"a": {"$where": "1"}}, r"\$where"),
    ({"a": {"$comment": "x"}}, r"\$comment"),
    ({"$and": []}, r"\$and"),
    ({"$or": {"a": 1}}, r"\$or"),
    ({"$nor": [1]}, r"\$nor"),
    ({"a.b": {"$in": 1}}, r"'a\.b': \$in .*list"),
    ({"a": {"$in": [{"$gt": 1}]}}, r"\$in"),
    ({"a": {"$nin": {}}}, r"\$nin"),
    ({"a": {"$not": 1}}, r"\$not"),
    ({"a": {"$not": {}}}, r"\$not"),
    ({"a": {"$not": {"b": 1}}}, "b"),
    ({"a": {"$ne": re.compile("x")}}, r"\$ne"),
    ({"a": {"$gt": re.compile("x")}}, r"\$gt"),
    ({"a": {"$type": "strin"}}, "'strin'"),
    ({"a": {"$type": 0}}, r"\$type"),
    ({"a": {"$type": 2.5}}, r"\$type"),
    ({"a": {"$type": True}}, r"\$type"),
    ({"a": {"$type": []}}, r"\$type"),
    ({"a": {"$size": -1}}, r"\$size"),
    ({"a": {"$size": 1.5}}, r"\$size"),
    ({"a": {"$size": "1"}}, r"\$size"),
    ({"a": {"$size": True}}, r"\$size"),
    ({"a": {"$mod": [2]}}, r"\$mod"),
    ({"a": {"$mod": [2, 1, 0]}}, r"\$mod"),
    ({"a": {"$mod": [0.5, 1]}}, r"\$mod"),
    ({"a": {"$mod": [NAN, 1]}}, r"\$mod"),
    ({"a": {"$mod": [2, "1"]}}, r"\$mod"),
    ({"a": {"$mod": 2}}, r"\$mod"),
    ({"a": {"$all": 1}}, r"\$all"),
    ({"a": {"$all": [{"$gt": 1}]}}, r"\$all"),
    ({"a": {"$all": [{"$elemMatch": {"b": 1}}, 1]}}, r"\$all"),
    ({"a": {"$all": [1, {"$elemMatch": {"b": 1}}]}}, r"\$all"),
    ({"a": {"$elemMatch": 1}}, r"\$elemMatch"),
    ({"a": {"$elemMatch": {"$gt": 1, "b": 1}}}, "b"),
    ({"a": {"$elemMatch": {"b": 1, "$gt": 1}}}, r"\$gt"),
    ({"a": {"$elemMatch": {"$where": "1"}}}, r"\$where"),
    ({"a": {"$regex": 1}}, r"\$regex"),
    ({"a": {"$regex": "("}}, r"\$regex"),
    ({"a": {"$regex": "[a"}}, r"\$regex"),
    ({"a": {"$regex": "*a"}}, r"\$regex"),
    ({"a": {"$regex": "a**"}}, r"\$regex"),
    ({"a": {"$regex": "[b-a]"}}, r"\$regex"),
    ({"a": {"$regex": "a{2,1}"}}, r"\$regex"),
    ({"a": {"$regex": "a\\"}}, "backslash"),
    ({"a": {"$regex": "a\x00"}}, "null byte"),
    ({"a": {"$options": "i"}}, r"\$options"),
    ({"a": {"$regex": "x", "$options": "z"}}, "'z'"),
    ({"a": {"$regex": "x", "$options": 1}}, r"\$options"),
    ({"a": {"$regex": re.compile("x"), "$options": "i"}}, r"\$options"),
    ({"a": Regex("x", re.LOCALE)}, "LOCALE"),
    ({"a": 2**63}, "64 bits"),
    ({"a": {1: 2}}, "field name"),
    ({"a\x00b": 1}, "null byte"),
]


@pytest.mark.parametrize(
    ("query", "message"), [pytest.param(*case, id=str(case[0])) for case in MALFORMED]
)
def test_malformed_queries_are_refused(query: Raw, message: str) -> None:
    """A malformed query is a ValueError that names what is wrong."""
    with pytest.raises(ValueError, match=message):
        compile_query(query)


def test_the_server_refuses_what_is_malformed(database: Database[Raw]) -> None:
    """MongoDB, or PyMongo, refuses every query that the matcher refuses."""
    for query, _ in MALFORMED:
        with pytest.raises((OperationFailure, BSONError, OverflowError)):
            database.t.find_one(query)


def test_a_query_is_a_mapping() -> None:
    """Whatever is no mapping is refused."""
    with pytest.raises(ValueError, match="mapping"):
        compile_query([("a", 1)])  # type: ignore[arg-type]


def test_the_query_belongs_to_the_user() -> None:
    """Compiling changes nothing in the query, and later changes to it do not reach the matcher."""
    query: Raw = {"a": {"$in": [{"b": [1]}, "x"]}, "$or": [{"c": {"d": 1}}, {"c": None}]}
    before = copy.deepcopy(query)

    matcher = compile_query(query)
    assert before == query
    query["a"]["$in"][0]["b"].append(2)
    query["$or"].clear()

    assert before == matcher.query
    assert matcher.judge({"a": {"b": [1]}}) is True


@pytest.mark.parametrize("query", [{"a.b": 1}, {"a": {"b": 1}}, {"a": {"$elemMatch": {"b": 1}}}])
def test_documents_need_not_be_dicts(query: Raw) -> None:
    """A raw BSON document and a SON are judged as the dict they stand for."""
    inner = SON({"b": 1})
    document = SON({"a": [inner] if "$elemMatch" in str(query) else inner})

    assert judge(query, document) is True
    assert judge(query, RawBSONDocument(bson.encode(document))) is True


UP_TO_DATE: Raw = {
    "_cls": "New",
    "name": "x",
    "version": 3,
    "flag": True,
    "post": {"title": "t", "tags": ["a"], "size": 1},
    "list": [],
}
TARGETS: list[Raw] = [
    {"name": {"$exists": False}},
    {"old": {"$exists": True}},
    {"old": "x"},
    {"_cls": "Old"},
    {"_cls": {"$in": ["Old", "Older"]}},
    {"_cls": {"$ne": "New"}},
    {"_cls": {"$nin": ["New", "Newer"]}},
    {"version": 2},
    {"version": {"$lt": 3}},
    {"version": {"$lte": 2}},
    {"version": {"$gt": 3}},
    {"version": {"$gte": 4}},
    {"version": {"$not": {"$gte": 3}}},
    {"name": {"$lt": "a"}},
    {"name": None},
    {"name": {"$type": "object"}},
    {"name": {"$not": {"$type": "string"}}},
    {"flag": "yes"},
    {"name": {"$size": 1}},
    {"name": {"$elemMatch": {"x": 1}}},
    {"version": re.compile("3")},
    {"name": {"$mod": [2, 0]}},
    {"post.tags": {"$exists": False}},
    {"post.created": {"$exists": True}},
    {"post.title": {"$type": "object"}},
    {"post.title": "old"},
    {"post.size": {"$lt": 1}},
    {"post": {"$exists": True}, "post.tags": {"$exists": False}},
    {"name": {"$exists": False}, "_cls": {"$in": ["New", "Other"]}},
    {"$and": [{"_cls": "New"}, {"name": {"$exists": False}}]},
    {"$or": [{"name": {"$exists": False}}, {"old": {"$exists": True}}]},
    {"$nor": [{"name": {"$exists": True}}]},
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_screens_let_no_current_document_through(target: Raw) -> None:
    """For the usual targets, the screen alone drops every up-to-date document of a batch."""
    assert compile_query(target).screen([UP_TO_DATE] * 3) == []


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize(
    "stale",
    [
        {},
        {"name": None, "_cls": "Old", "version": 2, "old": "x", "post": {}},
        {"name": {}, "_cls": "Older", "version": 4, "flag": "yes", "post": [{"title": {}}]},
        {"name": [{"x": 1}], "version": "3", "old": 1, "post": {"title": "old", "created": 1}},
        {"name": "A", "version": 2.0, "post": {"size": 0.5, "title": ["old"]}, "flag": ["yes"]},
        {"name": 4, "version": Decimal128("2"), "post": 1, "_cls": ["Old"]},
        {"name": ANY, "version": ANY, "post": ANY, "flag": ANY, "_cls": ANY, "old": ANY},
        {"name": Code("x"), "version": NAN, "post": {"title": ANY}, "_cls": Code("New")},
    ],
    ids=["empty", "old", "older", "array", "number", "typed", "anything", "code"],
)
def test_screens_keep_the_places_of_the_rest(target: Raw, stale: Raw) -> None:
    """A screen gives the index of each document that may match, among others and alone."""
    matcher = compile_query(target)
    batch = [UP_TO_DATE, stale, UP_TO_DATE, stale]
    wanted = [] if matcher.judge(stale) is False else [1, 3]

    assert set(wanted) <= set(matcher.screen(batch)) <= {1, 3}
    assert bool(wanted) <= (matcher.screen([stale]) == [0])


def test_no_screen_of_nothing() -> None:
    """An empty batch gives no index, whatever the target."""
    assert all(compile_query(target).screen([]) == [] for target in TARGETS)


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ({}, set()),
        ({"a": 1, "b.c": {"$gt": 1}, "$comment": "x"}, {"a", "b.c"}),
        ({"$or": [{"a": 1}, {"$nor": [{"b": {"$not": {"$gt": 1}}}]}]}, {"a", "b"}),
        ({"a": {"$elemMatch": {"b": 1, "$or": [{"c.d": 1}]}}}, {"a", "a.b", "a.c.d"}),
        ({"a": {"$elemMatch": {"$gt": 1}}}, {"a"}),
        ({"a": {"$elemMatch": {"$elemMatch": {"b": 1}}}}, {"a", "a.b"}),
        ({"a": {"$all": [{"$elemMatch": {"b": 1}}]}}, {"a", "a.b"}),
        ({"a": {"$not": {"$elemMatch": {"b": 1}}}}, {"a", "a.b"}),
        ({"a": {"b": {"$gt": 1}}}, {"a"}),
        ({"$expr": {"$gt": ["$a.b", {"$literal": "$c"}]}}, {"a.b"}),
        ({"$expr": {"$eq": ["$$ROOT.a", "$$NOW"]}}, {"a"}),
        ({"$expr": {"$eq": ["$$ROOT", {}]}}, None),
        ({"$expr": {"$getField": "a"}}, None),
        ({"a": 1, "$where": "this.b"}, None),
        ({"$jsonSchema": {}}, None),
        ({"$and": [{"$text": {"$search": "x"}}]}, None),
    ],
)
def test_the_paths_that_a_query_reads(query: Raw, paths: set[str] | None) -> None:
    """Every path that a query reads is named, or the answer is that it cannot be told."""
    assert paths == query_paths(query)


# --- Against the server -----------------------------------------------------------------

DOCUMENTS, QUERIES = 20, 5
LONG = settings().max_examples > settings.get_profile("default").max_examples
EXAMPLES, AT_LEAST, LEFT_OPEN = (400, 20_000, 0.05) if LONG else (40, 2_000, 0.1)


@dataclass
class _Tally:
    """How many pairs were judged, and how many of them were left open."""

    pairs: int = 0
    unknown: int = 0


def _check_case(
    database: Database[Raw], documents: list[Raw], queries: list[Raw], tally: _Tally
) -> None:
    database.t.delete_many({})
    database.t.insert_many([{**document, "_id": i} for i, document in enumerate(documents)])
    stored = list(database.t.find().sort("_id", 1))
    for query in queries:
        expected = {found["_id"] for found in database.t.find(query, {"_id": 1})}
        matcher = compile_query(query)
        answers = [matcher.judge(document) for document in stored]
        wrong = [
            (query, stored[i], answer)
            for i, answer in enumerate(answers)
            if answer is not None and answer is not (i in expected)
        ]
        assert not wrong
        possible = {i for i, answer in enumerate(answers) if answer is not False}
        assert possible <= set(matcher.screen(stored))
        tally.pairs += len(answers)
        tally.unknown += answers.count(None)


def test_the_server_agrees(database: Database[Raw]) -> None:
    """Where the matcher answers, `find` answers the same, and it leaves few pairs open."""
    tally = _Tally()

    @settings(deadline=None, max_examples=EXAMPLES)
    @given(cases(documents=DOCUMENTS, queries=QUERIES))
    def check(case: tuple[list[Raw], list[Raw]]) -> None:
        _check_case(database, *case, tally)

    check()

    assert tally.pairs >= AT_LEAST
    assert tally.unknown <= tally.pairs * LEFT_OPEN
