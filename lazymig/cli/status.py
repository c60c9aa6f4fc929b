"""`lazymig status`: where each rule stands, and how fast it came there since the last look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure

from lazymig.cli.commands import command
from lazymig.cli.failures import FINE
from lazymig.cli.output import in_json
from lazymig.cli.session import Session
from lazymig.engines.access import all_of, is_mongomock, on_primary
from lazymig.engines.pending import RuleStatus
from lazymig.odm.plans import plan_for
from lazymig.operations.journal.collection import JOURNAL, client_now
from lazymig.operations.journal.entries import Sample
from lazymig.operations.journal.history import History
from lazymig.operations.journal.journal import Journal
from lazymig.reports.dryrun.report import documents
from lazymig.rules.rule import Scope

__all__ = ["ModelStanding", "RuleStanding", "look", "register"]


@dataclass(frozen=True, slots=True)
class RuleStanding:
    """Where one rule stands.

    :ivar remaining: documents that its target matches; `None` if the target needs a document.
    :ivar total: documents that the rule concerns.
    :ivar done: the share of them that it does not match, from 0 to 1; `None` if unknown.
    :ivar rate: documents per second that were brought up to date since the last look; below 0 if
        more old ones came; `None` if unknown.
    :ivar quarantined: documents that bulk runs have refused by it and that still wait for it.
    :ivar removable: no document needs it any more.
    """

    name: str
    scope: Scope
    remaining: int | None
    total: int
    done: float | None
    rate: float | None
    quarantined: int
    removable: bool

    def to_dict(self) -> dict[str, Any]:
        """The rule in JSON's types."""
        return {
            "name": self.name,
            "scope": self.scope,
            "remaining": self.remaining,
            "total": self.total,
            "done": self.done,
            "rate": self.rate,
            "quarantined": self.quarantined,
            "removable": self.removable,
        }


@dataclass(frozen=True, slots=True)
class ModelStanding:
    """Where the rules of a model stand.

    :ivar collection: its name, with the database.
    :ivar at: the time of this look, naive UTC by the server.
    :ivar since: the time of the last look, `None` if there was none.
    :ivar problem: why this look could not be kept; `None` if it was, or was not to be.
    """

    model: str
    collection: str
    at: datetime
    since: datetime | None
    rules: tuple[RuleStanding, ...]
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The model in JSON's types."""
        return {
            "model": self.model,
            "collection": self.collection,
            "at": in_json(self.at),
            "since": in_json(self.since),
            "rules": [rule.to_dict() for rule in self.rules],
        }


def look(
    model: Any, collection: Collection[Any], *, journal: str = JOURNAL, keep: bool = True
) -> ModelStanding:
    """Count what each rule of a model has left, and compare that with the last look.

    :param collection: the collection of the model.
    :param journal: the name of the journal's collection, where looks are kept.
    :param keep: keep this one.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
    statuses = model.migration_handler(model).get_status(collection, journal)
    last = _last_look(model, collection, journal)
    at = _now(collection.database)
    problem = None
    if keep:
        remaining = {status.name: status.remaining for status in statuses}
        try:
            Journal(collection.database, journal).sample(model.__name__, collection.name, remaining)
        except OperationFailure as error:
            problem = f"this look is not kept, the next one has no rate: {error}"
    return ModelStanding(
        model=model.__name__,
        collection=str(collection.full_name),
        at=at,
        since=None if last is None else last.at,
        rules=_standings(model, collection, statuses, last, at),
        problem=problem,
    )


def _last_look(model: Any, collection: Collection[Any], journal: str) -> Sample | None:
    samples = History(collection.database, journal).samples(model)
    mine = [sample for sample in samples if sample.collection == collection.name]
    return mine[-1] if mine else None


def _now(database: Database[Any]) -> datetime:
    """The time, naive UTC, by the clock that looks are kept with."""
    if is_mongomock(database):
        return client_now()
    time: datetime = database.client.admin.command("hello")["localTime"]
    return time.replace(tzinfo=None)


def _standings(
    model: Any,
    collection: Collection[Any],
    statuses: list[RuleStatus],
    last: Sample | None,
    at: datetime,
) -> tuple[RuleStanding, ...]:
    plan = plan_for(model.migration_handler, model)
    counted: list[tuple[Any, int]] = []
    standings = []
    for status in statuses:
        concern = plan.inherited_concern.get(status.name, plan.concern)
        total = next((number for other, number in counted if other == concern), None)
        if total is None:
            total = _count(collection, concern)
            counted.append((concern, total))
        standings.append(_standing(status, total, last, at))
    return tuple(standings)


def _count(collection: Collection[Any], concern: Any) -> int:
    reader = on_primary(collection)
    if concern is None:
        return reader.estimated_document_count()
    return reader.count_documents(all_of(concern))


def _standing(status: RuleStatus, total: int, last: Sample | None, at: datetime) -> RuleStanding:
    remaining = status.remaining
    done = rate = None
    if remaining is not None:
        # The total may be an estimate.
        total = max(total, remaining)
        if status.exists:
            done = 1.0 if total == 0 else (total - remaining) / total
        before = None if last is None else last.remaining.get(status.name)
        if last is not None and before is not None and at > last.at:
            rate = (before - remaining) / (at - last.at).total_seconds()
    return RuleStanding(
        name=status.name,
        scope=status.scope,
        remaining=remaining,
        total=total,
        done=done,
        rate=rate,
        quarantined=status.quarantined,
        removable=status.removable,
    )


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "status")
    @click.option(
        "--no-record", is_flag=True, help="Do not keep this look; nothing at all is written."
    )
    def status(session: Session, no_record: bool) -> int:
        """Count what each rule has left, and how fast it becomes less."""
        output = session.output
        journal = session.settings.journal
        targets = session.targets()
        session.warn_of_missing(targets)
        found = [
            look(
                target.model,
                target.collection,
                journal=journal,
                # A look at what is not there would make the journal, and its database.
                keep=not no_record and target.exists,
            )
            for target in targets
        ]
        for each in found:
            if each.problem is not None:
                output.warn(each.problem)
        if output.as_json:
            output.data({"models": [each.to_dict() for each in found]})
            return FINE
        for place, each in enumerate(found):
            if place:
                output.print("")
            _show(session, each)
        return FINE


def _show(session: Session, standing: ModelStanding) -> None:
    since = "" if standing.since is None else f"; last look {standing.since:%Y-%m-%d %H:%M:%S} UTC"
    session.output.print(f"{standing.model} in {standing.collection}{since}")
    if not standing.rules:
        session.output.print("  its handler has no rules")
        return
    session.output.table(
        ("rule", "scope", "remaining", "total", "done", "rate", "removable"),
        [
            (
                rule.name,
                rule.scope,
                "unknown" if rule.remaining is None else f"{rule.remaining:,}",
                f"{rule.total:,}",
                "" if rule.done is None else _percent(rule.done),
                "" if rule.rate is None else _pace(rule.rate),
                "yes" if rule.removable else "no",
            )
            for rule in standing.rules
        ],
        right=(2, 3, 4, 5),
    )
    for rule in standing.rules:
        if rule.quarantined:
            session.output.indented(
                f"{rule.name}: {documents(rule.quarantined)} in quarantine; lazymig quarantine "
                "list lists what runs have refused",
                2,
                "red",
            )


def _percent(share: float) -> str:
    """Rounded down: 100 % is said of what is done alone."""
    return f"{int(share * 1000) / 10:.1f}%"


def _pace(rate: float) -> str:
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        if abs(rate) * seconds >= 1 or unit == "h":
            return f"{rate * seconds:,.0f}/{unit}" if rate else "0/s"
    raise AssertionError
