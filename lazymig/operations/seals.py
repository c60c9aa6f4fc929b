"""The sealing of rules: a validator of the collection refuses the old shape from then on."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError, WriteConcernError

from lazymig.engines.access import is_mongomock
from lazymig.engines.driver_errors import is_away, waited_too_long
from lazymig.engines.sessions import check_no_transaction
from lazymig.engines.validators import Seal, Validator, read_validator, set_validator
from lazymig.errors import RunOptionError, SealError
from lazymig.odm.plans import owner_of, plan_for
from lazymig.odm.sealed import forget_seals, learn_seals
from lazymig.operations.journal.collection import UNAUTHORIZED
from lazymig.operations.sealable import Candidates, NotSealed, sealed_now
from lazymig.raw.json_values import JsonValue
from lazymig.redaction import excerpt
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan

__all__ = [
    "SealReport",
    "plan_to_seal",
    "refused_report",
    "seal_rules",
    "seals_in",
    "unseal_rules",
]

# The role of MongoDB that may change a validator, for the error.
_ROLE: Final = "dbAdmin"

# How often the sealing is begun, while others change the validator.
_ATTEMPTS: Final = 5

# Seconds, at most, between the first attempt and the second; later ones are further apart.
_PAUSE: Final = 0.1


class _ChangedMeanwhile(Exception):
    """Somebody else has changed the validator: what was counted under it may be true no more."""


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
    _check_names(names)
    rules = _named(plan, names)
    for attempt in range(_ATTEMPTS):
        # Processes that have begun at once do not go on at once.
        time.sleep(random.uniform(0, _PAUSE * attempt))  # noqa: S311
        with suppress(_ChangedMeanwhile):
            return _Sealing(collection, plan, rules, journal).run()
    raise _refused(collection, "its validator is changed by somebody else meanwhile; call it again")


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
    _check_names(names)
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
        forget_seals(collection)
        learn_seals(collection)
    return tuple(seal.name for seal in wanted)


def plan_to_seal(handler_class: Any, model: Any) -> Plan:
    """The plan for all documents of a handler, whichever of its models is given.

    :raises RuleDefinitionError: a rule is written wrongly for this model.
    """
    if getattr(model, "migration_handler", None) is handler_class:
        model = owner_of(model)
    return plan_for(handler_class, model)


def seals_in(collection: Collection[Any], plan: Plan) -> SealReport:
    """Report what is sealed in a collection, and change nothing.

    :raises SealError: it is mongomock's, or does not exist.
    :raises pymongo.errors.PyMongoError: the connection, or the right to list collections.
    """
    return _report(collection, plan, _validator_of(collection), (), (), ())


def refused_report(
    collection: Collection[Any], plan: Plan, names: Sequence[str] | None, error: SealError
) -> SealReport:
    """What `seal_rules` would report of a collection, had it not raised: nothing more is sealed.

    :param names: the rules that were to be sealed; `None` for all.
    """
    found = SealReport(plan.model_name, str(collection.full_name), (), (), (), (), ())
    with suppress(SealError):
        found = seals_in(collection, plan)
    left = (rule for rule in _named(plan, names) if rule.name not in found.sealed)
    return replace(
        found,
        not_sealed=tuple(NotSealed(rule.name, rule.scope, error.problem) for rule in left),
    )


def _is_named(seal: Seal, model: str, names: Sequence[str]) -> bool:
    return seal.name in names or (seal.model == model and seal.rule in names)


def _check_names(names: Any) -> None:
    if isinstance(names, str):
        raise RunOptionError(f"is the text {names!r}; give a list of names", option="rules")


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
        self._validator = _validator_of(collection)
        _check(collection, self._validator)
        sealed = sealed_now(collection, plan, self._validator)
        new = [rule for rule in rules if rule.name not in sealed]
        self._candidates = Candidates(collection, plan, new, journal)

    def run(self) -> SealReport:
        """Seal what can be sealed."""
        candidates, validator = self._candidates, self._validator
        candidates.look()
        candidates.leave_the_fed(validator)
        if candidates.going or any(not self._stays(seal) for seal in validator.seals):
            validator = self._seal()
        learn_seals(self._collection)
        added = [rule.name for rule in candidates.going]
        warnings = candidates.warnings(validator)
        return _report(self._collection, self._plan, validator, added, candidates.left, warnings)

    def _stays(self, seal: Seal) -> bool:
        """Return whether a seal is none that an earlier call was killed over."""
        return seal.proven or seal.model != self._plan.model_name

    def _seal(self) -> Validator:
        """Set the validator: first so that it refuses, and then so that it counts.

        :raises SealError: it cannot be changed.
        :raises _ChangedMeanwhile: somebody else has changed it, and that is left as it is.
        """
        collection, validator, candidates = self._collection, self._validator, self._candidates
        kept = [seal for seal in validator.seals if self._stays(seal)]
        # MongoDB sets a validator whatever it was, and the counts may have taken long.
        self._see_that_it_is(validator.seals)
        pending: list[Seal] = []
        try:
            pending = self._protect(kept)
            for rule in candidates.going:
                candidates.count(rule, again=True)
            candidates.leave_the_fed(validator)
            proven = [candidates.seal_of(rule) for rule in candidates.going]
            # A seal of what the target was before goes.
            names = {seal.name for seal in proven}
            others = [seal for seal in kept if seal.name not in names]
            # The counts hold only if old documents were refused all the time.
            self._see_that_it_is((*kept, *pending))
            _set(collection, validator.with_seals([*others, *proven]))
        except BaseException:
            # Half of it would do no harm, but nobody has asked for it.
            with suppress(PyMongoError, SealError):
                self._take_out_pending()
            raise
        found = _validator_of(collection)
        if not set(proven) <= set(found.counting):
            raise _ChangedMeanwhile
        return found

    def _see_that_it_is(self, seals: Sequence[Seal]) -> None:
        """See that nobody has changed the validator since it was set to this, or was read.

        :raises _ChangedMeanwhile: somebody has.
        """
        now = _validator_of(self._collection)
        same = now.theirs == self._validator.theirs and now.seals == tuple(seals)
        if not same or not now.refuses:
            raise _ChangedMeanwhile

    def _take_out_pending(self) -> None:
        """Take out what only protects, and leave what others may have set meanwhile."""
        now = _validator_of(self._collection)
        kept = [seal for seal in now.seals if self._stays(seal)]
        if len(kept) < len(now.seals):
            set_validator(self._collection, now.with_seals(kept))

    def _protect(self, kept: Sequence[Seal]) -> list[Seal]:
        """Let the validator refuse the old shapes; leave the rules that it cannot hold.

        :return: the seals of the others, which are set now.
        """
        candidates, validator = self._candidates, self._validator
        pending = {
            rule.name: replace(candidates.seal_of(rule), proven=False) for rule in candidates.going
        }
        try:
            _set(self._collection, validator.with_seals([*kept, *pending.values()]))
        except OperationFailure as exc:
            if is_away(exc):
                raise
        else:
            return list(pending.values())
        # MongoDB does not say which one it refuses: each is tried by itself.
        held: list[Seal] = []
        for rule in candidates.going:
            seals = [*kept, *held, pending[rule.name]]
            try:
                _set(self._collection, validator.with_seals(seals))
            except OperationFailure as exc:
                if is_away(exc):
                    raise
                problem = f"MongoDB refuses its target in a validator: {excerpt(exc)}"
                candidates.leave(rule, problem)
            else:
                held.append(pending[rule.name])
        return held


def _check(collection: Collection[Any], validator: Validator) -> None:
    """See that a collection can have a validator, and that it refuses.

    :raises SealError: it does not.
    """
    if validator.kind != "collection":
        kind = {"timeseries": "time-series collection"}.get(validator.kind, validator.kind)
        raise _refused(collection, f"is a {kind}, which has no validator")
    if collection.database.name in ("admin", "config", "local"):
        raise _refused(collection, "is in a database of MongoDB's own, which has no validators")
    if not validator.refuses:
        level, action = validator.level or "strict", validator.action or "error"
        raise _refused(
            collection,
            f"its validationLevel is {level!r} and its validationAction {action!r}, with which "
            "MongoDB does not refuse every invalid document; set them to 'strict' and 'error' by "
            "collMod, and seal then",
        )


def _report(
    collection: Collection[Any],
    plan: Plan,
    validator: Validator,
    added: Sequence[str],
    not_sealed: Sequence[NotSealed],
    warnings: Sequence[str],
) -> SealReport:
    sealed = sealed_now(collection, plan, validator)
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
