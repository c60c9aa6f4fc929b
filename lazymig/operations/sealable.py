"""The question whether a rule can be sealed, and the reason where it cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig.engines.access import indexable_in, key_of, on_primary
from lazymig.engines.driver_errors import is_away, waited_too_long
from lazymig.engines.validators import Seal, Validator, seal_of
from lazymig.odm.plans import plans_of
from lazymig.odm.schema import may_lack
from lazymig.odm.sealed import sealed_rules
from lazymig.operations.journal.collection import UNAUTHORIZED
from lazymig.operations.journal.refusals import refusals
from lazymig.raw.json_values import JsonValue
from lazymig.redaction import excerpt
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.cycles import may_lead_to
from lazymig.rules.plan import Plan
from lazymig.rules.rule import Scope

__all__ = ["Candidates", "NotSealed", "sealed_now"]

# By these a document comes to match a target without being written, past every validator.
_TIMES: Final = frozenset({"$$NOW", "$$CLUSTER_TIME"})


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


class Candidates:
    """Rules of one plan that are to be sealed; those that cannot be are left, with the reason.

    :param rules: those that are not sealed yet.
    :param journal: the name of the journal's collection, for what is in quarantine.
    """

    def __init__(
        self,
        collection: Collection[Any],
        plan: Plan,
        rules: Sequence[BoundRule],
        journal: str,
    ) -> None:
        self._collection = collection
        self._plan = plan
        self._rules = rules
        self._journal = journal
        self._plans = plans_of(plan.doc_class)
        if not any(map(self._is_own, self._plans)):
            self._plans.append(plan)
        self._seals: dict[str, Seal] = {}
        self._left: dict[str, NotSealed] = {}

    @property
    def going(self) -> list[BoundRule]:
        """The rules that nothing is known against."""
        return [rule for rule in self._rules if rule.name not in self._left]

    @property
    def left(self) -> list[NotSealed]:
        """The rules that are not sealed, in order."""
        return [self._left[rule.name] for rule in self._rules if rule.name in self._left]

    def seal_of(self, rule: BoundRule) -> Seal:
        """The seal of one of the rules that go."""
        return self._seals[rule.name]

    def look(self) -> None:
        """Find out which rules can be sealed by themselves.

        :raises pymongo.errors.PyMongoError: the connection, or the right to read.
        """
        quarantined = self._quarantined()
        options = self._collection.codec_options
        for rule in self._rules:
            reason = _never(rule)
            if reason is None:
                try:
                    seal = seal_of(self._plan.class_filter, rule, options.uuid_representation)
                except Exception as exc:  # noqa: BLE001 - an encoder may raise anything
                    reason = f"BSON cannot encode its target: {excerpt(exc)}"
                else:
                    self._seals[rule.name] = seal
            if reason is None:
                self.count(rule)
            else:
                self.leave(rule, reason)
            if rule.name not in self._left and quarantined[rule.name]:
                self.leave(
                    rule,
                    f"{quarantined[rule.name]:,} of its documents are in quarantine; lazymig "
                    "quarantine list shows them",
                )

    def _quarantined(self) -> Counter[str]:
        found = refusals(self._collection, self._plan, self._journal)
        return Counter(
            name for name, _ in {(each.rule, key_of(each.document_id)) for each in found}
        )

    def count(self, rule: BoundRule, *, again: bool = False) -> None:
        """Leave a rule that a document matches."""
        reader = on_primary(self._collection)
        try:
            count = reader.count_documents(indexable_in(reader, self._plan.query_of(rule)))
        except OperationFailure as exc:
            if is_away(exc) or waited_too_long(exc) or exc.code == UNAUTHORIZED:
                raise
            self.leave(rule, f"MongoDB cannot count its documents: {excerpt(exc)}")
            return
        if count:
            call = "migrate_pending()" if rule.scope == "lazy" else "migrate_all()"
            one = count == 1
            what = "1 document" if one else f"{count:,} documents"
            match = "still matches" if one else "still match"
            come = "came while it was sealed" if again else match
            them = "it" if one else "them"
            self.leave(rule, f"{what} {come}; {call} brings {them} up to date", count)

    def leave(self, rule: BoundRule, reason: str, remaining: int | None = None) -> None:
        """Take a rule for one that is not sealed."""
        self._left[rule.name] = NotSealed(rule.name, rule.scope, reason, remaining)

    def leave_the_fed(self, validator: Validator) -> None:
        """Leave the rules under whose targets one that is not sealed may bring documents."""
        sealed = self._sealed(validator)
        left = -1
        while left != len(self._left):
            left = len(self._left)
            names = {rule.name for rule in self.going}
            at_work = [
                (plan, other)
                for plan, other in self._all()
                if (id(plan), other.name) not in sealed
                and not (self._is_own(plan) and other.name in names)
            ]
            for rule in self.going:
                for plan, other in at_work:
                    if self._feeds(plan, other, rule):
                        self.leave(
                            rule,
                            f"{other.name}, which is not sealed, may bring documents under its "
                            "target again, which a seal would refuse; it can be sealed together "
                            "with that, or when that is gone",
                        )
                        break

    def _sealed(self, validator: Validator) -> set[tuple[int, str]]:
        """The rules of all handlers of the collection that are sealed."""
        return {
            (id(plan), name)
            for plan in self._plans
            for name in sealed_now(self._collection, plan, validator)
        }

    def _all(self) -> list[tuple[Plan, BoundRule]]:
        return [(plan, rule) for plan in self._plans for rule in (*plan.lazy, *plan.bulk)]

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

    def warnings(self, validator: Validator) -> list[str]:
        """What may go wrong with the seals that are there."""
        sealed = sealed_now(self._collection, self._plan, validator)
        of_all = self._sealed(validator)
        found = []
        for rule in (*self._plan.lazy, *self._plan.bulk):
            if rule.name not in sealed:
                continue
            fields = _left_out(rule, self._plan.doc_class)
            if fields:
                found.append(
                    f"{rule.name}: a document of {self._plan.model_name} without "
                    f"{' and '.join(fields)} cannot be saved any more, because MongoEngine "
                    "leaves out what is None, which its target looks for; give the field a "
                    "default, or required=True"
                )
            feeding = [
                other.name
                for plan, other in self._all()
                if (id(plan), other.name) not in of_all
                and not (self._is_own(plan) and other.name in sealed)
                and self._feeds(plan, other, rule)
            ]
            if feeding:
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
    times = _TIMES.intersection(_variables(rule.declared.target))
    if times:
        return f"its target asks for {min(times)}: a document may come to match by the time alone"
    return None


def _variables(value: Any) -> Iterator[str]:
    """The system variables, and those of `$let`, that a query names, at any depth."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from _variables(inner)
    elif isinstance(value, str) and value.startswith("$$"):
        yield value.partition(".")[0]


def _left_out(rule: BoundRule, model: Any) -> list[str]:
    """The fields that the model may leave out, if a document without them matches a rule."""
    if not rule.reads or rule.declared.matcher is None:
        return []
    if rule.declared.matcher.judge({}) is not True:
        return []
    fields = sorted({path.partition(".")[0] for path in rule.reads})
    return fields if all(may_lack(model, name) for name in fields) else []


def sealed_now(collection: Collection[Any], plan: Plan, validator: Validator) -> frozenset[str]:
    """The names of the rules of a plan that are sealed by a validator."""
    return sealed_rules(plan, validator.counting, collection.codec_options.uuid_representation)
