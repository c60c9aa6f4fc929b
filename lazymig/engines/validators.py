"""The validator of a collection, and the seals in it: rules whose old shape it refuses.

A seal is a clause of a `$nor`, and says in a `$comment` which rule it is of:
`{"$and": [{"$comment": "lazymig: sealed User.migration01__x"}, query]}`. A validator that was there
before is joined with it by an `$and`, byte for byte, so that it can be taken out again as it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.errors import WriteConcernError

from lazymig.query.joining import all_of
from lazymig.rules.bound_rule import BoundRule

__all__ = [
    "INVALID",
    "Seal",
    "Validator",
    "read_validator",
    "seal_of",
    "seals_in_refusal",
    "set_validator",
]

INVALID: Final = 121
"""The code of MongoDB's error for a document that a validator refuses."""

# What is asked and stored here goes through PyMongo as bytes: no value is read otherwise.
_AS_BYTES: Final[CodecOptions[Any]] = CodecOptions(document_class=RawBSONDocument)

_COMMENT: Final = re.compile(r"lazymig: (sealed|sealing) (.+)\.(\w+)")

# Milliseconds that collMod waits for open transactions: all other operations wait behind it.
_PATIENCE_MS: Final = 5_000

# And for the other members, once it has happened.
_MAJORITY: Final = {"w": "majority", "wtimeout": 30_000}


@dataclass(frozen=True, slots=True)
class Seal:
    """A rule whose old shape a validator refuses.

    `model` and `rule` are names. `query` finds the documents that are refused; it is BSON.
    `proven`: since it is refused, no such document was found. Until then it only protects.
    """

    model: str
    rule: str
    query: bytes
    proven: bool = True

    @property
    def name(self) -> str:
        """The rule with its model, for messages."""
        return f"{self.model}.{self.rule}"

    @property
    def digest(self) -> str:
        """What only seals of the same query have in common."""
        return sha256(self.query).hexdigest()

    @property
    def clause(self) -> dict[str, Any]:
        """The clause of the validator."""
        state = "sealed" if self.proven else "sealing"
        comment = {"$comment": f"lazymig: {state} {self.name}"}
        return {"$and": [comment, RawBSONDocument(self.query)]}


@dataclass(frozen=True, slots=True)
class Validator:
    """The validator of a collection.

    `kind` is `"collection"`, `"view"` or `"timeseries"`. `theirs` is what somebody else has set, as
    BSON; `None` for nothing. `level` and `action` say what it does; `None` for MongoDB's default.
    """

    kind: str
    theirs: bytes | None
    seals: tuple[Seal, ...]
    level: str | None
    action: str | None

    @property
    def refuses(self) -> bool:
        """Return whether whatever a document comes from, it is refused if it is invalid."""
        return self.level in (None, "strict") and self.action in (None, "error")

    @property
    def counting(self) -> tuple[Seal, ...]:
        """The seals by which it is certain that no document of their queries is stored."""
        return tuple(seal for seal in self.seals if seal.proven) if self.refuses else ()

    def with_seals(self, seals: Sequence[Seal]) -> Mapping[str, Any]:
        """The whole of the validator with these seals in place of its own."""
        if not seals:
            return {} if self.theirs is None else RawBSONDocument(self.theirs)
        refused = {"$nor": [seal.clause for seal in seals]}
        if self.theirs is None:
            return refused
        return {"$and": [RawBSONDocument(self.theirs), refused]}


def _query_to_seal(class_filter: Mapping[str, Any] | None, rule: BoundRule) -> dict[str, Any]:
    """The query whose documents the seal of a rule refuses, alike in every process.

    :param class_filter: the condition on `_cls` that is part of the rule's target. The order of its
        names is that in which a process has imported the classes.
    """
    ordered = class_filter
    if class_filter is not None:
        ordered = {
            path: {operator: sorted(names) for operator, names in condition.items()}
            for path, condition in class_filter.items()
        }
    return all_of(ordered, rule.declared.target)


def seal_of(
    class_filter: Mapping[str, Any] | None, rule: BoundRule, uuid_representation: int
) -> Seal:
    """The seal of a rule with a target.

    :raises Exception: BSON cannot encode the target in this representation.
    """
    options = CodecOptions[dict[str, Any]](uuid_representation=uuid_representation)
    query = bson.encode(_query_to_seal(class_filter, rule), codec_options=options)
    return Seal(rule.model_name, rule.name, query)


def read_validator(collection: Collection[Any]) -> Validator | None:
    """Ask the primary for the validator of a collection; `None` where there is no collection.

    :raises pymongo.errors.PyMongoError: the connection, or the right to list collections.
    """
    answer = collection.database.command(
        "listCollections", filter={"name": collection.name}, codec_options=_AS_BYTES
    )
    found = list(answer["cursor"]["firstBatch"])
    if not found:
        return None
    options = found[0].get("options", {})
    theirs, seals = _taken_apart(options.get("validator"))
    return Validator(
        str(found[0].get("type", "collection")),
        theirs,
        seals,
        options.get("validationLevel"),
        options.get("validationAction"),
    )


def seals_in_refusal(validator: Validator, error: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the seals that have refused a document; all where MongoDB does not say which.

    :param error: the error of the write, with the code `INVALID`.
    """
    names = tuple(seal.name for seal in validator.seals)
    details = error.get("errInfo", {}).get("details")
    if details is None:
        return names
    if validator.theirs is not None:
        failed = details.get("clausesNotSatisfied", ())
        details = next((each["details"] for each in failed if each["index"] == 1), {})
    met = {each["index"] for each in details.get("clausesSatisfied", ())}
    # Another seal may have come since the validator was read.
    return tuple(name for place, name in enumerate(names) if place in met)


def set_validator(collection: Collection[Any], validator: Mapping[str, Any]) -> None:
    """Replace the validator of a collection; on return most members of a replica set have it.

    :raises pymongo.errors.WriteConcernError: it is replaced, but not with most members.
    :raises pymongo.errors.OperationFailure: MongoDB refuses it, an open transaction holds the
        collection for more than five seconds, or the rights.
    :raises pymongo.errors.PyMongoError: the connection.
    """
    answer = collection.database.command(
        "collMod",
        collection.name,
        validator=validator,
        maxTimeMS=_PATIENCE_MS,
        writeConcern=_MAJORITY,
    )
    missed = answer.get("writeConcernError")
    if missed is not None:
        raise WriteConcernError(missed.get("errmsg"), missed.get("code"), missed)


def _taken_apart(validator: Any) -> tuple[bytes | None, tuple[Seal, ...]]:
    """What somebody else has set, and the seals; a form that is not ours is somebody else's."""
    if validator is None or not len(validator):
        return None, ()
    seals = _seals_in(validator)
    if seals:
        return None, seals
    both = validator.get("$and") if len(validator) == 1 else None
    if isinstance(both, Sequence) and len(both) == 2 and isinstance(both[0], RawBSONDocument):
        seals = _seals_in(both[1])
        if seals:
            return bytes(both[0].raw), seals
    return bytes(validator.raw), ()


def _seals_in(condition: Any) -> tuple[Seal, ...]:
    clauses = condition.get("$nor") if _is_document(condition) and len(condition) == 1 else None
    seals = [_seal_in(clause) for clause in clauses or ()]
    return () if None in seals else tuple(seal for seal in seals if seal is not None)


def _seal_in(clause: Any) -> Seal | None:
    both = clause.get("$and") if _is_document(clause) and len(clause) == 1 else None
    if not isinstance(both, Sequence) or len(both) != 2 or not all(map(_is_document, both)):
        return None
    comment, query = both
    said = comment.get("$comment")
    named = _COMMENT.fullmatch(said) if isinstance(said, str) and len(comment) == 1 else None
    if named is None:
        return None
    return Seal(named[2], named[3], bytes(query.raw), named[1] == "sealed")


def _is_document(value: Any) -> bool:
    return isinstance(value, RawBSONDocument)
