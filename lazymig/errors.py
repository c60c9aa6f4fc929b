"""The exceptions of lazymig, and nothing else.

LazyMigError
├── RuleDefinitionError (ValueError)   a handler or a rule is written wrongly
│   └── UpdateQueryError               a rule's update would be refused by MongoDB or by the model
└── MigrationError                     a document could not be brought up to date
    ├── MigrationFailed                MongoDB refused the update, or the rule raised
    ├── MigrationConflict              the document kept changing while a rule was computed
    └── MigrationTimeout               the write had to wait longer than `lazy_timeout`

ConvergenceWarning (UserWarning)       a lazy rule that a match alone must not start
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ConvergenceWarning",
    "LazyMigError",
    "MigrationConflict",
    "MigrationError",
    "MigrationFailed",
    "MigrationTimeout",
    "RuleDefinitionError",
    "UpdateQueryError",
]


class LazyMigError(Exception):
    """Base of every exception that lazymig raises by itself."""


class ConvergenceWarning(UserWarning):
    """A lazy rule's update does not provably end its match, so only a failed load starts it."""


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
    """A rule's update is none, or writes a path that the model does not know."""


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

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (
            type(self),
            self.problem,
            {"model": self.model, "rule": self.rule, "document_id": self.document_id},
        )


class MigrationFailed(MigrationError):
    """MongoDB refused the update of this document, or the rule itself raised."""


class MigrationConflict(MigrationError):
    """What the rule had read changed again and again before its update could be written."""


class MigrationTimeout(MigrationError):
    """The write had to wait, for another transaction for example, longer than `lazy_timeout`."""


def _rebuild(
    kind: type[MigrationError], problem: str, attributes: dict[str, Any]
) -> MigrationError:
    return kind(problem, **attributes)
