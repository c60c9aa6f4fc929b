"""The files of handlers, and rules that are added to them.

Nothing is written before `Edit.write`, and an edit touches no line but those that it has to.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import os
import stat
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import Path
from typing import NamedTuple

from lazymig.codegen.rule_source import RuleSource, declared_rule
from lazymig.codegen.source_file import (
    SourceFile,
    Splice,
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
from lazymig.rules.rule import Rule, Scope

__all__ = [
    "Edit",
    "HandlerPlace",
    "RuleNumber",
    "add_rules",
    "handler_place",
    "new_handler_file",
    "next_number",
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

    def patch(self, folder: Path) -> str:
        """A unified diff of both texts, as `git apply` and `patch -p1` take it.

        :param folder: where it is to be applied; a file that is not in it is named in full.
        """
        path = self.path.absolute()
        name = (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
        old = "/dev/null" if self.before is None else f"a/{name}"
        lines = difflib.unified_diff(
            lines_of(self.before or ""), lines_of(self.after), old, f"b/{name}"
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


# --- What there is --------------------------------------------------------------------------


def handler_place(handler_class: type) -> HandlerPlace:
    """Find the file that a handler is written in.

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
    """Give the number after the highest one of a scope, and the digits that its rules have.

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


# --- Edits ----------------------------------------------------------------------------------


def add_rules(path: str | os.PathLike[str], handler_name: str, rules: Sequence[RuleSource]) -> Edit:
    """Add rules to a handler class, each after the last one of its scope.

    Only lines are added; but a `pass` or `...` that the class has instead of a body goes.

    :param handler_name: the class's name; its qualified name if the file has several.
    :raises HandlerFileError: the file cannot be read, has no such class, or one that is written in
        a way that rules cannot be added to.
    :raises RuleDefinitionError: the class has a rule of that name or number.
    """
    file = SourceFile.read(Path(path))
    return Edit(file.path, file.text, _with_rules(file, handler_name, rules), file.encoding)


def new_handler_file(
    path: str | os.PathLike[str], handler_name: str, rules: Sequence[RuleSource], *, model: type
) -> Edit:
    """Make a file with a handler for a model that has none.

    :param model: the model; the edit's `advice` says what to write into its class.
    :raises HandlerFileError: there is such a file, or the handler's name is not valid.
    :raises RuleDefinitionError: two of the rules have the same name or number.
    """
    path = Path(path)
    if not handler_name.isidentifier() or iskeyword(handler_name):
        raise HandlerFileError(f"{handler_name!r} is not a valid name for a class", path=path)
    if path.exists():
        raise HandlerFileError(
            f"is there already; give {model.__name__} its handler if that is in it, "
            "else name a new file",
            path=path,
        )
    text = (
        f'"""Migration rules of `{model.__name__}`."""\n\n'
        "from lazymig import DocumentMigration\n\n\n"
        f"class {handler_name}(DocumentMigration):\n"
        f'    """The rules that bring stored documents of `{model.__name__}` up to date."""\n'
    )
    after = _with_rules(SourceFile(path, text), handler_name, rules)
    return Edit(path, None, after, advice=_advice(path, handler_name, model))


def _with_rules(file: SourceFile, handler_name: str, rules: Sequence[RuleSource]) -> str:
    name, handler = file.class_named(handler_name)
    _refuse_taken(file, name, handler, rules)
    if not rules:
        return file.text
    first = handler.body[0]
    outer, margin = file.before(handler), file.before(first)
    opened = bool(margin.strip())
    unit = "\t" if "\t" in outer else "    "
    if opened:
        margin = outer + unit
    else:
        unit = margin.removeprefix(outer) or unit
    methods: dict[Scope, list[list[str]]] = {"lazy": [], "bulk": []}
    for rule in rules:
        lines = rule.lines(margin, unit, ascii_only=file.ascii_only)
        methods[rule.scope].append([line + file.newline for line in lines])
    splices = [_opened(file, handler, methods)] if opened else _splices(file, handler, methods)
    after = file.spliced(splices)
    _check_edit(file, name, after, {rule.name for rule in rules})
    return after


def _refuse_taken(
    file: SourceFile, name: str, handler: ast.ClassDef, rules: Sequence[RuleSource]
) -> None:
    there = list(_rules_in(handler))
    for rule in rules:
        for other in there:
            if other.name == rule.name or (other.scope, other.number) == (rule.scope, rule.number):
                raise RuleDefinitionError(
                    f"{other.name} in {file.path} has this name or number; take the next number",
                    model=name,
                    rule=rule.name,
                )
        there += filter(None, [declared_rule(rule.name)])


def _rules_in(node: ast.AST) -> Iterator[Rule]:
    """The rules that the statements within a node define; of a class, those in its body."""
    for statement, _block in statements_in(node):
        yield from filter(None, map(declared_rule, defined_names(statement)))


def _opened(
    file: SourceFile, handler: ast.ClassDef, methods: dict[Scope, list[list[str]]]
) -> Splice:
    """The methods in place of a body that stands in the line of the header."""
    (*others, last) = handler.body
    comment = file.after(last).strip().removeprefix(";").lstrip()
    if others or not is_placeholder(last) or comment[:1] not in ("", "#"):
        raise HandlerFileError(
            f"line {last.lineno}: put the body of the class into lines of its own", path=file.path
        )
    header = f"{file.before(last).rstrip()}  {comment}".rstrip()
    lines = _parted([*methods["lazy"], *methods["bulk"]], file.newline)
    return Splice(last.lineno - 1, last.lineno, [header + file.newline, *lines])


def _splices(
    file: SourceFile, handler: ast.ClassDef, methods: dict[Scope, list[list[str]]]
) -> list[Splice]:
    body = handler.body
    last = body[-1]
    alone = len(body) == 1 + is_docstring(body[0])
    if alone and is_placeholder(last) and not file.after(last).strip():
        new = _parted([*methods["lazy"], *methods["bulk"]], file.newline)
        start = file.start(last)
        return [Splice(start, start + 1, _apart(file, handler, start, new))]
    places: dict[int, list[list[str]]] = {}
    for scope, new_methods in methods.items():
        if new_methods:
            places.setdefault(_place(file, handler, scope), []).extend(new_methods)
    splices = []
    for line, each in places.items():
        new = _apart(file, handler, line, _parted(each, file.newline))
        if line < file.end(handler) and file.lines[line].strip():
            new.append(file.newline)
        splices.append(Splice(line, line, new))
    return splices


def _place(file: SourceFile, handler: ast.ClassDef, scope: Scope) -> int:
    """The line after the last rule of a scope; after the class's last statement without one."""
    body = handler.body
    for statement, following in zip(reversed(body[:-1]), reversed(body[1:]), strict=True):
        if _has_rule(following, scope):
            break
        if _has_rule(statement, scope):
            return file.end_with_comments(statement, following)
    return file.end(handler)


def _has_rule(statement: ast.stmt, scope: Scope) -> bool:
    return any(rule.scope == scope for rule in _rules_in(ast.Module([statement], [])))


def _parted(methods: list[list[str]], newline: str) -> list[str]:
    """The lines of methods with blank lines between them."""
    lines: list[str] = []
    for method in methods:
        lines += [newline, *method] if lines else method
    return lines


def _apart(file: SourceFile, handler: ast.ClassDef, line: int, new: list[str]) -> list[str]:
    """Lines with a blank one above them, unless the header of the class stands right above."""
    above = file.lines[line - 1].strip()
    is_header = line <= file.start(handler.body[0]) and not above.startswith("#")
    return new if not above or is_header else [file.newline, *new]


def _check_edit(file: SourceFile, name: str, after: str, added: set[str]) -> None:
    """Refuse an edit that would change anything but add methods to the class."""
    if _without(file.text, name, set()) != _without(after, name, added):
        raise HandlerFileError(
            f"a method cannot be added to {name} without changing the rest; edit it by hand",
            path=file.path,
        )


def _without(text: str, name: str, methods: set[str]) -> str | None:
    """A dump of a text's tree without some methods of a class, and without its placeholders."""
    try:
        file = SourceFile(Path(name), text)
        _name, handler = file.class_named(name)
    except HandlerFileError:
        return None
    handler.body = [
        each
        for each in handler.body
        if not is_placeholder(each) and methods.isdisjoint(defined_names(each))
    ]
    return ast.dump(file.tree)


def _advice(path: Path, handler_name: str, model: type) -> str:
    source = getattr(sys.modules.get(model.__module__), "__file__", None)
    module = _module_name(path, model.__module__, source)
    where = model.__module__ if source is None else _short(source)
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


def _short(source: str) -> str:
    path, here = Path(source), Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


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
