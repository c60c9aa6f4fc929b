"""Python files as they are edited: their lines, and the lines of classes, statements and comments.

Files are read with `ast` and changed line by line: what is not changed stays as it is, byte for
byte. Knows nothing of rules.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lazymig.errors import HandlerFileError
from lazymig.locks import cached_property

__all__ = [
    "SourceFile",
    "Splice",
    "defined_names",
    "is_docstring",
    "is_placeholder",
    "lines_of",
    "statements_in",
]

# Not those of `str.splitlines`, which knows more ends of lines than Python.
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


class Splice(NamedTuple):
    """Lines to be put in the place of those from `start` up to, without it, `stop`."""

    start: int
    stop: int
    lines: list[str]


def lines_of(text: str) -> list[str]:
    """The lines of a Python source, with their endings."""
    return _LINE.findall(text)


@dataclass(frozen=True, eq=False)
class SourceFile:
    """A Python file that was read; line numbers begin with 0.

    :ivar text: all of it, line endings as they are, without a byte order mark.
    """

    path: Path
    text: str
    encoding: str = "utf-8"

    @classmethod
    def read(cls, path: Path) -> SourceFile:
        """Read a file.

        :raises HandlerFileError: it cannot be read, or is not valid Python.
        """
        try:
            raw = path.read_bytes()
            encoding, _lines = tokenize.detect_encoding(io.BytesIO(raw).readline)
            text = raw.decode(encoding)
        except OSError as exc:
            raise HandlerFileError(f"cannot be read: {exc.strerror}", path=path) from exc
        except (SyntaxError, UnicodeError) as exc:
            raise HandlerFileError(f"cannot be decoded: {exc}", path=path) from exc
        if text.encode(encoding) != raw:
            raise HandlerFileError(f"cannot be written back in {encoding}; use UTF-8", path=path)
        return cls(path, text, encoding)

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree.

        :raises HandlerFileError: the text is not valid Python.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(self.text)
        except SyntaxError as exc:
            problem = f"line {exc.lineno}: {exc.msg}"
            raise HandlerFileError(f"is not valid Python: {problem}", path=self.path) from exc
        except ValueError as exc:
            raise HandlerFileError(f"is not valid Python: {exc}", path=self.path) from exc

    @cached_property
    def lines(self) -> list[str]:
        """The lines, with their endings."""
        return lines_of(self.text)

    @property
    def newline(self) -> str:
        """The ending of the first line."""
        first = self.lines[0] if self.lines else ""
        return first[len(first.rstrip("\r\n")) :] or "\n"

    @property
    def ascii_only(self) -> bool:
        """Return whether the encoding may lack characters."""
        return not self.encoding.startswith("utf-8")

    def before(self, node: ast.stmt) -> str:
        """The part of its line before a statement."""
        line = self.lines[node.lineno - 1].encode()
        return line[: node.col_offset].decode().replace("\f", "")

    def after(self, node: ast.stmt) -> str:
        """The part of its last line after a statement, line ending included."""
        assert node.end_lineno is not None
        return self.lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()

    def start(self, node: ast.stmt) -> int:
        """The first line of a statement, decorators included."""
        decorators: list[ast.expr] = getattr(node, "decorator_list", [])
        return min([node.lineno, *(each.lineno for each in decorators)]) - 1

    def start_with_comments(self, node: ast.stmt) -> int:
        """The first line of a statement, decorators and the comments right above it included."""
        line = self.start(node)
        while line and 0 <= self._comment_column(line - 1) <= node.col_offset:
            line -= 1
        return line

    def end(self, node: ast.stmt) -> int:
        """The line after a statement, and after the comments that are indented deeper below it."""
        assert node.end_lineno is not None
        end = node.end_lineno
        for line in range(end, len(self.lines)):
            if self._comment_column(line) > node.col_offset:
                end = line + 1
            elif self.lines[line].strip():
                break
        return end

    def end_with_comments(self, node: ast.stmt, following: ast.stmt) -> int:
        """As `end`, with comments right below that a blank line parts from the next statement."""
        end = below = self.end(node)
        while self._comment_column(below) >= 0:
            below += 1
        return end if below == self.start(following) else below

    def _comment_column(self, line: int) -> int:
        """The column at which a line's comment begins; -1 for a line that is no comment."""
        text = self.lines[line] if line < len(self.lines) else ""
        return text.index("#") if text.lstrip(" \t\f").startswith("#") else -1

    def spliced(self, splices: Iterable[Splice]) -> str:
        """The text with some lines replaced; a file without a final newline stays without."""
        lines = list(self.lines)
        unterminated = bool(lines) and not lines[-1].endswith(("\r", "\n"))
        if unterminated:
            lines[-1] += self.newline
        for start, stop, new in sorted(splices, key=lambda each: each.start, reverse=True):
            lines[start:stop] = new
        text = "".join(lines)
        return text.removesuffix(self.newline) if unterminated else text

    # --- Classes ----------------------------------------------------------------------------

    def classes_named(self, name: str) -> list[tuple[str, ast.ClassDef]]:
        """The classes of a qualified name; if there is none, those with it as their last part."""
        found = [each for each in self._classes if each[0] == name]
        return found or [each for each in self._classes if each[1].name == name]

    @cached_property
    def _classes(self) -> list[tuple[str, ast.ClassDef]]:
        return list(_classes_in(self.tree, ""))

    def class_named(self, name: str) -> tuple[str, ast.ClassDef]:
        """The one class of a name, with its qualified name.

        :raises HandlerFileError: there is none, or more than one.
        """
        found = self.classes_named(name)
        if not found:
            there = ", ".join(dict.fromkeys(each for each, _node in self._classes))
            raise HandlerFileError(
                f"has no class {name}; " + (f"it has {there}" if there else "it has no class"),
                path=self.path,
            )
        if len(found) > 1:
            lines = ", ".join(str(node.lineno) for _name, node in found)
            raise HandlerFileError(
                f"has {len(found)} classes {name}, in the lines {lines}; "
                "give the qualified name, or edit the file by hand",
                path=self.path,
            )
        return found[0]


def statements_in(node: ast.AST) -> Iterator[tuple[ast.stmt, list[ast.stmt]]]:
    """The statements of a block and of the blocks in it, each with the block it stands in.

    Functions and classes are given, and not looked into.
    """
    for _name, block in ast.iter_fields(node):
        for child in block if isinstance(block, list) else ():
            if isinstance(child, ast.stmt):
                yield child, block
            if isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case)) and not (
                isinstance(child, _DEFINITIONS)
            ):
                yield from statements_in(child)


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)


def _classes_in(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for child, _block in statements_in(node):
        if isinstance(child, ast.ClassDef):
            yield prefix + child.name, child
            yield from _classes_in(child, f"{prefix}{child.name}.")
        elif isinstance(child, _FUNCTIONS):
            yield from _classes_in(child, f"{prefix}{child.name}.<locals>.")


def defined_names(node: ast.stmt) -> list[str]:
    """The names that a statement binds by itself: a function's, a class's, those assigned to."""
    if isinstance(node, _DEFINITIONS):
        return [node.name]
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return [each.id for each in targets if isinstance(each, ast.Name)]


def is_docstring(node: ast.stmt) -> bool:
    """Return whether a statement is a string and nothing else."""
    return _constant(node, str)


def is_placeholder(node: ast.stmt) -> bool:
    """Return whether a statement is `pass` or `...`."""
    return isinstance(node, ast.Pass) or _constant(node, type(...))


def _constant(node: ast.stmt, kind: type) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, kind)
    )
