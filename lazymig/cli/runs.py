"""`lazymig runs`, and `pause`, `resume`, `stop` and `slow`: the journal, and runs elsewhere."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import click
from pymongo.database import Database

from lazymig.characters import shown
from lazymig.cli.commands import command
from lazymig.cli.failures import FINE, Misuse
from lazymig.cli.output import Output
from lazymig.cli.results import RunResult, RunsResult
from lazymig.cli.run_options import flag_of, flags_of, limits_in_words
from lazymig.cli.session import Invocation, Target
from lazymig.errors import Remedy, RunNotFound
from lazymig.operations.declared import declarations
from lazymig.operations.journal.entries import Run
from lazymig.operations.journal.history import History
from lazymig.operations.journal.rule_run import RuleRun
from lazymig.operations.throttling.limits import CHANGEABLE, Limits
from lazymig.reports.texts import applications, documents, duration

__all__ = ["Book", "books_of", "find_run", "is_run_of", "register", "run_of"]


@dataclass(frozen=True)
class Book:
    """The journal of one database, and the database's name."""

    database: str
    history: History


def books_of(databases: Iterable[Database[Any]], journal: str) -> list[Book]:
    """The journals of some databases, each once."""
    return [Book(each.name, History(each, journal)) for each in dict.fromkeys(databases)]


def find_run(books: Sequence[Book], run_id: str) -> tuple[Book, Run]:
    """A run in one of several journals, by its id or how that begins.

    :raises RunNotFound: there is none, or there are several.
    """
    if len(books) == 1:
        return books[0], books[0].history.run(run_id)
    found = [
        (book, run)
        for book in books
        for run in book.history.runs(None)
        if str(run.id).startswith(run_id.lower())
    ]
    if not found:
        raise RunNotFound(f"there is no run {run_id}", run=run_id, remedy=Remedy("list_runs"))
    if len(found) > 1:
        raise RunNotFound(
            f"several runs have an id that begins with {run_id}; give more of it", run=run_id
        )
    return found[0]


def run_of(targets: Sequence[Target], run_id: str, journal: str) -> tuple[Target, Run]:
    """A run over the collection of one of several models, and this model.

    :raises RunNotFound: there is no such run.
    :raises Misuse: it is a run of another model.
    """
    databases = (target.collection.database for target in targets)
    book, run = find_run(books_of(databases, journal), run_id)
    place = f"{book.database}.{run.collection}"
    named = [
        target
        for target in targets
        if (target.name, target.collection.full_name) == (run.model, place)
    ]
    for target in named:
        # The class may have been moved to another module since the run began.
        if target.full_name == run.model_class or len(named) == 1:
            return target, run
    raise Misuse(
        f"run {run.id} is one of {run.model_class or run.model} over {place}, which is not among "
        "the models; name it with --models"
    )


def is_run_of(target: Target, run: Run) -> bool:
    """Return whether a run over the collection of a model is one of this very model."""
    return run.model == target.name and run.model_class in (target.full_name, None)


def _named(database: str, run: Run) -> Run:
    """The same with the database in the collection's name."""
    return replace(run, collection=f"{database}.{run.collection}")


def _books(session: Invocation) -> list[Book]:
    return books_of(session.databases(), session.settings.journal)


def _me() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a user that nobody has named.
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def register(group: click.Group) -> None:
    """Add the commands."""
    _register_runs(group)
    _register_requests(group)

    @command(group, "slow", RunResult)
    @click.argument("run")
    @flags_of((name, each) for name, each in declarations(Limits).items() if each.changes)
    def slow(session: Invocation, run: str, **limits: float | None) -> int:
        """Give a run other limits.

        RUN is the beginning of its id. 0 is no limit; those that are not named stay.
        """
        given = {name: value for name, value in limits.items() if value is not None}
        if not given:
            *most, last = map(flag_of, CHANGEABLE)
            raise Misuse(f"no limit is named; name {', '.join(most)} or {last}")
        return _ask(
            session, run, lambda history, run_id: history.slow(run_id, _me(), **given), limits=True
        )


def _register_runs(group: click.Group) -> None:
    @command(group, "runs", RunsResult)
    @click.argument("run", required=False)
    @click.option(
        "--limit",
        type=click.IntRange(1),
        metavar="N",
        default=20,
        show_default=True,
        help="How many at most.",
    )
    def runs(session: Invocation, run: str | None, limit: int) -> int:
        """List the runs of the journal, or show one.

        RUN is the beginning of its id; without it, runs are listed newest first.
        """
        output = session.output
        books = _books(session)
        if run is not None:
            found = [find_run(books, run)]
        else:
            every = [(book, each) for book in books for each in book.history.runs(limit)]
            found = sorted(every, key=lambda each: each[1].started, reverse=True)[:limit]
        if output.as_json:
            output.data({"runs": [_named(book.database, each) for book, each in found]})
        elif run is not None:
            book, one = found[0]
            _show_one(output, book.database, one)
        elif found:
            for (_book, each), name in zip(found, _names(found), strict=True):
                _show_short(output, each, name)
        else:
            output.print("no run is in the journal")
        return FINE


def _register_requests(group: click.Group) -> None:
    @command(group, "pause", RunResult)
    @click.argument("run")
    def pause(session: Invocation, run: str) -> int:
        """Let a run wait until it is resumed or stopped.

        It waits from its next chunk on. RUN is the beginning of its id.
        """
        return _ask(session, run, lambda history, run_id: history.pause(run_id, _me()))

    @command(group, "resume", RunResult)
    @click.argument("run")
    def resume(session: Invocation, run: str) -> int:
        """Let a paused run continue.

        RUN is the beginning of its id. One that has ended is resumed by migrate --resume.
        """
        return _ask(session, run, lambda history, run_id: history.resume(run_id, _me()))

    @command(group, "stop", RunResult)
    @click.argument("run")
    def stop(session: Invocation, run: str) -> int:
        """Let a run end after its current chunk.

        RUN is the beginning of its id. It can be resumed by migrate --resume.
        """
        return _ask(session, run, lambda history, run_id: history.stop(run_id, _me()))


def _ask(
    session: Invocation,
    run_id: str,
    request: Callable[[History, str], None],
    *,
    limits: bool = False,
) -> int:
    """Ask something of a run, and write what is asked of it now.

    :param limits: the request is about limits alone.
    """
    book, run = find_run(_books(session), run_id)
    request(book.history, str(run.id))
    output = session.output
    asked = book.history.run(run.id)
    if output.as_json:
        output.data({"run": _named(book.database, asked)})
        return FINE
    control = asked.control
    given = limits_in_words(control.limits)
    if limits:
        state = "" if control.action == "run" else f", which is asked to {control.action}"
        text = f"{state}: {given}"
    else:
        text = f" is asked to {control.action}{f', with {given}' if given else ''}"
    output.print(f"run {asked.id} of {asked.model}{text}, by {control.by}")
    return FINE


def _names(found: Sequence[tuple[Book, Run]]) -> list[str]:
    """The model of each run, with as much as distinguishes models of one name."""
    models: dict[str, set[tuple[str, str, str | None]]] = {}
    for book, run in found:
        models.setdefault(run.model, set()).add((book.database, run.collection, run.model_class))
    return [
        run.model
        if len(models[run.model]) == 1
        else f"{run.model_class or run.model} in {book.database}.{run.collection}"
        for book, run in found
    ]


def _show_short(output: Output, run: Run, name: str) -> None:
    output.indented(f"{run.id}  {run.state}  {shown(name)} ({run.scope})", 0, _style(run))
    lasted = duration(((run.ended or run.heartbeat) - run.started).total_seconds())
    waited = sum(run.waited.values())
    if waited >= 1:
        lasted += f" ({duration(waited)} of it waiting)"
    facts = [f"{_time(run.started)} UTC, {lasted}", applications(run.modified)]
    if run.quarantined:
        still = "" if run.in_quarantine == run.quarantined else f" ({run.in_quarantine:,} still)"
        facts.append(f"quarantined {run.quarantined:,}{still}")
    facts.extend(text for text in (run.note, run.waiting, run.error) if text)
    output.indented("; ".join(facts), 4)


def _show_one(output: Output, database: str, run: Run) -> None:
    output.indented(f"{run.id}  {run.state}", 0, _style(run))
    output.indented(
        f"{shown(run.model_class or run.model)} in {database}.{shown(run.collection)}, {run.scope} "
        f"rules of {shown(run.handler)}",
        2,
    )
    ended = "" if run.ended is None else f", ended {_time(run.ended)}"
    output.indented(
        f"started {_time(run.started)}{ended}, last sign of life {_time(run.heartbeat)} UTC", 2
    )
    for session in run.sessions:
        text = f"by process {session.pid} on {shown(session.host)} since {_time(session.started)}"
        output.indented(text, 2)
    given = ", ".join(f"{key} {value}" for key, value in run.options.items() if value is not None)
    waited = ", ".join(f"{kind} {duration(value)}" for kind, value in run.waited.items())
    asked = ", ".join(f"{key} {value}" for key, value in run.control.limits.items())
    facts: tuple[tuple[str, str | None], ...] = (
        ("note", run.note),
        ("options", given),
        ("asked", f"{run.control.action} {asked}" if run.control.by else None),
        ("asked by", run.control.by),
        ("waiting", run.waiting),
        ("waited", waited),
        ("error", run.error),
        ("to be applied again", ", ".join(run.reopened)),
        ("in quarantine", documents(run.in_quarantine) if run.in_quarantine else None),
    )
    for name, fact in facts:
        if fact:
            output.indented(f"{name}: {fact}", 2)
    output.table(
        ("rule", "state", "done", "matched", "modified", "quarantined"),
        [
            (
                rule.name,
                rule.state,
                _done(rule),
                f"{rule.matched:,}",
                f"{rule.modified:,}",
                f"{rule.quarantined:,}",
            )
            for rule in run.rules
        ],
        right=(2, 3, 4, 5),
    )


def _done(rule: RuleRun) -> str:
    if rule.total is None:
        return ""
    return f"{rule.done:,}/{'' if rule.exact else '~'}{rule.total:,}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _style(run: Run) -> str:
    if run.state == "finished":
        return "green" if run.complete else "yellow"
    return {"failed": "red", "dead": "red"}.get(run.state, "yellow")
