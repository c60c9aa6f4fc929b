"""A rule: its name, its method, and one evaluation of it. Knows no database and no MongoEngine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lazymig.rules.document import (
    DocumentChanged,
    DocumentNeeded,
    MissingDocument,
    ReadDocument,
)
from lazymig.rules.once import OnceOptions
from lazymig.rules.symbols import SymbolicDocument
from lazymig.updates.update import each_of

__all__ = ["Evaluation", "Rule", "RuleHandler", "Scope", "evaluate"]

Scope = Literal["lazy", "bulk"]


class _Frame:
    """What one evaluation offers a rule, and what the rule has asked for."""

    __slots__ = ("asked", "collection", "document", "status")

    def __init__(self, document: Any, collection: Any, *, status: bool) -> None:
        self.document = document
        self.collection = collection
        self.status = status
        self.asked: set[str] = set()


class RuleHandler:
    """What a rule method has as `self`. Made anew for each evaluation: rules hold no state."""

    target: Mapping[str, Any] | None
    update: Mapping[str, Any] | list[Mapping[str, Any]] | None
    array_filters: list[Mapping[str, Any]] | None
    writes: Collection[str] | None
    reads: Collection[str] | None

    def __init__(self, doc_class: Any) -> None:
        self._doc_class = doc_class
        self._frame = _Frame(MissingDocument(), None, status=True)
        self.target = None
        self.update = None
        self.array_filters = None
        self.writes = None
        self.reads = None

    @property
    def doc(self) -> Mapping[str, Any]:
        """The raw stored document, read-only, in database field names, as earlier rules left it."""
        self._frame.asked.add("doc")
        if self._frame.document is None:
            raise DocumentNeeded
        document: Mapping[str, Any] = self._frame.document
        return document

    @doc.setter
    def doc(self, _document: object) -> None:
        raise DocumentChanged("sets self.doc, which is the stored document; set self.update")

    @property
    def doc_class(self) -> Any:
        """The model."""
        self._frame.asked.add("doc_class")
        return self._doc_class

    @property
    def collection(self) -> Any:
        """The PyMongo collection being migrated."""
        self._frame.asked.add("collection")
        if self._frame.collection is None:
            raise DocumentNeeded
        return self._frame.collection

    @property
    def status(self) -> bool:
        """Return whether a report is being made, so that a rule must not write by itself."""
        self._frame.asked.add("status")
        return self._frame.status


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule method as it is declared in a handler class.

    `once` is not `None` if the method has an effect outside of its document.
    """

    name: str
    number: int
    scope: Scope
    method: Callable[[Any], object]
    once: OnceOptions | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a rule method has set, and what it has asked for to do so.

    `writes` and `reads` are the paths that it declares, as it has set them. `complete` is false
    when the rule stopped because there was no document (or collection).
    """

    target: Mapping[str, Any] | None
    update: Any
    array_filters: Any
    asked: frozenset[str]
    complete: bool
    read: ReadDocument | None
    writes: Any = None
    reads: Any = None

    def guard(self) -> list[dict[str, Any]]:
        """Conditions under which this evaluation still holds for the stored document."""
        return self.read.guard() if self.read is not None else []


def evaluate(
    rule: Rule,
    handler_class: type[RuleHandler],
    doc_class: Any,
    *,
    document: Mapping[str, Any] | SymbolicDocument | None = None,
    collection: Any = None,
    status: bool = False,
) -> Evaluation:
    """Run a rule method on a fresh handler and return what it has set.

    :param document: the raw stored document, in database field names; `None` if there is none.
    :param collection: the PyMongo collection, `None` while the rule is only looked at.
    :raises Exception: whatever the rule method raises.
    """
    handler = handler_class(doc_class)
    given: Any = document
    read = None
    if document is None:
        # What is handed out may be handed on, to an effect; so a once rule is stopped before that.
        given = MissingDocument() if rule.once is None else None
    elif not isinstance(document, SymbolicDocument):
        given = read = ReadDocument(document)
    frame = _Frame(given, collection, status=status)
    handler._frame = frame  # noqa: SLF001 - its own module's class
    complete = True
    try:
        rule.method(handler)
    except DocumentNeeded:
        complete = False
    if "doc" not in frame.asked:
        read = None
    target = handler.target
    if target is None:
        items = each_of(handler.update)
        target = None if items is None else items.target
    return Evaluation(
        target=target,
        update=handler.update,
        array_filters=handler.array_filters,
        asked=frozenset(frame.asked),
        complete=complete,
        read=read,
        writes=handler.writes,
        reads=handler.reads,
    )
