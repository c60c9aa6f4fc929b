"""The types of the values that expressions give, as far as they follow from the expressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from lazymig.query.expressing import Expression
from lazymig.query.operators import is_expression
from lazymig.raw.values import TYPE_ALIASES, TYPE_NAMES, type_code

__all__ = [
    "ALL",
    "ARRAY",
    "CONVERSIONS",
    "CONVERTED",
    "NOTHING",
    "NULL_OF_NULL",
    "NUMBER",
    "OBJECT",
    "RESULTS",
    "STRICT",
    "STRING",
    "CannotTell",
    "Known",
    "Types",
    "arguments",
    "condition",
    "hiding",
    "is_path",
    "named",
    "operation",
    "refined",
    "types_of",
]


Types: TypeAlias = frozenset[str]
"""Aliases of `$type`, `missing` among them."""

Known: TypeAlias = Mapping[str, Types]
"""The types that the values of paths and variables have, where a condition around says it."""


class CannotTell(Exception):
    """There are documents for which the expression may raise, or give another value tomorrow."""


def _types(names: str) -> Types:
    return frozenset(names.split())


NOTHING: Final = _types("missing null undefined")
STRING: Final = _types("string")
ARRAY: Final = _types("array")
OBJECT: Final = _types("object")
_BOOL: Final = _types("bool")
NUMBER: Final = _types("int long double decimal")
ALL: Final = frozenset(TYPE_ALIASES) | {"missing"}


def types_of(expression: Expression, known: Known) -> Types:
    """Return the types that an expression may give."""
    if isinstance(expression, str) and expression.startswith("$"):
        return known.get(expression, _VARIABLES.get(expression, ALL))
    if isinstance(expression, (list, tuple)):
        return ARRAY
    if not isinstance(expression, Mapping):
        code = type_code(expression)
        return ALL if code is None else frozenset({TYPE_NAMES[code]})
    if not is_expression(expression):
        return OBJECT
    operator, argument = operation(expression)
    if operator == "$literal":
        code = type_code(argument)
        return ALL if code is None else frozenset({TYPE_NAMES[code]})
    if operator == "$cond":
        asked, then, otherwise = condition(argument)
        return types_of(then, refined(known, asked, holds=True)) | types_of(
            otherwise, refined(known, asked, holds=False)
        )
    if operator == "$ifNull":
        *tried, default = [types_of(one, known) for one in arguments(argument)]
        return frozenset().union(*(one - NOTHING for one in tried), default)
    if operator == "$let":
        variables, inner = named(argument, "vars", "in")
        given = {f"$${name}": types_of(one, known) for name, one in variables.items()}
        return types_of(inner, {**hiding(known, variables), **given})
    if operator in CONVERSIONS:
        return CONVERSIONS[operator] | {"null"}
    if operator in ("$setField", "$unsetField"):
        value, *_ = named(argument, "input", optional=("field", "value"))
        return OBJECT if types_of(value, known) <= OBJECT else _types("object null")
    if operator in ("$map", "$filter"):
        array, *_ = named(argument, "input", optional=("as", "in", "cond", "limit"))
        return ARRAY | {"null"} if types_of(array, known) & NOTHING else ARRAY
    row = STRICT.get(operator)
    if row is not None:
        of_nothing = any(types_of(one, known) & NOTHING for one in arguments(argument))
        return row[1] if of_nothing or "null" not in row[1] else row[1] - {"null"}
    return RESULTS.get(operator, ALL)


def refined(known: Known, condition: Expression, *, holds: bool) -> Known:
    """Return what is known besides where a condition holds, or does not."""
    if not is_expression(condition) or len(condition) != 1:
        return known
    ((operator, argument),) = condition.items()
    parts = arguments(argument)
    if operator == "$not" and len(parts) == 1:
        return refined(known, parts[0], holds=not holds)
    if operator == ("$and" if holds else "$or"):
        for part in parts:
            known = refined(known, part, holds=holds)
        return known
    found = _typed(operator, parts)
    if found is None:
        return known
    name, types, positive = found
    given = known.get(name, ALL)
    return {**known, name: given & types if positive is holds else given - types}


def _typed(operator: str, parts: Sequence[Any]) -> tuple[str, Types, bool] | None:
    """Return the path whose types a condition names, and whether it may have these or others."""
    if operator == "$isArray" and len(parts) == 1 and is_path(parts[0]):
        return parts[0], ARRAY, True
    if operator == "$isNumber" and len(parts) == 1 and is_path(parts[0]):
        return parts[0], NUMBER, True
    if operator not in ("$eq", "$ne", "$in") or len(parts) != 2:
        return None
    asked, wanted = parts
    if not isinstance(asked, Mapping) or asked.keys() != {"$type"}:
        return None
    (path,) = arguments(asked["$type"])
    names = wanted if operator == "$in" else [wanted]
    if not is_path(path) or not isinstance(names, list):
        return None
    if not all(isinstance(name, str) and not name.startswith("$") for name in names):
        return None
    return path, frozenset(names), operator != "$ne"


def hiding(known: Known, names: Any) -> dict[str, Types]:
    """What is known besides variables that get another value."""
    hidden = {f"$${name}" for name in names}
    return {path: types for path, types in known.items() if path.partition(".")[0] not in hidden}


def is_path(expression: Any) -> bool:
    """Return whether an expression is a path, or a variable, and no operator."""
    return isinstance(expression, str) and expression.startswith("$")


def operation(expression: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the operator of an expression, and its argument."""
    if len(expression) != 1:
        raise CannotTell
    ((operator, argument),) = expression.items()
    return operator, argument


def arguments(argument: Any) -> list[Any]:
    """Return the arguments of an operator that does not name them."""
    return list(argument) if isinstance(argument, (list, tuple)) else [argument]


def named(argument: Any, *names: str, optional: Sequence[str] = ()) -> list[Any]:
    """Return the arguments of an operator that names them."""
    if not isinstance(argument, Mapping) or not set(names) <= argument.keys():
        raise CannotTell
    if not argument.keys() <= {*names, *optional}:
        raise CannotTell
    return [argument.get(name) for name in (*names, *optional)]


def condition(argument: Any) -> list[Any]:
    """Return the condition of `$cond`, and its two branches."""
    if isinstance(argument, Mapping):
        return named(argument, "if", "then", "else")
    parts = arguments(argument)
    if len(parts) != 3:
        raise CannotTell
    return parts


_VARIABLES: Final[Mapping[str, Types]] = {
    "$$ROOT": OBJECT,
    "$$CURRENT": OBJECT,
    "$$REMOVE": frozenset({"missing"}),
}

CONVERSIONS: Final[Mapping[str, Types]] = {
    "$toInt": _types("int"),
    "$toLong": _types("long"),
    "$toDouble": _types("double"),
    "$toDecimal": _types("decimal"),
    "$toString": STRING,
    "$toBool": _BOOL,
    "$toDate": _types("date"),
    "$toObjectId": _types("objectId"),
}


def _strict() -> Iterator[tuple[str, tuple[Types, Types]]]:
    # The types that all arguments must have, and those of the result.
    for taken, given, operators in (
        (STRING | NOTHING, STRING | {"null"}, "$concat"),
        (STRING | NOTHING, STRING, "$toLower $toUpper"),
        (STRING, _types("int"), "$strLenCP $strLenBytes"),
        (ARRAY, _types("int"), "$size"),
        (ARRAY, _BOOL, "$anyElementTrue $allElementsTrue"),
        (ARRAY | NOTHING, ALL, "$first $last"),
        (ARRAY | NOTHING, ARRAY | {"null"}, "$concatArrays $reverseArray"),
        (OBJECT | NOTHING, ARRAY | {"null"}, "$objectToArray"),
        (OBJECT | NOTHING, OBJECT, "$mergeObjects"),
        (NUMBER | NOTHING, NUMBER | {"null"}, "$add $subtract $multiply $floor $ceil"),
    ):
        for operator in operators.split():
            yield operator, (taken, given)


STRICT: Final = dict(_strict())


def _results() -> Iterator[tuple[str, Types]]:
    # What expressions give that never give nothing; null is what most of them make of a missing
    # input. From the operators' reference in the MongoDB manual, checked on 6.0.
    for types, operators in (
        ("string", "$toLower $toUpper $type $substr $substrBytes $substrCP"),
        ("string null", "$concat $toString $trim $ltrim $rtrim $replaceOne $replaceAll"),
        ("string null", "$dateToString"),
        ("int", "$size $cmp $strcasecmp $strLenCP $strLenBytes"),
        ("int null", "$toInt $indexOfArray $indexOfBytes $indexOfCP $binarySize $bsonSize"),
        ("int null", "$year $month $week $dayOfMonth $dayOfWeek $dayOfYear $hour $minute $second"),
        ("int null", "$millisecond $isoWeek $isoDayOfWeek"),
        ("long null", "$toLong $isoWeekYear $dateDiff $tsSecond $tsIncrement"),
        ("double null", "$toDouble"),
        ("decimal null", "$toDecimal"),
        ("int long double decimal", "$sum"),
        ("double decimal null", "$avg"),
        ("int long double decimal null", "$multiply $divide $mod $abs $ceil $floor $round $trunc"),
        ("int long double decimal null", "$pow $exp $sqrt $ln $log $log10"),
        ("int long double decimal date null", "$add $subtract"),
        ("bool", "$eq $ne $gt $gte $lt $lte $and $or $not $in $isNumber $isArray $regexMatch"),
        ("bool", "$allElementsTrue $anyElementTrue $setEquals $setIsSubset"),
        ("bool null", "$toBool"),
        ("date null", "$toDate $dateFromString $dateFromParts $dateAdd $dateSubtract $dateTrunc"),
        ("objectId null", "$toObjectId"),
        ("object null", "$arrayToObject $dateToParts $regexFind"),
        ("array", "$range $regexFindAll"),
        ("array null", "$split $map $filter $concatArrays $setUnion $reverseArray $objectToArray"),
        ("array null", "$setDifference $setIntersection $slice $sortArray $zip"),
    ):
        for operator in operators.split():
            yield operator, _types(types)


RESULTS: Final = dict(_results())

# These give null for null and for nothing only; numbers and dates of the wrong kind are refused.
NULL_OF_NULL: Final = frozenset(
    {
        *("$concat", "$toString", "$trim", "$ltrim", "$rtrim", "$replaceOne", "$replaceAll"),
        *("$split", "$toInt", "$toLong", "$toDouble", "$toDecimal", "$toBool", "$toDate"),
        *("$toObjectId", "$multiply", "$divide", "$mod", "$abs", "$ceil", "$floor", "$round"),
        *("$trunc", "$add", "$subtract", "$pow", "$filter", "$concatArrays"),
        *("$reverseArray", "$objectToArray", "$arrayToObject", "$setUnion", "$setDifference"),
        *("$setIntersection", "$sortArray", "$year", "$month", "$dayOfMonth", "$hour"),
    }
)

# What `$convert` gives, by the name or the number of a type.
CONVERTED: Final[Mapping[Any, str]] = {
    key: name
    for name in ("double", "string", "objectId", "bool", "date", "int", "long", "decimal")
    for key in (name, TYPE_ALIASES[name])
}
