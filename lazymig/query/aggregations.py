"""The paths of the stored documents that an aggregation reads, as far as they are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from lazymig.query.expressions import expression_paths
from lazymig.query.matching import query_paths
from lazymig.query.operators import holds_any
from lazymig.raw.paths import root

__all__ = [
    "Reach",
    "aggregated_paths",
    "first_alone",
    "fronted",
    "gathers",
    "leading_match",
    "reads_parts",
    "starts_in_order",
]

# After one of these stages nothing is left of a document but what the stage names.
_SHAPING: Final = frozenset({"$bucket", "$bucketAuto", "$count", "$group", "$sortByCount"})

# These hand on every field, or, as `$project`, may do so.
_PASSING: Final = frozenset(
    {"$addFields", "$limit", "$match", "$project", "$sample", "$set", "$skip", "$sort", "$unwind"}
)

# These hand on every field, and read of the documents that enter them what stands at these keys.
_JOINING: Final[Mapping[str, tuple[str, ...]]] = {
    "$graphLookup": ("startWith",),
    "$lookup": ("localField", "let"),
    "$unionWith": (),
}

# These have read every document that enters them before one leaves them.
_GATHERING: Final = _SHAPING | {"$facet"}

# These let through what comes first.
_CUTTING: Final = frozenset({"$limit", "$skip"})

# In front of these no other stage may stand.
_FIRST: Final = frozenset(
    {"$changeStream", "$collStats", "$currentOp", "$documents", "$geoNear", "$indexStats"}
    | {"$listLocalSessions", "$listSessions", "$listSampledQueries", "$planCacheStats"}
    | {"$search", "$searchMeta", "$vectorSearch"}
)

_TEXT: Final = frozenset({"$text"})

# These write whole documents.
_WRITING: Final = frozenset({"$merge", "$out"})


def aggregated_paths(pipeline: Any) -> frozenset[str] | None:
    """Return paths that include all that a pipeline reads of the documents that enter it.

    :param pipeline: a list of stages.
    :return: dotted paths; `None` if it reads whole documents, or if that is not known.
    """
    if not isinstance(pipeline, Sequence) or not all(
        isinstance(stage, Mapping) and len(stage) == 1 for stage in pipeline
    ):
        return None
    stages = [next(iter(stage.items())) for stage in pipeline]
    if any(name in _WRITING for name, _ in stages):
        return None
    found: set[str] = set()
    for name, body in stages:
        paths = _read_by(name, body)
        if paths is None:
            return None
        found |= paths
        if name in _SHAPING or name == "$facet" or (name == "$project" and _includes(body)):
            return frozenset(found)
    return None


def leading_match(pipeline: Sequence[Any]) -> Mapping[str, Any] | None:
    """Return what a pipeline asks first of the documents that enter it; None: it does not."""
    first = pipeline[0] if pipeline else None
    query = first.get("$match") if isinstance(first, Mapping) and len(first) == 1 else None
    # MongoDB takes `$text` in a first stage alone, and in few places of it.
    return query if isinstance(query, Mapping) and "$text" not in query else None


def gathers(pipeline: Sequence[Any]) -> bool:
    """Return whether a pipeline has read everything before it gives, or writes, anything."""
    return any(
        isinstance(stage, Mapping) and not _GATHERING.isdisjoint(stage) for stage in pipeline
    )


def starts_in_order(pipeline: Sequence[Any]) -> bool:
    """Return whether a pipeline begins with a `$sort` and a `$limit`."""
    return [next(iter(stage), None) for stage in pipeline[:2] if isinstance(stage, Mapping)] == [
        "$sort",
        "$limit",
    ]


def reads_parts(pipeline: Sequence[Any]) -> bool:
    """Return whether a pipeline gives the same if its documents come as one part after another.

    One that hands out documents in the order in which they lie there does not, nor does one that
    takes the first of them; and what writes might write into what is still to be read.
    """
    if any(not isinstance(stage, Mapping) or not _WRITING.isdisjoint(stage) for stage in pipeline):
        return False
    if starts_in_order(pipeline):
        return True
    return gathers(pipeline) and _CUTTING.isdisjoint(pipeline[0])


def first_alone(pipeline: Sequence[Any]) -> str | None:
    """Return the name of the stage in front of which no other may stand; `None` without one."""
    first = pipeline[0] if pipeline else None
    if not isinstance(first, Mapping):
        return None
    if holds_any(first.get("$match"), _TEXT):
        return "$text"
    return next((str(name) for name in first if name in _FIRST), None)


@dataclass(frozen=True, slots=True)
class Reach:
    """What a stage reads of a collection, or merges into it, besides the documents that enter it.

    :param stage: the name of the stage.
    :param database: the name of the database, `None` for that of the aggregation.
    :param collection: the name of the collection.
    :param paths: what is read of its documents, as for `aggregated_paths`.
    :param sought: the path by which documents are sought anew for each that enters the stage.
    :param matched: what is asked of them first.
    :param opens: whether stages may stand before what it reads of them.
    """

    stage: str
    database: str | None
    collection: str
    paths: frozenset[str] | None
    sought: str | None = None
    matched: Mapping[str, Any] | None = None
    opens: bool = False


Front: TypeAlias = "Callable[[Reach], list[Any] | None]"
"""Gives the stages that come first in what a stage reads of another collection.

They stand in the place of what is asked first there. None: it stays as it is.
"""


def fronted(pipeline: Any, front: Front) -> Any:
    """Return a pipeline with stages before whatever it reads of other collections.

    :param pipeline: a list of stages. What is malformed is left to MongoDB.
    :param front: is asked for each collection, in the order of the pipeline; it gives None for one
        that does not open.
    :return: the same object where no stage was given.
    """
    if not isinstance(pipeline, Sequence) or isinstance(pipeline, str):
        return pipeline
    stages = [_fronted(pipeline, index, front) for index in range(len(pipeline))]
    changed = any(one is not other for one, other in zip(stages, pipeline, strict=True))
    return stages if changed else pipeline


def _fronted(pipeline: Sequence[Any], index: int, front: Front) -> Any:
    """One stage of a pipeline, with stages inside of it."""
    stage = pipeline[index]
    if not isinstance(stage, Mapping) or len(stage) != 1:
        return stage
    ((name, body),) = stage.items()
    if name == "$facet" and isinstance(body, Mapping):
        facets = {key: fronted(inner, front) for key, inner in body.items()}
        same = all(facets[key] is inner for key, inner in body.items())
        return stage if same else {name: facets}
    if name in ("$lookup", "$graphLookup") and isinstance(body, Mapping):
        reach = _looked_up(name, body)
    elif name == "$unionWith":
        body = body if isinstance(body, Mapping) else {"coll": body}
        inner = body.get("pipeline") or []
        if not isinstance(inner, Sequence):
            return stage
        # Its documents reach the stages after it.
        paths = aggregated_paths([*inner, *pipeline[index + 1 :]])
        reach = _reach(name, body.get("coll"), paths, matched=leading_match(inner))
    elif name == "$merge":
        reach = _reach(name, body.get("into") if isinstance(body, Mapping) else body, None)
    else:
        return stage
    stages = None if reach is None else front(reach)
    inner = body.get("pipeline") if isinstance(body, Mapping) else None
    within = fronted(inner, front)
    if stages is None or reach is None:
        return stage if within is inner else {name: {**body, "pipeline": within}}
    left = list(within or [])[0 if reach.matched is None else 1 :]
    return {name: {**body, "pipeline": [*stages, *left]}}


def _looked_up(name: str, body: Mapping[str, Any]) -> Reach | None:
    inner = body.get("pipeline")
    paths = None if inner is None else aggregated_paths(inner)
    sought = str(body["foreignField"]) if "foreignField" in body else None
    if paths is not None and sought is not None:
        paths |= {sought}
    matched = leading_match(inner) if isinstance(inner, Sequence) else None
    return _reach(name, body.get("from"), paths, sought=sought, matched=matched)


def _reach(stage: str, place: Any, paths: frozenset[str] | None, **known: Any) -> Reach | None:
    database = None
    if isinstance(place, Mapping):
        database, place = place.get("db"), place.get("coll")
    if not isinstance(place, str):
        return None
    return Reach(stage, database, place, paths, **known, opens=stage in ("$lookup", "$unionWith"))


def _read_by(name: str, body: Any) -> frozenset[str] | None:
    if name == "$facet":
        return _read_by_facets(body)
    if name in _JOINING:
        if not isinstance(body, Mapping):
            return frozenset()
        computed = _read_by("$addFields", [body.get(key) for key in _JOINING[name]])
        if computed is None or "localField" not in body:
            return computed
        return computed | {str(body["localField"])}
    if name not in _SHAPING and name not in _PASSING:
        return None
    if name == "$match":
        return query_paths(body) if isinstance(body, Mapping) else None
    paths = expression_paths(body)
    if paths is not None and name in ("$project", "$sort") and isinstance(body, Mapping):
        paths |= {root(str(key)) for key in body}
    return paths


def _read_by_facets(body: Any) -> frozenset[str] | None:
    found: set[str] = set()
    for inner in body.values() if isinstance(body, Mapping) else ():
        paths = aggregated_paths(inner)
        if paths is None:
            return None
        found |= paths
    return frozenset(found)


def _includes(projection: Any) -> bool:
    """Return whether a projection names what it keeps, instead of what it leaves out."""
    return isinstance(projection, Mapping) and any(
        key != "_id"
        and (_computes(value) if isinstance(value, Mapping) else value not in (0, False))
        for key, value in projection.items()
    )


def _computes(value: Mapping[str, Any]) -> bool:
    """Return whether a projection has this for a computed field, which none has that leaves out."""
    return "$meta" not in value and any(str(name).startswith("$") for name in value)
