"""A batch of raw documents, brought up to date in MongoDB and read again.

Knows neither MongoEngine nor how documents are built from what it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, TypeAlias

import bson
from bson.codec_options import CodecOptions
from pymongo.collection import Collection

from lazymig.engines.access import Positional, Raw, all_of, by_ids, key_of
from lazymig.engines.loads.failover import outlast_failover
from lazymig.engines.loads.failure import Failure
from lazymig.engines.loads.projecting import carries_whole
from lazymig.engines.reading.decoding import Undecoded
from lazymig.engines.store import Store
from lazymig.query.joining import any_of
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.dependencies import footprint_of
from lazymig.rules.plan import Family, Plan
from lazymig.rules.repetition import may_be_repeated

if TYPE_CHECKING:
    from lazymig.engines.loads.rounds import Reading, Stale

__all__ = ["Failure", "find_stale_in", "refresh", "refresh_partial", "rescue"]

_Place: TypeAlias = Collection[Any] | Store
_Question: TypeAlias = tuple[Plan, int, BoundRule]
_WritesNothing: TypeAlias = Callable[[Family], bool]


def _never(_family: Family) -> bool:
    return False


def refresh(
    place: _Place,
    documents: Sequence[Raw],
    family: Family,
    applied: dict[Any, list[str]] | None = None,
    *,
    unwritten: _WritesNothing = _never,
) -> Sequence[Raw | Failure | None]:
    """Bring the whole documents of a batch up to date.

    :param place: the collection, or its store, where commands are to join a session.
    :param documents: raw documents as they came from there, not projected.
    :param applied: filled with the names of the rules that were applied, by key of the `_id`.
    :param unwritten: asked, if documents are stale, whether they are only to be shown.
    :return: the same object if nothing was stale. Otherwise, for each document, its fresh
        contents, a `Failure` if it could not be migrated, `None` if it is gone.
    :raises pymongo.errors.PyMongoError: the connection, the rights; nothing is half-done then.
    """
    stale, questions = _judge_all(documents, family)
    if not stale and not questions:
        return documents
    # Only a process that meets an old document, or may have met one, pays for the import.
    from lazymig.engines.loads.rounds import Reading, Rounds  # noqa: PLC0415

    store = Store.of(place)

    def work() -> Sequence[Raw | Failure | None]:
        current, found = _answered_now(store, documents, family, stale, questions)
        if not found:
            return current
        if unwritten(family):
            return _show(store, current, family, Reading(), found)
        again = find_stale_in(store, family)
        return Rounds(store, current, family, again, Reading(), applied).run(found)

    return outlast_failover(store.collection, family.plans, work)


def refresh_partial(
    place: _Place,
    documents: Sequence[Raw],
    family: Family,
    asked: Mapping[Plan, Plan],
    projection: Mapping[str, Any] | None,
    positional: Positional | None = None,
    *,
    unwritten: _WritesNothing = _never,
) -> Sequence[Raw | Failure | None]:
    """Bring the projected documents of a batch up to date.

    Where they do not show which of them are stale, MongoDB says so.

    :param documents: raw documents with `_id`.
    :param asked: for each plan of the family that the projection concerns, the same plan with
        the rules to ask for.
    :param projection: the projection of `documents`, used again for what is read anew.
    :param positional: the filter that a positional projection needs.
    :param unwritten: as in `refresh`.
    :return: as `refresh` does.
    """
    judged = _judge_projected(documents, family, asked, projection or {})
    if judged == {}:
        return documents
    # As in `refresh`.
    from lazymig.engines.loads.rounds import Reading, Rounds  # noqa: PLC0415

    store = Store.of(place)
    old = any_of([plan.query_of_any(narrowed.starting) for plan, narrowed in asked.items()])
    reading = Reading(projection, positional, old)

    def find_stale(batch: Sequence[Raw]) -> Stale:
        return _ask_for_stale(store, batch, family, asked)

    def work() -> Sequence[Raw | Failure | None]:
        current, stale = documents, judged
        if stale is None:
            current, stale = _current(store, documents, family, asked, reading)
        if not stale:
            return current
        if unwritten(family):
            return _show(store, current, family, reading, stale)
        return Rounds(store, current, family, find_stale, reading).run(stale)

    return outlast_failover(store.collection, family.plans, work)


def rescue(
    place: _Place,
    documents: Sequence[Raw],
    family: Family,
    projection: Mapping[str, Any] | None = None,
    applied: dict[Any, list[str]] | None = None,
    positional: Positional | None = None,
    *,
    unwritten: _WritesNothing = _never,
) -> list[Raw | Failure | None]:
    """Try all lazy rules, in order, on documents that could not be loaded or are not valid.

    :param documents: raw documents with `_id`.
    :param projection: the projection of `documents`, if any.
    :param applied: filled with the names of the rules that were applied, by key of the `_id`.
    :param positional: the filter that a positional projection needs.
    :param unwritten: as in `refresh`.
    :return: as `refresh` does; never the same object.
    """
    # As in `refresh`.
    from lazymig.engines.loads.rounds import Reading, Rounds  # noqa: PLC0415

    store = Store.of(place)
    failing = {
        plan: dict.fromkeys(range(len(documents)) if indexes is None else indexes, plan.lazy)
        for plan, indexes in family.split(documents)
    }

    def work() -> list[Raw | Failure | None]:
        again = (lambda _: {}) if projection else find_stale_in(store, family)
        reading = Reading(projection, positional)
        if unwritten(family):
            return _show(store, documents, family, reading, failing, after_error=True)
        return Rounds(store, documents, family, again, reading, applied).run(
            failing, after_error=True
        )

    rules = [rule for plan in family.plans for rule in plan.lazy]
    if not unwritten(family) and not all(may_be_repeated(rule, "lazy") is True for rule in rules):
        # On a failure a rule is applied that need not end its match: nobody knows if it was.
        return work()
    return outlast_failover(store.collection, family.plans, work)


def _show(
    store: Store,
    documents: Sequence[Raw],
    family: Family,
    reading: Reading,
    stale: Stale,
    *,
    after_error: bool = False,
) -> list[Raw | Failure | None]:
    """What the stale documents of a batch will be; nothing is written."""
    # Who writes does not pay for what shows.
    if store.is_imitation:
        from lazymig.engines.loads.imitated import show_copies  # noqa: PLC0415

        return show_copies(store, documents, family, reading, stale, after_error=after_error)
    from lazymig.engines.loads.unwritten import Unwritten  # noqa: PLC0415

    return Unwritten(store, documents, family, reading).run(stale, after_error=after_error)


def find_stale_in(store: Store, family: Family) -> Callable[[Sequence[Raw]], Stale]:
    """How the documents of a batch are found, all of them whole, that start a rule."""
    return lambda batch: _answered(store, batch, *_judge_all(batch, family))


def _judge_all(
    documents: Sequence[Raw], family: Family, asked: Mapping[Plan, Plan] | None = None
) -> tuple[Stale, list[_Question]]:
    """The rules that start, judged in memory, and what only MongoDB can say.

    :param asked: as for `refresh_partial`; `None` for all rules.
    """
    stale: dict[Plan, dict[int, list[BoundRule]]] = {}
    questions: list[_Question] = []
    for plan, among in family.split(documents):
        judging = plan if asked is None else asked.get(plan)
        if judging is None:
            continue
        certain, uncertain = _judge(judging, documents, among)
        if certain:
            stale[plan] = certain
        for index, rules in uncertain.items():
            if index not in certain:
                questions.extend((plan, index, rule) for rule in rules)
    return stale, questions


def _judge(
    plan: Plan, documents: Sequence[Raw], among: Sequence[int] | None
) -> tuple[dict[int, list[BoundRule]], dict[int, list[BoundRule]]]:
    """As `Plan.judge`, which knows nothing of documents that cannot be decoded: these are asked."""
    odd = [index for index, each in enumerate(documents) if isinstance(each, Undecoded)]
    if not odd:
        return plan.judge(documents, among)
    concerned = range(len(documents)) if among is None else among
    certain, uncertain = plan.judge(documents, [index for index in concerned if index not in odd])
    for index in odd:
        if index in concerned and "_id" in documents[index]:
            uncertain[index] = list(plan.starting)
    return certain, uncertain


def _answered(
    store: Store, documents: Sequence[Raw], stale: Stale, questions: Sequence[_Question]
) -> Stale:
    """What was judged, with what MongoDB says of the rest; it is asked once, if at all."""
    if not questions:
        return stale
    yes = store.keys_matching(_asking(documents, questions), len(documents))
    return _with_answers(documents, stale, questions, yes)


def _answered_now(
    store: Store,
    documents: Sequence[Raw],
    family: Family,
    stale: Stale,
    questions: Sequence[_Question],
) -> tuple[Sequence[Raw], Stale]:
    """The same of documents that were read before, with those that were migrated meanwhile.

    MongoDB does not find these to be old, but what was read of them is. So what the rules write is
    read again, by the command that finds a document up to date.

    :return: the same object as `documents` if none has changed; and the rules that start.
    """
    if not questions:
        return documents, stale
    from lazymig.engines.loads.rounds import Reading  # noqa: PLC0415

    doubtful = {index: documents[index] for _plan, index, _rule in questions}
    names = _names_written(rule for _plan, _index, rule in questions)
    old = any_of(_asking(documents, questions))
    reading = Reading(None if names is None else dict.fromkeys(names, 1))
    fresh = reading.read(store, doubtful.values(), but=old)
    yes = {key for key in map(_key_in, doubtful.values()) if key not in fresh}
    options = store.collection.codec_options
    changed = {
        index: document
        for index, document in doubtful.items()
        if not isinstance(document, Undecoded)
        and (now := fresh.get(_key_in(document))) is not None
        and (
            isinstance(now, Undecoded)
            or _stored(now, names, options) != _stored(document, names, options)
        )
    }
    if not changed:
        return documents, _with_answers(documents, stale, questions, yes)
    newest = Reading().read(store, changed.values(), but=old)
    yes.update(key for key in map(_key_in, changed.values()) if key not in newest)
    current = [newest.get(_key_in(each), each) if "_id" in each else each for each in documents]
    stale, left = _judge_all(current, family)
    # What was found up to date is whole now. It is not asked about again, however often others
    # write it: only what the change has put in question is.
    asked = set(questions)
    stale = _with_answers(current, stale, [each for each in left if each in asked], yes)
    return current, _answered(store, current, stale, [each for each in left if each not in asked])


def _stored(document: Raw, names: AbstractSet[str] | None, options: CodecOptions[Any]) -> bytes:
    """What is stored in some fields: values that are equal in Python may be of other types."""
    if names is not None:
        document = {name: document[name] for name in names if name in document}
    return bson.encode(document, codec_options=options)


def _names_written(rules: Iterable[BoundRule]) -> AbstractSet[str] | None:
    """The names of the fields in which rules write; None where that is not known."""
    names = {"_id"}
    for rule in rules:
        if rule.writes is None:
            return None
        names.update(path.split(".")[0] for path in rule.writes)
    return names


def _asking(documents: Sequence[Raw], questions: Sequence[_Question]) -> list[Raw]:
    """The queries that find which documents start the rules in question."""
    indexes: dict[BoundRule, list[int]] = {}
    for _plan, index, rule in questions:
        indexes.setdefault(rule, []).append(index)
    return [
        all_of(by_ids([documents[index]["_id"] for index in some]), rule.target)
        for rule, some in indexes.items()
    ]


def _with_answers(
    documents: Sequence[Raw], stale: Stale, questions: Sequence[_Question], yes: Container[Any]
) -> Stale:
    """What was judged, and the rules in question of the documents with these keys."""
    found = {plan: dict(matches) for plan, matches in stale.items()}
    for plan, index, rule in questions:
        if _key_in(documents[index]) in yes:
            matches = found.setdefault(plan, {})
            matches[index] = [*matches.get(index, ()), rule]
    return found


def _judge_projected(
    documents: Sequence[Raw],
    family: Family,
    asked: Mapping[Plan, Plan],
    projection: Mapping[str, Any],
) -> Stale | None:
    """The rules that start, judged by what was read; `None` where it does not say."""
    if family.only is None and not carries_whole(projection, ("_cls",)):
        return None
    for plan in asked.values():
        for rule in plan.starting:
            paths = footprint_of(rule, plan.class_filter).conditions
            if paths is None or not carries_whole(projection, paths):
                return None
    stale, questions = _judge_all(documents, family, asked)
    return None if questions else stale


def _current(
    store: Store,
    documents: Sequence[Raw],
    family: Family,
    asked: Mapping[Plan, Plan],
    reading: Reading,
) -> tuple[Sequence[Raw], Stale]:
    """The documents of a batch, as they are now where they are up to date, and the stale ones.

    One that was old when it was read may be up to date when MongoDB is asked. So what is up to date
    is read again, by the command that finds it so; what it does not find is old, or gone.

    :return: the same object as `documents` if none is up to date.
    """
    named = [document for document in documents if "_id" in document]
    if reading.positional is None:
        fresh = reading.read(store, named, but=reading.old)
        old = {key for key in map(_key_in, named) if key not in fresh}
        stale = _starting(documents, family, asked, old)
    else:
        # A filter for `$` takes no further condition of any kind.
        stale = _ask_for_stale(store, documents, family, asked)
        left = {index for matches in stale.values() for index in matches}
        rest = [document for index, document in enumerate(documents) if index not in left]
        fresh = reading.read(store, [document for document in rest if "_id" in document])
    current = [
        fresh.get(_key_in(document), document) if "_id" in document else document
        for document in documents
    ]
    return (current if fresh else documents), stale


def _ask_for_stale(
    store: Store, documents: Sequence[Raw], family: Family, asked: Mapping[Plan, Plan]
) -> Stale:
    queries = [
        all_of(
            by_ids([documents[index]["_id"] for index in indexes]),
            plan.query_of_any(asked[plan].starting),
        )
        for plan, indexes in _groups(documents, family, asked)
    ]
    if not queries:
        return {}
    return _starting(documents, family, asked, store.keys_matching(queries, len(documents)))


def _starting(
    documents: Sequence[Raw], family: Family, asked: Mapping[Plan, Plan], old: Container[Any]
) -> Stale:
    """The rules to start for the documents whose keys are among those of old ones."""
    stale = {}
    for plan, indexes in _groups(documents, family, asked):
        found = {
            index: asked[plan].starting for index in indexes if _key_in(documents[index]) in old
        }
        if found:
            stale[plan] = found
    return stale


def _groups(
    documents: Sequence[Raw], family: Family, asked: Mapping[Plan, Plan]
) -> list[tuple[Plan, list[int]]]:
    named = [index for index, document in enumerate(documents) if "_id" in document]
    return [
        (plan, [index for index in named if among is None or index in among])
        for plan, among in family.split(documents)
        if plan in asked
    ]


def _key_in(document: Raw) -> Any:
    return key_of(document["_id"])
