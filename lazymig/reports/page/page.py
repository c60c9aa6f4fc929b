"""The page that says how far the migrations of models are, to be attached to a deploy.

One HTML file without scripts that loads nothing: rules and what they have left, over time, runs,
refused documents, and what `diff` and `check_documents` have found.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from lazymig.engines.access import key_of
from lazymig.odm.schema import untouched_collection
from lazymig.operations.declared import declarations
from lazymig.operations.journal import JOURNAL
from lazymig.operations.journal.collection import client_now
from lazymig.operations.journal.entries import Run, Sample
from lazymig.operations.journal.history import History
from lazymig.operations.throttling.limits import Limits
from lazymig.reports.drift.documents import check_model
from lazymig.reports.drift.findings import CheckReport, DriftReport
from lazymig.reports.looks import look
from lazymig.reports.page.charts import Span, Spark, bar_of, span_of, spark_of
from lazymig.reports.page.html import template
from lazymig.reports.status import ModelStanding, RuleStanding
from lazymig.reports.texts import documents

__all__ = ["render_report", "write_report"]

Report = TypeVar("Report", CheckReport, DriftReport)
# Reports in any order, or by anything that the caller likes; each knows its model.
Reports = Sequence[Report] | Mapping[Any, Report]

_MOST_RUNS = 20
_MOST_QUARANTINED = 20
_MOST_FINDINGS = 100

_REASONS: Final = {
    "paused": "somebody had paused the run",
    **{name: declared.waited for name, declared in declarations(Limits).items()},
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
        headline=_headline([each["standing"] for each in sections]),
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


def _by_model(
    given: Reports[Report] | None, names: Sequence[str], what: str
) -> dict[str, list[Report]]:
    reports = given.values() if isinstance(given, Mapping) else given or ()
    found: dict[str, list[Report]] = {}
    for report in reports:
        if report.model not in names:
            raise ValueError(
                f"{what} has a report about {report.model}, which is not among the models; "
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
) -> dict[str, Any]:
    """What the template says of one model.

    `findings` are the pairs of what a finding is of, `"drift"` or `"check"`, and the finding;
    `cured` are those that a pending rule cures. `not_kept` says why the fresh sample is not in the
    journal.
    """
    collection = untouched_collection(model)
    handler = getattr(model, "migration_handler", None)
    standing = look(model, collection, journal=journal, keep=keep)
    history = History(collection.database, journal)
    runs = [
        run
        for run in history.runs(limit=None, collection=collection.name)
        if run.model not in others
    ]
    listed = runs[:_MOST_RUNS]
    time = span_of(moment for run in listed for moment in (run.started, _end_of(run)))
    refused = standing.refusal
    found = [
        *(("drift", each) for report in drift for each in report.findings),
        *(("check", each) for report in checks for each in report.findings),
    ]
    return {
        "standing": standing,
        "handler": None if handler is None else handler.__qualname__,
        "rules": [(rule, _spark(rule, standing.samples)) for rule in standing.rules],
        "removable": sum(rule.removable for rule in standing.rules),
        "not_kept": refused and ((refused.details or {}).get("codeName") or f"code {refused.code}"),
        "runs": [] if time is None else [_ran(run, time) for run in listed],
        "runs_in_all": len(runs),
        "time": time,
        "quarantine": _quarantine(history, runs, standing),
        "looked_at": [*(("drift", each) for each in drift), *(("check", each) for each in checks)],
        "findings": [each for each in found if not each[1].cured_by],
        "cured": [each for each in found if each[1].cured_by],
    }


def _headline(standings: Sequence[ModelStanding]) -> str:
    """How many models are done, and what waits in quarantine, in one line."""
    ruled = [each for each in standings if each.rule_count]
    done = sum(each.complete for each in ruled)
    models = "model" if len(ruled) == 1 else "models"
    quarantined = sum(each.quarantined for each in standings)
    waiting = documents(quarantined) if quarantined else "no document"
    models_done = f"{done} of {len(ruled)} {models} done" if ruled else "No model has rules"
    return f"{models_done}, {waiting} in quarantine"


def _spark(rule: RuleStanding, samples: Sequence[Sample]) -> Spark | None:
    """What a rule had left over time, while it has some left."""
    span = span_of(sample.at for sample in samples)
    if span is None or not rule.remaining:
        return None
    return spark_of([(each.at, each.remaining.get(rule.name)) for each in samples], span)


def _quarantine(
    history: History, runs: Iterable[Run], standing: ModelStanding
) -> list[dict[str, Any]]:
    """Some of the documents that runs have refused: those that still wait, then others."""
    waiting = sorted(standing.quarantine, key=lambda each: each.at, reverse=True)
    found = []
    for each in waiting[:_MOST_QUARANTINED]:
        kind, problem = type(each.error).__name__, each.error.problem
        found.append(_refused(each.document_id, each.rule, kind, problem, each.at))
    known = {(each.run, each.rule, key_of(each.document_id)) for each in standing.quarantine}
    for run in runs:
        if run.in_quarantine and len(found) < _MOST_QUARANTINED:
            found += [
                _refused(each.document_id, each.rule, each.type, each.error, each.at, waits=False)
                for each in history.quarantined(run.id, limit=_MOST_QUARANTINED + len(known))
                if (each.run, each.rule, key_of(each.document_id)) not in known
            ]
    return found[:_MOST_QUARANTINED]


def _refused(
    document_id: Any, rule: str, kind: str, error: str, at: datetime, *, waits: bool = True
) -> dict[str, Any]:
    return {
        "document_id": document_id,
        "rule": rule,
        "error": f"{kind}: {error}",
        "at": at,
        "waits": waits,
    }


def _end_of(run: Run) -> datetime:
    """When the run ended; of one that has not, the last sign of life."""
    return max(run.started, run.ended or run.heartbeat)


def _ran(run: Run, time: Span) -> dict[str, Any]:
    """A run, its place on the time line, and what it waited for: how long, for which share."""
    end = _end_of(run)
    seconds = (end - run.started).total_seconds()
    return {
        "run": run,
        "end": end,
        "seconds": seconds,
        "bar": bar_of(run.started, end, time, (session.started for session in run.sessions[1:])),
        "waited": [
            (reason, _REASONS.get(reason, ""), spent, min(1.0, spent / seconds) if seconds else 0.0)
            for reason, spent in sorted(run.waited.items(), key=lambda item: -item[1])
        ],
        "options": [
            (name, str(value).removesuffix(".0")) for name, value in run.options.items() if value
        ],
    }
