"""Loops and comprehensions over lists and fields of the document."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from lazymig.rules.translating.context import Context
from lazymig.rules.translating.symbols import Left

__all__ = ["grow"]


def grow(context: Context, statement: ast.For, run: Callable[..., Any]) -> None:
    """Follow a loop."""
    del context, run
    raise Left(statement, "loops")
