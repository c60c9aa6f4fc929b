"""The exceptions: their tree, what they carry, and that they survive a process boundary."""

from __future__ import annotations

import pickle
from datetime import datetime, timezone

import pytest
from bson import ObjectId

import lazymig
from lazymig import errors


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (errors.RuleDefinitionError, (errors.LazyMigError, ValueError)),
        (errors.UpdateQueryError, (errors.RuleDefinitionError,)),
        (errors.MigrationError, (errors.LazyMigError,)),
        (errors.MigrationFailed, (errors.MigrationError,)),
        (errors.MigrationConflict, (errors.MigrationError,)),
        (errors.MigrationInProgress, (errors.MigrationError,)),
        (errors.MigrationTimeout, (errors.MigrationError,)),
        (errors.ConvergenceWarning, (UserWarning,)),
    ],
)
def test_the_tree_is_the_documented_one(error: type, bases: tuple[type, ...]) -> None:
    """Each exception has the bases that the module's tree draws, and is public."""
    assert all(issubclass(error, base) for base in bases)
    assert getattr(lazymig, error.__name__) is error
    assert errors.__doc__ is not None
    assert error.__name__ in errors.__doc__


def test_a_definition_error_says_where_and_what() -> None:
    """Model, rule and problem are attributes, and the text begins with the place."""
    error = errors.UpdateQueryError(
        "writes 'x'; add the field", model="User", rule="migration01__a"
    )
    assert str(error) == "User.migration01__a: writes 'x'; add the field"
    assert (error.model, error.rule, error.problem) == (
        "User",
        "migration01__a",
        "writes 'x'; add the field",
    )
    assert str(errors.RuleDefinitionError("bad", model="User")) == "User: bad"
    assert str(errors.RuleDefinitionError("bad")) == "bad"


def test_a_migration_error_names_the_document() -> None:
    """The `_id` is an attribute and in the text."""
    key = ObjectId()
    error = errors.MigrationFailed("refused", model="User", rule="migration01__a", document_id=key)
    assert str(error) == f"User.migration01__a: refused (_id: {key!r})"
    assert (error.model, error.rule, error.document_id) == ("User", "migration01__a", key)
    assert (
        str(errors.MigrationTimeout("late", model="User", document_id=1)) == "User: late (_id: 1)"
    )


@pytest.mark.parametrize(
    "error",
    [
        errors.MigrationFailed(
            "refused", model="User", rule="migration01__a", document_id={"a": 1}
        ),
        errors.MigrationConflict("busy", model="User", rule="migration01__a", document_id=2),
        errors.MigrationInProgress(
            "busy",
            model="User",
            rule="migration01__a",
            document_id=4,
            owner="host:1:a",
            until=datetime(2020, 1, 2, tzinfo=timezone.utc),
        ),
        errors.MigrationTimeout("late", model="User", document_id=3),
        errors.RuleDefinitionError("bad", model="User", rule="migration01__a"),
        errors.UpdateQueryError("bad", model="User"),
    ],
)
def test_errors_survive_pickling(error: errors.LazyMigError) -> None:
    """A task queue may carry an error to another process: type, text and attributes stay."""
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
