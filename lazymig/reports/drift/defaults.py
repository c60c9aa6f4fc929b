"""What a proposed rule puts where nothing is, or in the place of a value that cannot stay."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from bson import Decimal128

from lazymig.odm.fields import ClassFacts, Default, FieldFacts
from lazymig.reports.drift.proposals import Replacement

__all__ = ["LOST", "asking", "is_stored", "loss", "replacement_of"]

LOST: Final = "The values are lost: is it right?"

_EPOCH: Final = datetime(1970, 1, 1)


def replacement_of(facts: FieldFacts) -> Replacement | None:
    """What to put in the place of nothing, or of a value that cannot stay."""
    default = facts.default()
    if default.known and not (facts.required and default.value in ([], {})):
        return None if facts.unique else Replacement(default.value)
    if default.computed:
        if default.value is None or facts.unique:
            return None
        return Replacement(
            default.value,
            comment="The default is computed: is this value right for old documents?",
            asks=True,
        )
    if not facts.required:
        return Replacement(remove=True)
    if facts.unique:
        return None
    value = _placeholder(facts)
    if value is None:
        return None
    return Replacement(value, comment="It has no default: which value is right?", asks=True)


def _placeholder(facts: FieldFacts) -> Any:
    """A value that the field takes, for want of a better one; `None` if there is none."""
    if facts.choices:
        return facts.choices[0]
    if facts.is_reference:
        return None
    if facts.container == "embedded":
        classes = facts.embedded()
        return _embedded_placeholder(classes[0]) if classes else None
    return _PLACEHOLDERS.get(facts.usual or "")


_PLACEHOLDERS: Final[Mapping[str, Any]] = {
    "array": [],
    "bool": False,
    "date": _EPOCH,
    "decimal": Decimal128("0"),
    "double": 0.0,
    "int": 0,
    "object": {},
    "string": "",
}


def _embedded_placeholder(facts: ClassFacts) -> Any:
    """An embedded document with what each one has."""
    document: dict[str, Any] = {"_cls": facts.name} if facts.inherits else {}
    for name, each in facts.fields.items():
        default = each.default()
        if default.known:
            document[name] = default.value
        elif each.required:
            value = _placeholder(each)
            if value is None:
                return None
            document[name] = value
    return document


def is_stored(default: Default) -> bool:
    """Whether MongoEngine keeps the default: an empty one is taken out of documents on `save()`."""
    if default.computed:
        return True
    return default.known and (bool(default.value) or isinstance(default.value, (int, float)))


def asking(replacement: Replacement, question: str) -> Replacement:
    """The same replacement with a question, unless it has a comment of its own."""
    comment = replacement.comment or question
    return Replacement(replacement.value, replacement.remove, comment, asks=True)


def loss(kind: str, to: str) -> list[str]:
    """What there is to say of a conversion that MongoDB makes without complaint."""
    if to in ("int", "long") and kind in ("double", "decimal", "string"):
        return ["Fractions are cut off."] if kind != "string" else []
    if to == "bool" and kind == "string":
        return ["Other texts than those that mean yes become False."]
    if to == "date" and kind in ("long", "double", "decimal"):
        return ["The numbers are taken for milliseconds since 1970."]
    return []
