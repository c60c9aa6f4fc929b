"""The paths of a rule that is computed from a document, as its source or its author names them."""

from __future__ import annotations

import ast
import dis
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final, TypeGuard

from lazymig.characters import cut
from lazymig.query.expressions import Unnamed, named_path
from lazymig.raw.paths import model_path, root
from lazymig.rules.tracing.frames import GaveUp
from lazymig.rules.tracing.state import MOST_STEPS
from lazymig.rules.tracing.statements import Tracer
from lazymig.rules.tracing.values import (
    NOTHING,
    UNKNOWN,
    Box,
    Known,
    Origin,
    Prefix,
    Special,
    Value,
    Values,
    reachable,
)
from lazymig.updates.operators import OPERATORS
from lazymig.updates.update import SET_STAGES, NamedPath

__all__ = ["Traced", "trace"]

_ASKED: Final = frozenset({"collection", "status"})

# What is true of no stand-in for a value, so that a run with one misses a branch.
_TYPE_NAMES: Final = frozenset({"type", "hasattr", "getattr", "id"})


@dataclass(frozen=True, slots=True)
class Traced:
    """What the source of a rule says of it, for every document.

    `writes` and `creates` are the paths that its update may write, and those of them that it may
    leave there; `None` where they are not all known, and `unknown` says why. `named_paths` are
    those that operators name for certain, in one of its updates at least. `inputs` are the
    top-level fields that it may read; `None`: any. `sets_update`: it may set an update at all;
    `None`: not known. `raises`: it has a `raise`, so that it may be meant to set none. `asks`:
    which of `collection` and `status` it may ask for. `reads_types`: it may ask what is not the
    same for a stand-in as for a value, so that a run with one does not show all.
    """

    writes: frozenset[str] | None
    creates: frozenset[str] | None
    inputs: frozenset[str] | None
    sets_update: bool | None
    asks: frozenset[str]
    reads_types: bool
    unknown: str | None
    named_paths: frozenset[NamedPath] = frozenset()
    raises: bool = False


def trace(method: Callable[[Any], object], handler_class: type, doc_class: Any) -> Traced:
    """Read the source of a rule's method; nothing is run."""
    assert isinstance(method, FunctionType)
    tracer = Tracer(handler_class, doc_class)
    try:
        tracer.trace(method)
    except GaveUp as exc:
        return _without_source(method, tracer, exc)
    except RecursionError:
        return _without_source(method, tracer, GaveUp(None))
    update = tracer.attributes.get("update", NOTHING)
    found = _Paths(tracer)
    found.of_update(update)
    known = found.unknown is None
    # What asks for types may distinguish a list from what it was before.
    asks_types = tracer.reads_types or "isinstance" in _names_in(method.__code__)
    inputs = None if tracer.read_whole or found.reads_any else tracer.reads | found.reads
    return Traced(
        writes=frozenset(found.writes) if known else None,
        creates=frozenset(found.creates) if known else None,
        inputs=None if inputs is None else frozenset(root(key) for key in inputs),
        sets_update=bool(update - {Known(None)}),
        asks=frozenset(tracer.asks),
        reads_types=tracer.reads_types,
        unknown=found.unknown,
        named_paths=frozenset() if asks_types else frozenset(found.named),
        raises=_raises(method.__code__),
    )


def _without_source(method: FunctionType, tracer: Tracer, given_up: GaveUp) -> Traced:
    code = method.__code__
    names = set(_names_in(code))
    place = f"{method.__qualname__} (line {code.co_firstlineno} of {Path(code.co_filename).name})"
    if not tracer.steps:
        reason = f"the source of {place} is not there to be read"
    elif given_up.origin is not None and tracer.steps <= MOST_STEPS:
        reason = f"{_said(given_up.origin)} cannot be followed"
    else:
        end = "" if given_up.origin is None else f": at {_said(given_up.origin)} it is given up"
        reason = f"{place} is too long to be followed, with all that it calls{end}"
    return Traced(
        writes=None,
        creates=None,
        inputs=None,
        sets_update=None,
        asks=frozenset(_ASKED & names) | tracer.asks,
        reads_types=tracer.reads_types or bool(_TYPE_NAMES & names) or _may_catch(code),
        unknown=reason,
    )


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in _inner(code):
        yield from _names_in(inner)


def _inner(code: CodeType) -> Iterator[CodeType]:
    return (constant for constant in code.co_consts if isinstance(constant, CodeType))


def _may_catch(code: CodeType) -> bool:
    """Return whether bytecode compares identities, matches patterns or catches exceptions."""
    marks = ("IS_OP", "MATCH", "SETUP_FINALLY", "CHECK_EXC_MATCH", "POP_JUMP_IF_NONE", "NOT_NONE")
    said = any(mark in one.opname for one in dis.get_instructions(code) for mark in marks)
    return said or any(map(_may_catch, _inner(code)))


def _raises(code: CodeType) -> bool:
    """Return whether bytecode has a `raise`."""
    own = any(one.opname == "RAISE_VARARGS" for one in dis.get_instructions(code))
    return own or any(map(_raises, _inner(code)))


def _said(origin: Origin) -> str:
    node, file = origin
    try:
        text = " ".join(ast.unparse(node).split())
    except (AttributeError, ValueError, RecursionError):
        text = "an expression"
    text = cut(text, 70)
    line = getattr(node, "lineno", None)
    return f"`{text}`" if line is None else f"`{text}` (line {line} of {Path(file).name})"


class _Paths:
    """The paths of an update that is known as far as the source says it."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.writes: set[str] = set()
        self.creates: set[str] = set()
        self.reads: set[str] = set()
        self.reads_any = False
        self.named: set[NamedPath] = set()
        self.unknown: str | None = None

    def of_update(self, update: Values) -> None:
        """Take in what the rule may set as its update."""
        for value in update:
            if _is_mapping(value):
                self._of_operators(value)
            elif _is_sequence(value):
                self._of_pipeline(value)
            elif not isinstance(value, (Known, Prefix)) and value != Special("document"):
                self._miss(self.tracer.origins.get("update"), "self.update")

    def _miss(self, origin: Origin | None, otherwise: str) -> None:
        if self.unknown is None:
            said = f"`{otherwise}`" if origin is None or not origin[1] else _said(origin)
            self.unknown = f"the source does not name the paths of {said}"

    def _entries(self, box: Box, name: str) -> Iterator[tuple[Any, Values, Origin | None]]:
        """Yield what stands at each key that is known, and note that others are not."""
        if box.opened is not None:
            self._miss(box.opened, name)
        for key, values in box.entries.items():
            if isinstance(key, Known):
                yield key.value, values, box.origins.get(key)
            else:
                self._miss(box.origins.get(key), name)

    def _of_operators(self, update: Box) -> None:
        for operator, values, origin in self._entries(update, "self.update"):
            # MongoDB takes no update with a field beside the operators: it is refused as a whole.
            if not isinstance(operator, str) or not operator.startswith("$"):
                continue
            for value in values:
                if _is_mapping(value):
                    if OPERATORS[operator].writes:
                        self._of_fields(operator, value)
                        self.named.update(_named_for_certain(operator, value))
                elif not isinstance(value, (Known, Prefix)) and not _is_sequence(value):
                    self._miss(origin, operator)

    def _of_fields(self, operator: str, fields: Box) -> None:
        if fields.opened is not None:
            self._miss(fields.opened, operator)
        for key, values in fields.entries.items():
            self._path(key, fields.origins.get(key), operator)
            if OPERATORS[operator].moves:
                for value in values:
                    self._path(value, fields.origins.get(key), "$set")

    def _path(self, key: Value, origin: Origin | None, operator: str) -> None:
        path: str | None = None
        if isinstance(key, Known):
            # What is no string is no path: the update is refused.
            if not isinstance(key.value, str):
                return
            path = str.__str__(key.value)
        elif isinstance(key, Prefix):
            path = key.text.rpartition(".")[0]
        if not path:
            self._miss(origin, operator)
            return
        # An update with such a path is refused.
        if not all(path.split(".")) or path.startswith("$") or root(path) == "_id":
            return
        self.writes.add(model_path(path))
        if not OPERATORS[operator].removes:
            self.creates.add(model_path(path))

    def _of_pipeline(self, pipeline: Box) -> None:
        if pipeline.opened is not None:
            self._miss(pipeline.opened, "self.update")
        self._reads_of(reachable(pipeline.all()))
        for stage in pipeline.all():
            if not isinstance(stage, Box):
                if not isinstance(stage, (Known, Prefix)):
                    self._miss(pipeline.origins.get(UNKNOWN), "a stage of self.update")
                continue
            for entry in self._entries(stage, "a stage of self.update"):
                self._of_stage(*entry)

    def _of_stage(self, name: Any, values: Values, origin: Origin | None) -> None:
        for value in values:
            if name in SET_STAGES and _is_mapping(value):
                self._of_fields("$set", value)
            elif name == "$unset" and _is_sequence(value):
                for path in value.all():
                    self._path(path, origin, name)
            elif name == "$unset":
                self._path(value, origin, name)
            elif not isinstance(value, Known) or name not in SET_STAGES:
                self._miss(origin, str(name))

    def _reads_of(self, values: Iterable[Value]) -> None:
        """The paths that expressions of a pipeline name."""
        for value in values:
            texts: Iterable[Value] = (value,)
            if isinstance(value, Box):
                texts = value.entries
            for text in texts:
                if isinstance(text, Box):
                    continue
                try:
                    path = named_path(text.value) if _is_text(text) else None
                except Unnamed:
                    path = None
                    self.reads_any = True
                if path is not None and not isinstance(value, Box):
                    self.reads.add(path)
                # What is not known may be an expression.
                self.reads_any |= not isinstance(text, Known)


def _named_for_certain(operator: str, fields: Box) -> Iterator[NamedPath]:
    """The paths that are the only ones which an expression of the source may stand for."""
    sites = Counter(id(origin[0]) for origin in fields.origins.values())
    for key, values in fields.entries.items():
        origin = fields.origins.get(key)
        if origin is None or sites[id(origin[0])] > 1 or not _is_text(key):
            continue
        goals = tuple(values) if OPERATORS[operator].moves else ()
        if not goals:
            yield NamedPath(operator, key.value)
        elif len(goals) == 1 and _is_text(goals[0]):
            yield NamedPath(operator, key.value, goals[0].value)


def _is_text(value: Value) -> TypeGuard[Known]:
    return isinstance(value, Known) and type(value.value) is str


def _is_sequence(value: Value) -> TypeGuard[Box]:
    return isinstance(value, Box) and value.kind == "sequence"


def _is_mapping(value: Value) -> TypeGuard[Box]:
    return isinstance(value, Box) and value.kind == "mapping"
