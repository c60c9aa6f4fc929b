"""The static rules that wait to be sent, and several of them as one update.

Each update of a document costs the server the same, whatever it sets. So rules that have nothing to
do with each other are written together: the filter demands the targets of all of them, and what it
does not find is left to the rules one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import UpdateMany

from lazymig.engines.access import Raw, all_of, by_ids
from lazymig.engines.reading.decoding import Undecoded, judge
from lazymig.engines.store import Store
from lazymig.raw.paths import model_path, overlaps, root
from lazymig.rules.bound_rule import BoundRule
from lazymig.updates.operators import OPERATORS

__all__ = ["Queued", "merged"]


@dataclass(frozen=True, slots=True)
class Queued:
    """A static rule that ends its match, with its update as it is now."""

    rule: BoundRule
    update: Any
    array_filters: Any

    def for_documents(self, store: Store, document_ids: Sequence[Any]) -> UpdateMany:
        """The update of those of the documents that the rule matches."""
        query = store.query_of(self.rule, document_ids)
        return UpdateMany(query, self.update, array_filters=self.array_filters)


def merged(
    store: Store,
    queue: Sequence[Queued],
    documents: Sequence[Raw],
    matches: Sequence[Sequence[BoundRule]],
) -> tuple[list[UpdateMany], int] | None:
    """Updates that do for each document what the rules that match it do one after the other.

    :param documents: whole raw documents.
    :param matches: the rules that each of them is known to match; there may be others.
    :return: the updates, with the number of documents that they find if none was changed since it
        was read; `None` where they would differ from the rules, or be more than these.
    """
    if len(queue) < 2 or not _are_apart(queue):
        return None
    if any(isinstance(document, Undecoded) for document in documents):
        return None
    matching: dict[int, list[int]] = {}
    for number, entry in enumerate(queue):
        rule = entry.rule
        assert rule.matcher is not None
        for place in rule.matcher.screen(documents):
            verdict = rule in matches[place] or judge(rule.matcher, documents[place])
            if verdict is None:
                return None
            if verdict:
                matching.setdefault(place, []).append(number)
    groups: dict[tuple[int, ...], list[Any]] = {}
    for place, numbers in matching.items():
        groups.setdefault(tuple(numbers), []).append(documents[place]["_id"])
    if len(groups) > len(queue):
        return None
    updates = [
        _as_one(store, [queue[number] for number in numbers], ids)
        for numbers, ids in groups.items()
    ]
    return updates, len(matching)


def _as_one(store: Store, entries: Sequence[Queued], ids: Sequence[Any]) -> UpdateMany:
    update: dict[str, dict[str, Any]] = {}
    for entry in entries:
        for operator, fields in entry.update.items():
            update.setdefault(operator, {}).update(fields)
    targets = [entry.rule.target for entry in entries]
    return UpdateMany(all_of(by_ids(ids), store.class_filter, *targets), update)


def _are_apart(queue: Sequence[Queued]) -> bool:
    """Return whether it makes no difference if the rules are applied at once.

    None writes what a later one reads. No two write into one top-level field: the order of new
    fields in a sub-document would be another.
    """
    roots: set[str] = {"_cls"}
    written: list[str] = []
    for entry in queue:
        paths, reads = _paths_of(entry), entry.rule.reads
        if paths is None or reads is None:
            return False
        own = set(map(root, paths))
        if not roots.isdisjoint(own):
            return False
        if any(overlaps(path, read) for path in written for read in reads):
            return False
        roots |= own
        written.extend(paths)
    return True


def _paths_of(entry: Queued) -> list[str] | None:
    """What an update by operators writes; `None` if places in lists are among it."""
    if entry.array_filters or not isinstance(entry.update, Mapping):
        return None
    paths: list[str] = []
    for operator, fields in entry.update.items():
        for path, value in fields.items():
            paths.append(path)
            if OPERATORS[operator].moves:
                paths.append(value)
    return paths if all(model_path(path) == path for path in paths) else None
