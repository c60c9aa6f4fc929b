"""A computed rule as a server-side update, or the reason why it is left to Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lazymig.raw.json_values import JsonValue

__all__ = ["LeftToPython", "Translation"]


@dataclass(frozen=True, slots=True)
class Translation:
    """What a rule's method does, as an update by the server.

    `update` is a pipeline: `$set` and `$unset` stages, computed from the stored document. `guard`
    is an aggregation expression that is true for the documents of the target for which the update
    leaves exactly what the method would; `None`: for all of them. Neither raises for any document
    on the server: the guard is total, and the update is where the guard holds.
    """

    update: list[dict[str, Any]]
    guard: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LeftToPython(JsonValue):
    """Why a rule is computed in Python: the first expression without an exact equal on the server.

    :ivar expression: the source text of the expression, or of the statement's first line.
    :ivar line: its line in the file; `None` where there is no source.
    :ivar reason: what completes "is computed in Python, because it ...".
    """

    expression: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        line = "" if self.line is None else f" in line {self.line}"
        return f"it {self.reason} ({self.expression}{line})"
