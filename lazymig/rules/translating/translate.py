"""The translation of a computed rule: `translate` reads its method and gives an update."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from types import FunctionType
from typing import Any, Final

import bson
from bson.errors import BSONError

from lazymig.characters import cut
from lazymig.query.expressing import depth_of
from lazymig.query.tree import Node
from lazymig.raw.encoding import ANY_UUID
from lazymig.rules.rule import Rule, RuleHandler
from lazymig.rules.translating import calls, expressions
from lazymig.rules.translating.context import Context
from lazymig.rules.translating.outcomes import Fork, Way, condition_of, leaves
from lazymig.rules.translating.scope import Scope
from lazymig.rules.translating.statements import run, source_of
from lazymig.rules.translating.symbols import HANDLER, Constant, Left, Symbol, is_plain
from lazymig.rules.translating.updates import Changes, changes_of, keep_parents, stages
from lazymig.rules.translation import LeftToPython, Translation
from lazymig.updates.update import check_update

__all__ = ["translate"]

# The modules that register what evaluates the syntax.
_REGISTERED: Final = (calls, expressions)

_DEEPEST: Final = 90
_LARGEST: Final = 256 * 1024
_LONGEST_TEXT: Final = 120


def translate(
    rule: Rule,
    handler_class: type,
    doc_class: Any,
    target: Mapping[str, Any],
    tree: Node,
) -> Translation | LeftToPython:
    """Read the source of a computed rule; nothing of it is run.

    :param target: what the rule sets as its target when it has no document.
    :param tree: the same, parsed.
    :returns: an update by the server with the condition under which it leaves exactly what the
        method would, or the first expression of the rule that has no exact equal there.
    """
    method = rule.method
    if not isinstance(method, FunctionType):
        return LeftToPython(rule.name, None, "its source cannot be read")
    context = Context(handler_class, doc_class, target, tree)
    try:
        return _translated(context, method)
    except Left as left:
        return _left(method, left)
    except RecursionError:
        return _left(method, Left(None, "is too deep to be translated"))


def _left(method: FunctionType, left: Left) -> LeftToPython:
    line = getattr(left.node, "lineno", None)
    text = method.__name__
    if left.node is not None:
        text = ast.unparse(left.node).partition("\n")[0]
    return LeftToPython(
        cut(text, _LONGEST_TEXT), line or method.__code__.co_firstlineno, left.reason
    )


def _translated(context: Context, method: FunctionType) -> Translation:
    _check_handler(context.handler_class)
    source = source_of(method, None)
    if not isinstance(source, ast.FunctionDef):
        raise Left(source, "is no plain function")
    names = _parameters(source, method)
    context.handler_name = next(iter(names))

    def finish(_value: Symbol | None) -> tuple[Changes, Scope] | None:
        update = context.attributes.get("update")
        if update is None:
            return None
        return changes_of(context, update, source), context.scope

    with context.calling(method, None), context.naming(names):
        outcome = run(context, source.body, finish)
        return _joined(context, outcome, source)


def _check_handler(handler_class: type) -> None:
    """Refuse a handler that gives or takes attributes in its own way.

    :raises Left: it does.
    """
    for name in ("doc", "doc_class", "__getattribute__", "__setattr__"):
        found, plain = (inspect.getattr_static(one, name) for one in (handler_class, RuleHandler))
        if found is not plain:
            raise Left(None, f"has a handler with a {name} of its own")


def _parameters(source: ast.FunctionDef, method: FunctionType) -> dict[str, Symbol]:
    """The handler, and the defaults of further parameters."""
    given = source.args
    names = [one.arg for one in (*given.posonlyargs, *given.args)]
    if not names or given.vararg or given.kwarg or given.kwonlyargs:
        raise Left(source, "takes other arguments than self")
    defaults = method.__defaults__ or ()
    if len(names) != len(defaults) + 1 or not all(map(is_plain, defaults)):
        raise Left(source, "takes other arguments than self")
    return {names[0]: HANDLER, **dict(zip(names[1:], map(Constant, defaults), strict=True))}


def _joined(
    context: Context, outcome: Way[tuple[Changes, Scope] | None], source: ast.AST
) -> Translation:
    ends = [end for end in leaves(outcome) if end is not None]
    if not ends:
        raise Left(source, "sets no update")
    written = {path for changes, _ in ends for path in changes.sets}
    removed = {path for changes, _ in ends for path in changes.removes}
    everywhere = removed.intersection(*(changes.removes for changes, _ in ends))
    for changes, scope in ends:
        with context.inside(scope):
            keep_parents(context, changes, (written | removed) - everywhere, source)
    plain = _without_scopes(outcome)
    update = stages(plain)
    guard = condition_of(plain, lambda end: end is not None)
    if guard is False:
        raise Left(source, "ends without an update")
    _check(update, guard, source)
    return Translation(update, None if guard is True else guard)


def _without_scopes(outcome: Way[tuple[Changes, Scope] | None]) -> Way[Changes | None]:
    end = outcome.end
    if isinstance(end, Fork):
        fork = Fork(end.test, _without_scopes(end.yes), _without_scopes(end.no))
        return Way(outcome.conditions, fork)
    return Way(outcome.conditions, None if end is None else end[0])


def _check(update: list[dict[str, Any]], guard: Any, source: ast.AST) -> None:
    """Hold the result against what MongoDB takes: its depth, its size, its paths."""
    if max(depth_of(update), depth_of(guard)) > _DEEPEST:
        raise Left(source, "is too deep to be translated")
    try:
        check_update(update)
        size = len(bson.encode({"update": update, "guard": guard}, codec_options=ANY_UUID))
    except (ValueError, BSONError, OverflowError) as exc:
        raise Left(source, f"gives a pipeline that MongoDB refuses: {exc}") from exc
    if size > _LARGEST:
        raise Left(source, "is too long to be translated")
