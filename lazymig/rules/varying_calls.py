"""Calls in the source of a rule that give another value each time: the clock, chance, new ids."""

from __future__ import annotations

import ast
import os
import random
import secrets
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import date
from inspect import getclosurevars
from types import FunctionType, ModuleType
from typing import Any, Final

from bson import ObjectId

from lazymig.rules.rule import Rule
from lazymig.rules.tracing.source import syntax_of

__all__ = ["varying_call_of"]

_FUNCTIONS: Final = (
    *(time.time, time.time_ns, time.monotonic, time.monotonic_ns, time.perf_counter),
    *(uuid.uuid1, uuid.uuid4, os.urandom),
)
_CLOCKS: Final = frozenset({"now", "utcnow", "today"})


def varying_call_of(rule: Rule) -> str | None:
    """Return a call in a rule's method that gives another value each time, as it is written.

    Only the method itself is looked at, not what it calls, and only calls by names of modules and
    classes: nothing is executed.
    """
    method = rule.method
    if not isinstance(method, FunctionType):
        return None
    names = _names_of(method)
    for node in syntax_of(method):
        known = {**names, **dict(_imported_in(node))}
        for part in ast.walk(node):
            if isinstance(part, ast.Call):
                called = _value_of(part.func, known)
                if _varies(called) and not (called is ObjectId and part.args):
                    return ast.unparse(part)
    return None


def _names_of(method: FunctionType) -> dict[str, Any]:
    try:
        found = getclosurevars(method)
    except (TypeError, ValueError):
        return {}
    return {**found.globals, **found.nonlocals}


def _imported_in(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """The names that a method imports by itself, as far as the modules are loaded already."""
    for part in ast.walk(node):
        if isinstance(part, ast.Import):
            for each in part.names:
                module = each.name if each.asname else each.name.partition(".")[0]
                yield each.asname or module, sys.modules.get(module)
        elif isinstance(part, ast.ImportFrom):
            for each in part.names:
                value = getattr(sys.modules.get(part.module or ""), each.name, None)
                yield each.asname or each.name, value


def _value_of(node: ast.expr, known: dict[str, Any]) -> Any:
    """What a dotted name stands for, through modules and classes alone; None if that is unknown."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _value_of(node.value, known)
        if isinstance(owner, (ModuleType, type)):
            return getattr(owner, node.attr, None)
    return None


def _varies(called: Any) -> bool:
    if called is ObjectId or any(called is each for each in _FUNCTIONS):
        return True
    owner = getattr(called, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, date):
        return getattr(called, "__name__", None) in _CLOCKS
    return isinstance(owner, random.Random) or (
        isinstance(called, FunctionType) and called.__module__ == secrets.__name__
    )
