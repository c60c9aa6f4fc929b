"""Strategies for what today's model holds: values for each kind of field, and whole documents."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from typing import Any, Final, TypeAlias

from bson import DBRef, Decimal128, Int64, ObjectId
from hypothesis import strategies as st
from mongoengine import fields as me
from mongoengine.base import ComplexBaseField, LazyReference, ObjectIdField
from mongoengine.errors import NotRegistered, ValidationError

from lazymig.odm.schema import inherits, is_concrete, subclasses_of
from lazymig.odm.versions import class_named
from lazymig.raw.values import MISSING
from lazymig.testing.fields import fields_of, plain

__all__ = ["SCALARS", "Strategy", "Values", "values_of_type"]

Strategy: TypeAlias = "st.SearchStrategy[Any]"

# Documents that are embedded in each other are drawn down to this storey.
_DEEPEST: Final = 3
_MOST_ITEMS: Final = 3
_LONGEST_TEXT: Final = 10
_LARGEST: Final = 10**6

_absent: Final = st.just(MISSING)
_names: Final = st.text(string.ascii_lowercase, min_size=1, max_size=4)
_text: Final = st.text(max_size=_LONGEST_TEXT)
_dates: Final = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)).map(
    # MongoDB keeps milliseconds.
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000, fold=0)
)
_floats: Final = st.floats(-_LARGEST, _LARGEST)
_object_ids: Final = st.binary(min_size=12, max_size=12).map(ObjectId)
_points: Final = st.tuples(st.integers(-80, 80), st.integers(-80, 80)).map(list)
_lines: Final = st.lists(_points, min_size=2, max_size=_MOST_ITEMS)
_polygons: Final = _points.map(
    lambda corner: [[[corner[0] + x, corner[1] + y] for x, y in ((0, 0), (1, 0), (1, 1), (0, 0))]]
)

SCALARS: Final[Strategy] = st.one_of(_text, st.integers(-100, 100), st.booleans())
"""A few kinds of values, for fields that may hold anything."""

_BY_TYPE: Final[dict[Any, Strategy]] = {
    **dict.fromkeys((1, "double"), _floats),
    **dict.fromkeys((2, "string"), _text),
    **dict.fromkeys((3, "object"), st.dictionaries(_names, SCALARS, max_size=_MOST_ITEMS)),
    **dict.fromkeys((4, "array"), st.lists(SCALARS, max_size=_MOST_ITEMS)),
    **dict.fromkeys((5, "binData"), st.binary(max_size=_LONGEST_TEXT)),
    **dict.fromkeys((7, "objectId"), _object_ids),
    **dict.fromkeys((8, "bool"), st.booleans()),
    **dict.fromkeys((9, "date"), _dates),
    **dict.fromkeys((10, "null"), st.none()),
    **dict.fromkeys((16, "int"), st.integers(-_LARGEST, _LARGEST)),
    **dict.fromkeys((18, "long"), st.integers(2**31, 2**53).map(Int64)),
    **dict.fromkeys((19, "decimal"), st.decimals(-100, 100, places=2).map(Decimal128)),
    "number": st.one_of(st.integers(-_LARGEST, _LARGEST), _floats),
}


def values_of_type(types: Any) -> Strategy:
    """Values of the BSON types that an operand of `$type` names by alias or number."""
    names = types if isinstance(types, (list, tuple)) else [types]
    return st.one_of(*(_BY_TYPE[name] for name in names if name in _BY_TYPE))


@dataclass(frozen=True, slots=True)
class Values:
    """What is drawn for the documents of a model.

    `chosen` are strategies for values as the model's constructor takes them, by dotted names of
    attributes; they are drawn from instead of what the field says. `used` collects the names that
    were looked up with success.
    """

    chosen: Mapping[str, Strategy]
    used: set[str] = field(default_factory=set)

    def documents(self, model: Any) -> Strategy:
        """Instances of a model and of the classes that inherit from it."""
        return self._documents(model, (), 0)

    def stored(self, one: Any) -> Strategy | None:
        """Values of a field as they are stored; `None` if nothing is known of its kind."""
        found = self._values(one, (), 0)
        return None if found is None else found.map(lambda value: plain(one.to_mongo(value)))

    def _documents(self, model: Any, path: tuple[str, ...], depth: int) -> Strategy:
        classes = [model]
        if inherits(model):
            classes = [cls for cls in (model, *subclasses_of(model)) if depth or is_concrete(cls)]
        return st.one_of(*(self._of_class(cls, path, depth) for cls in classes))

    def _of_class(self, cls: Any, path: tuple[str, ...], depth: int) -> Strategy:
        drawn: dict[str, Strategy] = {}
        for name, one in fields_of(cls).items():
            place = (*path, name)
            found = self._field(one, place, depth)
            # A sequence that is left out would be counted on in the database.
            needed = one.db_field == "_id" or isinstance(one, me.SequenceField)
            # The default of a list or a dict is empty, which a required one must not be.
            empty = one.default is None or isinstance(one, ComplexBaseField)
            needed = needed or (one.required and empty)
            if found is not None:
                drawn[name] = found if needed else st.one_of(_absent, found, found)
            elif needed:
                raise TypeError(
                    f"{cls.__name__}.{name}: nothing is known of the values of a "
                    f"{type(one).__name__}; name a strategy for {'.'.join(place)!r} in 'fields'"
                )
        return st.fixed_dictionaries(drawn).map(
            lambda values: cls(**{name: one for name, one in values.items() if one is not MISSING})
        )

    def _field(self, one: Any, place: tuple[str, ...], depth: int) -> Strategy | None:
        name = ".".join(place)
        if name in self.chosen:
            self.used.add(name)
            return self.chosen[name]
        found = self._values(one, place, depth)
        return st.none() | found if found is not None and one.null else found

    def _values(self, one: Any, place: tuple[str, ...], depth: int) -> Strategy | None:
        """Values that a field takes, as the constructor does; `None`: its kind is unknown."""
        found: Strategy | None
        if isinstance(one, me.EmbeddedDocumentField):
            return self._embedded([one], place, depth, lambda: [one.document_type])
        if isinstance(one, me.GenericEmbeddedDocumentField):
            return self._embedded(one.choices or (), place, depth, lambda: list(one.choices))
        if isinstance(one, (me.ReferenceField, me.LazyReferenceField)):
            found = self._typed_references(one)
        elif isinstance(one, me.GenericReferenceField):
            found = self._generic_references(one)
        elif isinstance(one, (me.ListField, me.DictField)):
            found = self._several(one, place, depth)
        elif one.choices:
            found = st.sampled_from(_flat(one.choices))
        else:
            found = _by_kind(one)
        return None if found is None else found.filter(lambda value: _accepts(one, value))

    def _embedded(
        self, known: Any, place: tuple[str, ...], depth: int, classes: Callable[[], list[Any]]
    ) -> Strategy | None:
        if not known or depth >= _DEEPEST:
            return None
        try:
            models = classes()
        except NotRegistered:
            return None
        return st.one_of(*(self._documents(cls, place, depth + 1) for cls in models))

    def _typed_references(self, one: Any) -> Strategy | None:
        try:
            model = one.document_type
        except NotRegistered:
            return None
        return self._references(model) if is_concrete(model) else None

    def _generic_references(self, one: Any) -> Strategy | None:
        found = []
        for name in one.choices:
            try:
                references = self._references(class_named(name))
            except NotRegistered:
                continue
            if references is not None:
                found.append(references.map(partial(_with_class, name)))
        return st.one_of(*found) if found else None

    def _references(self, model: Any) -> Strategy | None:
        """References to documents of a model."""
        key = next(key for key in fields_of(model).values() if key.db_field == "_id")
        keys = self._values(key, (), 0)
        # The one public way to the name of a model's collection that needs no connection.
        name = LazyReference(model, None).collection
        return None if keys is None else keys.map(partial(DBRef, name))

    def _several(self, one: Any, place: tuple[str, ...], depth: int) -> Strategy | None:
        """Lists, and dicts with a few names."""
        if one.choices:
            inner: Strategy | None = st.sampled_from(_flat(one.choices))
        elif one.field is None:
            inner = SCALARS
        else:
            inner = self._values(one.field, place, depth)
        if inner is None:
            return None
        least = 1 if one.required else 0
        if isinstance(one, me.DictField):
            return st.dictionaries(_names, inner, min_size=least, max_size=_MOST_ITEMS)
        limit = _MOST_ITEMS if one.max_length is None else min(one.max_length, _MOST_ITEMS)
        return st.lists(inner, min_size=least, max_size=limit)


def _flat(choices: Any) -> list[Any]:
    """The values of MongoEngine's `choices`, which may come with labels."""
    found = list(choices)
    return [value for value, _label in found] if isinstance(found[0], (list, tuple)) else found


def _with_class(name: str, reference: DBRef) -> dict[str, Any]:
    return {"_cls": name, "_ref": reference}


def _accepts(one: Any, value: Any) -> bool:
    """Return whether a field takes a value; what a document as a whole says is asked later."""
    try:
        one.validate(value)
        if one.validation is not None:
            one.validation(value)
    except (ValidationError, TypeError, ValueError):
        return False
    return True


def _by_kind(one: Any) -> Strategy | None:
    return next((make(one) for kind, make in _KINDS if isinstance(one, kind)), None)


def _strings(one: Any) -> Strategy:
    least = one.min_length or 0
    most = least + _LONGEST_TEXT if one.max_length is None else one.max_length
    if one.regex is not None:
        return st.from_regex(one.regex, fullmatch=True)
    return st.text(min_size=least, max_size=min(most, least + _LONGEST_TEXT))


def _bounded(one: Any) -> tuple[Any, Any]:
    """The limits of a number, and our own where there are none."""
    least, most = one.min_value, one.max_value
    if least is None:
        least = -_LARGEST if most is None or most >= 0 else most - _LARGEST
    if most is None:
        most = max(_LARGEST, least + _LARGEST)
    return least, most


def _urls(one: Any) -> Strategy:
    schemes = st.sampled_from(list(one.schemes))
    return st.builds("{}://{}.org/{}".format, schemes, _names, _names)


# What is a kind of another one comes first.
_KINDS: Final[tuple[tuple[type, Callable[[Any], Strategy]], ...]] = (
    (me.URLField, _urls),
    (me.EmailField, lambda _: st.from_regex(r"[a-z]{1,8}@[a-z]{1,8}\.(com|org)", fullmatch=True)),
    (me.ComplexDateTimeField, lambda _: st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1))),
    (me.StringField, _strings),
    (me.IntField, lambda one: st.integers(*_bounded(one))),
    (me.FloatField, lambda one: st.floats(*_bounded(one))),
    (me.DecimalField, lambda one: st.decimals(*_bounded(one), places=one.precision)),
    (me.Decimal128Field, lambda one: st.decimals(*_bounded(one), places=2)),
    (me.BooleanField, lambda _: st.booleans()),
    (me.DateField, lambda _: st.dates(date(1970, 1, 1), date(2100, 1, 1))),
    (me.DateTimeField, lambda _: _dates),
    (ObjectIdField, lambda _: _object_ids),
    (me.UUIDField, lambda _: st.uuids()),
    (me.BinaryField, lambda one: st.binary(max_size=min(one.max_bytes or 20, 20))),
    (me.SequenceField, lambda one: st.integers(1, _LARGEST).map(one.value_decorator)),
    (me.DynamicField, lambda _: SCALARS),
    (me.GeoPointField, lambda _: _points),
    (me.PointField, lambda _: _points),
    (me.LineStringField, lambda _: _lines),
    (me.PolygonField, lambda _: _polygons),
    (me.MultiPointField, lambda _: st.lists(_points, min_size=1, max_size=_MOST_ITEMS)),
    (me.MultiLineStringField, lambda _: st.lists(_lines, min_size=1, max_size=_MOST_ITEMS)),
    (me.MultiPolygonField, lambda _: st.lists(_polygons, min_size=1, max_size=_MOST_ITEMS)),
)
