"""The exceptions of lazymig, and their remedies as data.

The module is long, because all of them are found in one place.

LazyMigError
├── RuleDefinitionError (ValueError)   a handler or a rule is written wrongly
│   └── UpdateQueryError               a rule's update would be refused by MongoDB or by the model
├── RunOptionError (ValueError)        an option of a bulk run has a value that it cannot have
├── SettleLimitExceeded                an operation needs too many documents brought up to date
├── ShowError                          a rule cannot be shown, and nothing is to be written
├── SealError                          the validator of a collection takes no seals
├── RunError                           a bulk run cannot begin, be resumed or be controlled
│   ├── CollectionLocked               another bulk run holds the lease of the collection
│   ├── LeaseLost                      this run no longer holds it
│   ├── RunTakenOver                   another process has resumed this run
│   ├── RunNotFound                    the journal has no such run
│   ├── RunNotActive                   the run has ended, or the process that ran it is gone
│   ├── RuleChanged                    the run to resume has begun with other rules
│   ├── BackupFailed                   the backup of a chunk cannot be written
│   └── WorkerFailed                   a chunk has ended one worker after the other
├── RuleIndexError                     an index of a rule cannot be built or dropped
├── ViewError                          a view cannot be created, changed or dropped
├── BackupUnreadable                   a backup is missing, damaged, or of something else
├── MissingExtra (ImportError)         a library of the extra lazymig[cli] is not installed
├── HandlerFileError                   a handler's source file cannot be found, read or edited
└── MigrationError                     a document could not be brought up to date
    ├── MigrationFailed                the update was refused, the rule raised or is in vain
    ├── MigrationConflict              the document kept changing while it was brought up to date
    ├── MigrationInProgress            somebody else is at work on it, by a rule that runs once
    └── MigrationTimeout               a time limit was over: a wait, or a slow rule

ConvergenceWarning (UserWarning)       a lazy rule that a match alone must not start
SettlingWarning (UserWarning)          a lazy rule that makes queries wait, and need not
UnfinishedRuleWarning (UserWarning)     a rule that is begun, and no rule yet
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from typing import Any, Final, Literal

__all__ = [
    "BackupFailed",
    "BackupUnreadable",
    "CollectionLocked",
    "ConvergenceWarning",
    "HandlerFileError",
    "LazyMigError",
    "LeaseLost",
    "MigrationConflict",
    "MigrationError",
    "MigrationFailed",
    "MigrationInProgress",
    "MigrationTimeout",
    "MissingExtra",
    "Remedy",
    "RemedyKind",
    "RuleChanged",
    "RuleDefinitionError",
    "RuleIndexError",
    "RunError",
    "RunNotActive",
    "RunNotFound",
    "RunOptionError",
    "RunTakenOver",
    "SealError",
    "SettleLimitExceeded",
    "SettlingWarning",
    "ShowError",
    "UnfinishedRuleWarning",
    "UpdateQueryError",
    "ViewError",
    "WorkerFailed",
    "check_extra",
]

RemedyKind = Literal[
    "again",
    "list_runs",
    "new_run",
    "resume",
    "resume_first",
    "resume_or_again",
    "resume_this",
    "stop",
    "wait",
]

# The command line has a table of its own, of commands.
_AS_CALLS: Final[Mapping[RemedyKind, str]] = {
    "again": "again=True applies it again",
    "list_runs": "History(...).runs() lists the runs",
    "new_run": "a call without resume begins a new run",
    "resume": "resume with resume=True",
    "resume_first": (
        "resume it with {migrate}(resume='{run}') first, which leaves what is in quarantine, and "
        "retry that then"
    ),
    "resume_or_again": (
        "resume it with {migrate}(resume='{run}'), or pass again=True if these documents may get "
        "it twice"
    ),
    "resume_this": "resume it with resume=True",
    "stop": (
        "wait for it, or stop it with {history}.stop('{run}'); if that process is dead, begin "
        "again after that time"
    ),
    "wait": "wait for it, or stop it; if that process is dead, begin again after that time",
}


@dataclass(frozen=True)
class Remedy:
    """What to do about a run: a kind of step, and what it is about.

    `str` words it as a call of the library; the command line words it as a command.

    :ivar run: the id of the run.
    :ivar scope: the scope of the run.
    :ivar journal: the name of the journal's collection, `None` for the default one.
    """

    kind: RemedyKind
    run: str | None = None
    scope: Literal["lazy", "bulk"] = "bulk"
    journal: str | None = None

    def __str__(self) -> str:
        return _AS_CALLS[self.kind].format(
            run=self.run,
            migrate="migrate_all" if self.scope == "bulk" else "migrate_pending",
            history="History(...)" if self.journal is None else f"History(..., {self.journal!r})",
        )


class LazyMigError(Exception):
    """Base of every exception that lazymig raises by itself.

    Each can be pickled and copied, with its attributes and its text: process pools and task queues
    carry errors from one process to another.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by a call of the class: what a constructor is given is not what the text is made of.
        return _rebuild, (type(self), self.args), self.__dict__


class ConvergenceWarning(UserWarning):
    """A lazy rule's update does not provably end its match, so no match starts it on a load.

    Or it brings all its documents back under the target of an earlier rule.
    """


class SettlingWarning(UserWarning):
    """A lazy rule is computed in Python, and there is a form of it that would not be.

    Operations that ask for what it writes migrate the old documents first.
    """


class UnfinishedRuleWarning(UserWarning):
    """A rule still has the line TODO that `lazymig new` wrote, so it is no rule yet.

    The application starts all the same, with the rules before it; those after it wait.
    """


class RuleDefinitionError(LazyMigError, ValueError):
    """A handler or one of its rules is written wrongly; raised before anything is written.

    `model` and `rule` are names (`None` where the fault is not that of one model or one rule).
    """

    def __init__(self, problem: str, *, model: str | None = None, rule: str | None = None) -> None:
        self.model = model
        self.rule = rule
        self.problem = problem
        place = ".".join(part for part in (model, rule) if part)
        super().__init__(f"{place}: {problem}" if place else problem)


class UpdateQueryError(RuleDefinitionError):
    """A rule's update is invalid, or writes a path that the model does not know."""


class RunOptionError(LazyMigError, ValueError):
    """An option of a bulk run has a value that it cannot have; nothing was written with it.

    `option` is the option's name.
    """

    def __init__(self, problem: str, *, option: str | None = None) -> None:
        self.option = option
        self.problem = problem
        super().__init__(f"{option}: {problem}" if option else problem)


class SettleLimitExceeded(LazyMigError):
    """An operation needs more old documents brought up to date first than `settle_limit` allows.

    Nothing was written. `model`, `operation` and `rules` are names, `documents` is the number of
    documents that would have to be brought up to date; counting stops soon after the limit.
    """

    def __init__(
        self, *, model: str, operation: str, rules: tuple[str, ...], documents: int, limit: int
    ) -> None:
        self.model = model
        self.operation = operation
        self.rules = rules
        self.documents = documents
        self.limit = limit
        count = f"more than {limit}" if documents > limit else str(documents)
        noun = "document" if min(documents, limit) == 1 else "documents"
        super().__init__(
            f"{model}: for {operation}, {count} {noun} would have to be brought up to date by "
            f"{', '.join(rules)} first, and settle_limit is {limit}; call "
            f"{model}.migration_handler({model}).migrate_pending(), or raise settle_limit"
        )


class ShowError(LazyMigError):
    """A rule cannot be shown, and what asks for it writes nothing.

    `model` and `rule` are names; `rule` is `None` where it is not about one.
    """

    def __init__(self, problem: str, *, model: str, rule: str | None = None) -> None:
        self.model = model
        self.rule = rule
        self.problem = problem
        place = ".".join(part for part in (model, rule) if part)
        super().__init__(f"{place}: {problem}")


class RuleIndexError(LazyMigError):
    """An index of a rule cannot be built or dropped; what the call had built before is dropped.

    `model`, `rule` and `index` are names; the last two are `None` where it is not about one.
    """

    def __init__(
        self, problem: str, *, model: str, rule: str | None = None, index: str | None = None
    ) -> None:
        self.model = model
        self.rule = rule
        self.index = index
        self.problem = problem
        place = ".".join(part for part in (model, rule) if part)
        super().__init__(f"{place}: {problem}")


class ViewError(LazyMigError):
    """A view of a model cannot be created, brought up to date or dropped; it is as it was.

    `model` and `view` are names, `collection` is that of the collection, with its database.
    """

    def __init__(self, problem: str, *, model: str, view: str, collection: str) -> None:
        self.model = model
        self.view = view
        self.collection = collection
        self.problem = problem
        super().__init__(f"{model}: the view {view}: {problem}")


class SealError(LazyMigError):
    """The validator of a collection takes no seals, or cannot be changed; it is as it was.

    `collection` is the collection's name, with its database.
    """

    def __init__(self, problem: str, *, collection: str) -> None:
        self.collection = collection
        self.problem = problem
        super().__init__(f"{collection}: {problem}")


class RunError(LazyMigError):
    """A bulk run cannot begin, be resumed or be controlled.

    `collection` is the name of the run's collection, with its database, and `run` the run's id;
    each is `None` where it is not known. `problem` is the text without `remedy`, which is `None`
    where no call of lazymig helps.
    """

    def __init__(
        self,
        problem: str,
        *,
        collection: str | None = None,
        run: Any = None,
        remedy: Remedy | None = None,
    ) -> None:
        self.collection = collection
        self.run = run
        self.problem = problem
        self.remedy = remedy
        super().__init__(problem if remedy is None else f"{problem}; {remedy}")

    def worded(self, remedy_as: Callable[[Remedy], str]) -> str:
        """Return the text, with the remedy, if there is one, as a function words it."""
        if self.remedy is None:
            return self.problem
        return f"{self.problem}; {remedy_as(self.remedy)}"


class CollectionLocked(RunError):
    """Another bulk run holds the lease of the collection; nothing was written.

    `holder` says who: `host`, `pid`, `journal`, `run`, `note`. `expires` is the time, naive UTC by
    the server's clock, at which the lease ends if its holder does not renew it.
    """

    def __init__(
        self,
        problem: str,
        *,
        collection: str | None = None,
        holder: Mapping[str, Any] | None = None,
        expires: datetime | None = None,
        remedy: Remedy | None = None,
    ) -> None:
        self.holder: Mapping[str, Any] = dict(holder or {})
        self.expires = expires
        run = self.holder.get("run")
        super().__init__(problem, collection=collection, run=run, remedy=remedy)


class LeaseLost(RunError):
    """The lease of the collection was not renewed in time, or another run has taken it."""


class RunTakenOver(RunError):
    """Another process has resumed this run, or its entry was deleted; this one must end."""


class RunNotFound(RunError):
    """The journal has no such run, or several that begin with the given id."""


class RunNotActive(RunError):
    """The run has ended, or the process that ran it is gone: there is nothing to control."""


class BackupFailed(RunError):
    """The backup of a chunk cannot be written, so nothing of this chunk was written to MongoDB.

    `path` is the folder of the backup. What was backed up before is still complete and readable.
    """

    def __init__(
        self,
        problem: str,
        *,
        path: str | os.PathLike[str],
        collection: str | None = None,
        run: Any = None,
    ) -> None:
        self.path = os.fspath(path)
        super().__init__(problem, collection=collection, run=run)


class BackupUnreadable(LazyMigError):
    """A backup is missing, damaged, or of something else; nothing was written.

    `path` is the file or folder.
    """

    def __init__(self, problem: str, *, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.problem = problem
        super().__init__(f"{self.path}: {problem}")


class HandlerFileError(LazyMigError):
    """The source file of a handler cannot be found, read or edited; no file was changed.

    `path` is the file, `None` where there is none.
    """

    def __init__(self, problem: str, *, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else os.fspath(path)
        self.problem = problem
        super().__init__(problem if self.path is None else f"{self.path}: {problem}")


class MissingExtra(LazyMigError, ImportError):
    """A library that only the extra `lazymig[cli]` brings is not installed.

    `name` is that of the library.
    """

    def __init__(self, problem: str, *, name: str) -> None:
        super().__init__(
            f"{problem} needs {name}, which is not installed; run pip install 'lazymig[cli]'"
        )
        self.name = name


def check_extra(what: str, *libraries: str) -> None:
    """See that libraries of the extra `lazymig[cli]` are installed, without importing them.

    :param what: what needs them.
    :raises MissingExtra: one is not.
    """
    for library in libraries:
        if find_spec(library) is None:
            raise MissingExtra(what, name=library)


class RuleChanged(RunError):
    """The run to resume has begun with other rules, or with another text of one of them."""


class WorkerFailed(RunError):
    """A chunk has ended one worker of an executor after the other."""


class MigrationError(LazyMigError):
    """A stored document could not be brought up to date; it is stored as it was.

    `model` and `rule` are names, `document_id` is the `_id` of the stored document.
    The driver's or the rule's own exception is the `__cause__`.
    """

    def __init__(
        self, problem: str, *, model: str, rule: str | None = None, document_id: Any = None
    ) -> None:
        self.model = model
        self.rule = rule
        self.document_id = document_id
        self.problem = problem
        place = f"{model}.{rule}" if rule else model
        super().__init__(f"{place}: {problem} (_id: {document_id!r})")


class MigrationFailed(MigrationError):
    """The rule was refused for this document.

    MongoDB refused the update, the rule raised or set no update, or the document would match the
    rule again.
    """


class MigrationConflict(MigrationError):
    """The document kept changing: what a rule had read of it, or back into an old shape."""


class MigrationInProgress(MigrationError):
    """Somebody else was at work on the document, by a once rule, for as long as others wait.

    `owner` says who (host, process and a token). `until` is the time, by the server's clock, at
    which the claim ends if its owner has died; an owner that lives renews it.
    """

    def __init__(
        self,
        problem: str,
        *,
        model: str,
        rule: str | None = None,
        document_id: Any = None,
        owner: str = "",
        until: datetime | None = None,
    ) -> None:
        self.owner = owner
        self.until = until
        super().__init__(problem, model=model, rule=rule, document_id=document_id)


class MigrationTimeout(MigrationError):
    """A time limit was over: the write had to wait, or `rule` took that long in Python.

    The limit is `lazy_timeout`, or a shorter one of PyMongo; the message names it.
    """


def _rebuild(kind: type[LazyMigError], arguments: tuple[Any, ...]) -> LazyMigError:
    return kind.__new__(kind, *arguments)
