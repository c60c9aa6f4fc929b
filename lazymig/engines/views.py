"""The views of a database, and which of them lazymig has made.

A view has nothing but its pipeline to say what it is. The first stage of one of lazymig names the
model, `{"$match": {"$comment": "lazymig: view of User"}}`, which matches all and costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.database import Database

__all__ = [
    "Namespace",
    "Stages",
    "change_view",
    "drop_view",
    "encoded_stages",
    "made_by_lazymig",
    "make_view",
    "named_in",
    "views_on",
]

Stages = tuple[bytes, ...]
"""A pipeline, each stage as BSON: what is compared here is not read otherwise."""

_AS_BYTES: Final[CodecOptions[Any]] = CodecOptions(document_class=RawBSONDocument)

_COMMENT: Final = re.compile(r"lazymig: view of (\w+)")

# Milliseconds that a change waits for open transactions: all other operations wait behind it.
_PATIENCE_MS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Namespace:
    """What a name in a database stands for.

    `kind` is `"collection"`, `"view"` or `"timeseries"`. `on` is what a view is made of, and
    `model` the name of the model whose documents a view of lazymig holds. `collation` is BSON.
    """

    name: str
    kind: str
    on: str | None
    model: str | None
    stages: Stages
    collation: bytes | None


def made_by_lazymig(model: str) -> dict[str, Any]:
    """The stage that says of a view that lazymig has made it, and of which model."""
    return {"$match": {"$comment": f"lazymig: view of {model}"}}


def encoded_stages(collection: Collection[Any], pipeline: Sequence[Mapping[str, Any]]) -> Stages:
    """A pipeline as the client of a collection would send it.

    :raises Exception: BSON cannot encode it.
    """
    options = collection.codec_options
    return tuple(bson.encode(stage, codec_options=options) for stage in pipeline)


def named_in(database: Database[Any], name: str) -> Namespace | None:
    """Ask the primary what a name stands for; `None` for nothing.

    :raises pymongo.errors.PyMongoError: the connection, or the right to list collections.
    """
    found = _listed(database, {"name": name})
    return found[0] if found else None


def views_on(collection: Collection[Any]) -> list[Namespace]:
    """Ask the primary for the views of lazymig that are made of a collection, by name.

    :raises pymongo.errors.PyMongoError: the connection, or the right to list collections.
    """
    found = _listed(collection.database, {"type": "view", "options.viewOn": collection.name})
    return sorted((each for each in found if each.model is not None), key=lambda each: each.name)


def make_view(
    collection: Collection[Any], name: str, stages: Stages, collation: bytes | None
) -> None:
    """Make a view of a collection.

    :raises pymongo.errors.PyMongoError: MongoDB refuses it, the name is taken, or the rights.
    """
    # A view compares by its own collation, not by that of what it is made of.
    options: dict[str, Any] = {} if collation is None else {"collation": RawBSONDocument(collation)}
    collection.database.command(
        "create", name, viewOn=collection.name, pipeline=_sent(stages), **options
    )


def change_view(collection: Collection[Any], name: str, stages: Stages) -> None:
    """Give a view of a collection another pipeline; who reads it meanwhile misses nothing.

    :raises pymongo.errors.PyMongoError: MongoDB refuses it, an open transaction that has read the
        view holds it for more than five seconds, or the rights.
    """
    collection.database.command(
        "collMod",
        name,
        viewOn=collection.name,
        pipeline=_sent(stages),
        maxTimeMS=_PATIENCE_MS,
    )


def drop_view(database: Database[Any], name: str) -> None:
    """Drop a view.

    :raises pymongo.errors.PyMongoError: as from `change_view`.
    """
    database.command("drop", name, maxTimeMS=_PATIENCE_MS)


def _sent(stages: Stages) -> list[Any]:
    return [RawBSONDocument(stage) for stage in stages]


def _listed(database: Database[Any], query: Mapping[str, Any]) -> list[Namespace]:
    # Not by list_collections, which decodes: the options may hold what Python cannot.
    command = {"listCollections": 1, "filter": query, "cursor": {}}
    with database.cursor_command(command, codec_options=_AS_BYTES) as cursor:
        return [_namespace(found) for found in cursor]


def _namespace(found: Any) -> Namespace:
    options = found.get("options", {})
    stages: Sequence[Any] = options.get("pipeline", ())
    collation = options.get("collation")
    return Namespace(
        name=str(found["name"]),
        kind=str(found.get("type", "collection")),
        on=options.get("viewOn"),
        model=_model_in(stages),
        stages=tuple(bytes(stage.raw) for stage in stages),
        collation=None if collation is None else bytes(collation.raw),
    )


def _model_in(stages: Sequence[Any]) -> str | None:
    """The model that the first stage of a pipeline names, if it is that of lazymig."""
    condition = stages[0].get("$match") if stages and len(stages[0]) == 1 else None
    if not isinstance(condition, RawBSONDocument) or len(condition) != 1:
        return None
    said = condition.get("$comment")
    named = _COMMENT.fullmatch(said) if isinstance(said, str) else None
    return None if named is None else named[1]
