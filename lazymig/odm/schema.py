"""The facts about a MongoEngine model: its collection, its classes, the paths it knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mongoengine import Document
from mongoengine.base import BaseDocument, ComplexBaseField
from mongoengine.errors import LookUpError, NotRegistered
from mongoengine.fields import (
    BinaryField,
    BooleanField,
    ComplexDateTimeField,
    DateTimeField,
    Decimal128Field,
    DecimalField,
    DictField,
    EmbeddedDocumentField,
    EnumField,
    FloatField,
    GeoPointField,
    IntField,
    ListField,
    MapField,
    ObjectIdField,
    SequenceField,
    StringField,
    UUIDField,
)

from lazymig.errors import RuleDefinitionError
from lazymig.odm.versions import is_registered

__all__ = [
    "class_name",
    "class_names",
    "collection_of",
    "document_parents",
    "document_subclasses",
    "field_path",
    "id_of",
    "inherits",
    "is_concrete",
    "is_timeseries",
    "knows_path",
    "leads_to_items",
    "list_crossed",
    "may_lack",
    "shard_key_of",
    "stores_no_null",
    "subclasses_of",
    "untouched_collection",
]


_SCALAR_FIELDS = (
    BinaryField,
    BooleanField,
    ComplexDateTimeField,
    DateTimeField,
    Decimal128Field,
    DecimalField,
    EnumField,
    FloatField,
    IntField,
    ObjectIdField,
    SequenceField,
    StringField,
    UUIDField,
)


def is_concrete(model: Any) -> bool:
    """Return whether documents of this class itself can be stored."""
    if not isinstance(model, type) or not issubclass(model, Document) or model is Document:
        return False
    meta: dict[str, Any] = model._meta  # type: ignore[attr-defined]
    return not meta.get("abstract")


def class_name(model: Any) -> str:
    """The `_cls` value of a model."""
    return str(model._class_name)


def inherits(model: Any) -> bool:
    """Return whether the model's documents carry `_cls`."""
    return model._meta.get("allow_inheritance") is True


def is_timeseries(model: Any) -> bool:
    """Return whether the model declares a time-series collection."""
    return bool(model._meta.get("timeseries"))


def document_parents(model: Any) -> list[type]:
    """The concrete document classes that a model inherits from directly."""
    return [base for base in model.__bases__ if is_concrete(base)]


def subclasses_of(cls: Any, defining: type | None = None) -> Iterator[Any]:
    """The classes below a class, at any depth, each once: documents, embedded ones, or handlers.

    A document class that has been redefined, or whose definition failed, may live on unregistered:
    it is left out, the classes below it are not.

    :param defining: the class that is being defined at this moment, so is not registered yet.
    """
    seen: set[type] = set()
    left: list[type] = list(cls.__subclasses__())
    while left:
        subclass = left.pop(0)
        if subclass in seen:
            continue
        seen.add(subclass)
        left.extend(subclass.__subclasses__())
        if subclass is defining or _is_current(subclass):
            yield subclass


def _is_current(cls: Any) -> bool:
    """Return whether MongoEngine knows a document class as the one of its name."""
    if not issubclass(cls, BaseDocument):
        return True
    return is_registered(class_name(cls), cls)


def document_subclasses(model: type, defining: type | None = None) -> Iterator[type]:
    """The concrete document classes of `subclasses_of`."""
    return filter(is_concrete, subclasses_of(model, defining))


def class_names(model: type) -> list[str]:
    """The `_cls` values of a model and of its subclasses."""
    return [class_name(cls) for cls in (model, *document_subclasses(model))]


def untouched_collection(model: Any) -> Any:
    """The PyMongo collection of a model. MongoEngine's own way to it creates the indexes."""
    # What MongoEngine holds already: another one would have to find out anew what is sealed.
    known = getattr(model, "_collection", None)
    return model._get_db()[model._get_collection_name()] if known is None else known


def collection_of(model: Any) -> Any:
    """The PyMongo collection of a model, in the database it is connected to at this moment."""
    return model._get_collection()


def id_of(document: Any) -> Any:
    """The `_id` of an instance as it is stored; `None` for one that never was saved."""
    return document.to_mongo(fields=[document._meta["id_field"]]).get("_id")


def shard_key_of(model: Any) -> tuple[str, ...]:
    """The shard key that a model declares: dotted paths in database names, `_id` left out.

    :raises RuleDefinitionError: it names a field that the model does not have.
    """
    paths = []
    for name in model._meta.get("shard_key") or ():
        try:
            fields = model._lookup_field(name.split("."))
        except LookUpError as exc:
            raise RuleDefinitionError(
                f"has a shard_key with {name!r}, which the model does not know; use names of "
                "fields in meta['shard_key']",
                model=model.__name__,
            ) from exc
        path = ".".join(part if isinstance(part, str) else part.db_field for part in fields)
        if path.partition(".")[0] != "_id":
            paths.append(path)
    return tuple(paths)


def stores_no_null(model: Any, name: str) -> bool:
    """Return whether a field, by its database name, is left out of a document if it is None.

    Only fields of the document itself are known.
    """
    return any(field.db_field == name and not field.null for field in model._fields.values())


def may_lack(model: Any, name: str) -> bool:
    """Return whether a new document of a model may be stored without a field, by database name."""
    return all(
        not field.required and field.default is None and not field.null and not field.primary_key
        for field in model._fields.values()
        if field.db_field == name
    )


def knows_path(model: Any, path: str) -> bool | None:
    """Return whether a dotted path in database names belongs to a model or one of its subclasses.

    `None` where that is not known yet: a class that the path leads through is not defined.
    """
    return _in_document(model, path.split("."))


def _in_document(model: Any, parts: list[str]) -> bool | None:
    verdict: bool | None = False
    for cls in (model, *subclasses_of(model)):
        if cls._dynamic or not cls._meta.get("strict", True) or cls.STRICT:
            return True
        found = _in_class(cls, parts)
        if found:
            return True
        if found is None:
            verdict = None
    return verdict


def _in_class(model: Any, parts: list[str]) -> bool | None:
    head, rest = parts[0], parts[1:]
    if head == "_cls" and not rest:
        return True
    if head == "_id" and not model._meta.get("id_field"):
        # The metaclass adds the automatic `_id` after the class body has been handled.
        return True
    for field in model._fields.values():
        if field.db_field == head:
            return _in_field(field, rest)
    return False


def _in_field(field: Any, parts: list[str]) -> bool | None:
    while parts and parts[0].isdigit():
        parts = parts[1:]
    if not parts:
        return True
    if isinstance(field, EmbeddedDocumentField):
        try:
            return _in_document(field.document_type, parts)
        except NotRegistered:
            return None
    if isinstance(field, DictField):
        return _in_field(field.field, parts[1:]) if field.field is not None else True
    if isinstance(field, ComplexBaseField):
        # A ListField: of embedded documents, or of anything.
        return _in_field(field.field, parts) if field.field is not None else True
    return not _is_scalar(field)


def list_crossed(model: Any, path: str) -> str | None:
    """The first list of a model that a dotted path in database names goes through by a name.

    `None` where there is none, and where not every class that has the field declares a list.
    """
    parts = path.split(".")
    end = _crossed_in_document(model, parts, 0)
    return None if end is None else ".".join(parts[:end])


def _crossed_in_document(model: Any, parts: list[str], start: int) -> int | None:
    found = {
        _crossed_in_field(field, parts, start + 1)
        for cls in (model, *subclasses_of(model))
        for field in cls._fields.values()
        if field.db_field == parts[start]
    }
    return None if None in found else min(found, default=None)  # type: ignore[type-var]


def _crossed_in_field(field: Any, parts: list[str], end: int) -> int | None:
    """The length of the path of the list, where `parts[:end]` is the path of the field."""
    if end == len(parts):
        return None
    if isinstance(field, (ListField, GeoPointField)):
        if not (parts[end].isdecimal() or parts[end].startswith("$")):
            return end
        return _crossed_in_field(getattr(field, "field", None), parts, end + 1)
    if isinstance(field, DictField):
        return _crossed_in_field(field.field, parts, end + 1)
    try:
        is_document = isinstance(field, EmbeddedDocumentField)
        return _crossed_in_document(field.document_type, parts, end) if is_document else None
    except NotRegistered:
        return None


def leads_to_items(model: Any, parts: Sequence[str]) -> bool | None:
    """Return whether a path in database names leads to the embedded documents of a list or map.

    A `*` stands for every key of a map. `None` where that is not known: the model does not know the
    path, or declares no type there.
    """
    if parts[0] == "*":
        return False
    found = {
        _leads_in_field(field, parts[1:])
        for cls in (model, *subclasses_of(model))
        for field in cls._fields.values()
        if field.db_field == parts[0]
    }
    return True if True in found else (None if None in found or not found else False)


def _leads_in_field(field: Any, rest: Sequence[str]) -> bool | None:
    """Say it of what is left of a path below a field that is no element of a list."""
    if isinstance(field, DictField):
        if not rest or rest[0] != "*":
            # Where no type is declared the keys may be the names of fields.
            return None if rest and field.field is None else False
        return _leads_from(field.field, rest[1:], in_map=True)
    if isinstance(field, ListField):
        return _leads_from(field.field, rest, in_map=False)
    if _is_scalar(field):
        return False
    if not isinstance(field, EmbeddedDocumentField):
        return None
    try:
        return leads_to_items(field.document_type, rest) if rest else False
    except NotRegistered:
        return None


def _leads_from(inner: Any, rest: Sequence[str], *, in_map: bool) -> bool | None:
    """Say it of the elements of a list, or of the entries of a map."""
    if isinstance(inner, ListField):
        # A list in a list is no embedded document, and no path leads into it.
        return _leads_in_field(inner, rest) if in_map else False
    if rest or inner is None:
        return None if inner is None else _leads_in_field(inner, rest)
    return not _is_scalar(inner)


def field_path(model: Any, path: str) -> str:
    """A dotted path in database names as a query of MongoEngine spells it.

    What the model does not know is left as it is.
    """
    names: list[str] = []
    for name in path.split("."):
        field = None if model is None else _field_called(model, name)
        names.append(name if field is None else str(field.name))
        while isinstance(field, ComplexBaseField) and not isinstance(field, MapField):
            field = field.field
        model = _document_type(field) if field is not None or not name.isdecimal() else model
    return "__".join(names)


def _field_called(model: Any, name: str) -> Any:
    for cls in (model, *subclasses_of(model)):
        for field in cls._fields.values():
            if field.db_field == name:
                return field
    return None


def _document_type(field: Any) -> Any:
    try:
        return field.document_type if isinstance(field, EmbeddedDocumentField) else None
    except NotRegistered:
        return None


def _is_scalar(field: Any) -> bool:
    """Return whether no path goes below a field, as its value can have no sub-document."""
    return isinstance(field, _SCALAR_FIELDS)
