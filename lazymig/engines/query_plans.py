"""The plan of a query: where MongoDB would begin to read. Nothing is read of the documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pymongo.collection import Collection

__all__ = ["UNKNOWN", "stages_in", "stages_of", "summary_of"]

UNKNOWN: Final = "unknown plan"
"""What stands for a plan, or the part of one, that the server explains in another form."""

# A plan is a tree; these keys of a stage, or around it, lead to what is beneath.
_BENEATH = (
    "queryPlanner",
    "winningPlan",
    "queryPlan",
    "inputStage",
    "inputStages",
    "outerStage",
    "innerStage",
    "thenStage",
    "elseStage",
)


def stages_of(
    collection: Collection[Any], query: Mapping[str, Any], sort: Mapping[str, Any] | None = None
) -> list[tuple[str, str]]:
    """Return the stages of a query's plan that read, as `stages_in` does.

    :raises pymongo.errors.PyMongoError: the connection, the rights, or an invalid query.
    """
    find: dict[str, Any] = {"find": collection.name, "filter": query}
    if sort:
        find["sort"] = sort
    answer = collection.database.command(
        {"explain": find, "verbosity": "queryPlanner"}, codec_options=collection.codec_options
    )
    return stages_in(answer)


def stages_in(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the stages of an explained plan that read, each once, with the name of the index.

    The name is empty for a stage without an index, such as `COLLSCAN`. The form differs between
    versions, engines and deployments, and is nobody's promise: what is not known is `UNKNOWN`.
    """
    return list(dict.fromkeys(_leaves(answer)))


def summary_of(stages: list[tuple[str, str]]) -> str:
    """Return the stages in words, such as `IXSCAN enabled_1`."""
    return ", ".join(f"{stage} {index}" if index else stage for stage, index in stages)


def _leaves(plan: Any) -> Iterator[tuple[str, str]]:
    """The stages of a plan that read, each with the name of its index, or an empty string."""
    beneath = _beneath(plan)
    for part in beneath:
        yield from _leaves(part)
    if not beneath:
        stage = plan.get("stage") if isinstance(plan, Mapping) else None
        yield (stage, str(plan.get("indexName", ""))) if isinstance(stage, str) else (UNKNOWN, "")


def _beneath(plan: Any) -> list[Any]:
    if isinstance(plan, list):
        return plan
    if not isinstance(plan, Mapping):
        return []
    beneath = [plan[key] for key in _BENEATH if key in plan]
    # Those of a query are a list; those of an aggregation, as which some views are explained, are
    # a document by the names of the shards.
    if (shards := plan.get("shards")) is not None:
        beneath.append(list(shards.values()) if isinstance(shards, Mapping) else shards)
    if isinstance(stages := plan.get("stages"), list):
        # Only what has a plan reads the collection.
        each = (value for stage in stages if isinstance(stage, Mapping) for value in stage.values())
        found = [value for value in each if isinstance(value, Mapping) and "queryPlanner" in value]
        beneath.append(found)
    return beneath
