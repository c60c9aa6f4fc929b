"""The functions that are followed: their names, their arguments, what they return."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lazymig.rules.tracing.source import FunctionNode
from lazymig.rules.tracing.values import NONE, NOTHING, Box, Origin, Values, one

__all__ = ["Arguments", "Code", "Frame", "GaveUp"]

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


class GaveUp(Exception):
    """A rule cannot be read: it is too long, or does what cannot be followed."""

    def __init__(self, origin: Origin | None) -> None:
        super().__init__()
        self.origin = origin


@dataclass(slots=True)
class Arguments:
    """The arguments of a call. `rest` and `others` are those whose place or name is not known."""

    positional: list[Values]
    named: dict[str, Values] = field(default_factory=dict)
    rest: Values = NOTHING
    others: Values = NOTHING

    def all(self) -> Iterator[Values]:
        """Every argument."""
        yield from (*self.positional, *self.named.values(), self.rest, self.others)

    def at(self, place: int) -> Values:
        """The argument at a place; nothing where there is none."""
        return self.positional[place] if place < len(self.positional) else NOTHING

    @property
    def first(self) -> Values:
        """The first argument, wherever it comes from."""
        return self.at(0) | self.rest

    def parameter(self, place: int, name: str) -> Values:
        """What is given for a parameter, by place or by name."""
        return self.named.get(name, self.rest | self.others) | self.at(place)

    def after(self, *first: Values) -> Arguments:
        """The same arguments after these."""
        return replace(self, positional=[*first, *self.positional])

    def without_first(self) -> Arguments:
        """The same arguments without the first one."""
        return replace(self, positional=self.positional[1:])


@dataclass(frozen=True, slots=True)
class Code:
    """A function as it is defined: its syntax, and where its names are looked up."""

    node: FunctionNode
    parent: Frame | None
    outside: Mapping[str, Values]
    globals: Mapping[str, Any]
    file: str


class Frame:
    """One function with one set of arguments: its names, and what it returns.

    `names` is what the names stand for at this point, `cells` what they may stand for at any.
    """

    def __init__(self, key: Any, code: Code) -> None:
        self.key = key
        self.node = code.node
        self.parent = code.parent
        self.outside = code.outside
        self.globals = code.globals
        self.file = code.file
        self.parameters: dict[str, Values] = {}
        self.names: dict[str, Values] = {}
        self.cells: dict[str, Values] = {}
        self.returns: Values = NOTHING
        self.done = -1
        self.exits: list[list[dict[str, Values]]] = []
        self.attempts: list[dict[str, Values]] = []
        self.locals, self.shared, self.yields = _names_of(code.node)
        self.yielded = Box("sequence")

    @property
    def root(self) -> Frame:
        """The outermost function around this one."""
        return self if self.parent is None else self.parent.root

    @property
    def given_back(self) -> Values:
        """What a call of the function gives."""
        if self.yields:
            return one(self.yielded)
        return self.returns if isinstance(self.node, ast.Lambda) else self.returns | NONE


def _names_of(node: FunctionNode) -> tuple[set[str], set[str], bool]:
    """Return the names of a function, those that inner ones assign, and whether it yields."""
    arguments = node.args
    names = {arg.arg for arg in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    names |= {arg.arg for arg in (arguments.vararg, arguments.kwarg) if arg is not None}
    shared: set[str] = set()
    outer: set[str] = set()
    yields = False
    left: list[tuple[ast.AST, bool]] = [
        (part, False) for part in ([node.body] if isinstance(node, ast.Lambda) else node.body)
    ]
    while left:
        part, inner = left.pop()
        if isinstance(part, (ast.Global, ast.Nonlocal)):
            (shared if inner else outer).update(part.names)
        elif not inner:
            names.update(_bound_by(part))
            yields |= isinstance(part, (ast.Yield, ast.YieldFrom))
        inside = inner or isinstance(part, _SCOPES)
        left.extend((child, inside) for child in ast.iter_child_nodes(part))
    return names - outer, shared, yields


def _bound_by(part: ast.AST) -> Iterator[str]:
    if isinstance(part, ast.Name) and isinstance(part.ctx, (ast.Store, ast.Del)):
        yield part.id
    elif isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield part.name
    elif isinstance(part, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
        if part.name is not None:
            yield part.name
    elif isinstance(part, ast.MatchMapping):
        if part.rest is not None:
            yield part.rest
    elif isinstance(part, ast.alias):
        yield part.asname or part.name.partition(".")[0]
