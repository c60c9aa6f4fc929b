"""A page that says how far the migrations of models are, to be attached to a deploy.

One HTML file without scripts that loads nothing: rules and what they have left, over time, runs,
refused documents, and what `diff` and `check_documents` have found.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from bson import ObjectId, json_util
from bson.json_util import RELAXED_JSON_OPTIONS
from jinja2 import Environment, PackageLoader, StrictUndefined
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig.engines.access import all_of, on_primary
from lazymig.engines.pending import RuleStatus
from lazymig.odm.indexes import untouched_collection
from lazymig.odm.plans import plan_for
from lazymig.operations.journal.collection import JOURNAL, client_now
from lazymig.operations.journal.entries import Quarantined, Run, Sample
from lazymig.operations.journal.history import History
from lazymig.operations.journal.journal import Journal
from lazymig.raw.encoding import ANY_UUID
from lazymig.redaction import without_secrets
from lazymig.reports.drift.checks import CheckReport
from lazymig.reports.drift.diff import DriftReport
from lazymig.reports.drift.documents import check_model, documents_of
from lazymig.reports.page.charts import Bar, Curve, Point, Span, bar_of, burn_down, span_of
from lazymig.reports.status import standing_of
from lazymig.rules.plan import Plan

__all__ = ["render_report", "write_report"]

Report = TypeVar("Report", CheckReport, DriftReport)
# Reports in any order, or by anything that the caller likes; each knows its model.
Reports = Sequence[Report] | Mapping[Any, Report]

_MOST_RUNS = 20
_MOST_QUARANTINED = 20
_MOST_FINDINGS = 100
_LONGEST_TEXT = 1000
_LONGEST_VALUE = 300

_JSON = RELAXED_JSON_OPTIONS.with_options(uuid_representation=ANY_UUID.uuid_representation)

# Names of fields whose values nobody should read in a report.
_SECRET = re.compile(
    r"passw|pwd|passphrase|secret|token|credential|api[-_]?key|private[-_]?key", re.IGNORECASE
)
_NOT_SHOWN = "(not shown)"

# Name and password in an address of any kind; `without_secrets` cuts those of MongoDB.
_LOGIN = re.compile(r"(?<=://)[^\s/]+@")

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
    :raises TypeError: a model is no document class, or an abstract one.
    :raises ValueError: a report of `checks` or `drift` is about none of the models.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
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
    page = _environment().get_template("report.html.j2")
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
class _Rule:
    """A rule of a model, with its place in the journal's samples.

    `share` of the `total` documents that it concerns is done; `None` where it cannot be told.
    `lasting`: its documents may go on to match once it was applied.
    """

    status: RuleStatus
    total: int
    share: float | None
    curve: Curve | None

    @property
    def lasting(self) -> bool:
        return _lasts(self.status)


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
    rule cannot be counted. `former` are rules that the samples alone know. `kept` says why the
    fresh sample is not in the journal.
    """

    model: str
    collection: str
    handler: str | None
    total: int
    left: int
    at_least: bool
    share: float
    rules: tuple[_Rule, ...]
    former: tuple[tuple[str, Curve | None], ...]
    samples: int
    sampled: Span | None
    not_kept: str | None
    runs: tuple[_Ran, ...]
    runs_in_all: int
    time: Span | None
    quarantine: tuple[Quarantined, ...]
    more_quarantined: bool
    checks: Sequence[CheckReport]
    drift: Sequence[DriftReport]

    @property
    def removable(self) -> list[str]:
        """The rules that no stored document needs."""
        return [rule.status.name for rule in self.rules if rule.status.removable]


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
    counted = _Counted(model, collection, plan, journal)
    history = History(collection.database, journal)
    not_kept = None
    samples: list[Sample] = []
    if counted.statuses:
        samples, not_kept = _samples(model, collection, counted.statuses, journal, keep=keep)
    sampled = span_of(sample.at for sample in samples)
    runs = [
        run
        for run in history.runs(limit=None, collection=collection.name)
        if run.model not in others
    ]
    shown = runs[:_MOST_RUNS]
    time = span_of(moment for run in shown for moment in (run.started, _end_of(run)))
    quarantine = _quarantine(history, runs)
    left = counted.left()
    total = max(left, counted.total())
    return _Section(
        model=model.__name__,
        collection=str(collection.full_name),
        handler=None if handler is None else handler.__qualname__,
        total=total,
        left=left,
        at_least=any(status.undetermined for status in counted.statuses),
        share=_share(left, total),
        rules=tuple(
            _rule(status, counted.total(status.name), _curve(samples, status.name, sampled))
            for status in counted.statuses
        ),
        former=tuple(
            (name, _curve(samples, name, sampled))
            for name in dict.fromkeys(name for sample in samples for name in sample.remaining)
            if name not in {status.name for status in counted.statuses}
        ),
        samples=len(samples),
        sampled=sampled,
        not_kept=not_kept,
        runs=() if time is None else tuple(_ran(run, time) for run in shown),
        runs_in_all=len(runs),
        time=time,
        quarantine=tuple(quarantine[:_MOST_QUARANTINED]),
        more_quarantined=len(quarantine) > _MOST_QUARANTINED,
        checks=checks,
        drift=drift,
    )


@dataclass
class _Counted:
    """What is counted in the collection of a model; each number is asked for once."""

    model: Any
    collection: Collection[Any]
    plan: Plan | None
    journal: str
    statuses: list[RuleStatus] = field(init=False)
    totals: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.plan is None:
            self.statuses = []
        else:
            self.statuses = standing_of(self.collection, self.plan, self.journal)

    def total(self, rule: str | None = None) -> int:
        """The documents that a rule concerns, or those of the model; of a collection estimated."""
        concern = self._concern(rule)
        key = repr(concern)
        if key not in self.totals:
            reader = on_primary(self.collection)
            self.totals[key] = (
                reader.count_documents(concern) if concern else reader.estimated_document_count()
            )
        return self.totals[key]

    def left(self) -> int:
        """The documents that a rule matches, and will not match once it was applied."""
        matching = {
            status.name: status.remaining
            for status in self.statuses
            if status.remaining and not _lasts(status)
        }
        if self.plan is None or len(matching) < 2:
            return sum(matching.values())
        queries = [
            all_of(self._concern(rule.name), rule.target)
            for rule in (*self.plan.lazy, *self.plan.bulk)
            if rule.name in matching
        ]
        return on_primary(self.collection).count_documents({"$or": queries})

    def _concern(self, rule: str | None) -> Mapping[str, Any] | None:
        if self.plan is None:
            stages = documents_of(self.model, None)
            return stages[0]["$match"] if stages else None
        if rule is None:
            return self.plan.concern
        return self.plan.inherited_concern.get(rule, self.plan.concern)


def _samples(
    model: Any,
    collection: Collection[Any],
    statuses: Sequence[RuleStatus],
    journal: str,
    *,
    keep: bool,
) -> tuple[list[Sample], str | None]:
    """The samples of a model, the oldest first, a fresh one at the end; why that is not kept."""
    remaining = {status.name: status.remaining for status in statuses}
    refused = None
    # Of a collection that does not exist nothing is known, and looking makes no journal beside it.
    keep = keep and all(status.exists for status in statuses)
    if keep:
        try:
            Journal(collection.database, journal).sample(model.__name__, collection.name, remaining)
        except OperationFailure as exc:
            # Whoever may only read gets the page all the same.
            refused = str((exc.details or {}).get("codeName") or f"code {exc.code}")
    kept = [
        sample
        for sample in History(collection.database, journal).samples(model)
        if sample.collection == collection.name
    ]
    if keep and refused is None:
        return kept, None
    # The clocks may differ, and time must not run back.
    now = max([client_now(), *(sample.at for sample in kept[-1:])])
    return [*kept, Sample(model.__name__, collection.name, now, remaining)], refused


def _lasts(status: RuleStatus) -> bool:
    """Whether a rule may be done with documents that it matches: a bulk rule alone may be."""
    return status.scope == "bulk" and status.converges is False


def _rule(status: RuleStatus, total: int, curve: Curve | None) -> _Rule:
    if status.remaining is None or _lasts(status) or not status.exists:
        return _Rule(status, total, None, curve)
    # The total may be an estimate.
    total = max(total, status.remaining)
    return _Rule(status, total, _share(status.remaining, total), curve)


def _share(left: int, total: int) -> float:
    """How much is done, from 0 to 1; of no documents all is."""
    return (total - left) / total if left else 1.0


def _curve(samples: Iterable[Sample], rule: str, span: Span | None) -> Curve | None:
    if span is None:
        return None
    points: list[Point] = [(each.at, each.remaining.get(rule)) for each in samples]
    return burn_down(points, span)


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


# --- How it is written ---


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lazymig.reports.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_readable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        clipped=partial(_clipped, longest=_LONGEST_VALUE),
        duration=_duration,
        json=_json,
        moment=_moment,
        number="{:,}".format,
        percent=_percent,
        secret=_is_secret,
    )
    return environment


def _readable(value: Any) -> Any:
    """What every text goes through before it is escaped.

    What cannot be seen, or turns the text around it, is written as an escape; HTML could not even
    hold some of it.
    """
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "".join(
        char
        if char.isprintable() or char in "\n\t"
        else char.encode("unicode_escape").decode("ascii")
        for char in _clipped(value, _LONGEST_TEXT)
    )


def _clipped(text: str, longest: int) -> str:
    # Secrets first: half an address is none that could be recognized.
    text = _LOGIN.sub("...@", without_secrets(text))
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"


def _json(value: Any) -> str:
    """A stored value: Extended JSON, but for an ObjectId, which is shown as in the shell."""
    if isinstance(value, ObjectId):
        return f'ObjectId("{value}")'
    return json_util.dumps(_without_fields(value), json_options=_JSON, ensure_ascii=False)


def _without_fields(value: Any) -> Any:
    """The value without what is in fields that are named after secrets, at any depth."""
    if isinstance(value, Mapping):
        return {
            name: _NOT_SHOWN if _SECRET.search(str(name)) else _without_fields(inner)
            for name, inner in value.items()
        }
    return [_without_fields(item) for item in value] if isinstance(value, list) else value


def _is_secret(path: str) -> bool:
    return _SECRET.search(path) is not None


def _moment(moment: datetime) -> str:
    """A time of the journal, which is UTC."""
    return moment.isoformat(" ", "seconds")


def _duration(seconds: float) -> str:
    """Seconds in the two largest units that there are."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    rest = round(seconds)
    parts: list[tuple[int, str]] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count)


def _percent(share: float) -> str:
    """A share, rounded down: 100 % is said of what is done alone."""
    # Of 0.57 a float has a little less.
    return f"{int(share * 1000 + 1e-6) / 10:g} %"
