"""Rules as source code: the method of a rule, from its name, its query and its update.

What a rule imports stands in its method: it cannot clash with a name of the file, and goes with the
rule when that is deleted.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final

from lazymig.codegen.literals import COLUMNS, Literals, laid_out
from lazymig.errors import RuleDefinitionError
from lazymig.reports.drift.proposals import RuleProposal
from lazymig.rules.discovery import discover
from lazymig.rules.rule import Rule, Scope
from lazymig.rules.unfinished import UNANSWERED, UNFINISHED

__all__ = ["RuleSource", "declared_rule", "source_of_proposal"]

_SKELETON: Final = (
    "Write the query for documents of the old shape, and the update that makes them new, both in "
    "database field names. Then delete the last line: until then this is no rule, and the rules "
    "after it wait."
)
_READS_DOCUMENT: Final = (
    "The update may be computed from self.doc, the stored document; read it after self.target is "
    "set."
)

_NARROWEST_COMMENT: Final = 20

# What tools take for orders to them, at the beginning of a comment.
_ORDER = re.compile(
    r"(?i)!|-\*-|(noqa|nosec|pragma)\b|(type|ruff|mypy|fmt|yapf|isort|pylint|pyright|flake8)\s*:"
)


@dataclass(frozen=True)
class RuleSource:
    """A rule that can be written down in a handler's file.

    A rule without a target or without an update is a skeleton: its last line is a TODO, and until
    somebody has written the rule and deleted that line, the method is no rule (see
    `lazymig.rules.unfinished`). So is one that is `held`.

    :ivar number: the rule's place in the order of its scope.
    :ivar words: what it does; what is no letter and no digit becomes an underscore.
    :ivar target: the query, in database field names; `None` for a skeleton.
    :ivar update: the update: operators, or a pipeline; `None` for a skeleton.
    :ivar comments: paragraphs to be written above the method.
    :ivar reads_document: a skeleton says how a rule reads the document.
    :ivar held: the rule is complete, and is none all the same until somebody deletes the last line.
    :ivar digits: how many digits the number has at least.
    :raises RuleDefinitionError: the words do not make a name, or a value cannot be written as
        source.
    """

    number: int
    words: str
    _: KW_ONLY
    scope: Scope = "lazy"
    target: Mapping[str, Any] | None = None
    update: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    array_filters: Sequence[Mapping[str, Any]] | None = None
    comments: Sequence[str] = ()
    reads_document: bool = False
    held: bool = False
    digits: int = 2

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or declared_rule(self.name) is None:
            raise RuleDefinitionError(
                f"{self.words!r} does not name a rule; say in words what it does"
            )
        self.lines("", "")

    @property
    def name(self) -> str:
        """The method's name."""
        prefix = "allmigration" if self.scope == "bulk" else "migration"
        # Python normalizes names in the same way.
        normal = unicodedata.normalize("NFKC", self.words)
        words = re.sub(r"[\W_]+", "_", normal).strip("_")
        return f"{prefix}{self.number:0{self.digits}}__{words}"

    @property
    def is_complete(self) -> bool:
        """Return whether there is a target and an update."""
        return self.target is not None and self.update is not None

    @property
    def source(self) -> str:
        """The method, indented by four spaces."""
        return "\n".join(self.lines("    ", "    ")) + "\n"

    def lines(self, margin: str, unit: str, *, ascii_only: bool = False) -> list[str]:
        """The lines of the method, without line endings.

        :param margin: the indentation of the methods of the class.
        :param unit: the further indentation of each level.
        :param ascii_only: other characters are escaped.
        :raises RuleDefinitionError: a value cannot be written as source.
        """
        indent = margin + unit
        literals = Literals(ascii_only=ascii_only)
        settings: list[str] = []
        for attribute, value in (
            ("target", {} if self.target is None else self.target),
            ("update", {} if self.update is None else self.update),
            ("array_filters", self.array_filters),
        ):
            if attribute == "array_filters" and value is None:
                continue
            try:
                source = literals.of(value)
            except ValueError as exc:
                raise RuleDefinitionError(
                    f"self.{attribute} {exc}; write this rule by hand", rule=self.name
                ) from exc
            settings += laid_out(f"self.{attribute} = ", source, indent, unit)
        if self.held or not self.is_complete:
            reason = UNANSWERED if self.is_complete else UNFINISHED
            settings.append(f'{indent}raise NotImplementedError("{reason}")')
        comments = list(self.comments)
        if not self.is_complete:
            comments.append(_SKELETON)
            if self.reads_document:
                comments.append(_READS_DOCUMENT)
        imports = [indent + line for line in literals.imports]
        return [
            *(
                line
                for text in comments
                for line in _comment_lines(text, margin, ascii_only=ascii_only)
            ),
            f"{margin}def {self.name}(self) -> None:",
            *([*imports, ""] if imports else []),
            *settings,
        ]


def source_of_proposal(
    proposal: RuleProposal, number: int, *, held: bool = False, digits: int = 2
) -> RuleSource:
    """Make the source of a rule that a finding of `diff` offers.

    :param held: it is no rule until somebody has answered its question, if it `asks` one.
    :raises RuleDefinitionError: a value cannot be written as source.
    """
    return RuleSource(
        number,
        proposal.words,
        scope=proposal.scope,
        target=proposal.target,
        update=proposal.update,
        array_filters=proposal.array_filters,
        comments=proposal.comments,
        held=held and proposal.asks,
        digits=digits,
    )


def declared_rule(name: str) -> Rule | None:
    """The rule that a method of this name is; `None` for any other name."""

    def method(_handler: Any) -> None:
        """Stand in for a method of which the name alone is known."""

    try:
        rules = discover(type("Named", (), {name: method}))
    except RuleDefinitionError:
        return None
    return rules[0] if rules else None


def _comment_lines(text: str, margin: str, *, ascii_only: bool) -> Iterator[str]:
    for paragraph in text.split("\n"):
        shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in paragraph)
        if ascii_only:
            shown = shown.encode("ascii", "backslashreplace").decode("ascii")
        wrapped = textwrap.wrap(
            shown,
            max(COLUMNS - len(margin.expandtabs(4)) - len("# - "), _NARROWEST_COMMENT),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in wrapped or [""]:
            mark = "- " if _ORDER.match(line) else ""
            yield f"{margin}# {mark}{line}".rstrip()
