"""The syntax of a function that is already there, found by its code object."""

from __future__ import annotations

import ast
import copy
import inspect
import linecache
import textwrap
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType, FunctionType
from typing import TypeAlias

__all__ = ["FunctionNode", "is_compiled_from_source", "syntax_of"]

FunctionNode: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda"

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def syntax_of(function: FunctionType) -> tuple[FunctionNode, ...]:
    """Return the syntax that a function was compiled from; empty where there is no source for it.

    Lambdas that begin on one line and look alike cannot be distinguished: all of them are returned.
    A decorator is not looked through: the function is the one that is called.
    """
    code = function.__code__
    lines = linecache.getlines(code.co_filename, function.__globals__)
    if not 0 < code.co_firstlineno <= len(lines):
        return ()
    return _in_module("".join(lines), code) or _in_block(lines, code)


@lru_cache(maxsize=256)
def _in_module(text: str, code: CodeType) -> tuple[FunctionNode, ...]:
    """A function of a source text; each rule is looked for several times."""
    found = _functions_in(text).get(code.co_firstlineno, ())
    return tuple(node for node in found if _is_syntax_of(node, code))


def is_compiled_from_source(function: FunctionType) -> bool:
    """Return whether a function is what its source says today, to the last constant.

    It is not where the file has changed since, or where an import hook has rewritten the function.
    Of a function in a file that is no module, only the constants are compared.
    """
    code = function.__code__
    lines = linecache.getlines(code.co_filename, function.__globals__)
    compiled = _code_in("".join(lines))
    if compiled is not None:
        same = compiled.get((code.co_firstlineno, code.co_name), ())
        return any(_is_same_code(one, code) for one in same)
    block = _code_in(_block_at(lines, code)) or {}
    constants = _constants_of(code)
    return any(constants == _constants_of(one) for one in block.get((1, code.co_name), ()))


@lru_cache(maxsize=32)
def _code_in(text: str) -> dict[tuple[int, str], list[CodeType]] | None:
    """The code objects of a source text, by first line and name; None if it is no Python."""
    try:
        waiting = [compile(text, "", "exec", dont_inherit=True)]
    except (SyntaxError, ValueError, RecursionError):
        return None
    found: dict[tuple[int, str], list[CodeType]] = {}
    while waiting:
        code = waiting.pop()
        found.setdefault((code.co_firstlineno, code.co_name), []).append(code)
        waiting += [each for each in code.co_consts if isinstance(each, CodeType)]
    return found


def _is_same_code(one: CodeType, other: CodeType) -> bool:
    return (
        one.co_code == other.co_code
        and one.co_names == other.co_names
        and one.co_varnames == other.co_varnames
        and one.co_freevars == other.co_freevars
        and len(one.co_consts) == len(other.co_consts)
        and all(map(_is_same_constant, one.co_consts, other.co_consts))
    )


def _is_same_constant(one: object, other: object) -> bool:
    if isinstance(one, CodeType) and isinstance(other, CodeType):
        return _is_same_code(one, other)
    return _text_of(one) == _text_of(other)


def _text_of(constant: object) -> str:
    """A text that tells 1 from True and 0.0 from -0.0, and is the same for equal sets."""
    if isinstance(constant, frozenset):
        return f"frozenset {sorted(map(_text_of, constant))}"
    if isinstance(constant, tuple):
        return f"tuple {[_text_of(each) for each in constant]}"
    return repr(constant)


def _constants_of(code: CodeType) -> list[str]:
    """The constants of a function and of those in it, sorted."""
    found: list[str] = []
    for each in code.co_consts:
        if isinstance(each, CodeType):
            found += _constants_of(each)
        # What a function in it is called depends on where it was compiled.
        elif not (isinstance(each, str) and "<locals>" in each):
            found.append(_text_of(each))
    return sorted(found)


def _in_block(lines: list[str], code: CodeType) -> tuple[FunctionNode, ...]:
    """A function of a file that is no module, such as a page with code in it."""
    first = code.co_firstlineno
    block = _block_at(lines, code)
    found = [node for node in _functions_in(block).get(1, ()) if _is_syntax_of(node, code)]
    # What is remembered is not changed.
    return tuple(ast.increment_lineno(copy.deepcopy(node), first - 1) for node in found)


def _block_at(lines: list[str], code: CodeType) -> str:
    try:
        return textwrap.dedent("".join(inspect.getblock(lines[code.co_firstlineno - 1 :])))
    except (SyntaxError, IndentationError):
        return ""


@lru_cache(maxsize=32)
def _functions_in(text: str) -> dict[int, list[FunctionNode]]:
    """The functions of a source text, by the line that they begin on."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return {}
    found: dict[int, list[FunctionNode]] = {}
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS):
            decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
            line = min([node.lineno, *(decorator.lineno for decorator in decorators)])
            found.setdefault(line, []).append(node)
    return found


def _is_syntax_of(node: FunctionNode, code: CodeType) -> bool:
    """Return whether a function may have been compiled from a node: its file may have changed."""
    if code.co_name != ("<lambda>" if isinstance(node, ast.Lambda) else node.name):
        return False
    names = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    count = code.co_argcount + code.co_kwonlyargcount
    if [_unmangled(name) for name in code.co_varnames[:count]] != [_unmangled(n) for n in names]:
        return False
    said = {_unmangled(name) for name in _names_in_syntax(node)}
    return all(_unmangled(name) in said for name in _names_in_code(code))


def _unmangled(name: str) -> str:
    """A name as it is written: `_Class__name` is `__name` in the body of the class."""
    if name.startswith("_") and not name.startswith("__"):
        _class, mark, rest = name.partition("__")
        return f"__{rest}" if mark and rest else name
    return name


def _names_in_code(code: CodeType) -> Iterator[str]:
    for name in (*code.co_names, *code.co_varnames, *code.co_freevars):
        # Names that the compiler, or a test runner, has added.
        if name.isidentifier() and not name.startswith(("__", "@")):
            yield name
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in_code(constant)


def _names_in_syntax(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        for _field, value in ast.iter_fields(part):
            if isinstance(value, str):
                yield from value.split(".") if isinstance(part, ast.alias) else (value,)
            elif isinstance(part, (ast.Global, ast.Nonlocal)):
                yield from part.names
        if isinstance(part, ast.ImportFrom) and part.module:
            yield part.module
