"""The digest of a rule, which shows whether it still says what it said when a run began."""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import Any

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from bson.errors import BSONError

from lazymig.rules.bound_rule import BoundRule

__all__ = ["digest_of"]

_LENGTH = 16
_CODEC: CodecOptions[Any] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)


def digest_of(rule: BoundRule) -> str:
    """Sixteen hexadecimal digits that change when the rule's method says something else.

    Comments, blank lines, line breaks and the docstring do not count. What the method calls or
    reads elsewhere is not looked at, except the values that it closes over.
    """
    text = "\n".join(_function(rule.rule.method, set()))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:_LENGTH]


def _function(function: Any, seen: set[int]) -> Iterator[str]:
    seen.add(id(function))
    # As `inspect` does: the source of a wrapper is that of what it wraps.
    code = getattr(inspect.unwrap(function), "__code__", None)
    text = None if code is None else _written(code, code.co_filename)
    if text is not None:
        yield text
    else:
        yield from _code(function.__code__, function.__doc__)
    for cell in function.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:
            # A name that is bound later than the function.
            continue
        if inspect.isfunction(value):
            if id(value) not in seen:
                yield from _function(value, seen)
        else:
            yield _value(value)


@lru_cache(maxsize=1024)
def _written(code: CodeType, _filename: str) -> str | None:
    """What a function's source says; `None` where there is none.

    It is remembered, as to find and parse it takes longer than all else that begins a run. Code of
    two files may be equal, so that the file's name tells them apart.
    """
    node = _parsed(code)
    return None if node is None else "\n".join(_node(node))


def _parsed(code: CodeType) -> ast.AST | None:
    """The definition of a function without its docstring; `None` where there is no source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError):
        return None
    node = tree.body[0] if len(tree.body) == 1 else None
    if not isinstance(node, ast.FunctionDef):
        return None
    if ast.get_docstring(node, clean=False) is not None:
        del node.body[0]
    return node


def _node(node: Any) -> Iterator[str]:
    """What a syntax tree says, in the same words on every version of Python.

    Later versions know more fields, which are empty for what earlier ones could say.
    """
    if isinstance(node, ast.AST):
        yield type(node).__name__
        for name, value in ast.iter_fields(node):
            if value is not None and value != [] and name not in {"kind", "type_comment"}:
                yield name
                yield from _node(value)
    elif isinstance(node, list):
        yield "["
        for part in node:
            yield from _node(part)
        yield "]"
    else:
        yield f"{type(node).__name__} {node!r}"


def _code(code: CodeType, docstring: str | None) -> Iterator[str]:
    yield code.co_code.hex()
    yield repr((code.co_names, code.co_varnames, code.co_freevars))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant, None)
        elif isinstance(constant, frozenset):
            # The order of a set is another in each process.
            yield repr(sorted(map(repr, constant)))
        elif docstring is None or constant != docstring:
            yield repr(constant)


def _value(value: Any) -> str:
    try:
        return bson.encode({"value": value}, codec_options=_CODEC).hex()
    except (BSONError, TypeError, OverflowError, RecursionError):
        # Another object's `repr` may hold its address, which is another in each process.
        return f"{type(value).__module__}.{type(value).__qualname__}"
