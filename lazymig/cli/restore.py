"""`lazymig restore`: the documents of a backup put back in place."""

from __future__ import annotations

from pathlib import Path

import click

from lazymig.characters import shown
from lazymig.cli.commands import command
from lazymig.cli.failures import FINDINGS, FINE, Misuse
from lazymig.cli.output import Output
from lazymig.cli.questions import agrees_to_restore
from lazymig.cli.results import RestoreResult
from lazymig.cli.session import Invocation
from lazymig.operations.backup.reader import check_backup
from lazymig.operations.backup.restore import RestoreReport, restore
from lazymig.reports.texts import documents, duration

__all__ = ["register"]

_MOST_LISTED = 10


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "restore", RestoreResult)
    @click.argument("path", type=click.Path(path_type=Path))
    @click.option("--force", is_flag=True, help="Put back what was changed or deleted since, too.")
    @click.option("--yes", "-y", is_flag=True, help="Do not ask; needed without a terminal.")
    def restoring(session: Invocation, path: Path, force: bool, yes: bool) -> int:
        """Put the documents of a backup back in place.

        PATH is the folder that was given to migrate --backup. A document that somebody has changed
        since is skipped, and listed; then the exit code is 1.
        """
        if not yes and not session.output.asks:
            raise Misuse("there is no terminal to ask on; add --yes")
        databases = session.databases()
        saved = [each for each in databases if (path / each.name).is_dir()] or databases
        if len(saved) > 1:
            # A restore looks at all of its own database; nothing of the others is put back, either.
            for database in saved:
                check_backup(path, database.name)
        if not yes and not agrees_to_restore(session.output, path, saved, force=force):
            session.output.warn("nothing was put back")
            return FINDINGS
        reports = []
        for database in saved:
            with session.output.counting(f"restoring {database.name}") as bar:
                reports.append(restore(path, database, force=force, progress=bar))
        if session.output.as_json:
            session.output.data({"databases": reports})
        else:
            for report in reports:
                _show(session.output, report, force=force)
        return FINDINGS if any(report.conflict_count for report in reports) else FINE


def _show(output: Output, report: RestoreReport, *, force: bool) -> None:
    output.print(
        f"{', '.join(report.collections)}: {documents(report.restored)} put back, "
        f"{report.unchanged:,} as before already, in {duration(report.seconds)}"
    )
    if not report.conflict_count:
        return
    output.indented(f"{documents(report.conflict_count)} left alone:", 0, "red")
    listed: dict[tuple[str, str], list[str]] = {}
    for conflict in report.conflicts[:_MOST_LISTED]:
        ids = listed.setdefault((conflict.collection, conflict.reason), [])
        ids.append(shown(repr(conflict.document_id)))
    for (collection, reason), ids in listed.items():
        output.indented(f"{shown(collection)} {', '.join(ids)}: {reason}", 4)
    more = report.conflict_count - _MOST_LISTED
    if more > 0:
        output.indented(f"and {more:,} more", 4)
    if report.refused < report.conflict_count and not force:
        output.indented("--force puts back what was changed or deleted since, too", 4)
    if report.seals:
        rules = [f"--rule={seal}" for seal in report.seals]
        output.call("before you restore again:", ["lazymig", "seal", "--unseal", *rules], 4)
