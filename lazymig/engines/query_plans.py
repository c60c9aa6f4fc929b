"""The plan of a query: where MongoDB would begin to read. Nothing is read of the documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pymongo.collection import Collection

__all__ = ["stages_of", "summary_of"]

# A plan is a tree; these keys of a stage, or around it, lead to what is beneath.
_BENEATH = (
    "winningPlan",
    "queryPlan",
    "shards",
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
    """Return the stages of a query's plan that read, each once, with the name of the index.

    The name is empty for a stage without an index, such as `COLLSCAN`.

    :raises pymongo.errors.PyMongoError: the connection, the rights, or an invalid query.
    """
    find: dict[str, Any] = {"find": collection.name, "filter": query}
    if sort:
        find["sort"] = sort
    answer = collection.database.command(
        {"explain": find, "verbosity": "queryPlanner"}, codec_options=collection.codec_options
    )
    # Of some views MongoDB explains the aggregation that they are.
    planner = answer.get("queryPlanner") or answer["stages"][0]["$cursor"]["queryPlanner"]
    return list(dict.fromkeys(_leaves(planner["winningPlan"])))


def summary_of(stages: list[tuple[str, str]]) -> str:
    """Return the stages in words, such as `IXSCAN enabled_1`."""
    return ", ".join(f"{stage} {index}" if index else stage for stage, index in stages)


def _leaves(plan: Any) -> Iterator[tuple[str, str]]:
    """The stages of a plan that read, each with the name of its index, or an empty string."""
    if isinstance(plan, list):
        for part in plan:
            yield from _leaves(part)
        return
    beneath = [plan[key] for key in _BENEATH if key in plan]
    if beneath:
        yield from _leaves(beneath)
    elif "stage" in plan:
        yield str(plan["stage"]), str(plan.get("indexName", ""))
