"""The binding of a rule to a model: what can be known of it without a document or a database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from bson import Decimal128, ObjectId

from lazymig.errors import RuleDefinitionError, UpdateQueryError
from lazymig.query.matching import Matcher, compile_query
from lazymig.raw.encoding import ANY_VALUE
from lazymig.raw.paths import overlaps
from lazymig.rules.bound_rule import BoundRule, Kind
from lazymig.rules.declared import check_declared
from lazymig.rules.document import DocumentChanged
from lazymig.rules.rule import Evaluation, Rule, RuleHandler, evaluate
from lazymig.rules.symbols import Decisions, SymbolicDocument, settle_symbols
from lazymig.rules.translated import as_translated
from lazymig.rules.variation import varies_by_call
from lazymig.updates.convergence import ends_match, keeps_match
from lazymig.updates.update import (
    NamedPath,
    check_update,
    created_paths,
    filtered_paths,
    named_paths,
    read_paths,
    written_paths,
)

if TYPE_CHECKING:
    from lazymig.rules.tracing.paths import Traced

__all__ = ["bind"]

# An update and its array filters.
_Form: TypeAlias = "tuple[Any, Any]"
_Paths: TypeAlias = "frozenset[str] | None"

# One value of each kind that a rule is likely to compute.
_SAMPLES: tuple[Any, ...] = (
    *("", 0, 0.5, None, False, [], {}, datetime(1970, 1, 1), b""),
    *(uuid.UUID(int=0), ObjectId("0" * 24), Decimal128("0")),
)

# Operators that MongoDB does not take beside a condition on `_id`, or that run code on the server.
_REFUSED_IN_TARGETS = ("$text", "$near", "$nearSphere", "$where")

# A rule may ask for these without reading a document.
_OUTSIDE = frozenset({"collection", "status"})


def bind(rule: Rule, handler_class: type[RuleHandler], doc_class: Any) -> BoundRule | None:
    """Probe a rule for a model, without a document and without a database.

    Returns `None` where the rule decides by `self.doc_class` that it does not concern this model.

    :raises RuleDefinitionError: the rule raises, sets no target or update, or a target that MongoDB
        cannot take in a write's filter.
    :raises UpdateQueryError: the update is invalid.
    """
    place = {"model": str(doc_class.__name__), "rule": rule.name}
    probe = _looked_at(rule, handler_class, doc_class, place)
    binder = _Binder(
        rule,
        handler_class,
        doc_class,
        probe,
        _declared(probe.writes, "writes", place),
        _declared(probe.reads, "reads", place),
    )
    if probe.target is None:
        if probe.complete and "doc_class" in probe.asked:
            return None
        return binder.undetermined()
    matcher = binder.matcher()
    if rule.once is not None:
        return binder.once(matcher)
    if probe.complete and probe.update is not None and "doc" not in probe.asked:
        return binder.static(matcher)
    return binder.dynamic(matcher)


def _looked_at(
    rule: Rule, handler_class: type[RuleHandler], doc_class: Any, place: Mapping[str, str]
) -> Evaluation:
    """Run a rule without a document."""
    try:
        return evaluate(rule, handler_class, doc_class, status=True)
    except DocumentChanged as exc:
        raise RuleDefinitionError(str(exc), **place) from exc
    except UpdateQueryError as exc:
        raise UpdateQueryError(exc.problem, **place) from exc
    except Exception as exc:
        raise RuleDefinitionError(
            f"raised {type(exc).__name__}: {exc}, without having looked at a document, so it would "
            "for each one; correct the rule",
            **place,
        ) from exc


def _declared(paths: Any, name: str, place: Mapping[str, str]) -> _Paths:
    """The paths that a rule has declared until it was stopped; `None`: it leaves them open.

    :raises RuleDefinitionError: they are no collection of paths.
    """
    if paths is None:
        return None
    try:
        return check_declared(name, paths)
    except ValueError as exc:
        raise RuleDefinitionError(str(exc), **place) from exc


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the updates do that a rule was seen to set; `None` where that is not all of it."""

    writes: _Paths = None
    creates: _Paths = None
    inputs: _Paths = None
    named: frozenset[NamedPath] | None = None


def _seen(forms: Sequence[_Form] | None, read: _Paths = frozenset()) -> _Seen:
    """What these updates do.

    :param read: the document's keys that they are computed from.
    """
    if forms is None:
        return _Seen()
    found = _Seen(frozenset(), frozenset(), read, frozenset())
    for update, array_filters in forms:
        writes, creates = written_paths(update), created_paths(update)
        inputs, filters = read_paths(update), filtered_paths(update, array_filters)
        named = named_paths(update)
        found = _Seen(
            _joined(found.writes, writes),
            _joined(found.creates, creates),
            _joined(_joined(found.inputs, inputs), filters),
            named | (found.named or frozenset()),
        )
    return found


def _joined(paths: _Paths, others: _Paths) -> _Paths:
    return None if paths is None or others is None else paths | others


@dataclass(frozen=True, slots=True)
class _Binder:
    """A rule that was looked at without a document, and the paths that it declares."""

    rule: Rule
    handler_class: type[RuleHandler]
    doc_class: Any
    probe: Evaluation
    writes: _Paths
    inputs: _Paths

    def _error(self, problem: str) -> RuleDefinitionError:
        return RuleDefinitionError(problem, model=str(self.doc_class.__name__), rule=self.rule.name)

    def matcher(self) -> Matcher:
        """The target, compiled.

        :raises RuleDefinitionError: it is no query, or none for a write's filter.
        """
        target = self.probe.target
        if not isinstance(target, Mapping):
            raise self._error(
                f"sets a target that is no query but {type(target).__name__}; use a mapping"
            )
        refused = sorted(set(_operators(target)) & set(_REFUSED_IN_TARGETS))
        if refused:
            raise self._error(
                f"uses {refused[0]} in its target, which MongoDB does not take in the filter of a "
                "write by _id; say it with other operators, or write an allmigration rule by hand"
            )
        try:
            return compile_query(target)
        except ValueError as exc:
            raise self._error(str(exc)) from exc

    def undetermined(self) -> BoundRule:
        """Bind a rule whose target depends on the document.

        :raises RuleDefinitionError: it sets no target at all, or is a once rule.
        """
        if self.probe.complete:
            raise self._error("sets no target; set self.target to a query")
        if self.rule.once is not None:
            raise self._error(
                "is a once rule without a target that is known without a document; set self.target "
                "before self.doc is read"
            )
        traced = self._trace()
        return self._computed("undetermined", None, traced, _Seen(), converges=False)

    def static(self, matcher: Matcher) -> BoundRule:
        """Bind a rule that reads no document: all is known of it.

        :raises UpdateQueryError: the update is invalid, or writes what the rule does not declare.
        """
        probe = self.probe
        form = (probe.update, probe.array_filters)
        self._check_update(form)
        seen = _seen([form])
        creates = self.writes if seen.creates is None else seen.creates
        bound = BoundRule(
            self.rule,
            self.handler_class,
            self.doc_class,
            kind="static",
            target=probe.target,
            matcher=matcher,
            update=probe.update,
            converges=ends_match(matcher.tree, *form),
            by_hand=False,
            writes=seen.writes if self.writes is None else self.writes,
            inputs=seen.inputs,
            creates=creates or frozenset(),
            promises=seen.creates or frozenset(),
            asks=probe.asked & _OUTSIDE,
            declares=self.writes is not None,
            named_paths=seen.named or frozenset(),
            varies=varies_by_call(self.rule, self.handler_class, self.doc_class),
        )
        if bound.declares and not bound.covers(probe.update):
            bound.refuse_paths(probe.update)
        return bound

    def once(self, matcher: Matcher) -> BoundRule:
        """Bind a rule with an effect: it is looked at once, up to `self.status` or the document.

        An update that it has set until then is known; what else it may write, its source says.

        :raises RuleDefinitionError: its effect has happened, or it would happen again.
        :raises UpdateQueryError: the update is invalid.
        """
        probe = self.probe
        if probe.complete and not {"doc", "status"} & probe.asked:
            raise self._error(
                "is a once rule that ran to its end while it was only looked at, so that its "
                "effect has happened; let it return if self.status, or read self.doc, before its "
                "effect"
            )
        forms: list[_Form] | None = None
        if probe.complete and probe.update is not None:
            form = (probe.update, probe.array_filters)
            forms = [form]
            self._check_update(form)
            if not ends_match(matcher.tree, *form):
                raise self._error(
                    "is a once rule whose update does not provably end the match of its target, so "
                    "that it would run again; let the update set what the target asks for"
                )
        seen = replace(_seen(forms), inputs=None)
        converges = None if forms is None else True
        return self._computed("dynamic", matcher, self._trace(), seen, converges=converges)

    def dynamic(self, matcher: Matcher) -> BoundRule:
        """Bind a rule whose update depends on the document, or that writes by itself.

        :raises RuleDefinitionError: it sets no update, and does nothing else.
        :raises UpdateQueryError: an update is invalid.
        """
        probe, traced = self.probe, self._trace()
        by_hand = probe.update is None and bool(_OUTSIDE & probe.asked)
        if by_hand and "collection" not in probe.asked and traced.sets_update:
            # It only keeps still while a report is made.
            by_hand = False
        forms: list[_Form] | None = None
        read: _Paths = None
        if not traced.reads_types:
            forms, read = self._symbolic_updates()
        acts = _OUTSIDE & (probe.asked | traced.asks)
        is_vain = probe.complete or (traced.sets_update is False and not traced.raises)
        if probe.update is None and not acts and is_vain:
            copied = "" if probe.complete else ", and what it may change of self.doc is a copy"
            raise self._error(f"sets no update{copied}; set self.update")
        for form in forms or ():
            self._check_update(form)
        converges = _converges(matcher, forms)
        if by_hand and "doc" not in probe.asked and "collection" in probe.asked:
            converges = False
        bound = self._computed("dynamic", matcher, traced, _seen(forms, read), converges=converges)
        bound = replace(bound, by_hand=by_hand, asks=bound.asks | (probe.asked & _OUTSIDE))
        return bound if bound.asks else as_translated(bound, matcher, self.inputs)

    def _trace(self) -> Traced:
        # Only a rule that reads `self.doc` pays for the import.
        from lazymig.rules.tracing.paths import trace  # noqa: PLC0415

        return trace(self.rule.method, self.handler_class, self.doc_class)

    def _check_update(self, form: _Form) -> None:
        try:
            check_update(*form)
        except ValueError as exc:
            raise UpdateQueryError(
                str(exc), model=str(self.doc_class.__name__), rule=self.rule.name
            ) from exc

    def _computed(
        self,
        kind: Kind,
        matcher: Matcher | None,
        traced: Traced,
        seen: _Seen,
        *,
        converges: bool | None,
    ) -> BoundRule:
        """A rule whose update depends on the document: its source and runs say the rest."""
        inputs = seen.inputs
        if self.inputs is not None:
            inputs = self.inputs
        elif traced.inputs is not None:
            inputs = traced.inputs | (inputs or frozenset())
        creates = seen.creates if self.writes is None else self.writes
        if traced.creates is not None:
            creates = traced.creates | (seen.creates or frozenset())
        return BoundRule(
            self.rule,
            self.handler_class,
            self.doc_class,
            kind=kind,
            target=self.probe.target,
            matcher=matcher,
            update=None,
            converges=converges,
            by_hand=False,
            writes=self._writes_of(traced, seen),
            inputs=inputs,
            creates=creates or frozenset(),
            promises=seen.creates or frozenset(),
            asks=traced.asks,
            declares=self.writes is not None,
            named_paths=traced.named_paths if seen.named is None else seen.named,
        )

    def _writes_of(self, traced: Traced, seen: _Seen) -> _Paths:
        """The paths that a computed rule may write; `None` for one that sets no update.

        :raises RuleDefinitionError: they are not known, and queries need them.
        """
        if self.writes is not None:
            return self.writes
        if traced.writes is not None and traced.sets_update:
            return traced.writes | (seen.writes or frozenset())
        known = seen.writes is not None or traced.sets_update is False
        if known or self.rule.scope == "bulk":
            return seen.writes
        raise self._error(
            f"may write any path, because {traced.unknown}; declare what it writes before it reads "
            "self.doc: self.writes = ('items', 'address.city')"
        )

    def _symbolic_updates(self) -> tuple[list[_Form] | None, _Paths]:
        """The updates of a dynamic rule, one for each of its branches, and the keys that it reads.

        What they take from the document is `ANY_VALUE`. `None` where the rule needs the document's
        values themselves: then only the update computed for a document decides.
        """
        read: _Paths = frozenset()
        forms: list[_Form] = []
        decisions = Decisions()
        while True:
            document = SymbolicDocument(decisions)
            try:
                guess = evaluate(
                    self.rule, self.handler_class, self.doc_class, document=document, status=True
                )
            except DocumentChanged as exc:
                raise self._error(str(exc)) from exc
            except Exception:
                # A library function that is given a symbol may raise anything; that is no fault.
                return None, None
            if not guess.complete:
                return None, None
            read = _joined(read, document.keys_read)
            if guess.target is not None:
                if guess.update is None or settle_symbols(guess.target) != self.probe.target:
                    return None, None
                forms.append((settle_symbols(guess.update), settle_symbols(guess.array_filters)))
            if not decisions.turn():
                return forms or None, read


def _converges(target: Matcher, forms: Sequence[_Form] | None) -> bool | None:
    """Return whether every update ends the match; `None`: only the computed one shows."""
    if forms is None:
        return None
    if all(ends_match(target.tree, *form) for form in forms):
        return True
    return None if any(_may_end_match(target, *form) for form in forms) else False


def _may_end_match(target: Matcher, update: Any, array_filters: Any) -> bool:
    """Return whether some value that a rule computes might end the match."""
    read, written = target.reads, written_paths(update)
    known = read is not None and written is not None
    if known and not any(overlaps(one, other) for one in read or () for other in written or ()):
        return False
    return not all(
        keeps_match(target.tree, _with_sample(update, sample), _with_sample(array_filters, sample))
        for sample in _SAMPLES
    )


def _with_sample(value: Any, sample: Any) -> Any:
    if value is ANY_VALUE:
        return sample
    if isinstance(value, Mapping):
        return {key: _with_sample(item, sample) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_sample(item, sample) for item in value]
    return value


def _operators(query: Any) -> Iterator[str]:
    if isinstance(query, Mapping):
        for key, value in query.items():
            if isinstance(key, str) and key.startswith("$"):
                yield key
            yield from _operators(value)
    elif isinstance(query, (list, tuple)):
        for item in query:
            yield from _operators(item)
