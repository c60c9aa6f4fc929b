"""The test kit for users: old documents in, documents of today's shape out, and checks in between.

The names are imported when they are asked for, so that the pytest plugin costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lazymig.testing.assertions import (
        assert_idempotent,
        assert_lazy_equals_bulk,
        assert_migrates,
    )
    from lazymig.testing.golden import GoldenCase, golden_cases
    from lazymig.testing.scratch import migrated
    from lazymig.testing.strategies import old_documents

__all__ = [
    "GoldenCase",
    "assert_idempotent",
    "assert_lazy_equals_bulk",
    "assert_migrates",
    "golden_cases",
    "migrated",
    "old_documents",
]

_ROOMS = {
    "GoldenCase": "golden",
    "assert_idempotent": "assertions",
    "assert_lazy_equals_bulk": "assertions",
    "assert_migrates": "assertions",
    "golden_cases": "golden",
    "migrated": "scratch",
    "old_documents": "strategies",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
