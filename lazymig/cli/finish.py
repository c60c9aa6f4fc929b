"""`lazymig finish`: whether nothing is pending, and which lines of the handlers can go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from lazymig.cli.commands import command
from lazymig.cli.failures import FINDINGS, FINE
from lazymig.cli.output import Output, short_path
from lazymig.cli.session import Session, Target
from lazymig.engines.pending import RuleStatus
from lazymig.errors import HandlerFileError
from lazymig.reports.texts import documents

if TYPE_CHECKING:
    from lazymig.codegen.handler_file import Lines

__all__ = ["register"]


@dataclass
class _Standing:
    """The rules of one model, and where those are written that can go."""

    target: Target
    pending: list[RuleStatus]
    removable: list[RuleStatus]
    lines: list[Lines] = field(default_factory=list)
    problem: str | None = None

    @property
    def handler(self) -> Any:
        return self.target.model.migration_handler

    def lines_of(self, rule: RuleStatus) -> list[Lines]:
        return [each for each in self.lines if each.rule == rule.name]

    def find_lines(self) -> None:
        # Only this command pays for the import.
        from lazymig.codegen.handler_file import removable_lines  # noqa: PLC0415

        try:
            self.lines = removable_lines(self.handler, [rule.name for rule in self.removable])
        except HandlerFileError as error:
            self.problem = f"the lines are not shown: {error}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.target.name,
            "collection": str(self.target.collection.full_name),
            "handler": self.handler.__qualname__,
            "pending": [
                {"rule": rule.name, "scope": rule.scope, "remaining": rule.remaining}
                for rule in self.pending
            ],
            "quarantined": {
                rule.name: rule.quarantined for rule in self.pending if rule.quarantined
            },
            "removable": [
                {
                    "rule": rule.name,
                    "scope": rule.scope,
                    "places": [_place_to_dict(lines) for lines in self.lines_of(rule)],
                }
                for rule in self.removable
            ],
        }


def _place_to_dict(lines: Lines) -> dict[str, Any]:
    return {
        "handler": lines.handler,
        "file": str(lines.path),
        "first": lines.first,
        "last": lines.last,
        "text": lines.text,
        "empties": lines.empties,
        "others": list(lines.others),
    }


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "finish")
    def finish(session: Session) -> int:
        """Show the rules that can be deleted.

        The exit code is 1 if a rule is pending, or a model's collection does not exist.
        """
        targets = session.targets()
        session.warn_of_missing(targets)
        standings = _standings(targets, session.settings.journal)
        for standing in standings:
            standing.find_lines()
        fine = all(each.target.exists and not each.pending for each in standings)
        output = session.output
        if output.as_json:
            output.data({"ok": fine, "models": [each.to_dict() for each in standings]})
        else:
            for place, standing in enumerate(standings):
                if place:
                    output.print("")
                _show(output, standing)
        return FINE if fine else FINDINGS


def _standings(targets: Sequence[Target], journal: str) -> list[_Standing]:
    """What is pending, and what can go: what no other one of the models needs either.

    Of a collection that does not exist nothing is known.
    """
    statuses = [
        (target, target.migration.get_status(target.collection, journal)) for target in targets
    ]
    needed = {
        getattr(target.model.migration_handler, rule.name)
        for target, rules in statuses
        for rule in rules
        if not rule.removable
    }
    return [
        _Standing(
            target,
            [rule for rule in rules if rule.remaining != 0 or rule.quarantined],
            [
                rule
                for rule in rules
                if rule.removable
                and getattr(target.model.migration_handler, rule.name) not in needed
            ],
        )
        for target, rules in statuses
    ]


def _show(output: Output, standing: _Standing) -> None:
    output.print(f"{standing.target.name} in {standing.target.collection.full_name}")
    for rule in standing.pending:
        left = "unknown" if rule.remaining is None else documents(rule.remaining)
        waiting = "" if not rule.quarantined else f", {rule.quarantined:,} in quarantine"
        output.indented(f"pending: {rule.name}, {left}{waiting}", 2, "red")
    if not standing.target.exists:
        output.indented("the collection does not exist", 2, "red")
    elif not standing.pending:
        output.indented("nothing is pending", 2, "green")
    if standing.problem is not None:
        output.indented(f"note: {standing.problem}", 2, "yellow")
    for rule in standing.removable:
        output.indented(f"can be deleted: {rule.name}", 2, "green")
        for lines in standing.lines_of(rule):
            _show_lines(output, lines)


def _show_lines(output: Output, lines: Lines) -> None:
    output.indented(f"{short_path(lines.path)}, lines {lines.first} to {lines.last}:", 4)
    output.code(lines.text.splitlines(), 6)
    if lines.others:
        output.indented(f"note: it is a rule of {', '.join(lines.others)}, too", 4, "yellow")
    if lines.empties:
        output.indented(f"note: nothing else is left in {lines.handler} then", 4, "yellow")
