"""The facts about MongoEngine's fields: stored types, defaults, choices, embedded classes.

Facts only; nothing here reads a database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Any, Final, Literal
from uuid import UUID

from bson import ObjectId
from mongoengine import EmbeddedDocument
from mongoengine import base as mongoengine_base
from mongoengine import fields as mongoengine_fields
from mongoengine.base import BaseField
from mongoengine.errors import MongoEngineException
from mongoengine.fields import (
    DecimalField,
    DictField,
    DynamicField,
    EmbeddedDocumentField,
    EnumField,
    GenericEmbeddedDocumentField,
    GenericReferenceField,
    LazyReferenceField,
    ListField,
    ReferenceField,
    SequenceField,
    UUIDField,
)

from lazymig.odm.schema import (
    class_name,
    document_parents,
    document_subclasses,
    inherits,
    subclasses_of,
)
from lazymig.raw.encoding import UNSTORABLE, stored_bytes
from lazymig.raw.values import TYPE_ALIASES, type_code

__all__ = [
    "NO_DEFAULT",
    "ClassFacts",
    "Default",
    "FieldFacts",
    "bson_type",
    "classes_of",
    "facts_of",
]

Container = Literal["", "embedded", "list", "map"]

_ALIASES: Final = {code: alias for alias, code in TYPE_ALIASES.items()}

_INTEGERS: Final = frozenset({"int", "long"})

# Stored types by the class that defines how a field is stored; the first one is the usual one.
_STORED: Final[Mapping[str, tuple[str, ...]]] = {
    "BinaryField": ("binData",),
    "BooleanField": ("bool",),
    "CachedReferenceField": ("object",),
    "ComplexDateTimeField": ("string",),
    "DateField": ("date",),
    "DateTimeField": ("date",),
    "Decimal128Field": ("decimal",),
    "DictField": ("object",),
    "EmbeddedDocumentField": ("object",),
    "FileField": ("objectId",),
    "FloatField": ("double", "int", "long"),
    "GenericEmbeddedDocumentField": ("object",),
    "GenericReferenceField": ("object",),
    "GeoJsonBaseField": ("object",),
    "GeoPointField": ("array",),
    "IntField": ("int", "long"),
    "ListField": ("array",),
    "LongField": ("int", "long"),
    "ObjectIdField": ("objectId",),
    "StringField": ("string",),
}

# What $convert is asked to turn other values into, by the usual type.
_CONVERTED_TO: Final[Mapping[str, tuple[str, ...]]] = {
    "bool": ("bool",),
    "date": ("date",),
    "decimal": ("decimal",),
    "double": ("double",),
    "int": ("int", "long"),
    "objectId": ("objectId",),
    "string": ("string",),
}


def bson_type(value: Any) -> str:
    """The alias of the BSON type that a Python value is stored as; "" for a value of no type."""
    code = type_code(value)
    return _ALIASES.get(code, "") if code else ""


@dataclass(frozen=True, slots=True)
class Default:
    """What MongoEngine puts where nothing is stored, as it would be stored.

    :ivar known: whether there is one that is the same for each document.
    :ivar computed: it is made by a call that gives another value each time: the present time, an
        identifier. `value` is then such a value, if one may stand for all documents.
    """

    known: bool
    value: Any = None
    computed: bool = False


NO_DEFAULT: Final = Default(known=False)


@dataclass(frozen=True, eq=False)
class FieldFacts:
    """What is known of one field of a model, or of the items of a list or map.

    :ivar source: MongoEngine's field; the same one where a subclass has inherited it.
    :ivar name: the attribute of the class; `stored` is the name in the database.
    :ivar label: the kind of field, such as `"IntField"`.
    :ivar types: the BSON types that MongoEngine stores, `None` if any; `usual` is the first one.
    :ivar convert_to: what `$convert` may turn values of other types into, the narrowest first.
    :ivar choices: the values that may be stored, `None` if any.
    :ivar item: the items of a list or map, `None` if they may be anything.
    """

    source: Any
    name: str
    stored: str
    label: str
    types: frozenset[str] | None
    usual: str | None
    convert_to: tuple[str, ...]
    required: bool
    null: bool
    unique: bool
    primary_key: bool
    choices: tuple[Any, ...] | None
    container: Container
    item: FieldFacts | None
    is_reference: bool
    embedded: Callable[[], tuple[ClassFacts, ...]] = field(repr=False, default=tuple)

    def default(self) -> Default:
        """The default, as it would be stored now."""
        return _default_of(self.source)


@dataclass(frozen=True, eq=False)
class ClassFacts:
    """What is known of one document class.

    :ivar name: its `_cls` value.
    :ivar lenient: unknown fields are no fault: dynamic, or not strict.
    :ivar inherits: its documents carry `_cls`.
    :ivar fields: by the name in the database.
    """

    model: Any
    name: str
    lenient: bool
    inherits: bool
    fields: Mapping[str, FieldFacts]


def classes_of(model: Any) -> tuple[ClassFacts, ...]:
    """The classes whose documents a model gives: itself first, and its subclasses."""
    return tuple(map(facts_of, (model, *document_subclasses(model))))


def facts_of(model: Any) -> ClassFacts:
    """What is known of one document or embedded document class."""
    lenient = bool(model._dynamic or model.STRICT or not model._meta.get("strict", True))
    fields = [_field_facts(each) for each in model._fields.values() if each.name != "_cls"]
    return ClassFacts(
        model=model,
        name=class_name(model),
        lenient=lenient,
        inherits=inherits(model) or bool(_is_document(model) and document_parents(model)),
        fields={each.stored: each for each in fields},
    )


def _is_document(model: Any) -> bool:
    return not issubclass(model, EmbeddedDocument)


def _field_facts(source: Any, choices: Any = None) -> FieldFacts:
    kind = _kind_of(source)
    types = _types_of(source, kind)
    own_choices = choices if choices is not None else _choices_of(source)
    item = None
    if isinstance(source, (ListField, DictField)) and kind in ("ListField", "DictField"):
        inherited = _choices_of(source) if isinstance(source, ListField) else None
        own_choices = None
        if source.field is not None or inherited is not None:
            item = _field_facts(source.field or BaseField(), inherited)
    usual = types[0] if types else None
    return FieldFacts(
        source=source,
        name=source.name or "",
        stored=source.db_field or source.name or "",
        label=type(source).__name__,
        types=frozenset(types) if types else None,
        usual=usual,
        convert_to=_CONVERTED_TO.get(usual, ()) if usual else (),
        required=bool(source.required),
        null=bool(source.null),
        unique=bool(source.unique),
        primary_key=bool(source.primary_key) or source.db_field == "_id",
        choices=own_choices,
        container=_container_of(kind),
        item=item,
        is_reference=isinstance(source, (ReferenceField, LazyReferenceField)),
        embedded=partial(_embedded_classes, source),
    )


def _kind_of(source: Any) -> str:
    """The name of MongoEngine's class that says how a field is stored; "" if another class does."""
    for cls in type(source).__mro__:
        if cls.__module__ in (mongoengine_fields.__name__, mongoengine_base.fields.__name__):
            if cls.__name__ in _STORED or cls is BaseField or cls in _SPECIAL:
                return str(cls.__name__)
        elif {"to_mongo", "to_python"} & set(cls.__dict__):
            return ""
    return ""


_SPECIAL: Final = (
    DecimalField,
    DynamicField,
    EnumField,
    LazyReferenceField,
    ReferenceField,
    SequenceField,
    UUIDField,
)


def _types_of(source: Any, kind: str) -> tuple[str, ...]:
    """The BSON types that a field stores, the usual one first; none if it may be any."""
    if kind in _STORED:
        return _STORED[kind]
    if kind == "DecimalField":
        return ("string",) if source.force_string else ("double", "int", "long")
    if kind == "UUIDField":
        return ("binData",) if source._binary else ("string",)
    if kind == "SequenceField":
        return ("int", "long") if source.value_decorator is int else ()
    if kind == "EnumField":
        return _types_of_values(member.value for member in source._enum_cls)
    if kind in ("ReferenceField", "LazyReferenceField"):
        return _types_of_reference(source)
    return ()


def _types_of_values(values: Iterator[Any]) -> tuple[str, ...]:
    found = dict.fromkeys(map(bson_type, values))
    if "" in found:
        return ()
    if _INTEGERS & found.keys():
        found.update(dict.fromkeys(("int", "long")))
    return tuple(found)


def _types_of_reference(source: Any) -> tuple[str, ...]:
    try:
        model = source.document_type
    except MongoEngineException:
        # The class is not defined yet.
        return ()
    if source.dbref or model._meta.get("abstract"):
        return ("object",)
    key = model._fields.get(model._meta.get("id_field"))
    return () if key is None or key is source else _types_of(key, _kind_of(key))


def _choices_of(source: Any) -> tuple[Any, ...] | None:
    """The values that a field may have, as they are stored; `None` if that is not known."""
    classes = (GenericReferenceField, GenericEmbeddedDocumentField, ReferenceField)
    if not source.choices or isinstance(source, classes):
        return None
    choices = list(source.choices)
    if isinstance(choices[0], (list, tuple)):
        choices = [choice for choice, _label in choices]
    stored = []
    for choice in choices:
        value = choice.value if isinstance(choice, Enum) else _as_stored(source, choice)
        if isinstance(value, type) or not bson_type(value):
            return None
        stored.append(value)
    return tuple(stored)


def _as_stored(source: Any, value: Any) -> Any:
    if isinstance(source, (ListField, DictField)):
        # The choices of a list are those of its items.
        return value if source.field is None else _as_stored(source.field, value)
    return source._to_mongo_safe_call(value)


def _container_of(kind: str) -> Container:
    if kind in ("EmbeddedDocumentField", "GenericEmbeddedDocumentField"):
        return "embedded"
    if kind == "ListField":
        return "list"
    return "map" if kind == "DictField" else ""


def _embedded_classes(source: Any) -> tuple[ClassFacts, ...]:
    """The classes that may be embedded, the declared one first; none if that is not known."""
    try:
        if isinstance(source, EmbeddedDocumentField):
            root = source.document_type
            return tuple(map(facts_of, (root, *subclasses_of(root))))
        if isinstance(source, GenericEmbeddedDocumentField) and source.choices:
            return tuple(map(facts_of, source.choices))
    except MongoEngineException:
        return ()
    return ()


def _default_of(source: Any) -> Default:
    if source._auto_gen:
        return Default(known=False, computed=True)
    if source.default is None:
        return NO_DEFAULT
    try:
        first, second = (_stored_default(source) for _ in range(2))
    except Exception:
        # The application's own code may need anything: a connection, a request.
        return Default(known=False, computed=True)
    if first is None:
        return NO_DEFAULT
    if callable(source.default) and (_differs(first) or first != second):
        value = first.replace(microsecond=0) if isinstance(first, datetime) else None
        return Default(known=False, value=value, computed=True)
    return Default(known=True, value=first)


def _stored_default(source: Any) -> Any:
    value = source.default() if callable(source.default) else source.default
    if value is None:
        return None
    stored = source._to_mongo_safe_call(value)
    try:
        stored_bytes(stored)
    except UNSTORABLE:
        return None
    return stored


def _differs(value: Any) -> bool:
    """Return whether a value is of a kind that a call gives anew each time."""
    return isinstance(value, (datetime, ObjectId, UUID))
