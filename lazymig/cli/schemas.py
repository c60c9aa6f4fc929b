"""JSON schemas of what commands write, derived from the annotations of the values."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from bson import ObjectId

from lazymig.raw.json_values import Bounds, JsonValue, json_fields

__all__ = ["schema_of", "schema_of_command"]

Schema = dict[str, Any]

# What JSON these become; a number of documents, of bytes or of a line is not below zero.
_PLAIN: Final[Mapping[Any, Schema]] = {
    Any: {"description": "a BSON value in canonical Extended JSON"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$"},
    float: {"type": "number"},
    int: {"type": "integer", "minimum": 0},
    NoneType: {"type": "null"},
    ObjectId: {"type": "string", "pattern": "^[0-9a-f]{24}$"},
    str: {"type": "string"},
}


def schema_of_command(name: str, result: Any) -> Schema:
    """Return the schema of the JSON that a command writes.

    :param name: the words that call it.
    :param result: the type of the value.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{name} --json",
        **schema_of(result),
    }


def schema_of(kind: Any) -> Schema:
    """Return the schema of the JSON of a type: a `JsonValue`, a `TypedDict`, or parts of them.

    A class that makes its JSON by itself says in the annotation of `to_dict` what that is.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _annotated(inner[0], kind.__metadata__[0])
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if is_typeddict(kind):
        return _object(get_type_hints(kind, include_extras=True), kind.__required_keys__)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, UnionType):
        return _one_of([schema_of(each) for each in inner])
    if origin is not None and issubclass(origin, Mapping):
        of_any = {} if inner[1] in (Any, object) else {"additionalProperties": schema_of(inner[1])}
        return {"type": "object", **of_any}
    if origin in (tuple, list):
        return {"type": "array", "items": schema_of(inner[0])}
    if issubclass(kind, JsonValue):
        return _object({key: hint for key, (_name, hint) in json_fields(kind).items()})
    return schema_of(get_type_hints(kind.to_dict, include_extras=True)["return"])


def _object(keys: Mapping[str, Any], required: frozenset[str] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": {key: schema_of(kind) for key, kind in keys.items()},
        "required": [key for key in keys if required is None or key in required],
        "additionalProperties": False,
    }


def _annotated(kind: Any, mark: Any) -> Schema:
    """An annotation gives bounds, or the names of the items of a tuple."""
    if isinstance(mark, Bounds):
        return {**schema_of(kind), **mark.schema}
    return _object(dict(zip(mark, get_args(kind), strict=True)))


def _one_of(options: list[Schema]) -> Schema:
    """What may be null, too, has one schema with two types; an object with keys has an own one."""
    first, *others = options
    if others == [_PLAIN[NoneType]] and "type" in first and "properties" not in first:
        return first | {"type": [first["type"], "null"]}
    return {"anyOf": options}
