"""The fields of a model, found without MongoEngine's private names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mongoengine.base import BaseField, ComplexBaseField
from mongoengine.fields import EmbeddedDocumentField, MapField

from lazymig.odm.schema import subclasses_of
from lazymig.raw.values import is_array

__all__ = ["field_at", "fields_of", "plain"]


def fields_of(model: Any) -> dict[str, Any]:
    """The declared fields of a document class, embedded or not, by name of the attribute."""
    found = {}
    for cls in reversed(model.__mro__):
        for name, value in vars(cls).items():
            # What a class has overridden by something else is no field of it any more.
            found[name] = value if isinstance(value, BaseField) and name != "_cls" else None
    fields = [(name, field) for name, field in found.items() if field is not None]
    return dict(sorted(fields, key=lambda item: item[1].creation_counter))


def field_at(model: Any, path: Sequence[str]) -> Any:
    """The field at a path of database names, through lists as well; `None`: there is none."""
    for cls in (model, *subclasses_of(model)):
        for field in fields_of(cls).values():
            if field.db_field == path[0]:
                found = _field_below(field, path[1:])
                if found is not None:
                    return found
    return None


def _field_below(field: Any, path: Sequence[str]) -> Any:
    if not path:
        return field
    if isinstance(field, EmbeddedDocumentField):
        return field_at(field.document_type, path)
    if isinstance(field, ComplexBaseField) and field.field is not None:
        skips = isinstance(field, MapField) or path[0].isdecimal()
        return _field_below(field.field, path[1:] if skips else path)
    return None


def plain(value: Any) -> Any:
    """A raw value with plain dicts and lists, all of them copies."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if is_array(value):
        return [plain(item) for item in value]
    return value
