"""`lazymig quarantine`: documents that runs have left as they were, and trying them once more."""

from __future__ import annotations

from dataclasses import replace

import click

from lazymig.characters import shown
from lazymig.cli.commands import command
from lazymig.cli.failures import FINDINGS, FINE
from lazymig.cli.output import Output
from lazymig.cli.results import QuarantineResult, RetryResult
from lazymig.cli.run_reports import result_of, show_report
from lazymig.cli.runs import books_of, find_run, run_of
from lazymig.cli.session import Invocation
from lazymig.operations.journal.entries import Quarantined

__all__ = ["register"]


def register(group: click.Group) -> None:
    """Add the commands."""

    @group.group("quarantine")
    def quarantine() -> None:
        """List documents that runs have refused, or try them again."""

    @command(quarantine, "list", QuarantineResult)
    @click.argument("run", required=False)
    @click.option(
        "--limit",
        type=click.IntRange(1),
        metavar="N",
        default=1000,
        show_default=True,
        help="How many at most.",
    )
    def listing(session: Invocation, run: str | None, limit: int) -> int:
        """List them, newest first; exit code 1 if there are some.

        With RUN, the beginning of its id, those of this run alone.
        """
        books = books_of(session.databases(), session.settings.journal)
        if run is not None:
            book, chosen = find_run(books, run)
            found = [(book.database, each) for each in book.history.quarantined(chosen.id, limit)]
        else:
            every = [
                (book.database, each)
                for book in books
                for each in book.history.quarantined(limit=limit)
            ]
            found = sorted(every, key=lambda each: each[1].at, reverse=True)[:limit]
        if session.output.as_json:
            session.output.data({"quarantined": [_named(*each) for each in found]})
        else:
            _show(session.output, found)
        return FINDINGS if found else FINE

    @command(quarantine, "retry", RetryResult)
    @click.argument("run")
    def retry(session: Invocation, run: str) -> int:
        """Apply the rule that failed once more, and the rules after it.

        RUN is the beginning of the id of the run that has refused the documents. If it has not
        finished, resume it first, with migrate --resume.
        """
        journal = session.settings.journal
        target, found = run_of(session.targets(), run, journal)
        report = target.migration.retry_quarantined(found.id, target.collection, journal=journal)
        if session.output.as_json:
            session.output.data({"run": result_of(report)})
        elif report.rules:
            # The run itself has finished: there is nothing to resume.
            show_report(session.output, replace(report, state="finished"))
        else:
            session.output.print(f"run {found.id} has no document in quarantine")
        return FINE if report.complete else FINDINGS


def _named(database: str, entry: Quarantined) -> Quarantined:
    """The same with the database in the collection's name."""
    return replace(entry, collection=f"{database}.{entry.collection}")


def _show(output: Output, found: list[tuple[str, Quarantined]]) -> None:
    if not found:
        output.print("no document is in quarantine")
    for database, entry in found:
        place = f"{database}.{shown(entry.collection)} {shown(repr(entry.document_id))}"
        output.indented(f"{place}: {shown(entry.rule)}", 0, "bold")
        output.indented(f"{shown(entry.type)}: {entry.error}", 4, "red")
        output.indented(f"run {entry.run}, {entry.at:%Y-%m-%d %H:%M:%S} UTC", 4, "dim")
