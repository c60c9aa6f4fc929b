"""`old_documents`: documents of every age that a model and its rules know of, for hypothesis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

try:
    from hypothesis import assume
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "old_documents: hypothesis is not installed; run `pip install hypothesis`"
    ) from error

from lazymig.odm.loading import builder_of, is_broken
from lazymig.odm.plans import plan_for
from lazymig.testing.fields import plain
from lazymig.testing.scratch import Scope, check_model
from lazymig.testing.undoing import Old, undo_some
from lazymig.testing.values import Strategy, Values

__all__ = ["old_documents"]


def old_documents(
    model: Any,
    *,
    scope: Scope = "lazy",
    fields: Mapping[str, Strategy] | None = None,
    old: Mapping[str, Strategy] | None = None,
) -> st.SearchStrategy[dict[str, Any]]:
    """Draw raw documents as earlier versions of the application may have stored them.

    A document is first drawn as today's model would store it: from the fields, their limits and
    choices, embedded documents, subclasses. Then some of the rules, or none, are undone, the last
    one first: what a rule's target asks for is put into the document (or taken out of it, for
    `$exists: False`), what its update renames gets its old name back, what it sets or removes is
    taken away or put back. A rule counts as undone if its target, judged without a database,
    matches. A rule is never undone that writes by itself or needs a document for its target; nor
    is one whose target MongoDB alone can judge.

    :param scope: which rules are undone: `"lazy"`, `"bulk"` or `"all"`.
    :param fields: strategies for values as the model's constructor takes them, by attribute names,
        dotted below embedded documents, instead of what the field says.
    :param old: strategies for stored values of old shapes, by dotted database names. Without one, a
        path of which the target only says that it exists holds text, a number or a boolean, and
        a rule that computes from such a path is not undone.
    :raises TypeError: the model has no rules, or has a required field of a kind that nothing is
        known of; when documents are drawn.
    """
    check_model(model)
    return st.deferred(lambda: _strategy(model, scope, fields or {}, old or {}))


def _strategy(
    model: Any, scope: Scope, fields: Mapping[str, Strategy], old: Mapping[str, Strategy]
) -> st.SearchStrategy[dict[str, Any]]:
    values = Values(fields)
    today = values.documents(model)
    unknown = sorted(fields.keys() - values.used)
    if unknown:
        raise TypeError(
            f"{model.__name__}: 'fields' names {unknown[0]!r}, which is no attribute; correct it "
            "(a path of database names belongs into 'old')"
        )

    @st.composite
    def documents(draw: st.DrawFn) -> dict[str, Any]:
        instance = draw(today)
        cls = type(instance)
        document: dict[str, Any] = plain(instance.to_mongo())
        assume(not is_broken(document, builder_of(cls)))
        if cls.migration_handler is None:
            return document
        plan = plan_for(cls.migration_handler, cls)
        rules = [rule for rule in (*plan.lazy, *plan.bulk) if scope in (rule.scope, "all")]
        return undo_some(draw, document, rules, Old(cls, values, old))

    return documents()
