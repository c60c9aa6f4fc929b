"""The examination of one stored document by its model: loaded as it is, validated, each field read.

What is wrong is reported field by field, and nothing stops at the first fault. References are
listed, not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from bson import DBRef
from mongoengine import Document
from mongoengine.base import BaseDocument, BaseField
from mongoengine.base.fields import _no_dereference_for_fields
from mongoengine.connection import get_db
from mongoengine.errors import (
    FieldDoesNotExist,
    MongoEngineException,
    NotRegistered,
    ValidationError,
)
from mongoengine.fields import (
    CachedReferenceField,
    DictField,
    DynamicField,
    EmbeddedDocumentField,
    FileField,
    GenericEmbeddedDocumentField,
    GenericReferenceField,
    LazyReferenceField,
    ListField,
    ReferenceField,
)
from pymongo.errors import PyMongoError

from lazymig.odm.loading import builder_of
from lazymig.odm.schema import class_name, subclasses_of
from lazymig.odm.stored import as_stored
from lazymig.odm.versions import class_named

__all__ = ["Examiner", "Problem", "ProblemKind", "Reference", "examining"]

ProblemKind = Literal[
    "not_decodable",
    "unknown_class",
    "unknown_field",
    "not_loadable",
    "required",
    "choices",
    "invalid",
    "unreadable",
    "dangling_reference",
]

# Keys that MongoEngine takes whatever the fields are.
_RESERVED: Final = frozenset({"_cls", "_id", "_text_score", "id", "pk"})

_EMBEDDED: Final = (EmbeddedDocumentField, GenericEmbeddedDocumentField)
_GENERIC: Final = GenericReferenceField()
_REFERENCES: Final = (
    CachedReferenceField,
    FileField,
    GenericReferenceField,
    LazyReferenceField,
    ReferenceField,
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of one document.

    :ivar path: in database names; `[]` stands for the items of a list, `.*` for those of a map;
        empty for the document as a whole.
    :ivar error: the name of the exception's class.
    """

    path: str
    kind: ProblemKind
    error: str
    message: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Reference:
    """What a document refers to: a PyMongo database, a collection's name, an `_id`."""

    path: str
    database: Any
    collection: str
    document_id: Any


@contextmanager
def examining() -> Iterator[None]:
    """While documents are examined no load migrates one, and no field follows a reference."""
    # MongoEngine counts such contexts for all fields at once, whichever field is named.
    with as_stored(Document), _no_dereference_for_fields(BaseField()):
        yield


class Examiner:
    """Examines stored documents of one model, within `examining`."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._build = builder_of(model)
        self._leading: dict[Any, tuple[Any, ...]] = {}

    def class_of(self, raw: Mapping[str, Any]) -> str:
        """The name of the class that a raw document is of, or would be of."""
        try:
            return class_name(_class_of(self.model, raw))
        except NotRegistered:
            return class_name(self.model)

    def problems(self, decode: Callable[[], dict[str, Any]]) -> list[Problem]:
        """What is wrong with a document.

        :param decode: gives the raw document, anew each time.
        :raises pymongo.errors.PyMongoError: the connection; MongoEngine loads cached references.
        """
        document, error = _attempt(lambda: self._build(decode()))
        if error is not None:
            return self._dissected(decode(), error)
        _nothing, error = _attempt(document.validate)
        found = [] if error is None else self._dissected(decode(), error)
        known = {problem.path for problem in found}
        found.extend(each for each in _read(document, "") if each.path not in known)
        return found

    def _dissected(self, raw: Mapping[str, Any], error: Exception) -> list[Problem]:
        """What is wrong, field by field; if that is nothing, what MongoEngine says itself."""
        found = list(_faults_of(self.model, raw, ""))
        return found or list(_reported(self.model, raw, error))

    # --- References ---

    def references(self, raw: Mapping[str, Any]) -> Iterator[Reference | Problem]:
        """What a raw document refers to, in embedded documents, lists and maps as well.

        A reference of which nobody knows where it leads is a problem.
        """
        try:
            yield from self._references_of(self.model, raw, "")
        except NotRegistered:
            # Reported as a problem of the class.
            return

    def _references_of(
        self, cls: Any, raw: Mapping[str, Any], prefix: str
    ) -> Iterator[Reference | Problem]:
        cls = _class_of(cls, raw)
        for field in self._leading_fields(cls):
            if field.db_field in raw:
                path = f"{prefix}{field.db_field}"
                yield from self._references_in(field, raw[field.db_field], path)
        if cls._dynamic:
            names = {field.db_field for field in cls._fields.values()}
            for key, value in raw.items():
                if key not in names:
                    yield from self._untyped(value, f"{prefix}{key}")

    def _leading_fields(self, cls: Any) -> tuple[Any, ...]:
        """The fields of a class that are references, or that may hold some."""
        if cls not in self._leading:
            # A class that embeds itself may hold whatever it is about to be found to hold.
            self._leading[cls] = ()
            self._leading[cls] = tuple(
                field for field in cls._fields.values() if self._leads(field, (cls,))
            )
        return self._leading[cls]

    def _leads(self, field: Any, within: tuple[Any, ...]) -> bool:
        if isinstance(field, (*_REFERENCES, DynamicField, GenericEmbeddedDocumentField)):
            return True
        if isinstance(field, (ListField, DictField)):
            return field.field is None or self._leads(field.field, within)
        if isinstance(field, EmbeddedDocumentField):
            cls = field.document_type
            if cls in within:
                return True
            tree = (cls, *subclasses_of(cls))
            return any(
                each._dynamic
                or any(self._leads(inner, (*within, cls)) for inner in each._fields.values())
                for each in tree
            )
        return False

    def _references_in(self, field: Any, value: Any, path: str) -> Iterator[Reference | Problem]:
        if value is None:
            return
        if isinstance(field, _REFERENCES):
            try:
                yield _referred(field, value, path)
            except NotRegistered as exc:
                yield _problem(path, "dangling_reference", exc, value)
            except (MongoEngineException, TypeError, ValueError, AttributeError, KeyError):
                # What it is instead of a reference is reported as a problem of its own.
                return
        elif isinstance(field, _EMBEDDED):
            if isinstance(value, Mapping):
                cls = _embedded_class(field, value)
                yield from self._references_of(cls, value, f"{path}.")
        elif isinstance(field, (ListField, DictField)) and field.field is not None:
            for item, inner in _items(value, path):
                yield from self._references_in(field.field, item, inner)
        else:
            yield from self._untyped(value, path)

    def _untyped(self, value: Any, path: str) -> Iterator[Reference | Problem]:
        if isinstance(value, DBRef):
            yield _of_dbref(value, self.model._get_db(), path)
        elif isinstance(value, Mapping) and isinstance(value.get("_ref"), DBRef):
            yield from self._references_in(_GENERIC, value, path)
        elif isinstance(value, (Mapping, list)):
            for item, inner in _items(value, path):
                yield from self._untyped(item, inner)


def _items(value: Any, path: str) -> Iterator[tuple[Any, str]]:
    if isinstance(value, Mapping):
        yield from ((item, f"{path}.*") for item in value.values())
    elif isinstance(value, (list, tuple)):
        yield from ((item, f"{path}[]") for item in value)


def _of_dbref(value: DBRef, database: Any, path: str) -> Reference:
    if value.database is not None:
        database = database.client[value.database]
    return Reference(path, database, value.collection, value.id)


def _referred(field: Any, value: Any, path: str) -> Reference:
    if isinstance(field, FileField):
        return Reference(path, get_db(field.db_alias), f"{field.collection_name}.files", value)
    if isinstance(field, GenericReferenceField):
        database = class_named(str(value["_cls"]))._get_db()
        return _of_dbref(value["_ref"], database, path)
    model = field.document_type
    if isinstance(value, DBRef):
        return _of_dbref(value, model._get_db(), path)
    document_id = value["_id"] if isinstance(field, CachedReferenceField) else value
    # MongoEngine looks for what it makes of the stored key.
    document_id = model.id.to_python(document_id)
    return Reference(path, model._get_db(), model._get_collection_name(), document_id)


def _class_of(cls: Any, raw: Mapping[str, Any]) -> Any:
    """The class that MongoEngine builds of a raw document.

    :raises NotRegistered: `_cls` names none.
    """
    name = raw.get("_cls", class_name(cls))
    return cls if name == class_name(cls) else class_named(str(name))


def _embedded_class(field: Any, raw: Mapping[str, Any]) -> Any:
    if isinstance(field, EmbeddedDocumentField):
        return _class_of(field.document_type, raw)
    return class_named(str(raw["_cls"]))


# --- Field by field -----------------------------------------------------------------------


def _faults_of(cls: Any, raw: Mapping[str, Any], prefix: str) -> Iterator[Problem]:
    """The faults of a document, or of an embedded one."""
    try:
        cls = _class_of(cls, raw)
    except NotRegistered as exc:
        yield _problem(f"{prefix}_cls", "unknown_class", exc, raw.get("_cls"))
        return
    fields = list(cls._fields.values())
    if not cls._dynamic and not cls.STRICT and cls._meta.get("strict", True):
        names = {field.db_field for field in fields} | {field.name for field in fields}
        for key, value in raw.items():
            if key not in names and key not in _RESERVED:
                error = FieldDoesNotExist(f"{class_name(cls)} has no field {key!r}")
                yield _problem(f"{prefix}{key}", "unknown_field", error, value)
    for field in fields:
        # A key that is the attribute's own name is taken for the field as well.
        value = raw.get(field.db_field, raw.get(field.name))
        path = f"{prefix}{field.db_field}"
        if value is not None:
            yield from _faults_in(field, value, path)
        elif field.required and not field._auto_gen and _has_no_default(field):
            yield _problem(path, "required", ValidationError("Field is required"), None)


def _has_no_default(field: Any) -> bool:
    default = field.default() if callable(field.default) else field.default
    if isinstance(field, (ListField, DictField)):
        # Required means not empty.
        return not default
    return default is None


def _faults_in(field: Any, value: Any, path: str) -> Iterator[Problem]:
    """The faults of a value."""
    inner: Iterator[Problem] | None = None
    if isinstance(field, _EMBEDDED) and isinstance(value, Mapping):
        inner = _faults_of_embedded(field, value, path)
    elif isinstance(field, (ListField, DictField)) and field.field is not None:
        wanted = list if isinstance(field, ListField) else Mapping
        if isinstance(value, wanted):
            inner = (
                problem
                for item, place in _items(value, path)
                for problem in _faults_in(field.field, item, place)
            )
    found = list(inner) if inner is not None else []
    # Of what is wrong inside, the field itself would only say that something is.
    yield from found or _own_faults(field, value, path)


def _faults_of_embedded(field: Any, value: Mapping[str, Any], path: str) -> Iterator[Problem]:
    if isinstance(field, EmbeddedDocumentField):
        yield from _faults_of(field.document_type, value, f"{path}.")
    elif "_cls" not in value:
        error = KeyError("_cls")
        yield _problem(f"{path}._cls", "unknown_class", error, None)
    else:
        try:
            cls = class_named(str(value["_cls"]))
        except NotRegistered as exc:
            yield _problem(f"{path}._cls", "unknown_class", exc, value["_cls"])
            return
        yield from _faults_of(cls, value, f"{path}.")


def _own_faults(field: Any, value: Any, path: str) -> Iterator[Problem]:
    kind: ProblemKind = "not_loadable"
    loaded, error = _attempt(lambda: field.to_python(value))
    if error is None and field.choices:
        kind = "choices"
        _nothing, error = _attempt(lambda: field._validate_choices(loaded))
    if error is None:
        kind = "invalid"
        _nothing, error = _attempt(lambda: field._validate(loaded))
    if error is not None:
        yield _problem(path, kind, error, value)


def _attempt(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What a call returns, and what it raises, unless that is an error of the connection."""
    try:
        return call(), None
    except PyMongoError:
        raise
    except Exception as exc:
        return None, exc


def _reported(model: Any, raw: Mapping[str, Any], error: Exception) -> Iterator[Problem]:
    """What MongoEngine, or the model's own `clean` or `validate`, says."""
    errors = error.errors if isinstance(error, ValidationError) else None
    if not errors:
        kind: ProblemKind = "invalid" if isinstance(error, ValidationError) else "not_loadable"
        yield _problem("", kind, error, None)
        return
    cls = _class_of(model, raw)
    for name, each in errors.items():
        field = cls._fields.get(name)
        path = "" if field is None else field.db_field
        wrong = each if isinstance(each, Exception) else ValidationError(str(each))
        yield _problem(path, "invalid", wrong, raw.get(path))


def _read(document: Any, prefix: str) -> Iterator[Problem]:
    """Read each field, in embedded documents as well."""
    for name, field in document._fields.items():
        if document._data.get(name) is None and field._auto_gen:
            # Reading it would take a new number from the sequence.
            continue
        path = f"{prefix}{field.db_field}"
        value, error = _attempt(partial(getattr, document, name))
        if error is not None:
            yield _problem(path, "unreadable", error, None)
        else:
            yield from _read_inside(value, path)


def _read_inside(value: Any, path: str) -> Iterator[Problem]:
    if isinstance(value, BaseDocument):
        if not isinstance(value, Document):
            yield from _read(value, f"{path}.")
    elif isinstance(value, (Mapping, list, tuple)):
        for item, inner in _items(value, path):
            yield from _read_inside(item, inner)


def _problem(path: str, kind: ProblemKind, error: Exception, value: Any) -> Problem:
    # MongoEngine's own messages may have line breaks.
    return Problem(path, kind, type(error).__name__, " ".join(str(error).split()), value)
