"""The exceptions: their tree, what they carry, and that they survive a process boundary."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

import lazymig
from lazymig import errors


def _classes() -> dict[str, type[Exception]]:
    """Each exception that the module defines, public or not."""
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }


def _drawn() -> dict[str, set[str]]:
    """The names of the bases of each exception, as the module's docstring draws them."""
    found: dict[str, set[str]] = {}
    above: list[str] = []
    for line in str(errors.__doc__).splitlines():
        drawn = re.match(r"([│├└─ ]*)(\w+)(?: \((\w+)\))?(?: {2,}|$)", line)
        if drawn is not None:
            marks, name, more = drawn.groups()
            above[len(marks) // 4 :] = [name]
            bases = {above[-2] if len(above) > 1 else "", more or ""} - {""}
            found[name] = bases or {"Exception"}
    return found


def test_the_tree_is_the_documented_one() -> None:
    """The module's docstring draws each exception below its base, and no other."""
    assert _drawn() == {
        name: {base.__name__ for base in kind.__bases__} for name, kind in _classes().items()
    }


def test_every_exception_is_public() -> None:
    """`__all__` has each exception of the module; what a program may catch is in `lazymig`."""
    assert errors.__all__ == sorted({*_classes(), "Remedy", "RemedyKind", "check_extra"})
    for name in set(_classes()) - {"HandlerFileError"}:
        assert getattr(lazymig, name) is getattr(errors, name)


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


# A value for each argument that a constructor of these errors takes.
ARGUMENTS = {
    "model": "User",
    "rule": "migration01__a",
    "index": "lazymig_migration01__a",
    "document_id": {"a": 1},
    "option": "batch_size",
    "operation": "order_by name and the filter by age",
    "rules": ("migration01__a", "migration02__b"),
    "documents": 11,
    "limit": 10,
    "collection": "shop.user",
    "run": ObjectId(),
    "holder": {"host": "here", "pid": 7, "run": ObjectId()},
    "expires": datetime(2020, 1, 2),
    "until": datetime(2020, 1, 2, tzinfo=timezone.utc),
    "owner": "host:1:a",
    "path": Path("saved"),
    "name": "rich",
    "view": "users_today",
    "remedy": errors.Remedy("stop", run="6b08", journal="notes"),
}


def _errors_of_all_kinds() -> list[Exception]:
    """Each exception of the module, once with all its arguments and once with the needed alone."""
    made: list[Exception] = []
    kinds: list[Any] = list(_classes().values())
    for kind in kinds:
        parameters = inspect.signature(kind.__init__).parameters.values()
        named = [each for each in parameters if each.kind is each.KEYWORD_ONLY]
        given = ["is bad"] if len(named) < len(parameters) - 1 else []
        for wanted in (named, [each for each in named if each.default is each.empty]):
            made.append(kind(*given, **{each.name: ARGUMENTS[each.name] for each in wanted}))
            vars(made[-1])["__notes__"] = ["tried migration01__a"]
    return made


def _through_a_pickle(error: Exception) -> Exception:
    again: Exception = pickle.loads(pickle.dumps(error))
    return again


@pytest.mark.parametrize("copied", [_through_a_pickle, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("error", _errors_of_all_kinds(), ids=lambda error: type(error).__name__)
def test_errors_survive_pickling_and_copying(
    error: Exception, copied: Callable[[Exception], Exception]
) -> None:
    """A process pool may carry any error to another process: type, text, attributes, notes stay."""
    again = copied(error)
    assert again is not error
    assert (type(again), str(again), again.args) == (type(error), str(error), error.args)
    assert vars(again) == vars(error)


def test_an_error_reaches_the_user_of_a_process_pool() -> None:
    """What is raised in a worker process is what the waiting process catches."""
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as pool,
        pytest.raises(errors.SettleLimitExceeded, match="order_by name, more than 10 documents"),
    ):
        pool.submit(_settle_too_much).result()


def _settle_too_much() -> None:
    raise errors.SettleLimitExceeded(
        model="User", operation="order_by name", rules=("migration01__a",), documents=11, limit=10
    )


@pytest.mark.parametrize(
    ("operation", "documents", "limit", "text"),
    [
        ("order_by name", 11, 10, "for order_by name, more than 10 documents would"),
        ("filter a and order_by b", 2, 1, "for filter a and order_by b, more than 1 document "),
        ("modify", 1, 0, "for modify, more than 0 documents would"),
    ],
)
def test_the_limit_is_told_in_one_sentence(
    operation: str, documents: int, limit: int, text: str
) -> None:
    """One operation or two, one document or more: number and verb agree."""
    error = errors.SettleLimitExceeded(
        model="User", operation=operation, rules=("a",), documents=documents, limit=limit
    )
    assert text in str(error)
