"""The entries of the journal as values: a run as it is begun, owned or read, refused documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from bson import ObjectId

from lazymig.engines.access import Raw
from lazymig.operations.journal.rule_run import RuleRun
from lazymig.raw.elements import known_again
from lazymig.redaction import without_secrets
from lazymig.rules.rule import Scope

__all__ = [
    "KEEP_RUNS",
    "Action",
    "Control",
    "NewRun",
    "Quarantined",
    "Run",
    "RunEntry",
    "RunState",
    "Sample",
    "Session",
    "short",
]

Action = Literal["run", "pause", "stop"]
RunState = Literal["running", "paused", "waiting", "stopped", "failed", "finished", "dead"]

KEEP_RUNS: Final = 100

_LONGEST_TEXT = 2000


def short(text: str | None) -> str | None:
    """A text as the journal keeps it: without connection strings, and of bounded length."""
    if text is None:
        return None
    text = without_secrets(text)
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 3]}..."


@dataclass(frozen=True, slots=True)
class NewRun:
    """What is known of a run before it begins.

    `collection` and the names in `rules`, each with its digest, are names; `options` are plain
    values without secrets. `lease` is how many seconds the run may be silent before it counts as
    dead; of the ended runs over the same collection the newest `keep_runs` stay in the journal.
    `skipped` are the names of rules that are not to be applied.
    """

    model: str
    collection: str
    handler: str
    scope: Scope
    rules: tuple[tuple[str, str], ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str | None = None
    lease: float = 15.0
    keep_runs: int = KEEP_RUNS
    skipped: frozenset[str] = frozenset()
    id: ObjectId = field(default_factory=ObjectId)


@dataclass(frozen=True, slots=True)
class Control:
    """What is asked of a run: its next action, limits by their option's name, and who asked."""

    action: Action = "run"
    limits: Mapping[str, Any] = field(default_factory=dict)
    by: str | None = None

    @classmethod
    def read(cls, stored: Raw) -> Control:
        """Take it from the `control` of a run entry."""
        return cls(stored["action"], dict(stored["limits"]), stored["by"])


@dataclass(slots=True)
class RunEntry:
    """A run of ours, as its entry was when it was begun or resumed.

    `token` is the proof that the run is ours. `rules` has how far each rule is, in order.
    `former_options` are those of each session before, of the newest 100, oldest first.
    """

    id: ObjectId
    token: ObjectId
    model: str
    collection: str
    scope: Scope
    rules: list[RuleRun]
    former_options: tuple[Mapping[str, Any], ...]
    waited: Mapping[str, float]
    control: Control

    @classmethod
    def read(cls, stored: Raw) -> RunEntry:
        """Take it from a run entry."""
        return cls(
            id=stored["_id"],
            token=stored["token"],
            model=stored["model"],
            collection=stored["collection"],
            scope=stored["scope"],
            rules=[RuleRun.read(each) for each in stored["rules"]],
            former_options=tuple(each["options"] for each in stored["sessions"][:-1]),
            waited=stored["waited"],
            control=Control.read(stored["control"]),
        )


@dataclass(frozen=True, slots=True)
class Session:
    """A process that has run a part of a run: when it began, with which options and note."""

    host: str
    pid: int
    started: datetime
    options: Mapping[str, Any]
    note: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """A bulk run, as the journal had it when it was read. Times are naive UTC, by the server.

    `state` is `running`, `paused` (asked to), `waiting` (`waiting` says for what), `stopped`,
    `failed` (`error` says why), `finished`, or `dead`: it has not ended, but its process gives no
    sign of life any more. `host`, `pid` and `options` are those of the last process, `note` is the
    last that was given; `sessions` has what each process had, of the newest 100. `waited` has the
    seconds spent waiting, by reason. `control` is what is asked of the run. `in_quarantine` counts
    the documents that the run has refused and that are still in its quarantine. `model_class` is
    the model's name with its module; `None` in runs of the first versions. `reopened`
    are the rules that matched documents again when the run ended, because of a later one.
    """

    id: ObjectId
    model: str
    collection: str
    handler: str
    scope: Scope
    rules: tuple[RuleRun, ...]
    state: RunState
    host: str
    pid: int
    note: str | None
    started: datetime
    ended: datetime | None
    heartbeat: datetime
    options: Mapping[str, Any]
    waiting: str | None
    waited: Mapping[str, float]
    sessions: tuple[Session, ...]
    error: str | None
    control: Control
    in_quarantine: int = 0
    model_class: str | None = None
    reopened: tuple[str, ...] = ()

    @classmethod
    def read(cls, stored: Raw, lease_until: datetime | None, in_quarantine: int) -> Run:
        """Take it from a run entry, with the present time as `now`.

        :param lease_until: when the lease expires that the run holds, if it holds one.
        """
        control = Control.read(stored["control"])
        named = {each.name: stored[each.name] for each in fields(cls) if each.name in stored}
        changed = {
            "id": stored["_id"],
            "rules": tuple(RuleRun.read(each) for each in stored["rules"]),
            "state": _state(stored, control.action, lease_until),
            "sessions": tuple(
                Session(each["host"], each["pid"], each["at"], each["options"], each["note"])
                for each in stored["sessions"]
            ),
            "control": control,
            "in_quarantine": in_quarantine,
            "reopened": tuple(stored.get("reopened", ())),
        }
        return cls(**{**named, **changed})

    @property
    def complete(self) -> bool:
        """Return whether it has finished and left no document to its rules or in its quarantine."""
        return self.state == "finished" and not self.in_quarantine and not self.reopened

    @property
    def active(self) -> bool:
        """Return whether a process is at work on it."""
        return self.state in ("running", "paused", "waiting")

    @property
    def matched(self) -> int:
        """Documents matched, added up over the rules: each counts once for each rule."""
        return sum(rule.matched for rule in self.rules)

    @property
    def modified(self) -> int:
        """Applications of rules that have changed a document: each counts once for each rule."""
        return sum(rule.modified for rule in self.rules)

    @property
    def quarantined(self) -> int:
        """Documents left as they were, added up over the rules; some may be migrated by now."""
        return sum(rule.quarantined for rule in self.rules)


def _state(stored: Raw, action: Action, lease_until: datetime | None) -> RunState:
    state: RunState = stored["state"]
    if state != "running":
        return state
    # A single update of a large collection takes long without a word; the lease is renewed.
    silent_until = stored["heartbeat"] + timedelta(seconds=stored["lease"])
    if stored["now"] >= max(silent_until, lease_until or silent_until):
        return "dead"
    if action == "pause":
        return "paused"
    return "running" if stored["waiting"] is None else "waiting"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A document that a run left as it was: the rule, the text and the type's name of the error."""

    run: ObjectId
    collection: str
    rule: str
    document_id: Any
    error: str
    type: str
    at: datetime

    @classmethod
    def read(cls, stored: Raw) -> Quarantined:
        """Take it from a quarantine entry."""
        named = {each.name: stored[each.name] for each in fields(cls)}
        return cls(**{**named, "document_id": known_again(stored["document_id"])})


@dataclass(frozen=True, slots=True)
class Sample:
    """How many documents each rule of a model had left at a time; `None` where that is unknown."""

    model: str
    collection: str
    at: datetime
    remaining: Mapping[str, int | None]

    @classmethod
    def read(cls, stored: Raw) -> Sample:
        """Take it from a sample entry."""
        return cls(**{each.name: stored[each.name] for each in fields(cls)})
