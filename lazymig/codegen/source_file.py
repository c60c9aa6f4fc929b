"""Python files as they are edited: what stands on which line, and which names mean what there.

Files are read with libcst and changed line by line: what is not changed stays as it is, byte for
byte. Knows nothing of rules.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import libcst as cst
from libcst.metadata import (
    Assignment,
    BuiltinScope,
    ClassScope,
    CodeRange,
    ImportAssignment,
    MetadataWrapper,
    PositionProvider,
    Scope,
    ScopeProvider,
    WhitespaceInclusivePositionProvider,
)

from lazymig.codegen.literals import Import, Style, width_of
from lazymig.errors import HandlerFileError

__all__ = [
    "ClassSource",
    "SourceFile",
    "Splice",
    "Statement",
    "defined_names",
    "is_docstring",
    "is_placeholder",
    "lines_of",
    "statements_in",
]

Statement: TypeAlias = "cst.BaseStatement | cst.SimpleStatementSuite"

# A comment, but no shebang and no encoding.
_ABOUT_NEXT = re.compile(r"[ \t\f]*#(?!!)(?!.*coding[:=])")

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")

# Sections of imports, in their order; other packages and the application's own look alike.
_FUTURE, _STANDARD, _OTHER, _RELATIVE = range(4)

# These are no packages of the application.
_KNOWN_OTHERS: Final = {"bson", "lazymig", "mongoengine", "pymongo"}


class Splice(NamedTuple):
    """Lines to be put in the place of those from `start` up to, without it, `stop`."""

    start: int
    stop: int
    lines: list[str]


@dataclass(frozen=True, slots=True)
class ClassSource:
    """A class in a file; `name` is its qualified name."""

    name: str
    node: cst.ClassDef


@dataclass(frozen=True, slots=True)
class _Head:
    """An import statement at the beginning of a file."""

    node: cst.SimpleStatementLine
    block: int
    section: int
    is_from: bool
    module: str

    @property
    def key(self) -> tuple[bool, str]:
        return self.is_from, self.module.lower()


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
    encoding: str
    module: cst.Module
    _wrapper: MetadataWrapper = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> SourceFile:
        """Read a file.

        :raises HandlerFileError: it cannot be read, or is no Python.
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
        return cls.parse(path, text, encoding)

    @classmethod
    def parse(cls, path: Path, text: str, encoding: str = "utf-8") -> SourceFile:
        """Take a text for the contents of a file.

        :raises HandlerFileError: it is no Python.
        """
        try:
            module = cst.parse_module(text)
        except cst.ParserSyntaxError as exc:
            raise HandlerFileError(
                f"is no Python: {_syntax_problem(text, exc)}", path=path
            ) from exc
        wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
        return cls(path, text, encoding, module, wrapper)

    # --- Lines ------------------------------------------------------------------------------

    @cached_property
    def lines(self) -> list[str]:
        """The lines, with their endings."""
        return lines_of(self.text)

    @property
    def ascii_only(self) -> bool:
        """Whether the encoding may lack characters."""
        return not self.encoding.startswith("utf-8")

    @cached_property
    def _positions(self) -> Mapping[cst.CSTNode, CodeRange]:
        return self._wrapper.resolve(PositionProvider)

    @cached_property
    def _spans(self) -> Mapping[cst.CSTNode, CodeRange]:
        return self._wrapper.resolve(WhitespaceInclusivePositionProvider)

    def position(self, node: cst.CSTNode) -> CodeRange:
        """Where a node stands, without what is around it; lines begin with 1 here."""
        return self._positions[node]

    def header_end(self, node: cst.ClassDef) -> int:
        """The line behind the header of a class."""
        return self._spans[node.body].start.line

    def above(self, node: cst.BaseStatement) -> int:
        """The first line of what belongs to a statement: blank lines and comments above it."""
        return self._spans[node].start.line - 1

    def start(self, node: cst.BaseStatement) -> int:
        """The first line of a statement, decorators included."""
        return self.above(node) + len(_leading_lines(node))

    def start_with_comments(self, node: cst.BaseStatement) -> int:
        """The first line of a statement, decorators and the comments right above it included."""
        return self.start(node) - len(_attached(_leading_lines(node)))

    def end(self, node: cst.CSTNode) -> int:
        """The line behind a statement, or a class, and the comments in it; blank ones left out."""
        end = self._spans[node].end
        line = end.line - (end.column == 0)
        while not self.lines[line - 1].strip():
            line -= 1
        return line

    def end_with_comments(self, node: cst.BaseStatement, following: cst.BaseStatement) -> int:
        """As `end`, with comments right below that a blank line parts from the next statement."""
        end = self.end(node)
        if end != self.above(following):
            return end
        leading = _leading_lines(following)
        below = len(list(takewhile(lambda line: line.comment is not None, leading)))
        return end + below if below < len(leading) else end

    def indent_of(self, line: int) -> str:
        """The white space that a line begins with."""
        text = self.lines[line]
        return text[: len(text) - len(text.lstrip(" \t\f"))].replace("\f", "")

    def newline_of(self, line: int) -> str:
        """The ending of a line; the file's own for a last line without."""
        text = self.lines[line]
        ending = text[len(text.rstrip("\r\n")) :]
        return ending or self.module.default_newline

    def spliced(self, splices: Iterable[Splice]) -> str:
        """The text with some lines replaced; a file without a final newline stays without."""
        lines = list(self.lines)
        unterminated = bool(lines) and not lines[-1].endswith(("\r", "\n"))
        newline = self.module.default_newline
        if unterminated:
            lines[-1] += newline
        spliced: list[str] = []
        done = 0
        for start, stop, new in sorted(splices, key=lambda each: each.start):
            spliced += lines[done:start] + new
            done = stop
        text = "".join(spliced + lines[done:])
        return text.removesuffix(newline) if unterminated else text

    # --- Classes ----------------------------------------------------------------------------

    @cached_property
    def classes(self) -> tuple[ClassSource, ...]:
        """All classes of the file, nested ones included."""
        return tuple(_classes_in(self.module, ""))

    def classes_named(self, name: str) -> list[ClassSource]:
        """The classes of a qualified name; if there is none, those with it as their last part."""
        found = [each for each in self.classes if each.name == name]
        return found or [each for each in self.classes if each.node.name.value == name]

    def class_named(self, name: str) -> ClassSource:
        """The one class of a name.

        :raises HandlerFileError: there is none, or more than one.
        """
        found = self.classes_named(name)
        if not found:
            there = ", ".join(dict.fromkeys(each.name for each in self.classes))
            raise HandlerFileError(
                f"has no class {name}; " + (f"it has {there}" if there else "it has no class"),
                path=self.path,
            )
        if len(found) > 1:
            lines = ", ".join(str(self.position(each.node).start.line) for each in found)
            raise HandlerFileError(
                f"has {len(found)} classes {name}, in the lines {lines}; "
                "give the qualified name, or edit the file by hand",
                path=self.path,
            )
        return found[0]

    # --- Names and imports ------------------------------------------------------------------

    def names_for(
        self, wanted: Collection[Import], node: cst.ClassDef
    ) -> tuple[dict[Import, str], dict[Import, str]]:
        """How the methods of a class can call what they need.

        :return: a name for each, and those of them that are still to be imported, with the names
            that they are to be bound to.
        """
        names: dict[Import, str] = {}
        missing: dict[Import, str] = {}
        visible = self._visible(node) if wanted else {}
        for each in wanted:
            name = _known_as(each, visible)
            if name is None:
                name = each.local
                while name in visible:
                    name += "_"
                missing[each] = name
            names[each] = name
        return names, missing

    def _visible(self, node: cst.ClassDef) -> dict[str, list[Any]]:
        """What each name means that the methods of a class can see; no value if it is unclear."""
        scopes = self._wrapper.resolve(ScopeProvider)
        for_types = set(_imports_for_types(self.module))
        visible: dict[str, list[Any]] = {}
        scope: Scope | None = scopes[node]
        while scope is not None and not isinstance(scope, BuiltinScope):
            bound: dict[str, list[Any]] = defaultdict(list)
            if not isinstance(scope, ClassScope):
                for assignment in scope.assignments:
                    if getattr(assignment, "node", None) not in for_types:
                        bound[assignment.name].append(_meaning(assignment))
            visible = {**bound, **visible}
            scope = scope.parent
        return visible

    def import_splices(self, missing: Mapping[Import, str], style: Style) -> list[Splice]:
        """Add imports, each in the section and at the place where it would be sorted to."""
        heads = self._heads()
        sections: dict[int, dict[tuple[bool, str], list[Import]]] = {_STANDARD: {}, _OTHER: {}}
        for each in sorted(missing, key=_member_key):
            section = _STANDARD if each.module in sys.stdlib_module_names else _OTHER
            sections[section].setdefault((each.name is not None, each.module), []).append(each)
        splices: list[Splice] = []
        opened = False
        for section, modules in sections.items():
            # Imports of a section that the file does not have yet.
            first: list[str] = []
            for (is_from, module), members in sorted(modules.items()):
                texts = [_member(each, missing[each]) for each in members]
                listed = self._listed(heads, module) if is_from else None
                if listed is not None:
                    splices += self._into_list(listed, members, texts)
                    continue
                new = _statement(module, texts, is_from, style)
                place = self._place(heads, section, (is_from, module.lower()))
                if place is None:
                    first += new
                else:
                    splices.append(self._splice(place, new))
            if first:
                splices.append(self._section_splice(heads, section, first))
                opened = True
        if opened and not heads:
            splices += self._space_below_imports()
        return splices

    def _splice(self, line: int, new: Sequence[str]) -> Splice:
        newline = self.module.default_newline
        return Splice(line, line, [text + newline for text in new])

    def _heads(self) -> list[_Head]:
        """The import statements that the file begins with."""
        heads: list[_Head] = []
        block = 0
        for number, node in enumerate(self.module.body):
            if not number and is_docstring(node):
                continue
            imports = node.body if isinstance(node, cst.SimpleStatementLine) else ()
            if not imports or not all(isinstance(each, _IMPORTS) for each in imports):
                break
            assert isinstance(node, cst.SimpleStatementLine)
            if any(line.comment is None for line in node.leading_lines):
                block += 1
            heads.append(_head(node, imports[0], block))
        return heads

    def _place(self, heads: Sequence[_Head], section: int, key: tuple[bool, str]) -> int | None:
        """The line of a new import in its section; `None` if the file has none of that section."""
        peers = [head for head in heads if head.section == section]
        if section == _OTHER:
            known = {head.block for head in peers if head.module.split(".")[0] in _KNOWN_OTHERS}
            blocks = known or {head.block for head in peers}
            peers = [head for head in peers if head.block == min(blocks)]
        if not peers:
            return None
        behind = next((head for head in peers if head.key > key), None)
        if behind is None:
            return self.end(peers[-1].node)
        number = heads.index(behind)
        if number and heads[number - 1].block == behind.block:
            return self.end(heads[number - 1].node)
        # A comment at the head of a block is a heading.
        return self.start(behind.node)

    def _section_splice(self, heads: Sequence[_Head], section: int, new: list[str]) -> Splice:
        before = [head for head in heads if head.section < section]
        if before:
            return self._splice(self.end(before[-1].node), ["", *new])
        if heads:
            return self._splice(self.start_with_comments(heads[0].node), [*new, ""])
        line = self._first_line()
        return self._splice(line, ["", *new] if line else [*new, ""])

    def _first_line(self) -> int:
        """The line behind the docstring; without one, behind the comments that are the file's."""
        first = self.module.body[0]
        if is_docstring(first):
            return self.end(first)
        line = self.start(first)
        # A comment right above the first statement is about that, unless it is an order.
        while line and _ABOUT_NEXT.match(self.lines[line - 1]):
            line -= 1
        while line and not self.lines[line - 1].strip():
            line -= 1
        return line

    def _space_below_imports(self) -> list[Splice]:
        line = self._first_line()
        following = next(each for each in self.module.body if not is_docstring(each))
        if not self.lines[line].strip():
            return []
        wanted = 2 if isinstance(following, (cst.FunctionDef, cst.ClassDef)) else 1
        return [self._splice(line, [""] * (wanted if line else wanted - 1))]

    def _listed(self, heads: Sequence[_Head], module: str) -> cst.ImportFrom | None:
        """An import from this module that gives each name a line of its own."""
        for head in heads:
            node = head.node.body[0]
            if (
                head.module == module
                and isinstance(node, cst.ImportFrom)
                and node.lpar is not None
                and not isinstance(node.names, cst.ImportStar)
                and isinstance(node.names[-1].comma, cst.Comma)
            ):
                lines = [self.position(each).start.line for each in node.names]
                ends = [self.position(head.node).start.line, self.position(head.node).end.line]
                if len({*lines, *ends}) == len(lines) + 2:
                    return node
        return None

    def _into_list(
        self, node: cst.ImportFrom, members: Sequence[Import], texts: Sequence[str]
    ) -> list[Splice]:
        assert not isinstance(node.names, cst.ImportStar)
        aliases = [
            (_member_key(Import("", each.evaluated_name)), self.position(each).start.line - 1)
            for each in node.names
        ]
        indent = self.indent_of(aliases[0][1])
        splices = []
        for member, text in zip(members, texts, strict=True):
            key = _member_key(member)
            line = next((line for other, line in aliases if other > key), aliases[-1][1] + 1)
            splices.append(self._splice(line, [f"{indent}{text},"]))
        return splices


_IMPORTS = (cst.Import, cst.ImportFrom)


def _syntax_problem(text: str, error: cst.ParserSyntaxError) -> str:
    """What is wrong, by Python's own parser, which says it better."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except SyntaxError as exc:
        return f"line {exc.lineno}: {exc.msg}"
    except ValueError as exc:
        return str(exc)
    return f"line {error.editor_line}: {error.message}"


# --- Statements -----------------------------------------------------------------------------


def statements_in(node: cst.CSTNode) -> Iterator[tuple[Statement, cst.CSTNode]]:
    """The statements of a block and of the blocks in it, each with the block it stands in.

    Functions and classes are given, and not looked into.
    """
    for child in node.children:
        if isinstance(child, (cst.SimpleStatementLine, cst.FunctionDef, cst.ClassDef)):
            yield child, node
        elif isinstance(child, cst.SimpleStatementSuite):
            yield child, child
        elif not isinstance(child, cst.BaseExpression):
            yield from statements_in(child)


def _classes_in(node: cst.CSTNode, prefix: str) -> Iterator[ClassSource]:
    for child, _block in statements_in(node):
        if isinstance(child, cst.ClassDef):
            name = prefix + child.name.value
            yield ClassSource(name, child)
            yield from _classes_in(child.body, f"{name}.")
        elif isinstance(child, cst.FunctionDef):
            yield from _classes_in(child.body, f"{prefix}{child.name.value}.<locals>.")


def defined_names(node: Statement) -> list[str]:
    """The names that a statement binds by itself: a function's, a class's, those assigned to."""
    if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
        return [node.name.value]
    names: list[str] = []
    if isinstance(node, (cst.SimpleStatementLine, cst.SimpleStatementSuite)):
        for each in node.body:
            targets: list[cst.BaseExpression] = []
            if isinstance(each, cst.Assign):
                targets = [one.target for one in each.targets]
            elif isinstance(each, cst.AnnAssign):
                targets = [each.target]
            names += [one.value for one in targets if isinstance(one, cst.Name)]
    return names


def is_docstring(node: cst.CSTNode) -> bool:
    """Whether a statement is a string and nothing else."""
    if not isinstance(node, (cst.SimpleStatementLine, cst.SimpleStatementSuite)):
        return False
    (first, *others) = node.body
    return (
        not others
        and isinstance(first, cst.Expr)
        and isinstance(first.value, (cst.SimpleString, cst.ConcatenatedString))
    )


def is_placeholder(node: cst.CSTNode) -> bool:
    """Whether a statement is `pass` or `...`, with no comment behind it."""
    if not isinstance(node, (cst.SimpleStatementLine, cst.SimpleStatementSuite)):
        return False
    (first, *others) = node.body
    return (
        not others
        and node.trailing_whitespace.comment is None
        and (
            isinstance(first, cst.Pass)
            or (isinstance(first, cst.Expr) and isinstance(first.value, cst.Ellipsis))
        )
    )


def _leading_lines(node: cst.BaseStatement) -> Sequence[cst.EmptyLine]:
    assert isinstance(node, (cst.SimpleStatementLine, cst.BaseCompoundStatement))
    return node.leading_lines


def _attached(lines: Sequence[cst.EmptyLine]) -> list[cst.EmptyLine]:
    """The comments at the end of these lines."""
    return list(takewhile(lambda line: line.comment is not None, reversed(lines)))


# --- Imports --------------------------------------------------------------------------------


def _head(node: cst.SimpleStatementLine, first: cst.BaseSmallStatement, block: int) -> _Head:
    if isinstance(first, cst.ImportFrom):
        module = _dotted(first.module) if first.module is not None else ""
        relative = bool(first.relative)
    else:
        assert isinstance(first, cst.Import)
        module, relative = first.names[0].evaluated_name, False
    root = module.split(".")[0]
    section = _OTHER
    if relative:
        section = _RELATIVE
    elif root == "__future__":
        section = _FUTURE
    elif root in sys.stdlib_module_names:
        section = _STANDARD
    return _Head(node, block, section, isinstance(first, cst.ImportFrom), module)


def _dotted(node: cst.BaseExpression) -> str:
    if isinstance(node, cst.Attribute):
        return f"{_dotted(node.value)}.{node.attr.value}"
    assert isinstance(node, cst.Name)
    return node.value


def _imports_for_types(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The imports that only a type checker sees."""
    for child in node.children:
        if isinstance(child, cst.If) and _asks_for_types(child.test):
            for statement, _block in statements_in(child.body):
                if isinstance(statement, cst.SimpleStatementLine):
                    yield from statement.body
        elif not isinstance(child, cst.BaseExpression):
            yield from _imports_for_types(child)


def _asks_for_types(test: cst.BaseExpression) -> bool:
    name = test.attr if isinstance(test, cst.Attribute) else test
    return isinstance(name, cst.Name) and name.value == "TYPE_CHECKING"


def _meaning(assignment: Any) -> Any:
    """The object that an import binds a name to; `_meaning` itself stands for any other."""
    if isinstance(assignment, ImportAssignment):
        (qualified,) = assignment.get_qualified_names_for(assignment.name)
        module, _, name = qualified.name.rpartition(".")
        if qualified.name in sys.modules:
            return sys.modules[qualified.name]
        if module in sys.modules:
            return vars(sys.modules[module]).get(name, _meaning)
    else:
        assert isinstance(assignment, Assignment)
    return _meaning


def _known_as(wanted: Import, visible: Mapping[str, list[Any]]) -> str | None:
    """What a file calls something already."""
    module = sys.modules[wanted.module]
    target = module if wanted.name is None else getattr(module, wanted.name)
    for sought, ending in ((target, ""), (module, f".{wanted.name}")):
        found = [
            name
            for name, meanings in visible.items()
            if "." not in name and all(each is sought for each in meanings)
        ]
        if found:
            return min(found, key=lambda name: (name != wanted.local, name)) + ending
    return None


def _member(each: Import, name: str) -> str:
    return each.local if name == each.local else f"{each.local} as {name}"


def _member_key(each: Import) -> tuple[int, str, str]:
    """The order that isort gives to names: constants, classes, others."""
    name = each.local
    kind = 2
    if len(name) > 1 and name.isupper():
        kind = 0
    elif name[:1].isupper():
        kind = 1
    return kind, name.lower(), name


def _statement(module: str, texts: Sequence[str], is_from: bool, style: Style) -> list[str]:
    if not is_from:
        return [f"import {text}" for text in texts]
    line = f"from {module} import {', '.join(texts)}"
    if width_of(line) <= style.width:
        return [line]
    return [f"from {module} import (", *(f"{style.unit}{text}," for text in texts), ")"]
