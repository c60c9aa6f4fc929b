"""The questions before something is written: what it is, where, and whether there is a backup."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pymongo.database import Database

from lazymig.cli.output import Output
from lazymig.cli.session import Target
from lazymig.engines.pending import RuleStatus
from lazymig.operations.backup.reader import collections_in
from lazymig.operations.journal.entries import Run
from lazymig.reports.texts import documents
from lazymig.rules.rule import Scope

__all__ = ["AskedRun", "agrees_to_restore", "agrees_to_runs", "beginning"]


class AskedRun(NamedTuple):
    """A run that is about to begin, or to be resumed."""

    target: Target
    scope: Scope
    former: Run | None


def beginning(run: Run | None) -> str:
    """Return the text that says which run is resumed, or that a new one begins."""
    if run is None:
        return "begins a new run"
    return f"resumes run {run.id}, {run.state}, of {run.started:%Y-%m-%d %H:%M:%S} UTC"


def agrees_to_runs(output: Output, asked: Sequence[AskedRun], backup: str | None) -> bool:
    """Say on standard error what is about to be written, and return whether the user agrees.

    :param backup: the folder of the backup; `None` if there will be none.
    """
    statuses: dict[Any, list[RuleStatus]] = {}
    for target, scope, run in asked:
        if target.model not in statuses:
            statuses[target.model] = target.migration.get_status(target.collection)
        rules = [status for status in statuses[target.model] if status.scope == scope]
        if not rules:
            continue
        where = f"{target.collection.full_name} on {_hosts(target.collection.database)}"
        output.note(f"{target.name} in {where}, {scope} rules")
        output.note(f"    {beginning(run)}")
        for rule in rules:
            count = "unknown" if rule.remaining is None else documents(rule.remaining)
            output.note(f"    {rule.name}: {count}")
    for text in _backup_in_words(asked, backup):
        output.note(text)
    return output.agrees("Write to the database?")


def _backup_in_words(asked: Sequence[AskedRun], backup: str | None) -> list[str]:
    if backup is not None:
        return [
            f"Backup: {backup} gets the documents as they were; lazymig restore undoes the run."
        ]
    former = {
        str(saved): None
        for run in asked
        if run.former is not None and (saved := run.former.options.get("backup")) is not None
    }
    texts = [
        f"The run to resume has written a backup to {saved}; add --backup {saved}, or what is "
        "changed from now on is missing there."
        for saved in former
    ]
    return [*texts, "No backup: what is written cannot be undone; --backup DIR makes one."]


def agrees_to_restore(
    output: Output, path: Path, databases: Sequence[Database[Any]], *, force: bool
) -> bool:
    """Say on standard error what is about to be put back, and return whether the user agrees.

    :param path: the folder of the backup.
    :raises BackupUnreadable: there is none of one of the databases.
    """
    for database in databases:
        names = ", ".join(collections_in(path, database.name))
        output.note(f"{path}: the documents of {names} in {database.name} on {_hosts(database)}")
    output.note(
        "Those that were changed or deleted since are put back, too (--force)."
        if force
        else "Those that were changed or deleted since are left alone."
    )
    output.note("No backup is made of what is there now.")
    return output.agrees("Put them back as they were?")


def _hosts(database: Database[Any]) -> str:
    return ", ".join(f"{host}:{port}" for host, port in sorted(database.client.nodes))
