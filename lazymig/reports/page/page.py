"""The page that says how far the migrations of models are, to be attached to a deploy.

One HTML file without scripts that loads nothing: rules and what they have left, over time, runs,
refused documents, and what `diff` and `check_documents` have found.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from lazymig.odm.indexes import untouched_collection
from lazymig.odm.plans import plan_for
from lazymig.operations.journal import JOURNAL
from lazymig.operations.journal.collection import client_now
from lazymig.operations.journal.entries import Quarantined, Run, Sample
from lazymig.operations.journal.history import History
from lazymig.reports.drift.documents import check_model
from lazymig.reports.drift.findings import CheckReport, DriftReport
from lazymig.reports.page.charts import Bar, Span, Spark, bar_of, span_of, spark_of
from lazymig.reports.page.html import template
from lazymig.reports.status import ModelStanding, RuleStanding, documents_left, look

__all__ = ["render_report", "write_report"]

Report = TypeVar("Report", CheckReport, DriftReport)
# Reports in any order, or by anything that the caller likes; each knows its model.
Reports = Sequence[Report] | Mapping[Any, Report]

_MOST_RUNS = 20
_MOST_QUARANTINED = 20
_MOST_FINDINGS = 100

_REASONS: Final = {
    "flag_file": "a flag file was there",
    "max_latency": "writes were slow",
    "max_rate": "the rate was kept",
    "max_replication_lag": "secondaries were behind",
    "nice": "time was left to others",
    "paused": "somebody had paused the run",
    "throttle": "the application asked for it",
}


def render_report(
    models: Sequence[type],
    *,
    checks: Reports[CheckReport] | None = None,
    drift: Reports[DriftReport] | None = None,
    title: str | None = None,
    journal: str = JOURNAL,
    keep: bool = True,
) -> str:
    """A page of HTML about models: what their rules have left, runs, and what was found.

    The documents that each rule has left are counted, and kept in the journal as a sample; nothing
    else is written. Texts are cut at 1,000 characters, names and values at 300. What connects to a
    database is cut out, and the values of fields that are named after passwords, tokens or the like
    are left out.

    :param models: MongoEngine Document classes, with or without rules.
    :param checks: what `check_documents` gave for some of them; a mapping's keys do not count.
    :param drift: what `diff` gave for some of them; a mapping's keys do not count.
    :param title: the heading; "Migration report" if not given.
    :param journal: the name of the journal's collection.
    :param keep: whether the sample is kept.
    :raises MissingExtra: jinja2 is not installed.
    :raises TypeError: a model is no document class, or an abstract one.
    :raises ValueError: a report of `checks` or `drift` is about none of the models.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
    page = template()
    for model in models:
        check_model(model)
    names = [model.__name__ for model in models]
    checked = _by_model(checks, names, "checks")
    compared = _by_model(drift, names, "drift")
    sections = [
        _section(
            model,
            journal,
            keep=keep,
            others=set(names) - {model.__name__},
            checks=checked.get(model.__name__, ()),
            drift=compared.get(model.__name__, ()),
        )
        for model in models
    ]
    return page.render(
        title=title or "Migration report",
        made=client_now(),
        journal=journal,
        sections=sections,
        most=_MOST_FINDINGS,
    )


def write_report(
    path: str | os.PathLike[str],
    models: Sequence[type],
    *,
    checks: Reports[CheckReport] | None = None,
    drift: Reports[DriftReport] | None = None,
    title: str | None = None,
    journal: str = JOURNAL,
    keep: bool = True,
) -> None:
    """Write the page of `render_report` to a file that its owner alone can read (mode 0600).

    The page holds examples of stored data. A file that is there is replaced as a whole, its mode
    too; what is no regular file, such as `/dev/stdout`, is written to.

    :raises OSError: the file cannot be written. Otherwise as `render_report`.
    """
    page = render_report(
        models, checks=checks, drift=drift, title=title, journal=journal, keep=keep
    )
    target = Path(path)
    if target.exists() and not target.is_file():
        target.write_text(page, encoding="utf-8")
        return
    target = target.resolve()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:50]}.")
    written = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(page)
        written.replace(target)
    except BaseException:
        written.unlink(missing_ok=True)
        raise


# --- What the page is made of ---


@dataclass(frozen=True, slots=True)
class _Waited:
    """Seconds that a run has waited for one reason."""

    reason: str
    words: str
    seconds: float
    share: float


@dataclass(frozen=True, slots=True)
class _Ran:
    """A run, and its place on the time line."""

    run: Run
    end: datetime
    seconds: float
    bar: Bar
    waited: tuple[_Waited, ...]
    options: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Section:
    """What is said of one model.

    `left` of `total` documents are matched by a rule whose matches end; `at_least` so many where a
    rule cannot be counted. `not_kept` says why the fresh sample is not in the journal.
    """

    standing: ModelStanding
    handler: str | None
    total: int
    left: int
    share: float
    rules: tuple[tuple[RuleStanding, Spark | None], ...]
    not_kept: str | None
    runs: tuple[_Ran, ...]
    runs_in_all: int
    time: Span | None
    quarantine: tuple[Quarantined, ...]
    more_quarantined: bool
    checks: Sequence[CheckReport]
    drift: Sequence[DriftReport]

    @property
    def at_least(self) -> bool:
        """Return whether a rule cannot be counted."""
        return any(rule.status.undetermined for rule in self.standing.rules)

    @property
    def removable(self) -> list[str]:
        """The rules that no stored document needs."""
        return [rule.name for rule in self.standing.rules if rule.removable]


def _by_model(
    given: Reports[Report] | None, names: Sequence[str], what: str
) -> dict[str, list[Report]]:
    reports = given.values() if isinstance(given, Mapping) else given or ()
    found: dict[str, list[Report]] = {}
    for report in reports:
        if report.model not in names:
            raise ValueError(
                f"{what} has a report about {report.model}, which is none of the models; "
                "give its model as well, or leave it out"
            )
        found.setdefault(report.model, []).append(report)
    return found


def _section(
    model: Any,
    journal: str,
    *,
    keep: bool,
    others: set[str],
    checks: Sequence[CheckReport],
    drift: Sequence[DriftReport],
) -> _Section:
    collection = untouched_collection(model)
    handler = getattr(model, "migration_handler", None)
    plan = None if handler is None else plan_for(handler, model)
    standing = look(model, collection, journal=journal, keep=keep)
    history = History(collection.database, journal)
    runs = [
        run
        for run in history.runs(limit=None, collection=collection.name)
        if run.model not in others
    ]
    shown = runs[:_MOST_RUNS]
    time = span_of(moment for run in shown for moment in (run.started, _end_of(run)))
    quarantine = _quarantine(history, runs)
    plan = None if handler is None else plan_for(handler, model)
    left = documents_left(collection, plan, standing.rules)
    total = max(left, standing.total)
    refused = standing.refusal
    return _Section(
        standing=standing,
        handler=None if handler is None else handler.__qualname__,
        total=total,
        left=left,
        # Of no documents all is done.
        share=(total - left) / total if left else 1.0,
        rules=tuple((rule, _spark(rule, standing.samples)) for rule in standing.rules),
        not_kept=(
            None
            if refused is None
            else str((refused.details or {}).get("codeName") or f"code {refused.code}")
        ),
        runs=() if time is None else tuple(_ran(run, time) for run in shown),
        runs_in_all=len(runs),
        time=time,
        quarantine=tuple(quarantine[:_MOST_QUARANTINED]),
        more_quarantined=len(quarantine) > _MOST_QUARANTINED,
        checks=checks,
        drift=drift,
    )


def _spark(rule: RuleStanding, samples: Sequence[Sample]) -> Spark | None:
    """What a rule had left over time, while it has some left."""
    span = span_of(sample.at for sample in samples)
    if span is None or not rule.remaining:
        return None
    return spark_of([(each.at, each.remaining.get(rule.name)) for each in samples], span)


def _quarantine(history: History, runs: Iterable[Run]) -> list[Quarantined]:
    """Some of the documents that runs have refused, and one more than are shown, newest first."""
    found: list[Quarantined] = []
    for run in runs:
        if run.quarantined and len(found) <= _MOST_QUARANTINED:
            found += history.quarantined(run.id, limit=_MOST_QUARANTINED + 1 - len(found))
    return found


def _end_of(run: Run) -> datetime:
    """When the run ended; of one that has not, the last sign of life."""
    return max(run.started, run.ended or run.heartbeat)


def _ran(run: Run, time: Span) -> _Ran:
    end = _end_of(run)
    seconds = (end - run.started).total_seconds()
    return _Ran(
        run=run,
        end=end,
        seconds=seconds,
        bar=bar_of(run.started, end, time, (session.started for session in run.sessions[1:])),
        waited=tuple(
            _Waited(
                reason, _REASONS.get(reason, ""), spent, min(1.0, spent / seconds) if seconds else 0
            )
            for reason, spent in sorted(run.waited.items(), key=lambda item: -item[1])
        ),
        options=tuple(
            (name, str(value).removesuffix(".0")) for name, value in run.options.items() if value
        ),
    )
