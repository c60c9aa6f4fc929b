"""A rule of one model, and what is known of it before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn

import bson

from lazymig.errors import UpdateQueryError
from lazymig.query.joining import all_of
from lazymig.query.matching import Matcher, compile_query
from lazymig.raw.encoding import ANY_UUID, ANY_VALUE, UNSTORABLE
from lazymig.rules.declared import is_read_within, within
from lazymig.rules.once import OnceOptions
from lazymig.rules.rule import Evaluation, Rule, RuleHandler, Scope, evaluate
from lazymig.rules.translation import LeftToPython, Translation
from lazymig.updates.convergence import ends_match
from lazymig.updates.update import NamedPath, check_update, read_paths, written_paths

__all__ = ["BoundRule", "Form", "Kind"]

Kind = Literal["static", "dynamic", "undetermined"]

Form = Literal["static", "translated", "python"]
"""Who says what is written: the rule as it stands, the server by its method, or the method."""

# A rule that computes paths from documents would fill the memory with forms of updates.
_MOST_FORMS = 256
_FORMS = {"$set", "$unset", "$rename"}


@dataclass(frozen=True, slots=True, eq=False)
class BoundRule:
    """A rule of one model, and all that is known of it without a document.

    `target` is `None` for an undetermined rule, `update` for a rule whose update depends on the
    document or that writes by itself (`by_hand`). `converges` is `None` where only the update
    computed for a document can decide. `inputs` are the paths that the update is computed from;
    `None` where they are not all known. `writes` are known for every lazy rule that sets an update;
    `declares`: by the rule itself. `creates` are those that it may leave there, `promises` those of
    them that it was seen to write. `named_paths` are those that operators of its updates name, as
    far as they are known. `asks`: which of `collection` and `status` it may ask for.

    `varies`: the update of a static rule differs from call to call, by more than the time, so that
    each document is given one of its own. `plain` is the rule as it is declared, where `target`
    leaves out the documents that wait for an earlier rule.

    `translation` is what the method does as an update by the server. Without a guard it stands for
    the method: the rule is static, and `update` is that pipeline. With one there are two `halves`,
    and the rule as a whole is computed. `left_to_python` says why there is none.
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
    writes: frozenset[str] | None
    inputs: frozenset[str] | None
    creates: frozenset[str] | None
    promises: frozenset[str]
    asks: frozenset[str]
    declares: bool
    named_paths: frozenset[NamedPath]
    varies: bool = False
    plain: BoundRule | None = None
    translation: Translation | None = None
    left_to_python: LeftToPython | None = None
    _proven: dict[Any, bool] = field(default_factory=dict, repr=False)
    _checked: set[Any] = field(default_factory=set, repr=False)
    _read: set[frozenset[str]] = field(default_factory=set, repr=False)
    # No argument: a copy with another target has other halves.
    _made: dict[str, tuple[BoundRule, ...]] = field(init=False, default_factory=dict, repr=False)

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
    def reads(self) -> frozenset[str] | None:
        """The paths that the target reads; `None` where they are not all known."""
        return None if self.matcher is None else self.matcher.reads

    @property
    def once(self) -> OnceOptions | None:
        """How a document is claimed for this rule; `None` for a rule without effects elsewhere."""
        return self.rule.once

    @property
    def declared(self) -> BoundRule:
        """The rule with the target that it sets itself, whatever it waits for."""
        return self.plain or self

    @property
    def form(self) -> Form:
        """Who says what is written to a document; `translated` also where that is so of one half.

        A rule that writes by itself, or has effects elsewhere, or whose target needs the document,
        is one for Python.
        """
        if self.translation is not None:
            return "translated"
        return "static" if self.kind == "static" else "python"

    @property
    def computed(self) -> BoundRule:
        """The rule as its method computes it for each document, whatever was translated."""
        if self.translation is None:
            return self
        if "computed" not in self._made:
            alone = replace(self, kind="dynamic", update=None, translation=None)
            self._made["computed"] = (alone,)
        return self._made["computed"][0]

    def halves(self) -> tuple[BoundRule, ...]:
        """The rule itself, or, where a guard says for which documents it is translated, its halves.

        The exact one is static: its target asks for the guard, its update is the pipeline. The
        other one is computed for the rest of the documents. Both have the rule's name; no document
        matches both.
        """
        translation, target = self.translation, self.target
        if translation is None or translation.guard is None or target is None:
            return (self,)
        if "halves" not in self._made:
            exactly = all_of(target, {"$expr": translation.guard})
            rest = all_of(target, {"$expr": {"$not": [translation.guard]}})
            self._made["halves"] = (
                replace(
                    self,
                    kind="static",
                    target=exactly,
                    matcher=compile_query(exactly),
                    update=translation.update,
                    converges=True,
                    plain=None,
                    translation=Translation(translation.update),
                ),
                replace(
                    self,
                    target=rest,
                    matcher=compile_query(rest),
                    plain=self.declared,
                    translation=None,
                ),
            )
        return self._made["halves"]

    @property
    def model_name(self) -> str:
        """The model's name, for messages."""
        return str(self.doc_class.__name__)

    @property
    def starts_on_match(self) -> bool:
        """Return whether a match alone may start this rule (invariant 3 of the design)."""
        return self.scope == "lazy" and self.target is not None and self.converges is not False

    def evaluate(
        self, *, document: Mapping[str, Any] | None = None, collection: Any = None
    ) -> Evaluation:
        """Run the rule to apply it; the update is checked as at definition.

        :raises Exception: whatever the rule raises.
        :raises UpdateQueryError: the update is invalid.
        """
        evaluation = self.run(document, collection)
        self.check(evaluation)
        return evaluation

    def run(self, document: Mapping[str, Any] | None, collection: Any) -> Evaluation:
        """Run the rule, and look at nothing that it has set.

        Of one that is translated for all documents the method is not run.

        :raises Exception: whatever the rule raises.
        """
        if self.translation is not None and self.kind == "static":
            return Evaluation(
                target=self.declared.target,
                update=self.update,
                array_filters=None,
                asked=frozenset(),
                complete=True,
                read=None,
            )
        return evaluate(
            self.rule,
            self.handler_class,
            self.doc_class,
            document=document,
            collection=collection,
        )

    def check(self, evaluation: Evaluation) -> None:
        """Hold what a run has set against what an update must be.

        :raises UpdateQueryError: the update is invalid, or the rule writes or reads other paths
            than it is known to.
        """
        update = evaluation.update
        # The effect of a once rule has happened, so that its update is not refused for this.
        if self.once is None:
            self._check_reads(evaluation)
        if update is None and self.kind == "static" and self.update is not None:
            raise self._refused(
                "reads the document, or sets no update, only when it is applied; let it read "
                "self.doc at the definition too, whatever self.status is"
            )
        if update is None or update == self.update:
            return
        key = _form_of(update, evaluation.array_filters)
        if key is None or key not in self._checked or not _encodes(update["$set"]):
            try:
                check_update(update, evaluation.array_filters)
            except ValueError as exc:
                raise self._refused(str(exc)) from exc
            if self.once is None and not self.covers(update):
                self.refuse_paths(update)
            if key is not None and "$set" in update and len(self._checked) < _MOST_FORMS:
                self._checked.add(key)

    def covers(self, update: Any) -> bool:
        """Return whether an update writes what the rule is known to write."""
        if self.writes is None:
            return True
        written = written_paths(update)
        if written is None:
            # What a stage leaves that replaces the whole document, its author alone knows.
            return self.declares
        return all(within(path, self.writes) for path in written)

    def refuse_paths(self, update: Any) -> NoReturn:
        """Say which paths of an update the rule is not known to write.

        :raises UpdateQueryError: always.
        """
        written = written_paths(update)
        beyond = sorted(path for path in written or () if not within(path, self.writes or ()))
        raise self._refused(
            f"writes {', '.join(map(repr, beyond)) or 'any path'} for a document, but is known to "
            f"write {sorted(self.writes or ())} only, which queries rely on; declare all that it "
            "may write: self.writes = (...), before self.doc is read"
        )

    def _refused(self, problem: str) -> UpdateQueryError:
        return UpdateQueryError(problem, model=self.model_name, rule=self.name)

    def _check_reads(self, evaluation: Evaluation) -> None:
        if self.inputs is None or self.kind == "static":
            return
        read = evaluation.read
        known = None
        if read is not None and not read.read_whole and not isinstance(evaluation.update, list):
            known = frozenset(read.keys_read)
            if known in self._read:
                return
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
            raise self._refused(
                f"reads {', '.join(beyond)}, but is known to read {sorted(self.inputs)} only, "
                "which updates rely on; declare all that it may read: self.reads = (...), before "
                "self.doc is read"
            )
        if known is not None and len(self._read) < _MOST_FORMS:
            self._read.add(known)

    def converges_with(self, evaluation: Evaluation) -> bool:
        """Return whether this update provably ends the match of the target it goes with."""
        own = self.declared.matcher
        if own is not None and evaluation.target == self.declared.target:
            if self.kind == "static" and evaluation.update == self.update:
                return bool(self.converges)
            key = _form_of(evaluation.update, evaluation.array_filters)
            if key is not None:
                if key not in self._proven and len(self._proven) < _MOST_FORMS:
                    self._proven[key] = ends_match(
                        own.tree, _with_any_values(evaluation.update), evaluation.array_filters
                    )
                if self._proven.get(key):
                    return True
        target = evaluation.target
        return target is not None and ends_match(
            target, evaluation.update, evaluation.array_filters
        )


def _form_of(update: Any, array_filters: Any) -> Any:
    """A hashable key of the updates that differ from this one only in what `$set` sets.

    `None` for updates with other operators, whose values may matter to a proof, and for those that
    are not well-formed.
    """
    if type(update) is not dict or not update.keys() <= _FORMS:
        return None
    if len(update) == 1 and array_filters is None and type(update.get("$set")) is dict:
        # Nearly every update that a method computes; each document comes by here.
        return tuple(update["$set"])
    if not isinstance(update.get("$set", {}), Mapping):
        return None
    fixed = {operator: fields for operator, fields in update.items() if operator != "$set"}
    return tuple(update.get("$set", ())), repr(fixed), repr(array_filters)


def _encodes(values: Any) -> bool:
    try:
        bson.encode(values, codec_options=ANY_UUID)
    except UNSTORABLE:
        return False
    return True


def _with_any_values(update: Mapping[str, Any]) -> dict[str, Any]:
    """The update with `ANY_VALUE` for each value that `$set` sets."""
    return {
        operator: dict.fromkeys(fields, ANY_VALUE) if operator == "$set" else fields
        for operator, fields in update.items()
    }
