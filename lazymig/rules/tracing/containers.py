"""The methods of containers and texts in a rule that is read and not run."""

from __future__ import annotations

import ast
import enum
import itertools
from contextlib import suppress
from typing import Any, Final

from lazymig.rules.tracing.attributes import PLAIN_METHODS, Attributes
from lazymig.rules.tracing.frames import Arguments
from lazymig.rules.tracing.values import (
    DOCUMENT,
    NONE,
    NOTHING,
    SOME,
    UNKNOWN,
    Box,
    Known,
    Prefix,
    Value,
    Values,
    concatenated,
    is_scalar,
    limited,
    may_be_key,
    one,
    positions_of,
    shape,
    strings,
)

__all__ = ["Containers"]

_CHANGING: Final = frozenset(
    {"add", "append", "clear", "extend", "insert", "pop", "popitem", "remove", "setdefault"}
    | {"update", "__setitem__", "discard"}
)


class Containers(Attributes):
    """Follows what mappings, sequences and texts are asked to do."""

    def method(
        self, receiver: Value, name: str, arguments: Arguments, node: ast.AST | None
    ) -> Values:
        """Follow a call of a method that is not written in Python, or is not known."""
        if receiver is DOCUMENT:
            return self._document_method(name, arguments)
        if isinstance(receiver, Box) and receiver.kind == "mapping":
            return self.mapping_method(receiver, name, arguments, node)
        if isinstance(receiver, Box) and receiver.kind == "sequence":
            return self._sequence_method(receiver, name, arguments, node)
        if isinstance(receiver, Known) and isinstance(receiver.value, str):
            return self._text_method(receiver, name, arguments, node)
        if is_scalar(receiver) and not hasattr(receiver.value, name):
            return NOTHING
        if name in PLAIN_METHODS:
            found = self.trusted(arguments, node)
            # It may change what is not known, which may hold something that is.
            for box in tuple(self.tracer.leaked):
                if name in _CHANGING:
                    self.tracer.open(box, node)
            return found
        return self.unknown(arguments, node)

    def _document_method(self, name: str, arguments: Arguments) -> Values:
        if name in ("get", "__getitem__", "__contains__"):
            given = arguments.positional
            self.tracer.read(given[0] if given else SOME)
            return SOME.union(*given[1:], arguments.named.get("default", NOTHING))
        self.tracer.read_all()
        return SOME

    def mapping_method(
        self, box: Box, name: str, arguments: Arguments, node: ast.AST | None
    ) -> Values:
        """Follow a call of a method of a mapping."""
        tracer = self.tracer
        given = arguments.positional
        keys = given[0] if given else arguments.rest
        default = NOTHING.union(*given[1:], arguments.rest, *arguments.named.values())
        if name in ("get", "pop", "__getitem__"):
            return NOTHING.union(*(box.at(key) for key in keys)) | default | NONE
        if name in ("setdefault", "__setitem__"):
            values = default or NONE
            tracer.put(box, filter(may_be_key, keys), values, node)
            return NOTHING.union(*(box.at(key) for key in keys)) | values
        if name in ("update", "__ior__"):
            for values in (*given, arguments.rest):
                self.merge(box, values, node)
            for keyword, values in arguments.named.items():
                tracer.put(box, [Known(keyword)], values, node)
            if arguments.others:
                tracer.put(box, [UNKNOWN], SOME, node)
            return one(box)
        if name in ("copy", "__or__", "__ror__", "__copy__"):
            result = tracer.fresh("mapping", node, shape(box))
            self.merge(result, one(box).union(*given), node)
            return one(result)
        if name in ("keys", "values", "items"):
            result = tracer.fresh("sequence", node, (shape(box), name))
            for key, values in _entries(box):
                held = one(key) if name == "keys" else values
                if name == "items":
                    pair = tracer.fresh("sequence", node, (shape(box), key))
                    tracer.put(pair, [Known(0)], one(key), None)
                    tracer.put(pair, [Known(1)], values, None)
                    held = one(pair)
                tracer.put(result, [UNKNOWN], held, None)
            return one(result)
        if name == "popitem":
            return SOME
        if name in ("clear", "__delitem__", "__contains__", "__len__", "move_to_end"):
            return NONE
        return self.unknown(arguments.after(one(box)), node)

    def _sequence_method(
        self, box: Box, name: str, arguments: Arguments, node: ast.AST | None
    ) -> Values:
        tracer = self.tracer
        given = [*arguments.positional, *([arguments.rest] if arguments.rest else [])]
        added = given[-1] if given else NOTHING
        if name in ("append", "add", "insert", "appendleft"):
            tracer.put(box, [UNKNOWN], added, node)
            return NONE
        if name in ("extend", "update", "extendleft", "__iadd__"):
            tracer.put(box, [UNKNOWN], tracer.elements(NOTHING.union(*given)), node)
            return NONE | {box}
        if name in ("sort", "reverse"):
            tracer.put(box, [UNKNOWN], box.all(), node)
            self.trusted(arguments, node)
            return NONE
        if name in ("pop", "popleft", "__getitem__"):
            return box.all()
        if name in ("copy", "union", "difference", "intersection", "symmetric_difference"):
            held = box.all() | tracer.elements(NOTHING.union(*given))
            return tracer.some_of(held, node, shape(box))
        if name in ("index", "count", "remove", "discard", "clear", "issubset", "issuperset"):
            return SOME
        return self.unknown(arguments.after(one(box)), node)

    def _text_method(
        self, text: Known, name: str, arguments: Arguments, node: ast.AST | None
    ) -> Values:
        if name == "join" and arguments.positional:
            return self._joined(text.value, arguments.positional[0])
        if name in ("format", "format_map"):
            self.trusted(arguments, node)
            begin = min(
                (text.value.find(mark) for mark in "{}" if mark in text.value),
                default=len(text.value),
            )
            return one(Prefix(text.value[:begin])) if begin else SOME
        given = arguments.positional
        if not (arguments.named or arguments.rest or arguments.others) and all(
            is_scalar(value) for values in given for value in values
        ):
            function: Any = getattr(text.value, name, None)
            found: set[Value] = set()
            for chosen in itertools.islice(itertools.product(*given), 65):
                try:
                    result = function(*(each.value for each in chosen if isinstance(each, Known)))
                except Exception:  # noqa: BLE001, S112 - then it raises when the rule runs, too
                    continue
                found.add(self.tracer.lift(result))
            return SOME if len(found) > 64 else frozenset(found)
        self.trusted(arguments, node)
        return SOME

    def _joined(self, mark: str, values: Values) -> Values:
        found: Values = NOTHING
        for value in values:
            positions = positions_of(one(value))
            if positions is None:
                if value is DOCUMENT:
                    self.tracer.read_all()
                return SOME
            text = one(Known(""))
            for index, part in enumerate(positions):
                if index:
                    text = concatenated(text, one(Known(mark)))
                text = concatenated(text, strings(part))
            found |= text
        return found

    def formatted(self, texts: Values, given: Values, node: ast.AST | None) -> Values:
        """What may come of `text % values`."""
        self.trusted(Arguments([given]), node)
        found: set[Value] = set()
        for text in texts:
            value = text.value if isinstance(text, Known) else getattr(text, "text", "%")
            before, mark, _after = value.partition("%")
            if isinstance(text, Prefix) or mark:
                found.add(Prefix(before) if before else UNKNOWN)
            else:
                found.add(text)
        plain = [each.value for each in given if isinstance(each, Known)]
        forms = [each.value for each in texts if isinstance(each, Known)]
        if len(plain) < len(given) or len(forms) < len(texts):
            return frozenset(found)
        whole: set[Value] = set()
        for form, value in itertools.product(forms, plain):
            if type(value) not in (str, int):
                return frozenset(found)
            with suppress(TypeError, ValueError):
                whole.add(Known(form % value))
        return limited(frozenset(whole))

    def merge(self, box: Box, values: Values, node: ast.AST | None) -> None:
        """Put the entries of mappings, or pairs, into a mapping."""
        tracer = self.tracer
        for value in values:
            if value is box:
                continue
            if isinstance(value, Box) and value.kind == "mapping":
                for key, held in list(value.entries.items()):
                    origin = value.origins.get(key)
                    if box.add(key, held, origin or tracer.origin(node)):
                        tracer.version += 1
                if value.opened is not None:
                    tracer.put(box, [UNKNOWN], SOME, node)
                if value.factory and not box.factory:
                    box.factory = value.factory
            elif isinstance(value, Box) and value.kind == "sequence":
                for pair in value.all():
                    positions = positions_of(one(pair))
                    if positions is None or len(positions) != 2:
                        tracer.put(box, [UNKNOWN], SOME, node)
                    else:
                        keys = filter(may_be_key, positions[0])
                        tracer.put(box, keys, positions[1], node)
            elif not is_scalar(value):
                if value is DOCUMENT:
                    tracer.read_all()
                tracer.put(box, [UNKNOWN], SOME, node)

    def walked(self, value: Value) -> Values:
        """What one meets in a walk through a value that is no container."""
        if isinstance(value, Known):
            if isinstance(value.value, type) and issubclass(value.value, enum.Enum):
                return frozenset(map(Known, value.value))
            if is_scalar(value):
                return NOTHING
        return SOME


def _entries(box: Box) -> list[tuple[Value, Values]]:
    found = list(box.entries.items())
    return found if box.opened is None else [*found, (UNKNOWN, SOME)]
