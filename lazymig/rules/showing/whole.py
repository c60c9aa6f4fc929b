"""The whole document, as rules know it: without what the stages have put into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lazymig.query.expressing import Expression

__all__ = ["MARK", "NOTES", "over_whole"]

MARK: Final = "__lazymig"
"""The top-level field in which stages keep notes; others whose names begin so are notes too."""


def _those(*, noted: bool) -> Expression:
    found = {"$indexOfBytes": ["$$f.k", MARK]}
    condition = {"$eq" if noted else "$ne": [found, 0]}
    fields = {"$filter": {"input": {"$objectToArray": "$$ROOT"}, "as": "f", "cond": condition}}
    return {"$arrayToObject": fields}


NOTES: Final[Expression] = _those(noted=True)
"""The notes alone, as a document."""

_WITHOUT_NOTES: Final[Expression] = _those(noted=False)


def over_whole(expression: Any) -> Expression:
    """Return an expression that does not see the notes where it reads the whole document."""
    if expression in ("$$ROOT", "$$CURRENT"):
        return _WITHOUT_NOTES
    if isinstance(expression, Mapping):
        return {
            name: value if name == "$literal" else over_whole(value)
            for name, value in expression.items()
        }
    if isinstance(expression, (list, tuple)):
        return [over_whole(one) for one in expression]
    return expression
