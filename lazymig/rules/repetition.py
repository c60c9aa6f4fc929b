"""The updates that may be applied to a document twice. Pure: no database, no MongoEngine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lazymig.raw.paths import overlaps
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.rule import Scope
from lazymig.updates.operators import OPERATORS
from lazymig.updates.update import written_paths

__all__ = ["is_repeatable", "may_be_repeated", "tells_what_is_left"]

# Variables of a pipeline that are no part of the document.
_CONSTANTS = frozenset({"$$NOW", "$$REMOVE"})


def is_repeatable(update: Any) -> bool:
    """Return whether a second application provably leaves a document as the first one has made it.

    :param update: operators or a pipeline, with no values left open.
    """
    if isinstance(update, Mapping):
        return all(OPERATORS[operator].repeatable for operator in update) and not any(
            "$" in path for fields in update.values() for path in fields
        )
    written = written_paths(update)
    if written is None:
        return False
    reads = [text for text in _texts(update) if text.startswith("$") and text not in _CONSTANTS]
    return not any(
        text.startswith("$$") or any(overlaps(text[1:], path) for path in written) for text in reads
    )


def may_be_repeated(rule: BoundRule, scope: Scope) -> bool | None:
    """Return whether an interrupted application may be begun anew: nothing is written twice.

    `None` where only the updates computed for the documents decide.
    """
    if rule.converges is True or rule.once is not None:
        return True
    if rule.by_hand:
        return scope == "lazy"
    if rule.kind == "static":
        return is_repeatable(rule.update) or (None if scope == "lazy" else False)
    return None if scope == "lazy" else rule.converges


def tells_what_is_left(rule: BoundRule, scope: Scope) -> bool | None:
    """Return whether the target finds the documents that an application has not reached yet.

    `None` where only the updates computed for the documents decide.
    """
    if rule.target is None:
        return False
    if scope == "lazy" or rule.converges is True:
        return True
    return None if may_be_repeated(rule, scope) is None else False


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
