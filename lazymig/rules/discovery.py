"""From a handler class to its ordered rules, and to what is known of a rule before it runs."""

from __future__ import annotations

import inspect
import itertools
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NoReturn, TypeAlias

import bson
from bson import Decimal128, ObjectId
from bson.errors import BSONError

from lazymig.errors import RuleDefinitionError, UpdateQueryError
from lazymig.query.matching import Matcher, compile_query, query_paths
from lazymig.raw.encoding import ANY_UUID, ANY_VALUE
from lazymig.raw.paths import overlaps
from lazymig.rules.document import DocumentChanged
from lazymig.rules.once import OnceOptions, once_options
from lazymig.rules.rule import Evaluation, Rule, RuleHandler, Scope, evaluate
from lazymig.rules.symbols import Decisions, SymbolicDocument, settle_symbols
from lazymig.rules.tracing.paths import Traced, check_declared, is_read_within, trace, within
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

__all__ = ["BoundRule", "Kind", "bind", "discover"]

Kind = Literal["static", "dynamic", "undetermined"]

# An update and its array filters.
_Form: TypeAlias = "tuple[Any, Any]"

_RULE_NAME = re.compile(r"(?P<scope>all)?migration(?P<number>\d+)_{1,2}(?P<words>[A-Za-z0-9]\w*)")
_RULE_LIKE = re.compile(r"(?:all)?migration")

# A rule that computes paths from documents would fill the memory with forms of updates.
_MOST_FORMS = 256
_FORMS = {"$set", "$unset", "$rename"}

# One value of each kind that a rule is likely to compute.
_SAMPLES: tuple[Any, ...] = (
    *("", 0, 0.5, None, False, [], {}, datetime(1970, 1, 1), b""),
    *(uuid.UUID(int=0), ObjectId("0" * 24), Decimal128("0")),
)

# Operators that MongoDB does not take beside a condition on `_id`, or that run code on the server.
_REFUSED_IN_TARGETS = ("$text", "$near", "$nearSphere", "$where")


def discover(handler_class: type) -> tuple[Rule, ...]:
    """Return the rules of a handler class: lazy ones first, each scope in the order of the numbers.

    :raises RuleDefinitionError: a name looks like a rule's and is none, a number is used twice, or
        `once` stands on a method that is no rule.
    """
    rules: list[Rule] = []
    for name in dir(handler_class):
        if not _RULE_LIKE.match(name):
            if once_options(inspect.getattr_static(handler_class, name)) is not None:
                raise RuleDefinitionError(
                    "is marked with once and is no rule; name it migrationNN__words or "
                    "allmigrationNN__words",
                    model=handler_class.__name__,
                    rule=name,
                )
            continue
        match = _RULE_NAME.fullmatch(name)
        method = inspect.getattr_static(handler_class, name)
        if method is None:
            # A subclass takes an inherited rule back by setting its name to None.
            continue
        if match is None or not inspect.isfunction(method):
            raise RuleDefinitionError(
                "looks like a rule and is none; name a method migrationNN__words or "
                "allmigrationNN__words, or choose a name that does not begin with 'migration'",
                model=handler_class.__name__,
                rule=name,
            )
        scope: Scope = "bulk" if match["scope"] else "lazy"
        rules.append(Rule(name, int(match["number"]), scope, method, once_options(method)))
    rules.sort(key=lambda rule: (rule.scope == "bulk", rule.number, rule.name))
    for earlier, later in itertools.pairwise(rules):
        if (earlier.scope, earlier.number) == (later.scope, later.number):
            raise RuleDefinitionError(
                f"has the number {later.number} like {earlier.name}, so their order is open; "
                "give each rule of a handler a number of its own",
                model=handler_class.__name__,
                rule=later.name,
            )
    return tuple(rules)


@dataclass(frozen=True, slots=True, eq=False)
class BoundRule:
    """A rule of one model, and all that is known of it without a document.

    `target` is `None` for an undetermined rule, `update` for a rule whose update depends on the
    document or that writes by itself (`by_hand`). `converges` is `None` where only the update
    computed for a document can tell. `reads` are the paths that the target reads, `inputs` those
    that the update is computed from; `None` where they are not all known. `writes` are known for
    every lazy rule that sets an update; `declares`: by the rule itself. `creates` are those that
    it may leave there, `promises` those of them that it was seen to write. `named_paths` are those
    that operators of its updates name, as far as they are known. `asks`: which of `collection` and
    `status` it may ask for.

    `varies`: the update of a static rule differs from call to call, by more than the time, so that
    each document is given one of its own. `plain` is the rule as it is declared, where `target`
    leaves out the documents that wait for an earlier rule.
    """

    rule: Rule
    handler_class: type[RuleHandler]
    doc_class: Any
    kind: Kind
    target: Mapping[str, Any] | None
    matcher: Matcher | None
    update: Any
    converges: bool | None
    by_hand: bool
    reads: frozenset[str] | None
    writes: frozenset[str] | None
    inputs: frozenset[str] | None
    creates: frozenset[str] | None
    promises: frozenset[str]
    asks: frozenset[str]
    declares: bool
    named_paths: frozenset[NamedPath]
    varies: bool = False
    plain: BoundRule | None = None
    _proven: dict[Any, bool] = field(default_factory=dict, repr=False)
    _checked: set[Any] = field(default_factory=set, repr=False)

    @property
    def name(self) -> str:
        """The method's name."""
        return self.rule.name

    @property
    def number(self) -> int:
        """The place in the order of the rules of this scope."""
        return self.rule.number

    @property
    def scope(self) -> Scope:
        """`lazy` or `bulk`."""
        return self.rule.scope

    @property
    def once(self) -> OnceOptions | None:
        """How a document is claimed for this rule; `None` for a rule without effects elsewhere."""
        return self.rule.once

    @property
    def declared(self) -> BoundRule:
        """The rule with the target that it sets itself, whatever it waits for."""
        return self.plain or self

    @property
    def model_name(self) -> str:
        """The model's name, for messages."""
        return str(self.doc_class.__name__)

    @property
    def starts_on_match(self) -> bool:
        """Whether a match alone may start this rule (invariant 3 of the design)."""
        return self.scope == "lazy" and self.target is not None and self.converges is not False

    def evaluate(
        self, *, document: Mapping[str, Any] | None = None, collection: Any = None
    ) -> Evaluation:
        """Run the rule to apply it; the update is checked as at definition.

        :raises Exception: whatever the rule raises.
        :raises UpdateQueryError: the update is none.
        """
        evaluation = self.run(document, collection)
        self.check(evaluation)
        return evaluation

    def run(self, document: Mapping[str, Any] | None, collection: Any) -> Evaluation:
        """Run the rule, and look at nothing that it has set.

        :raises Exception: whatever the rule raises.
        """
        return evaluate(
            self.rule,
            self.handler_class,
            self.doc_class,
            document=document,
            collection=collection,
        )

    def check(self, evaluation: Evaluation) -> None:
        """Hold what a run has set against what an update must be.

        :raises UpdateQueryError: the update is none, or the rule writes or reads other paths than
            it is known to.
        """
        update = evaluation.update
        # The effect of a once rule has happened, so that its update is not refused for this.
        if self.once is None:
            self._check_reads(evaluation)
        if update is None and self.kind == "static" and self.update is not None:
            raise UpdateQueryError(
                "reads the document, or sets no update, only when it is applied; let it read "
                "self.doc at the definition too, whatever self.status is",
                model=self.model_name,
                rule=self.name,
            )
        if update is None or update == self.update:
            return
        key = _form_of(update, evaluation.array_filters)
        if key is None or key not in self._checked or not _encodes(update["$set"]):
            _check(
                check_update,
                update,
                evaluation.array_filters,
                error=UpdateQueryError,
                model=self.model_name,
                rule=self.name,
            )
            if self.once is None and not self.covers(update):
                self.refuse_paths(update)
            if key is not None and "$set" in update and len(self._checked) < _MOST_FORMS:
                self._checked.add(key)

    def covers(self, update: Any) -> bool:
        """Whether an update writes what the rule is known to write, which queries rely on."""
        if self.writes is None:
            return True
        written = written_paths(update)
        if written is None:
            # Of a stage that replaces the whole document nobody but the author can tell.
            return self.declares
        return all(within(path, self.writes) for path in written)

    def refuse_paths(self, update: Any) -> NoReturn:
        """Say which paths of an update the rule is not known to write.

        :raises UpdateQueryError: always.
        """
        written = written_paths(update)
        beyond = sorted(path for path in written or () if not within(path, self.writes or ()))
        raise UpdateQueryError(
            f"writes {', '.join(map(repr, beyond)) or 'any path'} for a document, but is known to "
            f"write {sorted(self.writes or ())} only, which queries rely on; declare all that it "
            "may write: self.writes = (...), before self.doc is read",
            model=self.model_name,
            rule=self.name,
        )

    def _check_reads(self, evaluation: Evaluation) -> None:
        if self.inputs is None or self.kind == "static":
            return
        read = evaluation.read
        keys = sorted(read.keys_read) if read is not None else []
        beyond = [key for key in keys if not is_read_within(key, self.inputs)]
        if read is not None and read.read_whole:
            beyond = ["the whole document"]
        if isinstance(evaluation.update, list):
            named = read_paths(evaluation.update)
            if named is None:
                beyond = ["the whole document"]
            beyond += [
                path for path in sorted(named or ()) if not is_read_within(path, self.inputs)
            ]
        if beyond:
            raise UpdateQueryError(
                f"reads {', '.join(beyond)}, but is known to read {sorted(self.inputs)} only, "
                "which updates rely on; declare all that it may read: self.reads = (...), before "
                "self.doc is read",
                model=self.model_name,
                rule=self.name,
            )

    def converges_with(self, evaluation: Evaluation) -> bool:
        """Whether this computed update provably ends the match of the target it goes with."""
        own = self.declared.target
        if own is not None and evaluation.target == own:
            if self.kind == "static" and evaluation.update == self.update:
                return bool(self.converges)
            key = _form_of(evaluation.update, evaluation.array_filters)
            if key is not None:
                if key not in self._proven and len(self._proven) < _MOST_FORMS:
                    self._proven[key] = ends_match(
                        own, _with_any_values(evaluation.update), evaluation.array_filters
                    )
                if self._proven.get(key):
                    return True
        target = evaluation.target
        return target is not None and ends_match(
            target, evaluation.update, evaluation.array_filters
        )


@dataclass(frozen=True, slots=True)
class _Declared:
    """The paths that a rule declares; `None` where it leaves them to its source."""

    writes: frozenset[str] | None
    inputs: frozenset[str] | None

    @classmethod
    def of(cls, probe: Evaluation, place: Mapping[str, str]) -> _Declared:
        """What a rule has declared until it was stopped.

        :raises RuleDefinitionError: it is no collection of paths.
        """
        found: dict[str, frozenset[str] | None] = {"writes": None, "reads": None}
        for name, paths in (("writes", probe.writes), ("reads", probe.reads)):
            if paths is not None:
                found[name] = _check(
                    check_declared, name, paths, error=RuleDefinitionError, **place
                )
        return cls(found["writes"], found["reads"])

    def writes_of(
        self,
        rule: Rule,
        traced: Traced,
        forms: Sequence[_Form] | None,
        place: Mapping[str, str],
    ) -> frozenset[str] | None:
        """The paths that a computed rule may write; `None` for one that sets no update.

        :raises RuleDefinitionError: they are not known, and queries need them.
        """
        if self.writes is not None:
            return self.writes
        seen = _union(written_paths, forms)
        if traced.writes is not None and traced.sets_update:
            return traced.writes | (seen or frozenset())
        if seen is not None or traced.sets_update is False or rule.scope == "bulk":
            return seen
        raise RuleDefinitionError(
            f"may write any path, because {traced.unknown}; declare what it writes before it reads "
            "self.doc: self.writes = ('items', 'address.city')",
            **place,
        )

    def inputs_of(self, traced: Traced, seen: frozenset[str] | None) -> frozenset[str] | None:
        """The paths that a computed rule may read; `None`: any."""
        if self.inputs is not None:
            return self.inputs
        if traced.inputs is None:
            return seen
        return traced.inputs | (seen or frozenset())

    def creates_of(self, traced: Traced, forms: Sequence[_Form] | None) -> frozenset[str]:
        """The paths that a computed rule may leave in a document."""
        seen = _union(created_paths, forms)
        if traced.creates is not None:
            return traced.creates | (seen or frozenset())
        return (seen if self.writes is None else self.writes) or frozenset()


def bind(rule: Rule, handler_class: type[RuleHandler], doc_class: Any) -> BoundRule | None:
    """Probe a rule for a model, without a document and without a database.

    Returns `None` where the rule decides by `self.doc_class` that it does not concern this model.

    :raises RuleDefinitionError: the rule raises, sets no target or update, or a target that MongoDB
        cannot take in a write's filter.
    :raises UpdateQueryError: the update is none.
    """
    place = {"model": str(doc_class.__name__), "rule": rule.name}
    probe = _looked_at(rule, handler_class, doc_class, place)
    declared = _Declared.of(probe, place)
    if probe.target is None:
        if probe.complete and "doc_class" in probe.asked:
            return None
        if probe.complete:
            raise RuleDefinitionError("sets no target; set self.target to a query", **place)
        if rule.once is not None:
            raise RuleDefinitionError(
                "is a once rule without a target that is known without a document; set self.target "
                "before self.doc is read",
                **place,
            )
        traced = trace(rule.method, handler_class, doc_class)
        return BoundRule(
            rule,
            handler_class,
            doc_class,
            kind="undetermined",
            target=None,
            matcher=None,
            update=None,
            converges=False,
            by_hand=False,
            reads=None,
            writes=declared.writes_of(rule, traced, None, place),
            inputs=declared.inputs_of(traced, None),
            creates=declared.creates_of(traced, None),
            promises=frozenset(),
            asks=traced.asks,
            declares=declared.writes is not None,
            named_paths=traced.named_paths,
        )

    target = probe.target
    if not isinstance(target, Mapping):
        raise RuleDefinitionError(
            f"sets a target that is no query but {type(target).__name__}; use a mapping", **place
        )
    refused = sorted(set(_operators(target)) & set(_REFUSED_IN_TARGETS))
    if refused:
        raise RuleDefinitionError(
            f"uses {refused[0]} in its target, which MongoDB does not take in the filter of a "
            "write by _id; say it with other operators, or write an allmigration rule by hand",
            **place,
        )
    matcher = _check(compile_query, target, error=RuleDefinitionError, **place)
    if rule.once is not None:
        return _bind_once(rule, handler_class, doc_class, probe, target, matcher, declared)

    if probe.complete and probe.update is not None and "doc" not in probe.asked:
        return _bind_static(rule, handler_class, doc_class, probe, target, matcher, declared)
    traced = trace(rule.method, handler_class, doc_class)
    by_hand = probe.update is None and bool({"status", "collection"} & probe.asked)
    if by_hand and "collection" not in probe.asked and traced.sets_update:
        # It only keeps still while a report is made.
        by_hand = False
    forms: list[_Form] | None = None
    read: frozenset[str] | None = None
    if not traced.reads_types:
        forms, read = _symbolic_updates(rule, handler_class, doc_class, target)
    acts = {"status", "collection"} & (probe.asked | traced.asks)
    is_vain = probe.complete or (traced.sets_update is False and not traced.raises)
    if probe.update is None and not acts and is_vain:
        copied = "" if probe.complete else ", and what it may change of self.doc is a copy"
        raise RuleDefinitionError(f"sets no update{copied}; set self.update", **place)
    for update, array_filters in forms or ():
        _check(check_update, update, array_filters, error=UpdateQueryError, **place)
    converges = _converges(target, forms, static=False)
    if by_hand and "doc" not in probe.asked and "collection" in probe.asked:
        converges = False
    return BoundRule(
        rule,
        handler_class,
        doc_class,
        kind="dynamic",
        target=target,
        matcher=matcher,
        update=None,
        converges=converges,
        by_hand=by_hand,
        reads=query_paths(target),
        writes=declared.writes_of(rule, traced, forms, place),
        inputs=declared.inputs_of(traced, _inputs(read, forms)),
        creates=declared.creates_of(traced, forms),
        promises=_union(created_paths, forms) or frozenset(),
        asks=traced.asks | (probe.asked & {"collection", "status"}),
        declares=declared.writes is not None,
        named_paths=_named(forms, traced),
    )


def _looked_at(
    rule: Rule, handler_class: type[RuleHandler], doc_class: Any, place: Mapping[str, str]
) -> Evaluation:
    """Run a rule without a document."""
    try:
        return evaluate(rule, handler_class, doc_class, status=True)
    except DocumentChanged as exc:
        raise RuleDefinitionError(str(exc), **place) from exc
    except Exception as exc:
        raise RuleDefinitionError(
            f"raised {type(exc).__name__}: {exc}, without having looked at a document, so it would "
            "for each one; correct the rule",
            **place,
        ) from exc


def _bind_static(
    rule: Rule,
    handler_class: type[RuleHandler],
    doc_class: Any,
    probe: Evaluation,
    target: Mapping[str, Any],
    matcher: Matcher,
    declared: _Declared,
) -> BoundRule:
    """A rule that reads no document: all is known of it."""
    forms: list[_Form] = [(probe.update, probe.array_filters)]
    place = {"model": str(doc_class.__name__), "rule": rule.name}
    _check(check_update, *forms[0], error=UpdateQueryError, **place)
    creates = _union(created_paths, forms)
    bound = BoundRule(
        rule,
        handler_class,
        doc_class,
        kind="static",
        target=target,
        matcher=matcher,
        update=probe.update,
        converges=_converges(target, forms, static=True),
        by_hand=False,
        reads=query_paths(target),
        writes=_union(written_paths, forms) if declared.writes is None else declared.writes,
        inputs=_inputs(frozenset(), forms),
        creates=(declared.writes if creates is None else creates) or frozenset(),
        promises=creates or frozenset(),
        asks=probe.asked & {"collection", "status"},
        declares=declared.writes is not None,
        named_paths=named_paths(probe.update),
        varies=varies_by_call(rule, handler_class, doc_class),
    )
    if not bound.covers(probe.update):
        bound.refuse_paths(probe.update)
    return bound


def _bind_once(
    rule: Rule,
    handler_class: type[RuleHandler],
    doc_class: Any,
    probe: Evaluation,
    target: Mapping[str, Any],
    matcher: Matcher,
    declared: _Declared,
) -> BoundRule:
    """What is known of a rule with an effect: it is looked at once, up to `self.status` or the doc.

    An update that it has set until then is known; what else it may write, its source tells.
    """
    place = {"model": str(doc_class.__name__), "rule": rule.name}
    if probe.complete and not {"doc", "status"} & probe.asked:
        raise RuleDefinitionError(
            "is a once rule that ran to its end while it was only looked at, so that its effect "
            "has happened; let it return if self.status, or read self.doc, before its effect",
            **place,
        )
    forms: list[_Form] | None = None
    if probe.complete and probe.update is not None:
        forms = [(probe.update, probe.array_filters)]
        _check(check_update, *forms[0], error=UpdateQueryError, **place)
        if not ends_match(target, *forms[0]):
            raise RuleDefinitionError(
                "is a once rule whose update does not provably end the match of its target, so "
                "that it would run again; let the update set what the target asks for",
                **place,
            )
    traced = trace(rule.method, handler_class, doc_class)
    return BoundRule(
        rule,
        handler_class,
        doc_class,
        kind="dynamic",
        target=target,
        matcher=matcher,
        update=None,
        converges=None if forms is None else True,
        by_hand=False,
        reads=query_paths(target),
        writes=declared.writes_of(rule, traced, forms, place),
        inputs=declared.inputs_of(traced, None),
        creates=declared.creates_of(traced, forms),
        promises=_union(created_paths, forms) or frozenset(),
        asks=traced.asks,
        declares=declared.writes is not None,
        named_paths=_named(forms, traced),
    )


def _symbolic_updates(
    rule: Rule, handler_class: type[RuleHandler], doc_class: Any, target: Mapping[str, Any]
) -> tuple[list[_Form] | None, frozenset[str] | None]:
    """The updates of a dynamic rule, one for each of its branches, and the keys that it reads.

    What they take from the document is `ANY_VALUE`. `None` where the rule needs the document's
    values themselves: then only the update computed for a document can tell.
    """
    read: frozenset[str] | None = frozenset()
    forms: list[_Form] = []
    decisions = Decisions()
    while True:
        document = SymbolicDocument(decisions)
        try:
            guess = evaluate(rule, handler_class, doc_class, document=document, status=True)
        except DocumentChanged as exc:
            place = {"model": str(doc_class.__name__), "rule": rule.name}
            raise RuleDefinitionError(str(exc), **place) from exc
        except Exception:
            # A library function that is given a symbol may raise anything; that is no fault.
            return None, None
        if not guess.complete:
            return None, None
        read = _joined(read, document.keys_read)
        if guess.target is not None:
            if guess.update is None or settle_symbols(guess.target) != target:
                return None, None
            forms.append((settle_symbols(guess.update), settle_symbols(guess.array_filters)))
        if not decisions.turn():
            return forms or None, read


def _converges(
    target: Mapping[str, Any], forms: Sequence[_Form] | None, static: bool
) -> bool | None:
    """Whether every update ends the match, none can, or only the computed one can tell."""
    if forms is None:
        return None
    if all(ends_match(target, update, array_filters) for update, array_filters in forms):
        return True
    if not static and any(_may_end_match(target, *form) for form in forms):
        return None
    return False


def _joined(paths: frozenset[str] | None, others: frozenset[str] | None) -> frozenset[str] | None:
    return None if paths is None or others is None else paths | others


def _union(
    paths_of: Callable[[Any], frozenset[str] | None], forms: Sequence[_Form] | None
) -> frozenset[str] | None:
    if forms is None:
        return None
    found: set[str] = set()
    for update, _array_filters in forms:
        paths = paths_of(update)
        if paths is None:
            return None
        found |= paths
    return frozenset(found)


def _named(forms: Sequence[_Form] | None, traced: Traced) -> frozenset[NamedPath]:
    """The paths that operators name in the updates of a rule that reads the document."""
    if forms is None:
        return traced.named_paths
    return frozenset().union(*(named_paths(update) for update, _array_filters in forms))


def _inputs(read: frozenset[str] | None, forms: Sequence[_Form] | None) -> frozenset[str] | None:
    """What the updates are computed from: the document's keys, their own paths, array filters."""
    if forms is None:
        return None
    for update, array_filters in forms:
        read = _joined(_joined(read, read_paths(update)), filtered_paths(update, array_filters))
    return read


def _may_end_match(target: Mapping[str, Any], update: Any, array_filters: Any) -> bool:
    """Whether some value that a rule computes might end the match, though not every one does."""
    read, written = query_paths(target), written_paths(update)
    known = read is not None and written is not None
    if known and not any(overlaps(one, other) for one in read or () for other in written or ()):
        return False
    return not all(
        keeps_match(target, _settled(update, sample), _settled(array_filters, sample))
        for sample in _SAMPLES
    )


def _settled(value: Any, sample: Any) -> Any:
    if value is ANY_VALUE:
        return sample
    if isinstance(value, Mapping):
        return {key: _settled(item, sample) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_settled(item, sample) for item in value]
    return value


def _check(
    function: Callable[..., Any],
    *values: Any,
    error: type[RuleDefinitionError],
    model: str,
    rule: str,
) -> Any:
    """Call a pure check; give its ValueError the model's and the rule's name."""
    try:
        return function(*values)
    except ValueError as exc:
        raise error(str(exc), model=model, rule=rule) from exc


def _operators(query: Any) -> Iterator[str]:
    if isinstance(query, Mapping):
        for key, value in query.items():
            if isinstance(key, str) and key.startswith("$"):
                yield key
            yield from _operators(value)
    elif isinstance(query, (list, tuple)):
        for item in query:
            yield from _operators(item)


def _form_of(update: Any, array_filters: Any) -> Any:
    """A hashable key of the updates that differ from this one only in what `$set` sets.

    `None` for updates with other operators, whose values may matter to a proof, and for those that
    are not well-formed.
    """
    if type(update) is not dict or not update.keys() <= _FORMS:
        return None
    if not isinstance(update.get("$set", {}), Mapping):
        return None
    fixed = {operator: fields for operator, fields in update.items() if operator != "$set"}
    return tuple(update.get("$set", ())), repr(fixed), repr(array_filters)


def _encodes(values: Any) -> bool:
    try:
        bson.encode(values, codec_options=ANY_UUID)
    except (BSONError, ValueError, OverflowError, TypeError, RecursionError):
        return False
    return True


def _with_any_values(update: Mapping[str, Any]) -> dict[str, Any]:
    """The update with `ANY_VALUE` for each value that `$set` sets."""
    return {
        operator: dict.fromkeys(fields, ANY_VALUE) if operator == "$set" else fields
        for operator, fields in update.items()
    }
