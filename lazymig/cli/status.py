"""`lazymig status`: the standing of each rule, and the rate since the last look."""

from __future__ import annotations

import click

from lazymig.cli.commands import command
from lazymig.cli.failures import FINE
from lazymig.cli.results import StatusResult
from lazymig.cli.session import Session
from lazymig.cli.view import show_older
from lazymig.redaction import excerpt
from lazymig.reports.status import ModelStanding, look
from lazymig.reports.texts import documents

__all__ = ["register"]


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "status", StatusResult)
    @click.option(
        "--no-record", is_flag=True, help="Do not keep this look; nothing at all is written."
    )
    def status(session: Session, no_record: bool) -> int:
        """Count the documents each rule has to migrate, and the rate."""
        output = session.output
        journal = session.settings.journal
        targets = session.targets()
        session.warn_of_missing(targets)
        found = [
            look(
                target.model,
                target.collection,
                journal=journal,
                keep=not no_record,
            )
            for target in targets
        ]
        for each in found:
            if each.refusal is not None:
                output.warn(
                    f"this look is not kept, the next one has no rate: {excerpt(each.refusal)}; "
                    "let the user write the journal, or call it with --no-record"
                )
        if output.as_json:
            output.data({"models": found})
            return FINE
        for place, each in enumerate(found):
            if place:
                output.print("")
            _show(session, each)
        return FINE


def _show(session: Session, standing: ModelStanding) -> None:
    since = "" if standing.since is None else f"; last look {standing.since:%Y-%m-%d %H:%M:%S} UTC"
    session.output.print(f"{standing.model} in {standing.collection}{since}")
    if standing.rules:
        _show_rules(session, standing)
    else:
        session.output.print("  its handler has no rules")
    current = [each.name for each in standing.views if each.current]
    if current:
        session.output.indented(f"in today's shape: the view {', '.join(current)}", 2)
    show_older(session.output, standing.views)


def _show_rules(session: Session, standing: ModelStanding) -> None:
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
                ("sealed" if rule.sealed else "yes") if rule.removable else "no",
            )
            for rule in standing.rules
        ],
        right=(2, 3, 4, 5),
    )
    for rule in standing.rules:
        if rule.warning is not None:
            session.output.indented(f"{rule.name}: {rule.warning}", 2, "yellow")
        if rule.quarantined:
            session.output.indented(
                f"{rule.name}: {documents(rule.quarantined)} in quarantine; lazymig quarantine "
                "list lists what runs have refused",
                2,
                "red",
            )
        if rule.remaining != 0:
            for text in rule.remarks:
                session.output.indented(f"{rule.name}: {text}", 2, "dim")


def _percent(share: float) -> str:
    """Rounded down: 100 % is said of what is done alone."""
    return f"{int(share * 1000) / 10:.1f}%"


def _pace(rate: float) -> str:
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        if abs(rate) * seconds >= 1 or unit == "h":
            return f"{rate * seconds:,.0f}/{unit}" if rate else "0/s"
    raise AssertionError
