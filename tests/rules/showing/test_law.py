"""The law of showing: the stages of rules, held against the rules one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import bson
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.database import Database
from pymongo.errors import WriteError

from lazymig.raw.paths import root
from lazymig.rules.showing.shown import CannotShow, ShownRule, shown_update
from lazymig.rules.showing.stages import MARK, stages_of
from tests.rules.showing.rule_cases import PATHS, Rule, documents, rules

Raw = dict[str, Any]

LONG = settings().max_examples > settings.get_profile("default").max_examples
EXAMPLES = 10_000 if LONG else 300


def _shown(drawn: Sequence[Rule], seen: Counter[str]) -> tuple[list[Rule], list[ShownRule]]:
    """The rules that can be shown."""
    kept: list[Rule] = []
    shown: list[ShownRule] = []
    for number, rule in enumerate(drawn):
        try:
            shown.append(shown_update(f"rule {number}", rule.target, rule.update))
        except CannotShow as refusal:
            seen["cannot"] += 1
            seen[refusal.reason[:40]] += 1
            continue
        seen["shown"] += 1
        kept.append(rule)
    return kept, shown


def _store(database: Database[Raw], drawn: Sequence[Raw]) -> None:
    database.t.delete_many({})
    database.t.insert_many([{"_id": number, **one} for number, one in enumerate(drawn)])


def _migrate(database: Database[Raw], kept: Sequence[Rule], count: int) -> set[int]:
    """Apply the rules, to each document until one is refused; give those of which one was."""
    refused: set[int] = set()
    for target, update in kept:
        for number in set(range(count)) - refused:
            try:
                database.t.update_one({"$and": [{"_id": number}, target]}, update)
            except WriteError:
                refused.add(number)
    return refused


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _canonical(value[name]) for name in sorted(value)}
    return [_canonical(one) for one in value] if isinstance(value, list) else value


def _bytes(document: Mapping[str, Any]) -> bytes:
    return bson.encode(_canonical(document))


def test_the_stages_leave_what_the_rules_leave(database: Database[Raw]) -> None:
    """Each document is shown as the rules leave it, byte for byte, or named for settling."""
    seen: Counter[str] = Counter()

    @settings(deadline=None, max_examples=EXAMPLES)
    @given(st.lists(documents, min_size=6, max_size=6), rules)
    def check(drawn: list[Raw], given: list[Rule]) -> None:
        kept, shown = _shown(given, seen)
        _store(database, drawn)
        found = {one["_id"]: one for one in database.t.aggregate(stages_of(shown, marks=True))}
        plain = {one["_id"]: one for one in database.t.aggregate(stages_of(shown))}
        before = {one["_id"]: one for one in database.t.find()}
        refused = _migrate(database, kept, len(drawn))
        for stored in database.t.find():
            number = stored["_id"]
            note = found[number].pop(MARK, None)
            assert MARK not in plain[number]
            assert _bytes(plain[number]) == _bytes(found[number])
            if note is not None:
                assert note["unshown"] in {one.name for one in shown}
                seen["unknown"] += 1
                continue
            assert _bytes(found[number]) == _bytes(stored), (kept, before[number])
            seen["refused" if number in refused else "known"] += 1
            seen["changed"] += stored != before[number]

    check()
    assert seen["shown"] >= 9 * seen["cannot"], seen
    assert seen["known"] >= 12 * seen["unknown"], seen
    assert seen["refused"] >= EXAMPLES // 20, seen
    assert seen["changed"] >= EXAMPLES, seen


def test_what_is_read_is_right_whatever_is_left_out(database: Database[Raw]) -> None:
    """Whatever reads some paths alone gets what it gets of whole documents, marks included."""

    @settings(deadline=None, max_examples=EXAMPLES)
    @given(
        st.lists(documents, min_size=6, max_size=6),
        rules,
        st.frozensets(st.sampled_from(PATHS), min_size=1, max_size=2),
    )
    def check(drawn: list[Raw], given: list[Rule], reads: frozenset[str]) -> None:
        _, shown = _shown(given, Counter())
        _store(database, drawn)
        wanted = {"$project": {name: f"${name}" for name in map(root, reads)}}
        whole = database.t.aggregate([*stages_of(shown, marks=True)])
        pruned = stages_of(shown, reads, marks=True)
        marked = {one["_id"]: one.get(MARK) for one in database.t.aggregate(pruned)}
        parts = {one["_id"]: one for one in database.t.aggregate([*pruned, wanted])}
        for one in whole:
            number = one["_id"]
            # A rule that nobody reads, nor a later one, may be left out with its marks.
            assert marked[number] in (None, one.get(MARK))
            kept = {name: one[name] for name in {"_id", *map(root, reads)} if name in one}
            assert _bytes(parts[number]) == _bytes(kept)

    check()
