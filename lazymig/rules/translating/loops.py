"""Loops and comprehensions, over lists and the fields of objects."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lazymig.rules.translating.characters import is_field_name
from lazymig.rules.translating.conditions import truth
from lazymig.rules.translating.containers import ARRAY, OBJECT, as_object, items_of, merged
from lazymig.rules.translating.context import Context, evaluates
from lazymig.rules.translating.outcomes import Way, condition_of, decided, leaves
from lazymig.rules.translating.scope import choice
from lazymig.rules.translating.symbols import (
    DOCUMENT,
    Computed,
    Constant,
    Left,
    Record,
    Row,
    Symbol,
    Types,
    as_computed,
    is_name,
)

__all__ = ["grow", "known_items"]

_STRING: Final[Types] = frozenset({"string"})
_VIEWS: Final = frozenset({"items", "keys", "values"})


@dataclass(frozen=True, slots=True)
class _Source:
    """What a loop goes over: the items are known, or they are those of an array.

    `name` is the variable that stands for one of them in expressions, `item` the same as a symbol.
    """

    known: Sequence[Symbol] | None
    array: Any = None
    name: str = ""
    item: Symbol | None = None

    def each(self, expression: Any, array: Any = None) -> Any:
        """Return the array of what an expression gives for each item."""
        source = self.array if array is None else array
        if expression == f"$${self.name}":
            return source
        return {"$map": {"input": source, "as": self.name, "in": expression}}

    def where(self, test: Any) -> Any:
        """Return the array of the items for which a test holds."""
        if test is True:
            return self.array
        return {"$filter": {"input": self.array, "as": self.name, "cond": test}}


def known_items(symbol: Symbol) -> Sequence[Symbol] | None:
    """Return the items of what is a list in the source; `None` where it is the document's."""
    if isinstance(symbol, Row) and symbol.kind is not set:
        return symbol.items
    if isinstance(symbol, Constant) and isinstance(symbol.value, tuple):
        return [Constant(one) for one in symbol.value]
    return None


def _source(context: Context, node: ast.expr) -> _Source:
    view, owner = _view(context, node)
    if view and isinstance(owner, Record):
        keys = {key: Constant(key) for key in owner.items}
        rows: dict[str, Sequence[Symbol]] = {
            "keys": list(keys.values()),
            "values": list(owner.items.values()),
            "items": [Row((keys[key], item), tuple) for key, item in owner.items.items()],
        }
        return _Source(rows[view])
    if owner is DOCUMENT:
        raise Left(node, "loops over the document as a whole")
    if not view:
        found = known_items(owner)
        if found is not None:
            return _Source(found)
        value = context.require(owner, ARRAY, node, "loops over what is no list")
        name = context.variable("item")
        return _Source(None, value.expression, name, Computed(f"$${name}", value.items))
    fields = items_of(context, owner, node)
    name = context.variable("field")
    key, item = Computed(f"$${name}.k", _STRING), Computed(f"$${name}.v")
    items: dict[str, Symbol] = {"items": Row((key, item), tuple), "keys": key, "values": item}
    return _Source(None, fields.expression, name, items[view])


def _view(context: Context, node: ast.expr) -> tuple[str, Symbol]:
    """Whether a loop goes over the fields of a dict, and of what."""
    called = node.func if isinstance(node, ast.Call) and not (node.args or node.keywords) else None
    if isinstance(called, ast.Attribute) and called.attr in _VIEWS:
        return called.attr, context.looked_into(called.value)
    return "", context.evaluate(node)


def _bound(target: ast.expr, item: Symbol) -> dict[str, Symbol]:
    """The names of a loop for one item."""
    if isinstance(target, ast.Name):
        return {target.id: item}
    parts = known_items(item)
    if not isinstance(target, ast.Tuple) or parts is None or len(parts) != len(target.elts):
        raise Left(target, "unpacks the items of a list")
    names: dict[str, Symbol] = {}
    for one, part in zip(target.elts, parts, strict=True):
        names.update(_bound(one, part))
    return names


def _require_each(context: Context, source: _Source, guard: Any) -> None:
    """Require a condition of every item."""
    if guard is not True:
        tests = {"$map": {"input": source.array, "as": source.name, "in": guard}}
        context.scope.require({"$allElementsTrue": [tests]})


# --- Comprehensions -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Item:
    """One item of a comprehension: whether it is taken, and what is made of it."""

    test: Any
    made: tuple[Computed | Symbol, ...]


def _made(
    context: Context, part: ast.comprehension, item: Symbol, parts: Sequence[ast.expr]
) -> _Item:
    """Follow a comprehension for one item, in the context's own scope."""
    with context.naming({**context.names, **_bound(part.target, item)}):
        test = _all_tests(context, part.ifs)
        if test is False:
            return _Item(False, ())
        learned = test.if_true if isinstance(test, Computed) else {}
        with context.conditionally(context.scope.branch(learned)) as inner:
            made = tuple(context.evaluate(one) for one in parts)
        expression = test.expression if isinstance(test, Computed) else True
        context.scope.require(choice(expression, inner.guard, True))
        return _Item(expression, made)


def _all_tests(context: Context, tests: Sequence[ast.expr]) -> Computed | bool:
    if not tests:
        return True
    node: ast.expr = tests[0]
    if len(tests) > 1:
        node = ast.copy_location(ast.BoolOp(ast.And(), list(tests)), tests[0])
    return truth(context, context.evaluate(node), node)


def _generator(node: ast.ListComp | ast.GeneratorExp | ast.DictComp) -> ast.comprehension:
    if len(node.generators) != 1 or node.generators[0].is_async:
        raise Left(node, "has a comprehension of several loops")
    return node.generators[0]


@evaluates(ast.ListComp)
def _list(context: Context, node: ast.ListComp) -> Symbol:
    part = _generator(node)
    source = _source(context, part.iter)
    if source.known is not None:
        return _known_list(context, node, source.known)
    assert source.item is not None
    with context.conditionally(context.scope.branch()) as each:
        item = _made(context, part, source.item, [node.elt])
        value = as_computed(item.made[0], node) if item.made else None
        types = frozenset() if value is None else context.types_of(value)
    _require_each(context, source, each.guard)
    if value is None:
        return Row(())
    array = source.each(value.expression, source.where(item.test))
    return Computed(array, ARRAY, types, fresh=True)


def _known_list(context: Context, node: ast.ListComp, known: Sequence[Symbol]) -> Symbol:
    part = _generator(node)
    taken = [_made(context, part, item, [node.elt]) for item in known]
    if all(isinstance(item.test, bool) for item in taken):
        return Row(tuple(item.made[0] for item in taken if item.test))
    pieces = []
    for item in taken:
        if item.test is not False:
            one = [as_computed(item.made[0], node).expression]
            pieces.append(choice(item.test, one, {"$literal": []}))
    return Computed({"$concatArrays": pieces}, ARRAY, fresh=True)


@evaluates(ast.DictComp)
def _dict(context: Context, node: ast.DictComp) -> Symbol:
    part = _generator(node)
    source = _source(context, part.iter)
    if source.known is not None:
        return _known_dict(context, node, source.known)
    assert source.item is not None
    with context.conditionally(context.scope.branch()) as each:
        item = _made(context, part, source.item, [node.key, node.value])
        if not item.made:
            return Record({})
        key = as_computed(item.made[0], node)
        value = as_computed(item.made[1], node)
        if key.expression != f"$${source.name}.k":
            with context.inside(context.scope.branch()) as inner:
                text = context.require(key, _STRING, node.key, "makes a key of what is no string")
                inner.require(is_field_name(text.expression))
            each.require(choice(item.test, inner.guard, True))
    _require_each(context, source, each.guard)
    chosen = source.where(item.test)
    if key.expression != f"$${source.name}.k":
        keys = source.each(key.expression, chosen)
        distinct = {"$size": {"$setUnion": [keys, {"$literal": []}]}}
        context.scope.require({"$eq": [distinct, {"$size": keys}]})
    fields = {"k": key.expression, "v": value.expression}
    return Computed({"$arrayToObject": [source.each(fields, chosen)]}, OBJECT, fresh=True)


def _known_dict(context: Context, node: ast.DictComp, known: Sequence[Symbol]) -> Symbol:
    part = _generator(node)
    parts: list[Symbol] = []
    for one in known:
        item = _made(context, part, one, [node.key, node.value])
        if item.test is False:
            continue
        key, value = item.made
        if not isinstance(key, Constant) or not is_name(key.value):
            raise Left(node, "makes a dict with a key that is computed")
        record = Record({key.value: value})
        if item.test is not True:
            made = as_computed(record, node).expression
            parts.append(Computed(choice(item.test, made, {"$literal": {}}), OBJECT))
        elif parts and isinstance(parts[-1], Record):
            parts[-1] = Record({**parts[-1].items, **record.items})
        else:
            parts.append(record)
    return merged(parts, node) if parts else Record({})


# --- Loops ----------------------------------------------------------------------------------

_Ends = Way[Mapping[str, Symbol]]


def grow(context: Context, statement: ast.For, run: Callable[..., Any]) -> None:
    """Follow a loop over a list of the document, as a comprehension.

    It may append one thing at most to a list of the rule in each turn, and change the item.
    """
    if statement.orelse:
        raise Left(statement, "has a loop with an else")
    changed = _changed_item(statement)
    if changed:
        _check_own(context, statement)
    source = _source(context, statement.iter)
    if source.known is not None:
        raise Left(statement, "loops over what is known in part")
    assert source.item is not None
    lists = _appended(context, statement)
    with context.inside(context.scope.branch()):
        item = source.item
        if changed:
            found = as_object(context, item, statement)
            item = Computed(found.expression, OBJECT, fresh=True)
        stored = set(_stored(statement.body)) - {*lists, changed}
        names = {name: one for name, one in context.names.items() if name not in stored}
        names |= {name: Row(()) for name in lists}
        names |= _bound(statement.target, item)
        before = dict(context.attributes)
        with context.naming(names):
            outcome: _Ends = run(
                context, statement.body, lambda _: dict(context.names), in_loop=True
            )
            if context.attributes != before:
                raise Left(statement, "sets something on self in a loop")
        _check_kept(context, statement, outcome, {*lists, changed, *_stored([statement])})
    _require_each(context, source, condition_of(outcome, lambda _: True))
    for name in lists:
        context.names[name] = _grown(context, name, source, outcome, statement)
    if changed:
        _change_list(context, statement, changed, source, outcome)
    for name in _stored([statement]):
        if name not in lists:
            context.names.pop(name, None)


def _check_kept(context: Context, statement: ast.For, outcome: _Ends, own: Collection[str]) -> None:
    """Refuse a loop that changes what was there before it, from turn to turn."""
    for end in leaves(outcome):
        for name, symbol in context.names.items():
            if name not in own and end.get(name) is not symbol:
                raise Left(statement, f"changes {name} in each turn of a loop")


def _stored(body: Sequence[ast.stmt]) -> Iterator[str]:
    for statement in body:
        for part in ast.walk(statement):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                yield part.id


def _appended(context: Context, statement: ast.For) -> list[str]:
    """The lists of the rule that a loop appends to."""
    found: list[str] = []
    own_names = set(_stored(statement.body))
    for part in ast.walk(statement):
        if (
            isinstance(part, ast.Call)
            and isinstance(part.func, ast.Attribute)
            and part.func.attr == "append"
            and isinstance(part.func.value, ast.Name)
            and part.func.value.id not in own_names
        ):
            name = part.func.value.id
            own = context.names.get(name)
            is_list = isinstance(own, Row) or (isinstance(own, Computed) and own.fresh)
            if not is_list or own is None or context.aliases.has_escaped(own):
                raise Left(part, "appends to a list that is not its own")
            found.append(name)
    names = [part.id for part in ast.walk(statement) if isinstance(part, ast.Name)]
    if sum(name in found for name in names) > len(found):
        raise Left(statement, "looks at a list to which it appends")
    return sorted(set(found))


def _grown(context: Context, name: str, source: _Source, outcome: _Ends, node: ast.AST) -> Symbol:
    def rows(end: Mapping[str, Symbol]) -> tuple[Symbol, ...]:
        row = end[name]
        if not isinstance(row, Row) or len(row.items) > 1:
            raise Left(node, "appends more than one item in a turn")
        return row.items

    def value(end: Mapping[str, Symbol]) -> Any:
        return as_computed(rows(end)[0], node).expression if rows(end) else None

    array = source.where(decided(outcome, lambda end: bool(rows(end))))
    made = [as_computed(rows(end)[0], node) for end in leaves(outcome) if rows(end)]
    types = frozenset().union(*(one.types for one in made))
    grown = source.each(decided(outcome, value), array)
    own = context.names[name]
    if isinstance(own, Row) and not own.items:
        return Computed(grown, ARRAY, types, fresh=True)
    first = as_computed(own, node)
    if not first.types <= ARRAY:
        raise Left(node, "appends to what is no list")
    return Computed({"$concatArrays": [first.expression, grown]}, ARRAY, fresh=True)


def _changed_item(statement: ast.For) -> str:
    """The name of the item, if the loop changes it in its place."""
    target = statement.target
    if not isinstance(target, ast.Name) or target.id in set(_stored(statement.body)):
        return ""
    for part in ast.walk(statement):
        owner: ast.AST | None = None
        if isinstance(part, ast.Subscript) and not isinstance(part.ctx, ast.Load):
            owner = part.value
        elif isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
            owner = part.func.value if part.func.attr in ("pop", "update", "setdefault") else None
        if isinstance(owner, ast.Name) and owner.id == target.id:
            return target.id
    return ""


def _check_own(context: Context, statement: ast.For) -> None:
    """Refuse a list whose items may have another name."""
    place = statement.iter
    if not isinstance(place, ast.Name) or place.id not in context.names:
        raise Left(statement, "changes what it has read, which no name stands for")
    if context.aliases.has_been_used(context.names[place.id]):
        raise Left(statement, "changes what it has read, and may have another name for it")


def _change_list(
    context: Context, statement: ast.For, name: str, source: _Source, outcome: _Ends
) -> None:
    """Note that the items of a list were changed in their place."""
    place = statement.iter
    assert isinstance(place, ast.Name)
    expression = source.array
    root = expression[1:].partition(".")[0] if isinstance(expression, str) else ""
    if root.startswith("$") or not root or context.aliases.reads.get(root) != 1:
        raise Left(statement, "changes what it has read, and may have another name for it")
    context.aliases.changed.add(root)
    value = decided(outcome, lambda end: as_computed(end[name], statement).expression)
    context.names[place.id] = Computed(source.each(value), ARRAY, OBJECT)
