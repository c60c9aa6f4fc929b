"""`lazymig finish`: what is pending, and the lines of the handlers that can go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click

from lazymig.cli.commands import command
from lazymig.cli.failures import FINDINGS, FINE
from lazymig.cli.output import Output, short_path
from lazymig.cli.seal import sealed_as_far, show_not_sealed
from lazymig.cli.session import Invocation, Target
from lazymig.engines.pending import RuleStatus
from lazymig.errors import HandlerFileError
from lazymig.odm.plans import plan_for
from lazymig.operations.rule_indexes import drop_indexes, needless_indexes
from lazymig.operations.seals import SealReport
from lazymig.raw.json_values import NOT_IN_JSON, JsonValue
from lazymig.reports.texts import documents
from lazymig.rules.discovery import discover
from lazymig.rules.rule import Scope
from lazymig.rules.unfinished import waiting_rules

if TYPE_CHECKING:
    from lazymig.codegen.rule_lines import Lines

__all__ = ["register"]


@dataclass(frozen=True, slots=True)
class PendingRule(JsonValue):
    """A rule that a stored document needs, or may need."""

    rule: str
    scope: Scope
    remaining: int | None


@dataclass(frozen=True, slots=True)
class Place(JsonValue):
    """The lines of a rule in a handler's file, see `lazymig.codegen`."""

    handler: str
    file: str
    first: int
    last: int
    text: str
    empties: bool
    others: tuple[str, ...]
    emptied: str | None = field(metadata=NOT_IN_JSON)


@dataclass(frozen=True, slots=True)
class RemovableRule(JsonValue):
    """A rule that no stored document needs, and where it is written.

    :ivar sealed: MongoDB refuses documents that its target matches, also once the rule is gone.
    """

    rule: str
    scope: Scope
    sealed: bool
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Completion(JsonValue):
    """What is pending of a model's rules, and what can go.

    :ivar assignment: what names the handler, `User.migration_handler`, where none of its rules is
        left without those that can go, and none is inherited in its place; else `None`.
    :ivar quarantined: documents that wait in quarantine, by rule.
    :ivar seals: with `--seal`, what is sealed of the rules that can go.
    :ivar indexes: the indexes of the rules that can go, and of rules that are gone.
    :ivar dropped: those of them that this call has dropped.
    :ivar views: the views of the model that lazymig has made.
    :ivar dropped_views: those of them that this call has dropped, as nothing is pending.
    :ivar exists: whether there is a collection.
    :ivar problem: why the lines of rules are not known; `None` if they are.
    """

    model: str
    collection: str
    handler: str
    pending: tuple[PendingRule, ...]
    quarantined: Mapping[str, int]
    removable: tuple[RemovableRule, ...]
    assignment: str | None
    seals: SealReport | None
    indexes: tuple[str, ...]
    dropped: tuple[str, ...]
    views: tuple[str, ...]
    dropped_views: tuple[str, ...]
    exists: bool = field(metadata=NOT_IN_JSON)
    problem: str | None = field(metadata=NOT_IN_JSON)


class FinishResult(TypedDict):
    """What `finish` writes."""

    ok: bool
    models: list[Completion]


@dataclass(frozen=True, slots=True)
class Dropping:
    """What a call is to drop besides: indexes of finished rules, and views of finished models."""

    indexes: bool
    views: bool


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "finish", FinishResult)
    @click.option(
        "--seal", is_flag=True, help="Have MongoDB refuse their old shape first; see seal."
    )
    @click.option(
        "--drop-indexes",
        is_flag=True,
        help="Drop the indexes of these rules: for when they are deployed no more.",
    )
    @click.option(
        "--drop-views",
        is_flag=True,
        help="Drop the views of a model whose rules are all finished: for when nobody reads them.",
    )
    def finish(session: Invocation, seal: bool, drop_indexes: bool, drop_views: bool) -> int:
        """Show the rules that can be deleted.

        The exit code is 1 if a rule is pending, or a model's collection does not exist; with --seal
        also if a rule that can be deleted is not sealed.
        """
        targets = session.targets()
        session.warn_of_missing(targets)
        drop = Dropping(drop_indexes, drop_views)
        found = _completions(targets, session.settings.journal, drop, seal=seal)
        fine = all(
            each.exists and not each.pending and not (each.seals and each.seals.not_sealed)
            for each in found
        )
        output = session.output
        if output.as_json:
            output.data({"ok": fine, "models": found})
        else:
            for place, each in enumerate(found):
                if place:
                    output.print("")
                _show(output, each, drop)
        return FINE if fine else FINDINGS


def _completions(
    targets: Sequence[Target], journal: str, drop: Dropping, *, seal: bool
) -> list[Completion]:
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
    found = [_completion(target, rules, needed, drop) for target, rules in statuses]
    if not seal:
        return found
    return [
        _sealed(target, each, journal) if each.removable else each
        for each, (target, _rules) in zip(found, statuses, strict=True)
    ]


def _sealed(target: Target, found: Completion, journal: str) -> Completion:
    """Seal the rules that can go."""
    report = sealed_as_far(target, [each.rule for each in found.removable], journal)
    rules = (replace(each, sealed=each.rule in report.sealed) for each in found.removable)
    return replace(found, seals=report, removable=tuple(rules))


def _completion(
    target: Target, rules: Sequence[RuleStatus], needed: set[Any], drop: Dropping
) -> Completion:
    # Only this command pays for the import.
    from lazymig.codegen.rule_lines import removable_lines  # noqa: PLC0415

    handler = target.model.migration_handler
    pending = [rule for rule in rules if rule.remaining != 0 or rule.quarantined]
    removable = [
        rule for rule in rules if rule.removable and getattr(handler, rule.name) not in needed
    ]
    names = [rule.name for rule in removable]
    plan = plan_for(handler, target.model)
    indexes = needless_indexes(target.collection, plan, names)
    dropped = drop_indexes(target.collection, plan, names) if drop.indexes else []
    views = _views_of(target)
    waiting = waiting_rules(handler)
    dropped_views = views if drop.views and not pending and not waiting else ()
    for name in dropped_views:
        target.migration.drop_view(name, target.collection)
    lines: Sequence[Lines] = ()
    problem = None
    try:
        lines = removable_lines(handler, names)
    except HandlerFileError as error:
        problem = f"the lines are not shown: {error}"
    return Completion(
        model=target.name,
        collection=str(target.collection.full_name),
        handler=handler.__qualname__,
        pending=(
            *(PendingRule(rule.name, rule.scope, rule.remaining) for rule in pending),
            # What is no rule yet cannot be asked how many documents need it.
            *(PendingRule(rule.name, rule.scope, None) for rule in waiting),
        ),
        quarantined={rule.name: rule.quarantined for rule in pending if rule.quarantined},
        removable=tuple(
            RemovableRule(
                rule.name,
                rule.scope,
                rule.sealed,
                tuple(_place(each) for each in lines if each.rule == rule.name),
            )
            for rule in removable
        ),
        assignment=_assignment(target.model, names),
        seals=None,
        indexes=tuple(indexes),
        dropped=tuple(dropped),
        views=views,
        dropped_views=dropped_views,
        exists=target.exists,
        problem=problem,
    )


def _assignment(model: Any, names: Sequence[str]) -> str | None:
    """What names a handler that has no other rules than these.

    `None` where without it the model would have the rules of a parent class.
    """
    holder, *others = (each for each in model.__mro__ if vars(each).get("migration_handler"))
    known = {rule.name for rule in discover(model.migration_handler)}
    if others or known.difference(names):
        return None
    return f"{holder.__name__}.migration_handler"


def _views_of(target: Target) -> tuple[str, ...]:
    """The views of a model, not those of other models of its collection."""
    found = target.migration.views(target.collection)
    return tuple(each.name for each in found if each.model == target.name)


def _place(lines: Lines) -> Place:
    return Place(
        lines.handler,
        str(lines.path),
        lines.first,
        lines.last,
        lines.text,
        lines.emptied is not None,
        lines.others,
        lines.emptied,
    )


def _show(output: Output, found: Completion, drop: Dropping) -> None:
    output.print(f"{found.model} in {found.collection}")
    for rule in found.pending:
        left = "unknown" if rule.remaining is None else documents(rule.remaining)
        waiting = found.quarantined.get(rule.rule)
        more = "" if waiting is None else f", {waiting:,} in quarantine"
        output.indented(f"pending: {rule.rule}, {left}{more}", 2, "red")
    if not found.exists:
        output.indented("the collection does not exist", 2, "red")
    elif not found.pending:
        output.indented("nothing is pending", 2, "green")
    if found.problem is not None:
        output.indented(f"note: {found.problem}", 2, "yellow")
    if found.seals is not None:
        show_not_sealed(output, found.seals)
    for removable in found.removable:
        state = ", sealed" if removable.sealed else ""
        output.indented(f"can be deleted: {removable.rule}{state}", 2, "green")
        for place in removable.places:
            _show_place(output, place)
    emptied = [place.emptied for each in found.removable for place in each.places]
    for part in dict.fromkeys(filter(None, emptied)):
        output.indented(f"note: no code is left in {part} then", 2, "yellow")
    if any(each.sealed for each in found.removable):
        output.indented(
            "note: a seal stays when its rule goes; lazymig seal --unseal --rule NAME takes it "
            f"out, as long as {found.model} has a handler",
            2,
        )
    for name in found.dropped:
        output.indented(f"dropped: the index {name}", 2, "green")
    kept = [name for name in found.indexes if name not in found.dropped]
    if kept:
        output.indented(
            f"note: once they are deployed no more, --drop-indexes drops {', '.join(kept)}", 2
        )
    _show_views(output, found, drop)
    if found.assignment is not None:
        what = f"{found.assignment} = {found.handler} can go"
        text = f"after that, {what}, too" if found.removable else f"it has no rule: {what}"
        output.indented(f"note: {text}", 2)


def _show_views(output: Output, found: Completion, drop: Dropping) -> None:
    for name in found.dropped_views:
        output.indented(f"dropped: the view {name}", 2, "green")
    kept = [name for name in found.views if name not in found.dropped_views]
    it, views = ("them", "views") if len(kept) > 1 else ("it", "view")
    names = f"the {views} {', '.join(kept)}"
    if kept and found.pending:
        problem = f"--drop-views has left {it}" if drop.views else f"readers need {it}"
        output.indented(f"note: while rules are pending, {problem}: {names}", 2)
    elif kept:
        output.indented(f"note: once nobody reads {it}, --drop-views drops {names}", 2)


def _show_place(output: Output, place: Place) -> None:
    output.indented(f"{short_path(Path(place.file))}, lines {place.first} to {place.last}:", 4)
    output.code(place.text.splitlines(), 6)
    if place.others:
        output.indented(f"note: it is a rule of {', '.join(place.others)}, too", 4, "yellow")
