"""The sealing of rules: a validator of the collection refuses the old shape from then on."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError, WriteConcernError

from lazymig.engines.access import is_mongomock, key_of, on_primary
from lazymig.engines.driver_errors import is_away, waited_too_long
from lazymig.engines.sessions import check_no_transaction
from lazymig.engines.validators import (
    Seal,
    Validator,
    read_validator,
    seal_of,
    set_validator,
)
from lazymig.errors import RunOptionError, SealError
from lazymig.odm.plans import plans_of
from lazymig.odm.schema import may_lack
from lazymig.odm.sealed import forget_seals, learn_seals, sealed_rules
from lazymig.operations.journal.collection import UNAUTHORIZED
from lazymig.operations.journal.refusals import refusals
from lazymig.raw.json_values import JsonValue
from lazymig.redaction import excerpt
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.cycles import may_lead_to
from lazymig.rules.plan import Plan
from lazymig.rules.rule import Scope

__all__ = ["NotSealed", "SealReport", "seal_rules", "seals_in", "unseal_rules"]

logger = logging.getLogger(__name__)

# The role of MongoDB that may change a validator, for the error.
_ROLE: Final = "dbAdmin"

# What a document comes to match by the time alone, or by chance, or what a validator cannot hold.
_NOT_HELD: Final = {
    "$where": "a validator cannot run JavaScript",
    "$function": "a validator cannot run JavaScript",
    "$accumulator": "a validator cannot run JavaScript",
    "$text": "a validator cannot search texts",
    "$near": "a validator cannot search by distance",
    "$nearSphere": "a validator cannot search by distance",
    "$geoNear": "a validator cannot search by distance",
    "$rand": "chance decides whether it matches",
    "$sampleRate": "chance decides whether it matches",
    "$$NOW": "a document may come to match it by the time alone",
    "$$CLUSTER_TIME": "a document may come to match it by the time alone",
}


@dataclass(frozen=True, slots=True)
class NotSealed(JsonValue):
    """A rule that is not sealed.

    :ivar reason: why, and what to do.
    :ivar remaining: the documents that it still matches; `None` where they were not counted.
    """

    rule: str
    scope: Scope
    reason: str
    remaining: int | None = None


@dataclass(frozen=True, slots=True)
class SealReport(JsonValue):
    """What is sealed in a collection.

    :ivar collection: its name, with the database.
    :ivar sealed: the rules of the handler that are sealed now, in order.
    :ivar added: those of them that were not sealed before.
    :ivar not_sealed: those of the rules that were to be sealed and are not.
    :ivar others: seals that belong to no rule of the handler as it is today, as `Model.rule`: of
        rules that are gone, of targets that were different, of other models.
    :ivar warnings: what may go wrong with the seals.
    """

    model: str
    collection: str
    sealed: tuple[str, ...]
    added: tuple[str, ...]
    not_sealed: tuple[NotSealed, ...]
    others: tuple[str, ...]
    warnings: tuple[str, ...]


_Reasons: TypeAlias = dict[str, NotSealed]


def seal_rules(
    collection: Collection[Any], plan: Plan, journal: str, names: Sequence[str] | None = None
) -> SealReport:
    """Seal the rules of a plan that no document needs any more.

    The validator is set twice. At first it refuses the old shapes, and counts for nobody. Only when
    no document was found after that, its seals say so.

    :param journal: the name of the journal's collection, for what is in quarantine.
    :param names: the rules; `None` for all.
    :raises SealError: the validator takes no seals, or cannot be changed.
    :raises RunOptionError: a name is none of a rule.
    :raises RunError: it was called in the transaction of a bound session.
    :raises pymongo.errors.PyMongoError: the connection, or the rights to read.
    """
    check_no_transaction(plan.model_name, "seal")
    rules = _named(plan, names)
    return _Sealing(collection, plan, rules, journal).run()


def unseal_rules(
    collection: Collection[Any], plan: Plan, names: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Take seals out of the validator of a collection, and leave the rest of it as it is.

    :param names: of rules, which the code need not have any more, or of rules of other models as
        `Model.rule`; `None` for all seals of this model.
    :return: the seals that were taken out, as `Model.rule`.
    :raises SealError: the validator cannot be read or changed.
    :raises RunOptionError: a named rule is not sealed.
    :raises RunError: it was called in the transaction of a bound session.
    :raises pymongo.errors.PyMongoError: the connection.
    """
    check_no_transaction(plan.model_name, "unseal")
    validator = _validator_of(collection)
    wanted = [
        seal
        for seal in validator.seals
        if (names is None and seal.model == plan.model_name)
        or (names is not None and _is_named(seal, plan.model_name, names))
    ]
    for name in names or ():
        if not any(_is_named(seal, plan.model_name, [name]) for seal in wanted):
            raise RunOptionError(
                f"{name!r} is not sealed in {collection.full_name}; sealed are "
                f"{', '.join(seal.name for seal in validator.seals) or 'no rules'}",
                option="rules",
            )
    if wanted:
        # Not even for a moment does this process rely on what is about to go.
        forget_seals(collection)
        kept = [seal for seal in validator.seals if seal not in wanted]
        _set(collection, validator.with_seals(kept))
        learn_seals(collection)
    return tuple(seal.name for seal in wanted)


def seals_in(collection: Collection[Any], plan: Plan) -> SealReport:
    """Report what is sealed in a collection, and change nothing.

    :raises SealError: it is mongomock's, or does not exist.
    :raises pymongo.errors.PyMongoError: the connection, or the right to list collections.
    """
    return _report(collection, plan, _validator_of(collection), (), (), ())


def _is_named(seal: Seal, model: str, names: Sequence[str]) -> bool:
    return seal.name in names or (seal.model == model and seal.rule in names)


def _named(plan: Plan, names: Sequence[str] | None) -> list[BoundRule]:
    rules = [*plan.lazy, *plan.bulk]
    if names is None:
        return rules
    unknown = [name for name in names if not any(rule.name == name for rule in rules)]
    if unknown:
        raise RunOptionError(
            f"{plan.model_name} has no rule {unknown[0]!r}; it has "
            f"{', '.join(rule.name for rule in rules) or 'none'}",
            option="rules",
        )
    return [rule for rule in rules if rule.name in names]


def _validator_of(collection: Collection[Any]) -> Validator:
    if is_mongomock(collection):
        raise SealError(
            "is mongomock's, which has no validators; seals need a MongoDB server",
            collection=str(collection.full_name),
        )
    try:
        validator = read_validator(collection)
    except OperationFailure as exc:
        if exc.code != UNAUTHORIZED:
            raise
        raise _refused(collection, "no right to read its options (listCollections)") from exc
    if validator is None:
        raise _refused(collection, "does not exist; is this the right database?")
    return validator


def _refused(collection: Collection[Any], problem: str) -> SealError:
    return SealError(problem, collection=str(collection.full_name))


def _set(collection: Collection[Any], validator: Mapping[str, Any]) -> None:
    """Replace a validator.

    :raises SealError: it cannot be changed, whatever it says.
    :raises OperationFailure: MongoDB refuses what it says.
    """
    try:
        set_validator(collection, validator)
    except WriteConcernError as exc:
        raise _refused(
            collection,
            f"its validator was changed, but most members of the replica set did not say so in "
            f"time: {excerpt(exc)}; call it again when they are there",
        ) from exc
    except OperationFailure as exc:
        if exc.code == UNAUTHORIZED:
            problem = f"no right to change its validator (collMod), which the role {_ROLE} gives"
        elif waited_too_long(exc):
            problem = "an open transaction holds it; call it again when that is over"
        else:
            raise
        raise _refused(collection, problem) from exc


class _Sealing:
    """The sealing of some rules of one collection."""

    def __init__(
        self, collection: Collection[Any], plan: Plan, rules: Sequence[BoundRule], journal: str
    ) -> None:
        self._collection = collection
        self._plan = plan
        self._rules = rules
        self._journal = journal
        self._plans = plans_of(plan.doc_class)
        if not any(each.handler_class is plan.handler_class for each in self._plans):
            self._plans.append(plan)
        self._seals: dict[str, Seal] = {}
        self._reasons: _Reasons = {}

    def run(self) -> SealReport:
        """Seal what can be sealed."""
        validator = _validator_of(self._collection)
        self._check(validator)
        before = _sealed_now(self._collection, self._plan, validator)
        new = [rule for rule in self._rules if rule.name not in before]
        self._look_at(new)
        self._drop_the_fed(new, validator)
        new = [rule for rule in new if rule.name not in self._reasons]
        if new:
            validator = self._sealed(validator, new)
        learn_seals(self._collection)
        return _report(
            self._collection,
            self._plan,
            validator,
            [rule.name for rule in new if rule.name not in self._reasons],
            [self._reasons[rule.name] for rule in self._rules if rule.name in self._reasons],
            self._warnings(validator),
        )

    def _check(self, validator: Validator) -> None:
        """See that the collection can have a validator, and that it refuses.

        :raises SealError: it does not.
        """
        name = str(self._collection.full_name)
        if validator.kind != "collection":
            kind = {"timeseries": "time-series collection"}.get(validator.kind, validator.kind)
            raise SealError(f"is a {kind}, which has no validator", collection=name)
        if self._collection.database.name in ("admin", "config", "local"):
            raise SealError("is in a database of MongoDB's own", collection=name)
        if not validator.refuses:
            level, action = validator.level or "strict", validator.action or "error"
            raise SealError(
                f"its validationLevel is {level!r} and its validationAction {action!r}, with which "
                "MongoDB does not refuse every invalid document; set them to 'strict' and 'error' "
                "by collMod when the stored documents are valid, and seal then",
                collection=name,
            )

    def _look_at(self, rules: Sequence[BoundRule]) -> None:
        """Find out which rules can be sealed by themselves."""
        quarantined = self._quarantined()
        options = self._collection.codec_options
        for rule in rules:
            reason = _never(rule)
            if reason is None:
                try:
                    seal = seal_of(self._plan.class_filter, rule, options.uuid_representation)
                except Exception as exc:
                    reason = f"BSON cannot encode its target: {excerpt(exc)}"
                else:
                    self._seals[rule.name] = seal
            if reason is None:
                self._count(rule)
            else:
                self._leave(rule, reason)
            if rule.name not in self._reasons and quarantined[rule.name]:
                self._leave(
                    rule,
                    f"{quarantined[rule.name]:,} of its documents are in quarantine; lazymig "
                    "quarantine list shows them",
                )

    def _quarantined(self) -> Counter[str]:
        found = refusals(self._collection, self._plan, self._journal)
        return Counter(
            name for name, _ in {(each.rule, key_of(each.document_id)) for each in found}
        )

    def _count(self, rule: BoundRule, *, again: bool = False) -> None:
        """Leave a rule that a document matches."""
        try:
            count = on_primary(self._collection).count_documents(self._plan.query_of(rule))
        except OperationFailure as exc:
            if is_away(exc) or waited_too_long(exc) or exc.code == UNAUTHORIZED:
                raise
            self._leave(rule, f"MongoDB cannot count its documents: {excerpt(exc)}")
            return
        if count:
            call = "migrate_pending()" if rule.scope == "lazy" else "migrate_all()"
            come = "came while it was sealed" if again else "still match"
            verb = come if count > 1 else come.replace("still match", "still matches")
            noun = "document" if count == 1 else "documents"
            self._leave(rule, f"{count:,} {noun} {verb}; {call} brings them up to date", count)

    def _leave(self, rule: BoundRule, reason: str, remaining: int | None = None) -> None:
        self._reasons[rule.name] = NotSealed(rule.name, rule.scope, reason, remaining)

    def _drop_the_fed(self, rules: Sequence[BoundRule], validator: Validator) -> None:
        """Leave the rules under whose targets one that is not sealed may bring documents."""
        sealed = {
            (id(plan), name)
            for plan in self._plans
            for name in _sealed_now(self._collection, plan, validator)
        }
        while True:
            going = [rule for rule in rules if rule.name not in self._reasons]
            at_work = [
                (plan, other)
                for plan in self._plans
                for other in (*plan.lazy, *plan.bulk)
                if (id(plan), other.name) not in sealed
                and not (self._is_own(plan) and other.name in {rule.name for rule in going})
            ]
            left = len(going)
            for rule in going:
                for plan, other in at_work:
                    if self._feeds(plan, other, rule):
                        self._leave(
                            rule,
                            f"{other.name}, which is not sealed, may bring documents under its "
                            "target again, which a seal would refuse; seal that as well",
                        )
                        left -= 1
                        break
            if left == len(going):
                return

    def _is_own(self, plan: Plan) -> bool:
        """Return whether a plan is that of the handler, maybe for more classes than it is."""
        return plan.handler_class is self._plan.handler_class and plan.doc_class is (
            self._plan.doc_class
        )

    def _feeds(self, plan: Plan, rule: BoundRule, sealed: BoundRule) -> bool:
        """Return whether a rule may bring a document under the target of one that is sealed."""
        if rule.writes is None:
            return True
        crosses = any(path.partition(".")[0] == "_cls" for path in rule.writes)
        if crosses and self._plan.class_filter is not None:
            return True
        if not self._is_own(plan):
            # The handlers of a collection have no document in common.
            return crosses
        return rule.name != sealed.name and may_lead_to(rule, sealed)

    def _sealed(self, validator: Validator, rules: list[BoundRule]) -> Validator:
        """Set the validator: first so that it refuses, and then so that it counts.

        :raises SealError: it cannot be changed.
        """
        collection = self._collection
        names = {(self._plan.model_name, rule.name) for rule in rules}
        # A seal of a former target of the same rule goes.
        kept = [seal for seal in validator.seals if (seal.model, seal.rule) not in names]
        try:
            self._protect(validator, kept, rules)
            for rule in rules:
                if rule.name not in self._reasons:
                    self._count(rule, again=True)
            self._drop_the_fed(rules, validator)
            proven = [self._seals[rule.name] for rule in rules if rule.name not in self._reasons]
            again = [
                seal
                for seal in validator.seals
                if seal not in kept and seal.rule not in {each.rule for each in proven}
            ]
            _set(collection, validator.with_seals([*kept, *again, *proven]))
        except BaseException:
            # Half of it would do no harm, but nobody has asked for it.
            with suppress(PyMongoError, SealError):
                set_validator(collection, validator.with_seals(validator.seals))
            raise
        found = _validator_of(collection)
        if not set(proven) <= set(found.counting):
            raise _refused(
                collection, "its validator was changed by somebody else meanwhile; call it again"
            )
        return found

    def _protect(
        self, validator: Validator, kept: Sequence[Seal], rules: Sequence[BoundRule]
    ) -> None:
        """Let the validator refuse the old shapes; leave the rules that it cannot hold."""
        pending = {rule.name: replace(self._seals[rule.name], proven=False) for rule in rules}
        try:
            _set(self._collection, validator.with_seals([*kept, *pending.values()]))
            return
        except OperationFailure as exc:
            if is_away(exc):
                raise
            refusal = exc
        # It says not which: each is tried by itself.
        held: list[Seal] = []
        for rule in rules:
            try:
                _set(self._collection, validator.with_seals([*kept, *held, pending[rule.name]]))
            except OperationFailure as exc:
                if is_away(exc):
                    raise
                self._leave(rule, f"MongoDB refuses its target in a validator: {excerpt(exc)}")
            else:
                held.append(pending[rule.name])
        if not held and len(rules) > 1:
            logger.debug("%s: %s", self._collection.full_name, excerpt(refusal))

    def _warnings(self, validator: Validator) -> list[str]:
        sealed = _sealed_now(self._collection, self._plan, validator)
        found = []
        for rule in (*self._plan.lazy, *self._plan.bulk):
            if rule.name not in sealed:
                continue
            fields = _left_out(rule, self._plan.doc_class)
            if fields:
                found.append(
                    f"{rule.name}: a {self._plan.model_name} without {' and '.join(fields)} cannot "
                    "be saved any more, because MongoEngine leaves out what is None, which its "
                    "target looks for; give the field a default, or required=True"
                )
            feeding = [
                other.name
                for plan in self._plans
                for other in (*plan.lazy, *plan.bulk)
                if not (self._is_own(plan) and other.name in sealed)
                and self._feeds(plan, other, rule)
            ]
            if feeding and rule.name not in self._reasons:
                found.append(
                    f"{rule.name}: {', '.join(feeding)} may bring documents under its target, "
                    "which MongoDB refuses; unseal it until that is finished"
                )
        return found


def _never(rule: BoundRule) -> str | None:
    """Why a rule can never be sealed; `None` if it can."""
    if rule.target is None:
        return "its target needs a document, so nobody knows which ones it matches"
    if rule.once is not None:
        return "it has effects elsewhere, so that it runs for each document once"
    if rule.by_hand:
        return "it writes by itself, so nobody knows when it is finished"
    for name in _names_in(rule.declared.target):
        if name in _NOT_HELD:
            return f"its target uses {name}, and {_NOT_HELD[name]}"
    return None


def _names_in(value: Any) -> list[str]:
    """The operators and system variables that a query names, at any depth."""
    if isinstance(value, Mapping):
        return [
            name
            for key, inner in value.items()
            for name in (*([key] if isinstance(key, str) else []), *_names_in(inner))
        ]
    if isinstance(value, (list, tuple)):
        return [name for inner in value for name in _names_in(inner)]
    if isinstance(value, str) and value.startswith("$$"):
        return [value.partition(".")[0]]
    return []


def _left_out(rule: BoundRule, model: Any) -> list[str]:
    """The fields that the model may leave out, if a document without them matches a rule."""
    if not rule.reads or rule.declared.matcher is None:
        return []
    if rule.declared.matcher.judge({}) is not True:
        return []
    fields = sorted({path.partition(".")[0] for path in rule.reads})
    return fields if all(may_lack(model, name) for name in fields) else []


def _sealed_now(collection: Collection[Any], plan: Plan, validator: Validator) -> frozenset[str]:
    return sealed_rules(plan, validator.counting, collection.codec_options.uuid_representation)


def _report(
    collection: Collection[Any],
    plan: Plan,
    validator: Validator,
    added: Sequence[str],
    not_sealed: Sequence[NotSealed],
    warnings: Sequence[str],
) -> SealReport:
    sealed = _sealed_now(collection, plan, validator)
    return SealReport(
        model=plan.model_name,
        collection=str(collection.full_name),
        sealed=tuple(rule.name for rule in (*plan.lazy, *plan.bulk) if rule.name in sealed),
        added=tuple(added),
        not_sealed=tuple(not_sealed),
        others=tuple(
            seal.name
            for seal in validator.seals
            if not (seal.model == plan.model_name and seal.rule in sealed)
        ),
        warnings=tuple(warnings),
    )
