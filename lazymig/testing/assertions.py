"""The assertions of a test about the rules of a model; failures name paths and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from mongoengine.errors import ValidationError

from lazymig.engines.access import Raw, all_of
from lazymig.odm.loading import builder_of
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan
from lazymig.testing.scratch import Scope, Scratch, plans_of, scratch
from lazymig.testing.shapes import compared, described

__all__ = ["assert_idempotent", "assert_lazy_equals_bulk", "assert_migrates"]


def assert_migrates(model: Any, before: Raw, after: Raw, *, scope: Scope = "lazy") -> None:
    """Assert that the rules make one document of another, and that the model loads the result.

    What is stored afterwards must equal `after` in every path and type; the order of fields does
    not count, nor does `int` or `long`. It is loaded through the model and validated. A value of
    `after` that is no BSON, such as `unittest.mock.ANY`, is compared by `==`.

    :param before: the document as an earlier version of the application has stored it, in database
        field names.
    :param after: the document as it should be stored. An `_id` that one of the two lacks is that
        of the other; if both lack it, it is supplied.
    :param scope: as in `migrated`.
    :raises AssertionError: it is not so; the message names each path that differs.
    :raises MigrationError: a rule failed.
    """
    __tracebackhide__ = True
    with scratch(model) as place:
        identity = {"_id": after["_id"]} if "_id" in after and "_id" not in before else {}
        place.insert([{**identity, **before}])
        applied = place.apply(scope)
        (stored,) = place.read()
        expected = {"_id": stored["_id"], **after}
        found = compared(expected, stored, place.codec_options)
    problems = []
    if found:
        problems.append(
            f"what is stored is not what was expected, at {_counted(len(found))}\n"
            + described(found, ("expected", "stored"), before)
        )
    problems.extend(_faults(model, stored))
    if problems:
        raise AssertionError(
            "\n".join(
                (
                    *(_headed(model, stored["_id"], problem) for problem in problems),
                    f"rules applied: {', '.join(applied) or 'none'}",
                )
            )
        )


def assert_idempotent(model: Any, raw: Raw, *, scope: Scope = "all") -> None:
    """Assert that the rules are done with a document once they were applied to it.

    No rule matches what is stored then, and to apply them all again changes nothing.

    :param raw: as in `migrated`.
    :param scope: as in `migrated`; which rules are applied, and have to be done.
    :raises AssertionError: it is not so; the message names the rule, or each path that differs.
    :raises MigrationError: a rule failed.
    """
    __tracebackhide__ = True
    with scratch(model) as place:
        place.insert([raw])
        place.apply(scope)
        (once,) = place.read()
        problems = _still_matching(place, scope, once)
        applied = place.apply(scope)
        (twice,) = place.read()
        found = compared(once, twice, place.codec_options)
    if found:
        problems.append(
            f"{', '.join(applied)} changed the document again\n"
            + described(found, ("once", "twice"), raw)
        )
    if problems:
        raise AssertionError(
            "\n".join(_headed(model, once["_id"], problem) for problem in problems)
        )


def assert_lazy_equals_bulk(model: Any, raws: Sequence[Raw]) -> None:
    """Assert that loads and `migrate_pending()` make the same of old documents.

    Each document is loaded by itself; then the same documents are migrated at once. Where rules are
    translated, for the server to compute, their methods have to give the same as well. Dates that
    the rules take from the clock may differ by as long as that took.

    :param raws: as in `migrated`, each of them.
    :raises AssertionError: it is not so; the message names each document and path that differs.
    :raises MigrationError: a rule failed.
    """
    __tracebackhide__ = True
    started = datetime.now(timezone.utc)
    with scratch(model) as one_by_one, scratch(model) as at_once, scratch(model) as computed:
        one_by_one.insert(raws)
        documents = one_by_one.read()
        one_by_one.load()
        loaded = one_by_one.read()
        at_once.insert(documents)
        at_once.run("lazy")
        others = [("loads and migrate_pending()", "in bulk", at_once.read())]
        if any(rule.form == "translated" for plan in plans_of(model) for rule in plan.lazy):
            computed.insert(documents)
            computed.load(in_python=True)
            others.append(("the server and the methods", "in Python", computed.read()))
        took = datetime.now(timezone.utc) - started
        codec_options = one_by_one.codec_options
    # Dates are stored in milliseconds.
    apart = took + timedelta(milliseconds=1)
    problems = []
    for who, place, stored in others:
        for document, first, second in zip(documents, loaded, stored, strict=True):
            found = compared(first, second, codec_options, apart=apart)
            if found:
                problems.append(
                    _headed(model, document["_id"], f"{who} store two things\n")
                    + described(found, ("loaded", place), document)
                )
    if problems:
        raise AssertionError("\n".join(problems))


def _counted(paths: int) -> str:
    return "1 path" if paths == 1 else f"{paths} paths"


def _headed(model: Any, document_id: Any, problem: str) -> str:
    head, line, rest = problem.partition("\n")
    return f"{model.__name__}: {head} (_id: {document_id!r}){line}{rest}"


def _faults(model: Any, stored: dict[str, Any]) -> Iterator[str]:
    """Say why the model does not take a stored document."""
    try:
        document = builder_of(model)(dict(stored))
    except Exception as exc:  # noqa: BLE001 - MongoEngine raises whatever a field raises
        yield f"what is stored does not load: {type(exc).__name__}: {exc}"
        return
    try:
        # The model's own clean() may change the document; what is stored has to be valid.
        document.validate(clean=False)
    except Exception as exc:  # noqa: BLE001 - as above
        kind = "" if isinstance(exc, ValidationError) else f"{type(exc).__name__}: "
        yield f"what is stored is not valid: {kind}{exc}"


def _still_matching(place: Scratch, scope: Scope, stored: Raw) -> list[str]:
    """The problems of the rules of a scope that match the one stored document."""
    found = []
    for plan in plans_of(place.model):
        for rule in (*plan.lazy, *plan.bulk):
            target = rule.target
            if target is None:
                target = rule.evaluate(document=stored, collection=place.collection).target
            if scope not in (rule.scope, "all") or target is None:
                continue
            query = all_of({"_id": {"$eq": stored["_id"]}}, plan.class_filter, target)
            if place.collection.find_one(query, {"_id": 1}) is None:
                continue
            reason = "still matches after it was applied"
            remedy = "let its update end the match of its target, or narrow the target"
            if rule.scope == "lazy" and not plan.starts(rule):
                reason = "matches, and no match starts it on a load"
            elif rule.scope == "lazy" and _waits(place, plan, rule, query):
                reason = "matches, and waits on a load for an earlier rule that no match starts"
                remedy = "see to that one"
            found.append(f"{plan.model_name}.{rule.name} {reason}; {remedy}")
    return found


def _waits(place: Scratch, plan: Plan, rule: BoundRule, query: Raw) -> bool:
    """Return whether a rule is held back for the document of a query."""
    starting = next(each for each in plan.starting if each.name == rule.name)
    if starting.plain is None:
        return False
    return place.collection.find_one(all_of(query, starting.target), {"_id": 1}) is None
