"""The errors for documents for which a rule fails, or that it leaves as old as they are."""

from __future__ import annotations

from typing import Any, Final

from bson.errors import InvalidBSON

from lazymig.errors import MigrationFailed, ShowError
from lazymig.redaction import bare, excerpt
from lazymig.rules.bound_rule import BoundRule

__all__ = [
    "cannot_be_shown",
    "failure_of_rule",
    "failure_of_server",
    "failure_of_showing",
    "projection_cannot_be_shown",
    "sets_no_update",
    "still_matches",
    "too_large",
    "undecodable",
    "would_be_refused",
    "would_match",
]


# What MongoDB says of a document that a validator refuses.
_INVALID: Final = "Document failed validation"


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
    if isinstance(error, InvalidBSON):
        return undecodable(rule, document_id, error)
    return _failure(
        rule,
        document_id,
        f"the rule raised {type(error).__name__}: {excerpt(error)}; correct the rule, or narrow "
        "its target",
        error,
    )


def undecodable(rule: BoundRule, document_id: Any, error: Exception) -> MigrationFailed:
    """The error for a document of which the rule needs what Python cannot hold."""
    return _failure(
        rule,
        document_id,
        f"{excerpt(error)}; correct what is stored, for example by a rule with a pipeline, which "
        "MongoDB computes, or let this rule do without it",
        error,
    )


def too_large(rule: BoundRule, document_id: Any, size: int) -> MigrationFailed:
    """The error for an update that no command of MongoDB has room for."""
    return _failure(
        rule,
        document_id,
        f"its update has {size:,} bytes, more than MongoDB takes for one document; let the rule "
        "write less, or keep what is large elsewhere",
    )


def failure_of_server(
    rule: BoundRule, document_id: Any, error: Any, cause: Exception
) -> MigrationFailed:
    """The error for an update that MongoDB refused for one document.

    :param error: what it says of the document: an exception, or a text.
    """
    said = excerpt(error)
    remedy = "correct the document or the rule"
    if _INVALID in said:
        remedy += ", or the collection's validator, in which a sealed rule may refuse the result "
        remedy += "(lazymig seal --show lists the seals)"
    problem = f"MongoDB refused the update: {said}; {remedy}"
    return _failure(rule, document_id, problem, cause)


def would_be_refused(rule: BoundRule, document_id: Any) -> MigrationFailed:
    """The error for a document that cannot be shown, because MongoDB would refuse the update."""
    return _failure(
        rule,
        document_id,
        "MongoDB would refuse the update of this document; correct the document or the rule",
    )


def cannot_be_shown(rule: BoundRule, document_id: Any, reason: str) -> ShowError:
    """The error for a document that is only shown, and of which a rule is not known so far.

    :param reason: what completes "the rule ...".
    """
    return ShowError(
        f"the document (_id: {document_id!r}) is loaded without a write, and the rule cannot be "
        f"shown, because it {reason}; bring it up to date by migrate() or migrate_pending(), or "
        "let loads of the model write",
        model=rule.model_name,
        rule=rule.name,
    )


def projection_cannot_be_shown(model_name: str, document_id: Any) -> ShowError:
    """The error for a document that is only shown, and of which a part of an array is asked for."""
    return ShowError(
        f"the document (_id: {document_id!r}) is old and loaded without a write, and of an array "
        "in it no part can be shown ($elemMatch, a positional $, a $slice below another field); "
        "load the whole field, bring the document up to date by migrate() or migrate_pending(), "
        "or let loads of the model write",
        model=model_name,
    )


def failure_of_showing(model_name: str, document_id: Any, cause: Exception) -> MigrationFailed:
    """The error for a document that MongoDB does not show, such as one that becomes too large."""
    failure = MigrationFailed(
        f"MongoDB cannot compute what the document becomes: {excerpt(cause)}; correct the document "
        "or the rule",
        model=model_name,
        document_id=document_id,
    )
    failure.__cause__ = bare(cause)
    return failure


def _failure(
    rule: BoundRule, document_id: Any, problem: str, cause: Exception | None = None
) -> MigrationFailed:
    failure = MigrationFailed(
        problem, model=rule.model_name, rule=rule.name, document_id=document_id
    )
    if cause is not None:
        failure.__cause__ = bare(cause)
    return failure
