"""The lines of rules in the files of their handlers: those that can go once a rule is finished."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lazymig.codegen.handler_file import handler_place
from lazymig.codegen.source_file import (
    SourceFile,
    defined_names,
    is_docstring,
    is_placeholder,
    statements_in,
)
from lazymig.errors import HandlerFileError, RuleDefinitionError
from lazymig.odm.schema import subclasses_of
from lazymig.rules.discovery import discover
from lazymig.rules.rule import RuleHandler

__all__ = ["Lines", "removable_lines"]


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a rule in a handler's file.

    :ivar rule: the rule's name.
    :ivar handler: the qualified name of the class that they stand in.
    :ivar first: the first line, counted from 1: a comment right above the method, a decorator, or
        the method itself.
    :ivar last: the last line.
    :ivar text: the lines as they are.
    :ivar emptied: the class, or the block in it, that has no code left once all lines that were
        given with these are gone, in words: it may go itself, and without a docstring it needs a
        `pass`; `None` if it has some.
    :ivar others: the other handlers that have the rule from these lines.
    """

    rule: str
    handler: str
    path: Path
    first: int
    last: int
    text: str
    emptied: str | None
    others: tuple[str, ...]


def removable_lines(handler_class: type, rule_names: Iterable[str]) -> list[Lines]:
    """Find the lines of some rules in the sources, those of inherited rules in their own files.

    A rule that overrides an inherited one is found together with it: without its lines alone the
    inherited rule would be back.

    :raises RuleDefinitionError: the handler has no such rule.
    :raises HandlerFileError: a source cannot be found or read.
    """
    known = {rule.name for rule in discover(handler_class)}
    files: dict[Path, SourceFile] = {}
    found: list[tuple[Lines, ast.stmt, list[ast.stmt]]] = []
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

    def stays(statement: ast.stmt) -> bool:
        return not (statement in gone or is_docstring(statement) or is_placeholder(statement))

    return [
        replace(lines, emptied=None) if any(map(stays, block)) else lines
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
) -> tuple[Lines, ast.stmt, list[ast.stmt]]:
    code = getattr(inspect.unwrap(vars(owner)[name]), "__code__", None)
    defined = code.co_firstlineno if code is not None else 0
    candidates = [
        (statement, block, block is cls.body)
        for qualified, cls in file.classes_named(owner.__qualname__)
        if qualified == owner.__qualname__
        for statement, block in statements_in(cls)
        if name in defined_names(statement) and not file.before(statement).strip()
    ]
    if not candidates:
        raise HandlerFileError(
            f"{owner.__qualname__}.{name} is not written in its class, or not in lines of its own; "
            "look for what sets it",
            path=file.path,
        )
    # Of several by the same name, the one that was defined; the last one if the file has changed.
    at = [each for each in candidates if file.start(each[0]) + 1 == defined]
    statement, block, is_body = (at or candidates)[-1]
    first, last = file.start_with_comments(statement), file.end(statement)
    lines = Lines(
        rule=name,
        handler=owner.__qualname__,
        path=file.path,
        first=first + 1,
        last=last,
        text="".join(file.lines[first:last]),
        emptied=owner.__qualname__ if is_body else f"a block of {owner.__qualname__}",
        others=others,
    )
    return lines, statement, block
