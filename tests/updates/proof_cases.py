"""Rules as chance makes them, with the documents that each rule's own target demands.

All is drawn from one `random.Random`: a seed says it all, and thousands of rules take a second.
"""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from enum import Enum
from random import Random
from typing import Any, NamedTuple

from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp

from lazymig import each
from lazymig.raw.encoding import ANY_VALUE
from lazymig.updates.each import Each

Raw = dict[str, Any]


class Rule(NamedTuple):
    """A target, and an update with its array filters."""

    target: Raw
    update: Any
    array_filters: list[Raw] | None = None


class Colour(str, Enum):
    """Text with a name."""

    RED = "red"
    X = "x"


NOON = datetime(2020, 1, 1, 12)
ID = ObjectId("5f0000000000000000000001")
SCALARS: list[Any] = [
    *(None, None, 0, 1, 1, 2, 3, -1, 1.0, 2.5, True, False, "", "x", "x", "1", "a b", "2020-01-01"),
    *(Int64(1), Decimal128("1"), Decimal128("2.5"), NOON, ID, b"x", Binary(b"x", 5)),
    *(uuid.UUID(int=1), uuid.UUID(int=2), Colour.RED, Colour.X, Timestamp(1, 1)),
    *(float("nan"), 2**40, NOON.replace(tzinfo=timezone.utc, microsecond=1400)),
]
EXTREMES: list[Any] = [MinKey(), MaxKey(), Regex("^x"), re.compile("x")]
# Flat ones, parents of others, and one that holds a list of sub-documents.
PATHS = ["a", "a", "b", "d", "d.x", "d.x", "d.y", "d.x.z", "i", "i.q", "i.r.s", "t", "d.0", "t.0"]
POSITIONAL = ["i.$[].q", "i.$[].r.s", "t.$[]", "i.$[]", "i.$[].q.$[]", "d.$[].x", "d.x.$[].z"]
FILTERED = ["i.$[e].q", "i.$[e].r", "i.$[e].r.s", "t.$[e]", "d.$[e].x", "i.$[e]", "i.$[].q.$[e]"]
TYPES = ["null", "string", "int", "long", "double", "decimal", "number", "bool", "object", "array"]
TYPES += ["date", "objectId", "binData", "timestamp", "regex"]

# Expressions of one argument.
UNARY = [
    *("$toString", "$toInt", "$toLong", "$toDouble", "$toDecimal", "$toBool", "$toDate"),
    *("$toObjectId", "$toLower", "$toUpper", "$type", "$isArray", "$isNumber", "$abs"),
    *("$ceil", "$floor", "$round", "$trunc", "$year", "$size", "$first", "$last", "$reverseArray"),
    *("$strLenCP", "$objectToArray", "$arrayToObject", "$not", "$sum", "$avg", "$min"),
    *("$max", "$mergeObjects", "$exp", "$sqrt", "$allElementsTrue", "$literal", "$hour"),
    *("$dayOfWeek", "$binarySize", "$bsonSize", "$dateToParts", "$dateToString", "$tsSecond"),
]


class Chance:
    """Draws parts of rules and documents."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def one(self, choices: Any) -> Any:
        """Draw one of some values."""
        return self.random.choice(choices)

    def odds(self, share: float) -> bool:
        """Say yes in this share of cases."""
        return self.random.random() < share

    def some(self, draw: Callable[[], Any], least: int = 0, most: int = 3) -> list[Any]:
        """Draw several times."""
        return [draw() for _ in range(self.random.randint(least, most))]

    # --- Values -------------------------------------------------------------------------

    def scalar(self) -> Any:
        """Draw a value that is no container."""
        return self.one(EXTREMES) if self.odds(0.03) else self.one(SCALARS)

    def value(self, depth: int = 2) -> Any:
        """Draw a value, which may be a container."""
        roll = self.random.random()
        if depth == 0 or roll < 0.6:
            return self.scalar()
        if roll < 0.8:
            return self.some(lambda: self.value(depth - 1))
        return self.record(depth - 1)

    def record(self, depth: int = 1) -> Raw:
        """Draw a sub-document."""
        names = self.random.sample(["x", "y", "z", "q", "r", "s", "0"], self.random.randint(0, 2))
        return {name: self.value(depth) for name in names}

    def unknown(self) -> Any:
        """Draw a value that is not known before the rule runs, or one that holds it."""
        return self.one(
            [ANY_VALUE, ANY_VALUE, {"x": ANY_VALUE}, [ANY_VALUE], {"q": 1, "r": ANY_VALUE}]
        )

    def concrete(self, value: Any) -> Any:
        """Put values in the place of what is not known."""
        if value is ANY_VALUE:
            return self.value()
        if isinstance(value, dict):
            return {name: self.concrete(item) for name, item in value.items()}
        return [self.concrete(item) for item in value] if isinstance(value, list) else value

    # --- Targets ------------------------------------------------------------------------

    def operator(self, comparand: Callable[[], Any]) -> Raw:
        """Draw one operator with its operand."""
        roll = self.random.randrange(13)
        if roll < 3:
            return {"$exists": self.odds(0.5)}
        if roll < 6:
            types = self.one(TYPES) if self.odds(0.8) else self.random.sample(TYPES, 2)
            return {"$type": types}
        if roll < 9:
            return {self.one(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]): comparable(comparand())}
        if roll < 11:
            return {self.one(["$in", "$nin", "$all"]): self.some(comparand, 0 if roll == 9 else 1)}
        if roll == 11:
            return self.one([{"$size": 0}, {"$size": 1}, {"$regex": "^x"}, {"$mod": [2, 0]}])
        return {"$elemMatch": self.element_condition()}

    def element_condition(self) -> Raw:
        """Draw what `$elemMatch` asks of an element."""
        if self.odds(0.3):
            return self.operator(self.scalar)
        paths = self.random.sample(["q", "r", "r.s", "x"], self.random.randint(1, 2))
        return {path: self.condition(depth=1) for path in paths}

    def condition(self, depth: int = 2) -> Any:
        """Draw what stands behind a path."""
        roll = self.random.random()
        if roll < 0.25:
            return self.value(depth)
        if roll < 0.45:
            return {"$not": self.operator(self.scalar)}
        if roll < 0.55:
            return {**self.operator(self.scalar), **self.operator(self.scalar)}
        return self.operator(lambda: self.value(depth))

    def target(self, paths: list[str]) -> Raw:
        """Draw a query, most of whose conditions are on these paths."""
        near = [*paths, *paths, *(path.rpartition(".")[0] or path for path in paths)]
        near += [f"{self.one(paths)}.{self.one(['x', 'q', '0'])}", self.one(PATHS)]

        def leaf() -> Raw:
            return {self.one(near): self.condition()}

        roll = self.random.random()
        if roll < 0.55:
            return {self.one(paths): self.condition()}
        if roll < 0.75:
            return {**leaf(), **leaf()}
        if roll < 0.8:
            return leaf()
        inner = [
            leaf() if self.odds(0.7) else {"$or": [leaf(), leaf()]}
            for _ in range(self.random.randint(1, 2))
        ]
        return {self.one(["$and", "$or", "$nor"]): inner}

    # --- Updates of operators -----------------------------------------------------------

    def operators(self) -> tuple[Raw, list[Raw] | None]:
        """Draw an update of one to three operators, with the array filters that it needs."""
        update: Raw = {}
        for _ in range(self.one([1, 1, 1, 2, 3])):
            name, path, value = self.operation()
            update.setdefault(name, {})[path] = value
        identified = any("$[e]" in path for fields in update.values() for path in fields)
        return update, [self.array_filter()] if identified else None

    def array_filter(self) -> Raw:
        """Draw the condition that `$[e]` stands for."""
        if self.odds(0.3):
            return {"e": self.operator(self.scalar) if self.odds(0.7) else self.scalar()}
        names = self.random.sample(["q", "r", "r.s"], self.random.randint(1, 2))
        return {f"e.{name}": self.condition(depth=1) for name in names}

    def operation(self) -> tuple[str, str, Any]:
        """Draw operator, path and operand."""
        path = self.one(PATHS)
        roll = self.random.randrange(40)
        if roll < 10:
            if self.odds(0.25):
                path = self.one(POSITIONAL + FILTERED)
            return "$set", path, self.unknown() if self.odds(0.1) else self.value()
        if roll < 15:
            if self.odds(0.25):
                path = self.one(POSITIONAL + FILTERED)
            return "$unset", path, ""
        if roll < 19:
            return "$rename", path, self.one(["b", "e", "d.y", "d.w", "g.h", "a", "d.x.w"])
        if roll < 27:
            if self.odds(0.2):
                path = self.one(POSITIONAL + FILTERED)
            number = self.one([1, 2, -1, 0.5, Int64(2), Decimal128("1"), 0])
            choices: list[tuple[str, Any]] = [
                ("$inc", number),
                ("$mul", number),
                ("$min", self.value(1)),
                ("$max", self.value(1)),
                ("$bit", {self.one(["or", "and", "xor"]): self.one([3, Int64(5)])}),
                ("$currentDate", self.one([True, {"$type": "timestamp"}, {"$type": "date"}])),
            ]
            name, operand = self.one(choices)
            return name, path, operand
        if self.odds(0.2):
            path = self.one(POSITIONAL)
        if roll < 32:
            return self.one(["$push", "$addToSet"]), path, self.pushed()
        if roll < 36:
            return "$pull", path, self.pulled()
        if roll < 38:
            return "$pullAll", path, self.some(lambda: self.value(1), 1)
        if roll < 39:
            return "$pop", path, self.one([1, -1])
        return "$setOnInsert", path, self.value()

    def pushed(self) -> Any:
        """Draw the operand of `$push` or `$addToSet`."""
        if self.odds(0.4):
            return self.value()
        modifiers: Raw = {"$each": self.some(lambda: self.value(1))}
        for name, operand in (("$slice", self.one([0, 1, -1])), ("$position", 0), ("$sort", 1)):
            if self.odds(0.2):
                modifiers[name] = operand
        return modifiers

    def pulled(self) -> Any:
        """Draw the operand of `$pull`."""
        if self.odds(0.3):
            return self.scalar()
        return self.element_condition() if self.odds(0.6) else self.operator(self.scalar)

    # --- Pipelines ----------------------------------------------------------------------

    def pipeline(self) -> list[Raw]:
        """Draw one to three stages."""
        return self.some(self.stage, 1, 3) if self.odds(0.4) else [self.stage()]

    def stage(self) -> Raw:
        """Draw a stage."""
        roll = self.random.random()
        path = self.one([path for path in PATHS if not path.endswith("0")])
        if roll < 0.72:
            fields = {path: self.expression()}
            if self.odds(0.25):
                fields[self.one(["b", "e", "d.w", "t"])] = self.expression()
            return {self.one(["$set", "$set", "$addFields"]): fields}
        if roll < 0.86:
            return {"$unset": path if self.odds(0.7) else [path, "b"]}
        if roll < 0.93:
            shown = {path: self.one([0, 0, 1])}
            return {"$project": shown if self.odds(0.7) else {"d": {"x": 0}}}
        root = self.one(
            [
                {"$mergeObjects": ["$$ROOT", {"b": self.expression(1)}]},
                {"$mergeObjects": [{"a": 1}, "$$ROOT"]},
                {"$mergeObjects": [{"_id": "$_id"}, "$d"]},
                {"_id": "$_id", "a": self.expression(1)},
                "$$ROOT",
            ]
        )
        return {"$replaceWith": root} if self.odds(0.5) else {"$replaceRoot": {"newRoot": root}}

    def field(self) -> str:
        """Draw a path as expressions name it."""
        return "$" + self.one(["a", "b", "d", "d.x", "d.x.z", "i", "i.q", "i.r.s", "t", "none"])

    def plain(self) -> Any:
        """Draw a constant as an expression."""
        value = self.one([value for value in SCALARS if value != ""])
        return {"$literal": self.value()} if self.odds(0.2) else value

    def expression(self, depth: int = 2) -> Any:
        """Draw an expression."""
        if depth == 0 or self.odds(0.35):
            roll = self.random.random()
            if roll < 0.4:
                return self.field()
            return self.one(["$$REMOVE", "$$NOW", "$$ROOT"]) if roll < 0.5 else self.plain()

        def inner() -> Any:
            return self.expression(depth - 1)

        def names() -> Raw:
            chosen = self.random.sample(["x", "y", "z", "q"], self.random.randint(1, 2))
            return {name: inner() for name in chosen}

        field = self.field()
        listed = {"input": field, "as": "e"}
        made: list[Callable[[], Any]] = [
            *[names] * 6,
            lambda: {"x": {"y": inner()}},
            lambda: {"x.z": inner()},
            lambda: self.some(inner, 0, 2),
            lambda: {"$cond": [inner(), inner(), inner()]},
            lambda: {"$cond": {"if": {"$isArray": field}, "then": inner(), "else": inner()}},
            lambda: {"$cond": [{"$eq": [{"$type": field}, "missing"]}, inner(), field]},
            lambda: {"$switch": {"branches": [{"case": inner(), "then": inner()}]}},
            lambda: {
                "$switch": {"branches": [{"case": inner(), "then": inner()}], "default": inner()}
            },
            lambda: {"$ifNull": self.some(inner, 2, 3)},
            lambda: {"$ifNull": [field, inner()]},
            lambda: {"$map": {**listed, "in": self.one(["$$e", {"x": "$$e"}, "$$e.q", inner()])}},
            *[lambda: self.mapped(field, inner)] * 4,
            lambda: {"$filter": {**listed, "cond": {"$ne": ["$$e", 1]}}},
            lambda: {
                "$reduce": {
                    "input": field,
                    "initialValue": inner(),
                    "in": self.one(["$$this", "$$value", {"$add": ["$$value", "$$this"]}, inner()]),
                }
            },
            lambda: {"$concat": self.some(inner, 1, 2)},
            lambda: {"$concatArrays": [field, [inner()]]},
            *[lambda: {self.one(UNARY): self.one([field, field, inner()])}] * 6,
            lambda: {
                "$convert": {"input": field, "to": self.one(["int", "string", "date", "bool"])}
            },
            lambda: {
                "$convert": {
                    "input": field,
                    "to": self.one(["int", "double", "objectId"]),
                    "onError": inner(),
                    "onNull": inner(),
                }
            },
            lambda: {"$dateFromString": {"dateString": field}},
            lambda: {"$dateFromString": {"dateString": field, "onError": inner(), "onNull": 1}},
            lambda: {"$dateToString": {"date": field, "format": "%Y"}},
            lambda: {"$dateFromParts": {"year": inner()}},
            lambda: {"$dateAdd": {"startDate": field, "unit": "day", "amount": 1}},
            lambda: {"$dateTrunc": {"date": field, "unit": "day"}},
            lambda: {
                self.one(["$add", "$multiply", "$subtract", "$divide", "$mod", "$pow"]): [
                    self.one([field, inner()]),
                    self.one([1, 2, inner()]),
                ]
            },
            lambda: {
                self.one(
                    [
                        "$eq",
                        "$ne",
                        "$gt",
                        "$lt",
                        "$cmp",
                        "$and",
                        "$or",
                        "$setUnion",
                        "$setIntersection",
                        "$setDifference",
                        "$in",
                        "$sum",
                        "$max",
                        "$min",
                        "$avg",
                        "$mergeObjects",
                    ]
                ): [inner(), inner()]
            },
            *[
                lambda: {
                    self.one(
                        ["$round", "$trunc", "$abs", "$add", "$multiply", "$divide", "$mod"]
                    ): [
                        {"$toDecimal": field},
                        *self.some(inner, 0, 1),
                    ]
                }
            ]
            * 2,
            lambda: {"$arrayElemAt": [field, self.one([0, -1])]},
            lambda: {"$slice": [field, 1]},
            lambda: {"$split": [inner(), " "]},
            lambda: {"$substrCP": [field, 0, 1]},
            lambda: {"$trim": {"input": inner()}},
            lambda: {"$replaceAll": {"input": inner(), "find": "x", "replacement": "y"}},
            lambda: {"$regexMatch": {"input": inner(), "regex": "x"}},
            lambda: {"$regexFind": {"input": inner(), "regex": "x"}},
            lambda: {"$regexFindAll": {"input": inner(), "regex": "x"}},
            lambda: {"$indexOfArray": [field, 1]},
            lambda: {"$indexOfCP": [inner(), "x"]},
            lambda: {"$range": [0, self.one([2, inner()])]},
            lambda: {"$zip": {"inputs": [field, [1]]}},
            lambda: {"$arrayToObject": [[{"k": "x", "v": inner()}]]},
            lambda: {"$arrayToObject": {"$objectToArray": field}},
            lambda: {"$mergeObjects": [field, names()]},
            lambda: {"$let": {"vars": {"v": inner()}, "in": self.one(["$$v", "$$v.x", inner()])}},
            lambda: {"$getField": self.one(["a", "d"])},
            lambda: {"$getField": {"field": "x", "input": self.one(["$d", inner()])}},
            lambda: {"$setField": {"field": "x", "input": field, "value": inner()}},
            lambda: {"$unsetField": {"field": "x", "input": field}},
            lambda: {"$literal": self.value()},
            lambda: {"$sortArray": {"input": field, "sortBy": 1}},
        ]
        return self.one(made)()

    def mapped(self, field: str, inner: Callable[[], Any]) -> Any:
        """Draw what is written for the items of an embedded list."""
        merged: list[Any] = ["$$e"]
        for name in self.random.sample(["q", "r", "x"], self.random.randint(0, 2)):
            merged = [{"$unsetField": {"field": name, "input": merged[0]}}]
        if self.odds(0.25):
            merged = [{"$arrayToObject": [self.entries(merged[0])]}]
        for _ in range(self.random.randint(0, 2)):
            value = self.one(["$$e.q", "$$e.r", "$$REMOVE", 1, {"$literal": "x"}, inner()])
            merged.append({self.one(["q", "r", "s"]): value})
        if self.odds(0.2):
            merged.append(self.one(["$$e", field, {"$literal": {"q": 1}}]))
        made = {"$mergeObjects": merged} if self.odds(0.8) else merged[-1]
        if self.odds(0.15):
            made = {"$setField": {"field": "q", "input": made, "value": inner()}}
        if self.odds(0.2):
            made = {"$cond": [{"$eq": [{"$type": "$$e"}, "object"]}, made, "$$e"]}
        mapped = {"$map": {"input": field, "as": "e", "in": made}}
        return {"$cond": [{"$isArray": field}, mapped, field]} if self.odds(0.5) else mapped

    def entries(self, fields: Any) -> Any:
        """Draw what leaves out fields by their names."""
        key, names = "$$f.k", self.random.sample(["q", "r", "s", "x"], 2)
        leaving_out = [
            {"$ne": [key, names[0]]},
            {"$not": [{"$eq": [names[0], key]}]},
            {"$not": {"$in": [key, names]}},
            {"$not": [{"$regexMatch": {"input": key, "regex": rf"\A(?:{'|'.join(names)})\z"}}]},
        ]
        keeping = [{"$in": [key, names]}, {"$eq": [key, "q"]}, {"$ne": ["$$f.v", "x"]}, True]
        condition = self.one([*leaving_out, *leaving_out, *keeping])
        if self.odds(0.3):
            condition = {self.one(["$and", "$and", "$or"]): [condition, self.one(keeping)]}
        filtered = {"input": {"$objectToArray": fields}, "as": "f", "cond": condition}
        if self.odds(0.5):
            return {"$filter": filtered}
        renamed = {"k": self.one(["$$f.k", "$$f.k", "q"]), "v": self.one(["$$f.v", 1])}
        return {"$map": {"input": {"$filter": filtered}, "as": "f", "in": renamed}}

    def items(self) -> Each:
        """Draw an update of the items of a list."""
        names = self.random.sample(["q", "r", "s", "x"], 3)
        given: dict[str, Any] = self.one(
            [
                {"rename": {names[0]: names[1]}},
                {"unset": names[:2]},
                {"add": {names[0]: self.plain()}},
                {"set": {names[0]: self.plain()}, "where": {names[0]: self.one([1, "x", None])}},
                {
                    "set": {names[0]: {"$toString": f"$$this.{names[0]}"}},
                    "where": {names[0]: {"$type": self.one(["int", "number", "array"])}},
                },
                {"unset": names[:1], "where": {names[1]: {"$exists": True}}},
            ]
        )
        return each(self.one(["i", "i", "t", "d.x", "a"]), **given)

    # --- Rules and the documents for them -----------------------------------------------

    def rule(self) -> Rule:
        """Draw a rule; mostly the target asks for what the update writes."""
        update: Any
        filters = None
        if self.odds(0.1):
            update = self.items()
            if self.odds(0.4):
                extra = self.target([update.change.path]) if self.odds(0.3) else {}
                return Rule({**update.target, **extra}, update)
            element = {"$elemMatch": self.element_condition()}
            return Rule({update.change.path: element}, update)
        if self.odds(0.5):
            update, filters = self.operators()
        else:
            update = self.pipeline()
        paths = sorted(set(_named(update))) or PATHS
        if filters and self.odds(0.5):
            key, condition = next(iter(filters[0].items()))
            name = key.partition(".")[2]
            holder = next(path for path in _texts(update) if "$[e]" in path).partition(".$[")[0]
            asked = {name: condition} if name else condition
            if isinstance(asked, dict):
                return Rule({holder: {"$elemMatch": asked}}, update, filters)
        return Rule(self.target(paths), update, filters)

    def documents(self, rule: Rule, count: int) -> list[Raw]:
        """Draw documents that meet a rule: with what its target asks for, in unusual places too."""
        wishes: dict[str, list[Any]] = {}
        for path, condition in _conditions(rule.target, ""):
            wishes.setdefault(path, []).append(condition)
        paths = {*wishes, *_named(rule.update)}
        constants = [value for value in _constants(rule) if not isinstance(value, dict)]
        return [self.document(paths, wishes, constants) for _ in range(count)]

    def document(self, paths: set[str], wishes: Raw, constants: list[Any]) -> Raw:
        """Draw one document."""
        document: Raw = {}
        for path in sorted(paths, key=lambda path: (self.random.random(), path)):
            if self.odds(0.85):
                conditions = wishes.get(path)
                value = self.demanded(self.one(conditions)) if conditions else self.value()
                if constants and self.odds(0.15):
                    value = self.one(constants)
                if self.odds(0.12):
                    value = self.wrapped(value)
                if value is not _ABSENT:
                    value = copy.deepcopy(value)
                self.put(document, path.split("."), value)
        return document

    def put(self, holder: Raw, names: list[str], value: Any) -> None:
        """Put a value at a path, most often through sub-documents."""
        name, rest = names[0], names[1:]
        if not rest:
            if value is not _ABSENT:
                holder[name] = value
            else:
                holder.pop(name, None)
            return
        there = holder.get(name)
        if isinstance(there, dict):
            if self.odds(0.9):
                self.put(there, rest, value)
            return
        if isinstance(there, list) and self.odds(0.7):
            for element in there:
                if isinstance(element, dict):
                    self.put(element, rest, value)
            return
        roll = self.random.random()
        if roll < 0.1:
            holder[name] = self.scalar()
            return
        if rest[0].isdecimal() and roll < 0.7:
            element: Any = value
            if len(rest) > 1:
                element = {}
                self.put(element, rest[1:], value)
            holder[name] = [] if element is _ABSENT else [element, *self.some(self.value, 0, 1)]
            return
        inner: Raw = {}
        self.put(inner, rest, value)
        if name in ("i", "t") or roll > 0.75:
            others = self.some(
                lambda: self.one([{}, {"q": 1}, 5, None, [{"q": 1}], {"r": {}}]), 0, 2
            )
            holder[name] = (
                [inner, *others] if self.odds(0.85) else self.one([[], [[inner]], others])
            )
        else:
            holder[name] = inner

    def wrapped(self, value: Any) -> Any:
        """Put a value into an array, or into a sub-document."""
        if value is _ABSENT:
            return self.one([[], None, {}, [[]], [None], [{}]])
        return self.one(
            [[value], [value, 1], [[value]], {"x": value}, [{"x": value}], [{"q": value}]]
        )

    def demanded(self, condition: Any) -> Any:
        """Draw a value for which a condition is likely to hold."""
        if not (isinstance(condition, dict) and condition and next(iter(condition))[:1] == "$"):
            if isinstance(condition, (re.Pattern, Regex)):
                return "xx"
            return condition if self.odds(0.8) else self.wrapped(condition)
        operator = self.one(list(condition))
        operand = condition[operator]
        if operator == "$not":
            return self.value() if self.odds(0.7) else _ABSENT
        if operator == "$exists":
            if not operand and self.odds(0.8):
                return _ABSENT
            return self.one([self.value(), [], {}, None, [[]]])
        if operator == "$type":
            name = self.one(operand) if isinstance(operand, list) else operand
            sample = self.of_type(name)
            return sample if self.odds(0.75) else self.wrapped(sample)
        if operator in ("$in", "$all"):
            return (self.one(operand) if operator == "$in" else list(operand)) if operand else 1
        if operator in ("$gt", "$gte", "$lt", "$lte", "$eq"):
            if operator == "$eq" or self.odds(0.3):
                return operand
            near = [*SCALARS, *EXTREMES, [], {}, [1], {"x": 1}]
            return self.one([one for one in near if type(one) is type(operand)] or near)
        if operator == "$size":
            return self.some(self.value, operand, operand)
        if operator == "$elemMatch":
            element = self.element(operand)
            return [element, *self.some(lambda: self.value(1), 0, 1)]
        return self.one([2, 4, "x", "xx", ["x"], [2], self.value()])

    def element(self, operand: Raw) -> Any:
        """Draw an element for which the operand of an `$elemMatch` is likely to hold."""
        if next(iter(operand), "").startswith("$"):
            value = self.demanded(operand)
            return 1 if value is _ABSENT else value
        inner: Raw = {}
        for path, condition in operand.items():
            self.put(inner, path.split("."), self.demanded(condition))
        return [inner] if self.odds(0.07) else inner

    def of_type(self, name: str) -> Any:
        """Draw a value of a BSON type."""
        if name == "array":
            kinds = [[], [1], ["x"], [{}], [{"x": 1}, {"q": 1}], [[1]], [None], [30.0, 40.0], [[]]]
            return self.one([*kinds, self.some(self.value)])
        if name == "object":
            return self.one([{}, {"x": 1}, {"q": [1]}, {"x": {"z": 1}}, self.record()])
        if name == "regex":
            return Regex("^x")
        kinds = {
            "null": [None],
            "string": ["x", "1", "", Colour.RED],
            "int": [0, 1, 2],
            "long": [Int64(1), 2**40],
            "double": [1.0, 2.5, float("nan")],
            "decimal": [Decimal128("1"), Decimal128("2.5")],
            "number": [1, 1.0, Int64(2)],
            "bool": [True, False],
            "date": [NOON],
            "objectId": [ID],
            "binData": [b"x", uuid.UUID(int=1), Binary(b"x", 5)],
            "timestamp": [Timestamp(1, 1)],
        }[name]
        return self.one(kinds)


class _Absent:
    """Nothing is put at the path."""


_ABSENT = _Absent()


def comparable(value: Any) -> Any:
    """Return what can be compared: no pattern."""
    return "x" if isinstance(value, (re.Pattern, Regex)) else value


def _texts(update: Any) -> Iterator[str]:
    for fields in update.values():
        yield from fields


def _named(update: Any) -> Iterator[str]:
    """Yield the paths that an update names as written, without positional components."""
    if isinstance(update, dict):
        for operator, fields in update.items():
            for path, value in fields.items():
                yield ".".join(part for part in path.split(".") if part[0] != "$")
                if operator == "$rename":
                    yield value
        return
    for stage in update:
        ((name, value),) = stage.items()
        if name == "$unset":
            yield from [value] if isinstance(value, str) else value
        elif name in ("$set", "$addFields", "$project"):
            yield from value
        else:
            yield from ("a", "b")


def _conditions(query: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in query.items():
        if name in ("$and", "$or", "$nor"):
            for part in value:
                yield from _conditions(part, prefix)
        elif not name.startswith("$"):
            yield prefix + name, value


def _constants(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _constants(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _constants(inner)
    elif not (isinstance(value, str) and value.startswith("$")):
        yield value
