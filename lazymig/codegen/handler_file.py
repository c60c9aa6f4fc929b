"""Rules in the files of their handlers: where they stand, how they are added, what can go.

Nothing is written before `Edit.write`, and an edit touches no line but those that it has to.
"""

from __future__ import annotations

import difflib
import inspect
import os
import stat
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from keyword import iskeyword
from pathlib import Path
from typing import NamedTuple

import libcst as cst

from lazymig.codegen.literals import Style
from lazymig.codegen.rule_source import RuleSource, declared_rule
from lazymig.codegen.source_file import (
    ClassSource,
    SourceFile,
    Splice,
    Statement,
    defined_names,
    is_docstring,
    is_placeholder,
    lines_of,
    statements_in,
)
from lazymig.errors import HandlerFileError, RuleDefinitionError
from lazymig.odm.document import LazyMigrationMixin
from lazymig.odm.schema import subclasses_of
from lazymig.rules.discovery import discover
from lazymig.rules.rule import Rule, RuleHandler, Scope

__all__ = [
    "Edit",
    "HandlerPlace",
    "Lines",
    "RuleNumber",
    "add_rules",
    "handler_place",
    "new_handler_file",
    "next_number",
    "removable_lines",
]


class HandlerPlace(NamedTuple):
    """Where a handler class is written: its file, and its qualified name in it."""

    path: Path
    name: str


class RuleNumber(NamedTuple):
    """A number for a rule, and how many digits the handler's rules give it at least."""

    number: int
    digits: int


@dataclass(frozen=True, slots=True)
class Edit:
    """What a file is to become.

    :ivar before: the file's text; `None` for a file that is not there yet.
    :ivar after: the text that `write` gives it, line endings included.
    :ivar advice: what remains to be done by hand; empty if nothing.
    """

    path: Path
    before: str | None
    after: str
    encoding: str = "utf-8"
    advice: str = ""

    @property
    def diff(self) -> str:
        """A unified diff of both texts."""
        old = "/dev/null" if self.before is None else str(self.path)
        lines = difflib.unified_diff(
            lines_of(self.before or ""), lines_of(self.after), old, str(self.path)
        )
        return "".join(
            line if line.endswith(("\n", "\r")) else f"{line}\n\\ No newline at end of file\n"
            for line in lines
        )

    def write(self) -> None:
        """Put the new text in the file's place, at once and with the file's mode.

        :raises HandlerFileError: the file is not what it was when the edit was made, or it cannot
            be written.
        """
        # A link stays one.
        path = self.path.resolve()
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        try:
            self._check(path)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(self.after.encode(self.encoding))
                    file.flush()
                    os.fsync(file.fileno())
                if self.before is not None:
                    part.chmod(stat.S_IMODE(path.stat().st_mode))
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        except OSError as exc:
            raise HandlerFileError(f"cannot be written: {exc.strerror}", path=self.path) from exc

    def _check(self, path: Path) -> None:
        if self.before is None:
            if path.exists():
                raise HandlerFileError("has come into being; make the edit again", path=self.path)
        elif not path.exists() or path.read_bytes() != self.before.encode(self.encoding):
            raise HandlerFileError("has changed; make the edit again", path=self.path)


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a rule in a handler's file.

    :ivar rule: the rule's name.
    :ivar handler: the qualified name of the class that they stand in.
    :ivar first: the first line, counted from 1: a comment right above the method, a decorator, or
        the method itself.
    :ivar last: the last line.
    :ivar text: the lines as they are.
    :ivar empties: whether nothing is left in the class, or in the block, once all lines that were
        given with these are gone: then it needs a `pass`, or may go itself.
    :ivar others: the other handlers that have the rule from these lines.
    """

    rule: str
    handler: str
    path: Path
    first: int
    last: int
    text: str
    empties: bool
    others: tuple[str, ...]


# --- What there is --------------------------------------------------------------------------


def handler_place(handler_class: type) -> HandlerPlace:
    """Tell in which file a handler is written.

    :raises HandlerFileError: in none.
    """
    try:
        path = inspect.getsourcefile(handler_class)
    except (TypeError, OSError):
        path = None
    if path is None or not Path(path).is_file():
        raise HandlerFileError(
            f"{handler_class.__qualname__} of {handler_class.__module__} is written in no file "
            "that can be edited; name the file that its source is in"
        )
    return HandlerPlace(Path(path), handler_class.__qualname__)


def next_number(handler_class: type, scope: Scope) -> RuleNumber:
    """Give the number behind the highest one of a scope, and the digits that its rules have.

    The rules of handlers that inherit from this one count, too: they would share the number.
    """
    rules = {
        rule.name: rule
        for each in (handler_class, *subclasses_of(handler_class))
        for rule in discover(each)
    }
    peers = [rule for rule in rules.values() if rule.scope == scope]
    number = max((rule.number for rule in peers), default=0) + 1
    models = peers or list(rules.values())
    digits = 2
    if models:
        highest = max(models, key=lambda rule: rule.number)
        digits = len("".join(filter(str.isdecimal, highest.name.split("_")[0])))
    return RuleNumber(number, digits)


def removable_lines(handler_class: type, rule_names: Iterable[str]) -> list[Lines]:
    """Find the lines of some rules in the sources, those of inherited rules in their own files.

    A rule that overrides an inherited one is found together with it: without its lines alone the
    inherited rule would be back.

    :raises RuleDefinitionError: the handler has no such rule.
    :raises HandlerFileError: a source cannot be found or read.
    """
    known = {rule.name for rule in discover(handler_class)}
    files: dict[Path, SourceFile] = {}
    found: list[tuple[Lines, cst.BaseStatement, cst.CSTNode]] = []
    for name in rule_names:
        if name not in known:
            rules = ", ".join(sorted(known)) or "none"
            raise RuleDefinitionError(
                f"is no rule of this handler; its rules: {rules}",
                model=handler_class.__name__,
                rule=name,
            )
        for owner in handler_class.__mro__:
            if name in vars(owner):
                place = handler_place(owner)
                if place.path not in files:
                    files[place.path] = SourceFile.read(place.path)
                others = tuple(_sharers(owner, name, handler_class))
                found.append(_rule_lines(files[place.path], owner, name, others))
    gone = [statement for _lines, statement, _block in found]
    return [
        replace(lines, empties=all(each in gone for each in _statements_of(block)))
        for lines, _statement, block in found
    ]


def _sharers(owner: type, name: str, handler_class: type) -> Iterator[str]:
    """The handlers, other than this one, that have a rule from its owner."""
    method = vars(owner)[name]
    for each in (owner, *subclasses_of(owner)):
        if (
            each is not handler_class
            and issubclass(each, RuleHandler)
            and inspect.getattr_static(each, name) is method
        ):
            yield f"{each.__module__}.{each.__qualname__}"


def _rule_lines(
    file: SourceFile, owner: type, name: str, others: tuple[str, ...]
) -> tuple[Lines, cst.BaseStatement, cst.CSTNode]:
    code = getattr(inspect.unwrap(vars(owner)[name]), "__code__", None)
    defined = code.co_firstlineno if code is not None else 0
    candidates = [
        (each, statement, block)
        for each in file.classes
        if each.name == owner.__qualname__
        for statement, block in statements_in(each.node.body)
        if name in defined_names(statement) and not isinstance(statement, cst.SimpleStatementSuite)
    ]
    if not candidates:
        raise HandlerFileError(
            f"{owner.__qualname__}.{name} is not written in its class; look for what sets it",
            path=file.path,
        )
    # Of several by the same name, the one that was defined; the last one if the file has changed.
    at = [each for each in candidates if file.start(each[1]) + 1 == defined]
    cls, statement, block = (at or candidates)[-1]
    first, last = file.start_with_comments(statement), file.end(statement)
    lines = Lines(
        rule=name,
        handler=cls.name,
        path=file.path,
        first=first + 1,
        last=last,
        text="".join(file.lines[first:last]),
        empties=False,
        others=others,
    )
    return lines, statement, block


def _statements_of(block: cst.CSTNode) -> Sequence[cst.CSTNode]:
    assert isinstance(block, cst.BaseSuite)
    return block.body


# --- Edits ----------------------------------------------------------------------------------


def add_rules(
    path: str | os.PathLike[str],
    handler_name: str,
    rules: Sequence[RuleSource],
    *,
    width: int = 100,
) -> Edit:
    """Add rules to a handler class, each behind the last one of its scope, and what they import.

    Only lines are added; but a `pass` or `...` that the class has instead of a body goes.

    :param handler_name: the class's name; its qualified name if the file has several.
    :param width: columns of a line.
    :raises HandlerFileError: the file cannot be read, or has no such class.
    :raises RuleDefinitionError: the class has a rule of that name or number.
    """
    file = SourceFile.read(Path(path))
    handler = file.class_named(handler_name)
    return Edit(file.path, file.text, _with_rules(file, handler, rules, width), file.encoding)


def new_handler_file(
    path: str | os.PathLike[str],
    handler_name: str,
    rules: Sequence[RuleSource],
    *,
    model: type,
    width: int = 100,
) -> Edit:
    """Make a file with a handler for a model that has none.

    :param model: the model; the edit's `advice` says what to write into its class.
    :raises HandlerFileError: there is such a file, or the handler's name is none.
    :raises RuleDefinitionError: two of the rules have the same name or number.
    """
    path = Path(path)
    if not handler_name.isidentifier() or iskeyword(handler_name):
        raise HandlerFileError(f"{handler_name!r} is no name for a class", path=path)
    if path.exists():
        raise HandlerFileError("is there already; name a new file", path=path)
    text = (
        f'"""Migration rules of `{model.__name__}`."""\n\n'
        "from lazymig import DocumentMigration\n\n\n"
        f"class {handler_name}(DocumentMigration):\n"
        f'    """What brings stored documents of `{model.__name__}` up to date."""\n'
    )
    file = SourceFile.parse(path, text)
    after = _with_rules(file, file.class_named(handler_name), rules, width)
    return Edit(path, None, after, advice=_advice(path, handler_name, model))


def _with_rules(
    file: SourceFile, handler: ClassSource, rules: Sequence[RuleSource], width: int
) -> str:
    _refuse_taken(file, handler, rules)
    wanted = sorted({each for rule in rules for each in rule.imports}, key=str)
    names, missing = file.names_for(wanted, handler.node)
    style = _style_of(file, handler.node, width)
    newline = file.newline_of(file.header_end(handler.node) - 1)
    methods: dict[Scope, list[list[str]]] = {"lazy": [], "bulk": []}
    for rule in rules:
        lines = rule.lines(style, names.__getitem__)
        methods[rule.scope].append([line + newline for line in lines])
    splices = file.import_splices(missing, style)
    splices += _method_splices(file, handler.node, methods, style.margin, newline)
    return file.spliced(splices)


def _refuse_taken(file: SourceFile, handler: ClassSource, rules: Sequence[RuleSource]) -> None:
    taken = {
        name
        for statement, _block in _statements_in_class(handler.node)
        for name in defined_names(statement)
    }
    there = [rule for rule in map(declared_rule, sorted(taken)) if rule is not None]
    for rule in rules:
        for other in there:
            if other.name == rule.name or (other.scope, other.number) == (rule.scope, rule.number):
                raise RuleDefinitionError(
                    f"{other.name} in {file.path} has this name or number; take the next number",
                    model=handler.name,
                    rule=rule.name,
                )
        there += filter(None, [declared_rule(rule.name)])


def _statements_in_class(node: cst.ClassDef) -> list[tuple[Statement, cst.CSTNode]]:
    if isinstance(node.body, cst.SimpleStatementSuite):
        return [(node.body, node.body)]
    return list(statements_in(node.body))


def _style_of(file: SourceFile, node: cst.ClassDef, width: int) -> Style:
    """How the methods of a class are indented."""
    outer = file.indent_of(file.position(node).start.line - 1)
    unit = file.module.default_indent
    margin = outer + unit
    if isinstance(node.body, cst.IndentedBlock):
        first = node.body.body[0]
        margin = file.indent_of(file.start(first))
        unit = margin.removeprefix(outer) or unit
    return Style(unit, margin, width, file.ascii_only)


def _method_splices(
    file: SourceFile,
    node: cst.ClassDef,
    methods: dict[Scope, list[list[str]]],
    margin: str,
    newline: str,
) -> list[Splice]:
    both = [*methods["lazy"], *methods["bulk"]]
    if not both:
        return []
    if isinstance(node.body, cst.SimpleStatementSuite):
        return [_opened(file, node.body, both, margin, newline)]
    assert isinstance(node.body, cst.IndentedBlock)
    statements = [each for each in node.body.body if isinstance(each, cst.BaseStatement)]
    documented = is_docstring(statements[0])
    if len(statements) == 1 + documented and is_placeholder(statements[-1]):
        start, stop = file.start(statements[-1]), file.end(statements[-1])
        return [Splice(start, stop, _parted(file, node, start, both, newline))]
    places: dict[int, list[list[str]]] = {}
    for scope, new in methods.items():
        last = _last_of(statements, scope)
        following = statements[last + 1 : last + 2]
        if following:
            line = file.end_with_comments(statements[last], following[0])
        else:
            line = file.end(node)
        places.setdefault(line, []).extend(new)
    splices = []
    for line, new in places.items():
        lines = _parted(file, node, line, new, newline)
        if new and line < file.end(node) and file.lines[line].strip():
            lines.append(newline)
        splices.append(Splice(line, line, lines))
    return splices


def _last_of(statements: Sequence[cst.BaseStatement], scope: Scope) -> int:
    """The number of the last statement with a rule of a scope; of the last one if none has any."""
    for number in reversed(range(len(statements))):
        if any(rule.scope == scope for rule in _rules_in(statements[number])):
            return number
    return len(statements) - 1


def _rules_in(statement: cst.BaseStatement) -> Iterator[Rule]:
    inner: list[Statement] = [statement]
    if not isinstance(statement, (cst.SimpleStatementLine, cst.FunctionDef, cst.ClassDef)):
        inner = [each for each, _block in statements_in(statement)]
    for each in inner:
        yield from filter(None, map(declared_rule, defined_names(each)))


def _parted(
    file: SourceFile, node: cst.ClassDef, line: int, methods: list[list[str]], newline: str
) -> list[str]:
    """Methods with blank lines between them, and one above where something else stands."""
    lines: list[str] = []
    for method in methods:
        if lines or (line > file.header_end(node) and file.lines[line - 1].strip()):
            lines.append(newline)
        lines += method
    return lines


def _opened(
    file: SourceFile,
    body: cst.SimpleStatementSuite,
    methods: list[list[str]],
    margin: str,
    newline: str,
) -> Splice:
    """A class whose body stands in the line of its header, with a body of more lines."""
    position = file.position(body)
    start, stop = position.start.line - 1, position.end.line
    rows = file.lines[start:stop]
    header, behind = rows[0][: position.start.column].rstrip(), rows[-1][position.end.column :]
    rows[-1] = rows[-1][: position.end.column]
    rows[0] = rows[0][position.start.column :]
    inside = "".join(rows)
    comment = behind.strip().removeprefix(";").lstrip()
    if not header.endswith(":") or comment[:1] not in ("", "#"):
        raise HandlerFileError(
            f"line {start + 1}: put the body of the class into lines of its own", path=file.path
        )
    lines = [f"{header}  {comment}".rstrip() + newline]
    if inside not in ("pass", "..."):
        lines += [f"{margin}{inside}{newline}", newline]
    for number, method in enumerate(methods):
        lines += [newline, *method] if number else method
    return Splice(start, stop, lines)


def _advice(path: Path, handler_name: str, model: type) -> str:
    source = getattr(sys.modules.get(model.__module__), "__file__", None)
    module = _module_name(path, model.__module__, source)
    where = model.__module__ if source is None else source
    lines = [
        f"In {where}, give {model.__name__} its handler:",
        "",
        f"    from {module} import {handler_name}",
        "",
        f"    class {model.__name__}(...):",
        f"        migration_handler = {handler_name}",
    ]
    if not issubclass(model, LazyMigrationMixin):
        lines += ["", f"{model.__name__} needs LazyMigrationMixin as its first base, too."]
    return "\n".join(lines) + "\n"


def _module_name(path: Path, model_module: str, source: str | None) -> str:
    """The dotted name by which the model's module can import a file."""
    path = path.resolve()
    names = [path.stem]
    if source is not None:
        of_model = Path(source).resolve()
        is_package = of_model.stem == "__init__"
        root = of_model.parents[model_module.count(".") + is_package]
        if path.is_relative_to(root):
            return ".".join([*path.relative_to(root).parent.parts, *names])
    for folder in path.parents:
        if not (folder / "__init__.py").is_file():
            break
        names.insert(0, folder.name)
    return ".".join(names)
