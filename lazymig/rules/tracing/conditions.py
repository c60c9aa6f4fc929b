"""The conditions of a rule that is read and not run: those with the same outcome in every run."""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING

from lazymig.rules.tracing.frames import Frame
from lazymig.rules.tracing.values import (
    BOTH,
    DOCUMENT,
    HANDLER,
    UNKNOWN,
    Bound,
    Box,
    Function,
    Known,
    Partial,
    Value,
    Values,
    is_object,
    is_scalar,
    one,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lazymig.rules.tracing.statements import Tracer

__all__ = ["compare", "truth"]


def truth(tracer: Tracer, test: ast.expr) -> bool | None:
    """Follow a condition; return what it is, where it is the same whenever the rule runs."""
    if isinstance(test, ast.BoolOp):
        verdicts = [truth(tracer, part) for part in test.values]
        decisive = isinstance(test.op, ast.Or)
        if decisive in verdicts:
            return decisive
        return None if None in verdicts else not decisive
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        verdict = truth(tracer, test.operand)
        return None if verdict is None else not verdict
    values = tracer.eval(test)
    tracer.read_all(values)
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if isinstance(test, ast.Compare):
        return _compared(tracer, test)
    if isinstance(test, ast.Call):
        return _answered(tracer, test)
    if isinstance(test, ast.Name) and _is_fixed(tracer, test):
        return _agreed(map(_truth_of, values))
    return None


def compare(tracer: Tracer, node: ast.Compare) -> Values:
    """Follow a comparison, and note what it reads of the document."""
    left = tracer.eval(node.left)
    for op, comparator in zip(node.ops, node.comparators, strict=True):
        right = tracer.eval(comparator)
        if isinstance(op, (ast.In, ast.NotIn)):
            if DOCUMENT in right:
                tracer.read(left)
            if DOCUMENT in left:
                tracer.read_all()
        elif isinstance(op, (ast.Is, ast.IsNot)):
            # Of a stand-in for a value this is never true.
            tracer.reads_types |= UNKNOWN in left | right
        elif DOCUMENT in left | right:
            tracer.read_all()
        left = right
    return BOTH


def _compared(tracer: Tracer, test: ast.Compare) -> bool | None:
    """The outcome of a comparison of two constants; of the model with a class, say."""
    if len(test.ops) != 1 or not isinstance(test.ops[0], (ast.Is, ast.IsNot, ast.Eq, ast.NotEq)):
        return None
    sides = (test.left, test.comparators[0])
    if not all(_is_fixed(tracer, side) for side in sides):
        return None
    left, right = map(tracer.eval, sides)
    if len(left) != 1 or len(right) != 1:
        return None
    if not all(isinstance(value, Known) for value in left | right):
        return None
    return (left == right) is isinstance(test.ops[0], (ast.Is, ast.Eq))


def _is_fixed(tracer: Tracer, node: ast.expr) -> bool:
    """Return whether what an expression stands for is the same whenever the rule runs."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.Attribute):
        return node.attr == "doc_class" and tracer.eval(node.value) == one(HANDLER)
    if not isinstance(node, ast.Name):
        return False
    root = tracer.frame.root
    frame: Frame | None = tracer.frame
    while frame is not None:
        if node.id in frame.locals:
            return node.id in {arg.arg for arg in frame.node.args.args} and (
                frame.names.get(node.id) == frame.cells.get(node.id)
            )
        frame = frame.parent
    if node.id in root.outside:
        return (id(root.outside), node.id) not in tracer.assigned
    value = root.globals.get(node.id, getattr(builtins, node.id, None))
    return isinstance(value, type) or callable(value)


def _answered(tracer: Tracer, node: ast.Call) -> bool | None:
    """The outcome of a question about a constant; `None` where it is not known."""
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name not in ("callable", "isinstance", "issubclass") or not node.args or node.keywords:
        return None
    if not _is_fixed(tracer, node.args[0]):
        return None
    values = tracer.eval(node.args[0])
    if name == "callable":
        return _agreed(map(_is_callable, values))
    belongs = _is_instance if name == "isinstance" else _is_subclass
    kinds = tracer.eval(node.args[-1])
    return _agreed(belongs(value, kind) for value in values for kind in kinds)


def _agreed(verdicts: Iterable[bool | None]) -> bool | None:
    distinct = set(verdicts)
    return distinct.pop() if len(distinct) == 1 else None


def _truth_of(value: Value) -> bool | None:
    if is_scalar(value) and not isinstance(value.value, bytes):
        return bool(value.value)
    return True if isinstance(value, Known) and callable(value.value) else None


def _is_callable(value: Value) -> bool | None:
    if isinstance(value, Known):
        return callable(value.value)
    if isinstance(value, (Function, Bound, Partial)):
        return True
    return False if isinstance(value, Box) and not is_object(value) else None


def _is_instance(value: Value, kind: Value) -> bool | None:
    if not isinstance(kind, Known) or not isinstance(kind.value, type):
        return None
    return isinstance(value.value, kind.value) if isinstance(value, Known) else None


def _is_subclass(value: Value, kind: Value) -> bool | None:
    if not isinstance(kind, Known) or not isinstance(kind.value, type):
        return None
    if not isinstance(value, Known):
        return None
    return isinstance(value.value, type) and issubclass(value.value, kind.value)
