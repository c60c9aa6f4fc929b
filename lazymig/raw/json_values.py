"""Values whose JSON has their fields as keys. Their annotations say what JSON they become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from functools import cache, partial
from types import UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from bson import ObjectId

from lazymig.raw.differences import extended_json

__all__ = ["NOT_IN_JSON", "Bounds", "JsonValue", "in_json", "json_fields", "time_in_json"]

NOT_IN_JSON: Final[Mapping[Any, Any]] = {"json": None}
"""The metadata of a field that is no key of the JSON; `{"json": name}` gives it another key."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least and the largest number, for an annotation: `Annotated[float, Bounds(0, 1)]`."""

    minimum: float
    maximum: float | None = None

    @property
    def schema(self) -> dict[str, float]:
        """The keys of a JSON schema."""
        more = {} if self.maximum is None else {"maximum": self.maximum}
        return {"minimum": self.minimum, **more}


class JsonValue:
    """A frozen dataclass that turns into JSON's types, field by field.

    What is annotated as `Any`, or as a mapping of `Any`, is stored data: it becomes canonical
    Extended JSON, which `bson.json_util.loads` reads. Times become ISO 8601, UTC. A tuple that is
    annotated with names, `Annotated[tuple[str, int], ("value", "count")]`, becomes an object.

    :cvar derived: properties that are keys of the JSON, too; they come first.
    """

    __slots__ = ()

    derived: ClassVar[tuple[str, ...]] = ()

    def to_dict(self) -> dict[str, Any]:
        """The value in JSON's types; stored data is canonical Extended JSON."""
        value_class: Any = type(self)
        return {
            key: in_json(getattr(self, name), kind)
            for key, (name, kind) in json_fields(value_class).items()
        }


@cache
def json_fields(value_class: Any) -> dict[str, tuple[str, Any]]:
    """The keys of the JSON of a `JsonValue`, each with the attribute and its annotation."""
    hints = get_type_hints(value_class, include_extras=True)
    found: dict[str, tuple[str, Any]] = {}
    for name in value_class.derived:
        found[name] = name, get_type_hints(getattr(value_class, name).fget)["return"]
    for each in fields(value_class):
        key = each.metadata.get("json", each.name)
        if key is not None:
            found[key] = each.name, hints[each.name]
    return found


def in_json(value: Any, kind: Any) -> Any:
    """The value in JSON's types, as a type says: that of a field, or a `TypedDict`.

    A `TypedDict` stands for any value that has its keys, or attributes of their names.
    """
    if value is None or kind is object:
        return value
    if get_origin(kind) in (Union, UnionType):
        kind = next(each for each in get_args(kind) if each is not type(None))
    inner = get_args(kind)
    # First: stored data may be a date, and a SON has a `to_dict`.
    if kind is Any or (inner and inner[-1] is Any):
        return extended_json(value)
    if is_typeddict(kind):
        return _object_in_json(value, kind)
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, datetime):
        return time_in_json(value)
    if kind is ObjectId:
        return str(value)
    if get_origin(kind) is Annotated:
        mark = kind.__metadata__[0]
        if isinstance(mark, Bounds):
            return in_json(value, inner[0])
        return dict(zip(mark, value, strict=True))
    if isinstance(value, Mapping):
        return {name: in_json(each, inner[-1]) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [in_json(each, inner[0]) for each in value]
    return value


def _object_in_json(value: Any, kind: Any) -> dict[str, Any]:
    read = value.__getitem__ if isinstance(value, Mapping) else partial(getattr, value)
    hints = get_type_hints(kind, include_extras=True)
    return {key: in_json(read(key), hint) for key, hint in hints.items()}


def time_in_json(moment: datetime) -> str:
    """A time as JSON has it: ISO 8601, UTC, with milliseconds; a naive one is UTC."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
