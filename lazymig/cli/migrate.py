"""`lazymig migrate`: the rules over whole collections, with all options of a bulk run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click
from click.core import ParameterSource

from lazymig.cli.commands import EITHER_SCOPE, command
from lazymig.cli.failures import FINDINGS, FINE, INTERRUPTED, Misuse
from lazymig.cli.masking import masked
from lazymig.cli.output import Output
from lazymig.cli.questions import AskedRun, agrees_to_runs, beginning
from lazymig.cli.results import MigrateResult
from lazymig.cli.run_display import RunDisplay
from lazymig.cli.run_options import flags_of
from lazymig.cli.run_reports import result_of, show_report
from lazymig.cli.runs import is_run_of, run_of
from lazymig.cli.session import Invocation, Target
from lazymig.engines.bulk import MigrationReport
from lazymig.engines.pending import find_active
from lazymig.odm.plans import plan_for
from lazymig.operations.declared import declarations
from lazymig.operations.journal.entries import Run
from lazymig.operations.journal.history import History
from lazymig.operations.runs.options import Options, RunOptions
from lazymig.operations.runs.overall import PlannedRun
from lazymig.operations.runs.steps import groups_of
from lazymig.rules.handover import in_order_of_handover
from lazymig.rules.rule import Scope

__all__ = ["call_to_resume", "register"]

_LATEST = "latest"

_NOTHING = "nothing is to be resumed"
_NO_RULE = "there is no rule to apply"


def _chunk_size(_context: click.Context, _option: click.Parameter, value: str | None) -> Any:
    """Documents per chunk, `"auto"`, or 0 for one update of the whole collection."""
    if value is None or value == "auto":
        return value
    if value == "all":
        return 0
    if value.isdecimal() and int(value):
        return int(value)
    raise click.BadParameter(f"{value!r} is neither a number of documents nor auto or all")


@dataclass(frozen=True)
class _Job:
    """One run to be made."""

    target: Target
    scope: Scope
    resume: str | bool = False

    @property
    def name(self) -> str:
        """What it is a run of."""
        return f"{self.target.name}, {self.scope} rules"

    @property
    def has_rules(self) -> bool:
        """Return whether there is something to apply; otherwise there will be no run."""
        return bool(self._rules())

    def planned(self) -> PlannedRun:
        """How large the run will be, as far as that is known before it."""
        count = self.target.collection.estimated_document_count
        rules = self._rules()
        return PlannedRun(rules, count() if rules else 0)

    def _rules(self) -> int:
        plan = plan_for(self.target.model.migration_handler, self.target.model)
        return len(groups_of(plan, self.scope))

    def former(self, journal: str) -> Run | None:
        """The run that the library will take: not one that a later run has made needless."""
        collection = self.target.collection
        history = History(collection.database, journal)
        if isinstance(self.resume, str):
            run = history.run(self.resume)
            return None if run.state == "finished" else run
        finished: list[set[str]] = []
        for run in history.runs(None, collection.name):
            if not is_run_of(self.target, run) or run.scope != self.scope:
                continue
            names = {rule.name for rule in run.rules}
            if run.state != "finished":
                return None if any(names <= later for later in finished) else run
            finished.append(names)
        return None

    def run(self, options: RunOptions) -> MigrationReport:
        migration = self.target.migration
        call = migration.migrate_pending if self.scope == "lazy" else migration.migrate_all
        report: MigrationReport = call(self.target.collection, resume=self.resume, **options)
        return report


@dataclass
class _Work:
    """What a call of `migrate` is to do, and has done."""

    jobs: Sequence[_Job]
    reports: list[MigrationReport] = field(default_factory=list)

    @property
    def left(self) -> Sequence[_Job]:
        """The runs that were not begun."""
        return [job for job in self.jobs[len(self.reports) :] if job.has_rules]

    @property
    def is_fine(self) -> bool:
        """Return whether the runs of this call are done, and no document was refused."""
        return not self.left and all(each.complete for each in self.reports)

    def result(self) -> dict[str, Any]:
        """What was done, for JSON; see `MigrateResult`."""
        return {
            "complete": self.is_fine,
            "runs": [result_of(report) for report in self.reports],
            "not_begun": [{"model": job.target.name, "scope": job.scope} for job in self.left],
        }


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "migrate", MigrateResult)
    @click.option(
        "--scope",
        type=EITHER_SCOPE,
        default="all",
        show_default=True,
        help="The rules that loads apply too, the bulk rules, or both.",
    )
    @click.option("--yes", "-y", is_flag=True, help="Do not ask; needed without a terminal.")
    @click.option(
        "--resume",
        metavar="[RUN]",
        is_flag=False,
        flag_value=_LATEST,
        help="Resume the latest run that has not finished, or this one; begin none.",
    )
    @click.option(
        "--workers",
        type=click.IntRange(1),
        metavar="N",
        help="Processes for the rules that read the document.",
    )
    @click.option(
        "--chunk-size",
        callback=_chunk_size,
        metavar="N",
        help="Documents per chunk, auto, or all for one update.  [default: auto]",
    )
    @flags_of(declarations(Options).items())
    def migrate(
        session: Invocation,
        scope: str,
        yes: bool,
        resume: str | None,
        workers: int | None,
        **given: Any,
    ) -> int:
        """Apply the rules to all documents, in chunks."""
        if not yes and not session.output.asks:
            raise Misuse("there is no terminal to ask on; add --yes, or look with lazymig preview")
        options = _options(given, workers)
        options["journal"] = session.settings.journal
        jobs = _jobs(session, scope, resume)
        session.warn_of_missing(dict.fromkeys(job.target for job in jobs))
        if resume is None and not options.get("rule_indexes") and not _has_work(jobs):
            return _nothing_to_do(session.output, jobs)
        if not _agreed(session, jobs, backup=given["backup"], yes=yes):
            session.output.warn("nothing was written")
            return FINDINGS
        return _carry_out(session.output, _Work(jobs), options)


def _agreed(session: Invocation, jobs: Sequence[_Job], *, backup: str | None, yes: bool) -> bool:
    """Return whether the user agrees to what is about to be written, here or by `--yes`."""
    journal = session.settings.journal
    former = [job.former(journal) if job.resume else None for job in jobs]
    asked = [
        AskedRun(job.target, job.scope, run)
        for job, run in zip(jobs, former, strict=True)
        if run or not job.resume
    ]
    if not yes:
        return not asked or agrees_to_runs(session.output, asked, backup)
    for each in asked if jobs[0].resume else ():
        session.output.warn(f"{each.target.name}, {each.scope} rules: {beginning(each.former)}")
    return True


def _options(given: dict[str, Any], workers: int | None) -> RunOptions:
    options: Any = {
        name: value for name, value in given.items() if value is not None and value is not False
    }
    if options.get("chunk_size") == 0:
        options["chunk_size"] = None
    if workers is not None:
        if "backup" in options:
            raise Misuse(
                "--backup excludes --workers: it is written by the process that writes the "
                "documents; leave one of them out"
            )
        options["executor"] = partial(ProcessPoolExecutor, workers)
        options.setdefault("in_flight", 2 * workers)
    # Checked before anything is counted or asked.
    Options.of(options)
    found: RunOptions = options
    return found


def _jobs(session: Invocation, scope: str, resume: str | None) -> list[_Job]:
    targets = session.targets()
    if resume is not None and resume != _LATEST:
        target, run = run_of(targets, resume, session.settings.journal)
        return [_Job(target, run.scope, str(run.id))]
    scopes: tuple[Scope, ...] = ("lazy", "bulk")
    chosen = [each for each in scopes if scope in (each, "all")]
    return [
        _Job(target, each, resume is not None) for target in _in_order(targets) for each in chosen
    ]


def _in_order(targets: Sequence[Target]) -> list[Target]:
    """The targets, those of one collection after those that hand documents over to them."""
    ordered = list(targets)
    for name in dict.fromkeys(each.collection.full_name for each in targets):
        places = [place for place, each in enumerate(targets) if each.collection.full_name == name]
        plans = {
            plan_for(targets[place].model.migration_handler, targets[place].model): targets[place]
            for place in places
        }
        for place, plan in zip(places, in_order_of_handover(list(plans), bulk=True), strict=True):
            ordered[place] = plans[plan]
    return ordered


def _has_work(jobs: Sequence[_Job]) -> bool:
    """Return whether a document may be there for one of the rules."""
    chosen: dict[Target, list[Scope]] = {}
    for job in jobs:
        chosen.setdefault(job.target, []).append(job.scope)
    for target, scopes in chosen.items():
        plan = plan_for(target.model.migration_handler, target.model)
        active = find_active(target.collection, plan)
        if any(rule.name in active and rule.scope in scopes for rule in (*plan.lazy, *plan.bulk)):
            return True
    return False


def _nothing_to_do(output: Output, jobs: Sequence[_Job]) -> int:
    names = ", ".join(dict.fromkeys(job.target.name for job in jobs if job.has_rules))
    if output.as_json:
        output.data(_Work(()).result())
    elif names:
        output.print(f"nothing to do: no document of {names} matches a rule")
    else:
        output.print(_NO_RULE)
    return FINE


def _carry_out(output: Output, work: _Work, options: RunOptions) -> int:
    display = RunDisplay(job.planned for job in work.jobs)
    options["progress"] = display
    try:
        for place, job in enumerate(work.jobs):
            display.begin(place)
            report = job.run(options)
            work.reports.append(report)
            if report.state != "finished":
                break
    except KeyboardInterrupt:
        return _interrupted(output, display, work, INTERRUPTED)
    except SystemExit as end:
        # SIGTERM, once the chunk is done.
        return _interrupted(output, display, work, int(str(end.code)))
    finally:
        display.close()
    if output.as_json:
        output.data(work.result())
    else:
        _show(output, work)
    return FINE if work.is_fine else FINDINGS


def _show(output: Output, work: _Work) -> None:
    """Write what became of the runs of a call, and how it is resumed."""
    context = click.get_current_context()
    for report in work.reports:
        if report.nothing_to_resume:
            output.print(f"{report.model}, {report.scope} rules: {_NOTHING}")
        if report.rules:
            show_report(output, report)
            if report.state != "finished":
                output.call("resume with", call_to_resume(context, report.run_id), 2)
    if not any(job.has_rules for job in work.jobs):
        output.print(_NO_RULE)
    for job in work.left:
        output.print(f"{job.name}: not begun")
    if any(report.nothing_to_resume for report in work.reports):
        output.call("a new run begins with", _call(context, "resume"), 0)
    for job in work.jobs:
        if isinstance(job.resume, str):
            output.print(
                f"that was run {job.resume} alone; lazymig migrate --resume, without an id, "
                "resumes others that have not finished, and lazymig migrate begins those of a call "
                "that have not begun"
            )


def _interrupted(output: Output, display: RunDisplay, work: _Work, code: int) -> int:
    display.close()
    run_id = None if display.last is None else display.last.run_id
    if any(report.run_id == run_id for report in work.reports):
        # The interrupt came before the next run had anything to report.
        run_id = None
    words = call_to_resume(click.get_current_context(), run_id)
    output.warn(f"interrupted; what was done is noted, resume with {shlex.join(words)}")
    return code


def call_to_resume(context: click.Context, run_id: object) -> list[str]:
    """The words of the command that resumes a call, with all that was given to the call.

    The password of a connection string is masked.

    :param run_id: the run to resume; without it the latest that has not finished.
    """
    resume = ["--resume", *([] if run_id is None else [str(run_id)])]
    return _call(context, "resume", "again", more=resume)


def _call(context: click.Context, *without: str, more: Sequence[str] = ()) -> list[str]:
    """The words of this command with all that was given to it but some options."""
    words = ["lazymig", "migrate", *more]
    for option in context.command.params:
        name = option.name
        source = context.get_parameter_source(name) if name else None
        if name is None or name in without or source is not ParameterSource.COMMANDLINE:
            continue
        flag = max(option.opts, key=len)
        value = context.params[name]
        if value is True:
            words.append(flag)
            continue
        for each in value if isinstance(value, tuple) else (value,):
            text = _as_typed(name, each)
            words.extend([f"{flag}={text}"] if text.startswith("-") else [flag, text])
    return words


def _as_typed(name: str, value: Any) -> str:
    if name == "uri":
        return masked(value)
    if name == "chunk_size" and value == 0:
        return "all"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
