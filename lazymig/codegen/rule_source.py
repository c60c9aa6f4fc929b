"""Rules as source code: the method of a rule, from its name, its query and its update."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lazymig.codegen.literals import Import, Names, Style, call_of, laid_out, literal, width_of
from lazymig.errors import RuleDefinitionError
from lazymig.reports.drift.proposals import RuleProposal
from lazymig.rules.discovery import discover
from lazymig.rules.rule import Rule, Scope

__all__ = ["RuleSource", "declared_rule", "rule_source", "source_of_proposal"]

_SKELETON: Final = (
    "Write the query for documents of the old shape, and the update that makes them new, both in "
    "database field names. Then delete the last line: until then no model can have this handler."
)
_READS_DOCUMENT: Final = (
    "The update may be computed from self.doc, the stored document; read it after self.target is "
    "set."
)
_UNWRITTEN: Final = "write the rule, then delete this line"
_HELD: Final = "answer the question above, then delete this line"

_NARROWEST_COMMENT: Final = 20

# What tools take for orders to them, at the beginning of a comment.
_ORDER = re.compile(
    r"(?i)!|-\*-|(noqa|nosec|pragma)\b|(type|ruff|mypy|fmt|yapf|isort|pylint|pyright|flake8)\s*:"
)


@dataclass(frozen=True, slots=True)
class RuleSource:
    """A rule that can be written down in a handler's file.

    A rule without a target or without an update is a skeleton: its method raises
    `NotImplementedError`, so that a model with this handler cannot be defined, by a
    `RuleDefinitionError`, until somebody has written the rule. So does one that is `held`.

    :ivar name: the method's name.
    :ivar comment: paragraphs to be written above the method.
    :ivar reads_document: a skeleton says how a rule reads the document.
    :ivar held: the rule is complete, and raises all the same until somebody deletes the last line.
    """

    name: str
    scope: Scope
    number: int
    target: Mapping[str, Any] | None = None
    update: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    array_filters: Sequence[Mapping[str, Any]] | None = None
    comment: tuple[str, ...] = ()
    reads_document: bool = False
    held: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether there is a target and an update."""
        return self.target is not None and self.update is not None

    @property
    def source(self) -> str:
        """The method, indented by four spaces, as `ruff format` leaves it at 100 columns."""
        return "\n".join(self.lines(Style(), _own_name)) + "\n"

    @property
    def imports(self) -> tuple[Import, ...]:
        """What the source needs to be imported, sorted."""
        asked: set[Import] = set()

        def note(needed: Import) -> str:
            asked.add(needed)
            return needed.local

        self.lines(Style(), note)
        return tuple(sorted(asked, key=lambda each: (each.module, each.name or "")))

    def lines(self, style: Style, names: Names) -> list[str]:
        """The lines of the method, without line endings.

        :param names: tells by which name the file calls what the source imports.
        :raises RuleDefinitionError: a value cannot be written as source.
        """
        margin, indent = style.margin, style.margin + style.unit
        comments = list(self.comment)
        if not self.is_complete:
            comments.append(_SKELETON)
            if self.reads_document:
                comments.append(_READS_DOCUMENT)
        lines = [line for text in comments for line in _comment_lines(text, style)]
        head = f"def {self.name}(self) -> None:"
        if width_of(head) <= style.room(margin):
            lines.append(margin + head)
        else:
            lines += [f"{margin}def {self.name}(", f"{indent}self,", f"{margin}) -> None:"]
        settings: list[tuple[str, Any]] = [
            ("target", {} if self.target is None else self.target),
            ("update", {} if self.update is None else self.update),
        ]
        if self.array_filters is not None:
            settings.append(("array_filters", self.array_filters))
        for attribute, value in settings:
            try:
                node = literal(value, names, ascii_only=style.ascii_only)
            except ValueError as exc:
                raise RuleDefinitionError(
                    f"self.{attribute} {exc}; write this rule by hand", rule=self.name
                ) from exc
            lines += laid_out(f"self.{attribute} = ", node, style, indent)
        if self.held or not self.is_complete:
            reason = literal(_HELD if self.is_complete else _UNWRITTEN, names)
            lines += laid_out("raise ", call_of("NotImplementedError", reason), style, indent)
        return lines


def rule_source(
    number: int,
    words: str,
    *,
    scope: Scope = "lazy",
    target: Mapping[str, Any] | None = None,
    update: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    array_filters: Sequence[Mapping[str, Any]] | None = None,
    comment: str | Sequence[str] = (),
    reads_document: bool = False,
    held: bool = False,
    digits: int = 2,
) -> RuleSource:
    """Make the source of a rule.

    :param number: the rule's place in the order of its scope.
    :param words: what it does; what is no letter and no digit becomes an underscore.
    :param target: the query, in database field names; `None` for a skeleton.
    :param update: the update: operators, or a pipeline; `None` for a skeleton.
    :param comment: paragraphs to be written above the method.
    :param reads_document: a skeleton says how a rule reads the document.
    :param held: a complete rule raises `NotImplementedError` until somebody deletes a line of it.
    :param digits: how many digits the number has at least.
    :raises RuleDefinitionError: the words are none, or a value cannot be written as source.
    """
    prefix = "allmigration" if scope == "bulk" else "migration"
    # Python normalizes names in the same way.
    told = re.sub(r"[\W_]+", "_", unicodedata.normalize("NFKC", words)).strip("_")
    name = f"{prefix}{number:0{digits}}__{told}"
    if not name.isidentifier() or declared_rule(name) is None:
        raise RuleDefinitionError(f"{words!r} does not name a rule; say in words what it does")
    rule = RuleSource(
        name=name,
        scope=scope,
        number=number,
        target=target,
        update=update,
        array_filters=array_filters,
        comment=(comment,) if isinstance(comment, str) else tuple(comment),
        reads_document=reads_document,
        held=held,
    )
    rule.lines(Style(), _own_name)
    return rule


def source_of_proposal(
    proposal: RuleProposal, number: int, *, held: bool = False, digits: int = 2
) -> RuleSource:
    """Make the source of a rule that a finding of `diff` offers.

    :param held: the rule raises until somebody has answered its question, if it `asks` one.
    :raises RuleDefinitionError: a value cannot be written as source.
    """
    return rule_source(
        number,
        proposal.words,
        scope=proposal.scope,
        target=proposal.target,
        update=proposal.update,
        array_filters=proposal.array_filters,
        comment=proposal.comments,
        held=held and proposal.asks,
        digits=digits,
    )


def declared_rule(name: str) -> Rule | None:
    """The rule that a method of this name is; `None` if it is none."""

    def method(_handler: Any) -> None:
        """Stand in for a method of which the name alone is known."""

    try:
        rules = discover(type("Named", (), {name: method}))
    except RuleDefinitionError:
        return None
    return rules[0] if rules else None


def _own_name(needed: Import) -> str:
    return needed.local


def _comment_lines(text: str, style: Style) -> list[str]:
    lines = []
    for paragraph in text.split("\n"):
        shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in paragraph)
        if style.ascii_only:
            shown = shown.encode("ascii", "backslashreplace").decode("ascii")
        wrapped = textwrap.wrap(
            shown,
            max(style.room(style.margin) - len("# - "), _NARROWEST_COMMENT),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in wrapped or [""]:
            mark = "- " if _ORDER.match(line) else ""
            lines.append(f"{style.margin}# {mark}{line}".rstrip())
    return lines
