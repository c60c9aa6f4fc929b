"""The errors for documents for which a rule fails, or that it leaves as old as they are."""

from __future__ import annotations

from typing import Any

from pymongo.errors import OperationFailure

from lazymig.errors import MigrationFailed
from lazymig.redaction import without_secrets
from lazymig.rules.discovery import BoundRule

__all__ = [
    "failure_of_rule",
    "failure_of_server",
    "sets_no_update",
    "still_matches",
    "would_match",
]


def still_matches(rule: BoundRule, document_id: Any) -> MigrationFailed:
    """The error for a document that matches a rule although the rule was applied to it."""
    return _failure(
        rule,
        document_id,
        "the document still matches after the rule was applied to it; let the update end the match "
        "of the target",
    )


def would_match(rule: BoundRule, document_id: Any) -> MigrationFailed:
    """The error for a document that a rule is not applied to, because it would match again."""
    return _failure(
        rule,
        document_id,
        "the document would still match after the rule was applied to it, so the rule was not "
        "applied; let the update end the match, or narrow the target",
    )


def sets_no_update(rule: BoundRule, document_id: Any) -> MigrationFailed:
    """The error for a document that matches a rule which, having seen it, sets no update."""
    return _failure(
        rule,
        document_id,
        "the rule sets no update for the document, which still matches its target; set "
        "self.update, narrow the target, or set self.target to None where the rule does not apply",
    )


def failure_of_rule(rule: BoundRule, document_id: Any, error: Exception) -> MigrationFailed:
    """The error for a rule method that raised."""
    failure = MigrationFailed(
        f"the rule raised {type(error).__name__}: {without_secrets(str(error))}; mend the rule, or "
        "narrow its target",
        model=rule.model_name,
        rule=rule.name,
        document_id=document_id,
    )
    failure.__cause__ = error
    return failure


def failure_of_server(
    rule: BoundRule, document_id: Any, error: Any, cause: Exception
) -> MigrationFailed:
    """The error for an update that MongoDB refused for one document."""
    if isinstance(error, OperationFailure):
        # PyMongo repeats the whole answer behind the message.
        error = (error.details or {}).get("errmsg", error)
    failure = MigrationFailed(
        f"MongoDB refused the update: {error}; mend the document or the rule",
        model=rule.model_name,
        rule=rule.name,
        document_id=document_id,
    )
    failure.__cause__ = cause
    return failure


def _failure(rule: BoundRule, document_id: Any, problem: str) -> MigrationFailed:
    return MigrationFailed(problem, model=rule.model_name, rule=rule.name, document_id=document_id)
