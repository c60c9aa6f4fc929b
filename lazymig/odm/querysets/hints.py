"""Hints of indexes that do not hold every document.

A sparse or partial index answers only for the documents that are in it. While a rule is pending,
documents are missing there that belong into it once they are migrated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final

from pymongo.errors import OperationFailure

from lazymig.engines.deadline import Deadline

__all__ = ["HintedIndex", "hinted_index", "hinted_paths"]

# The names that MongoDB gives to ordinary indexes by itself, such as "name_1_age_-1".
_DEFAULT_NAME: Final = re.compile(r"(?:^|_)(.+?)_-?1(?=_|$)")


@dataclass(frozen=True, slots=True)
class HintedIndex:
    """An index that a query has to use and that cannot answer for every stored document.

    :param paths: what decides whether, and where, a document is in it.
    :param holds: the query for the documents that it holds; `None` if no query says so exactly.
    """

    paths: frozenset[str]
    holds: Mapping[str, Any] | None


def hinted_paths(document: Any, hint: Any) -> frozenset[str] | None:
    """Return the paths of a hinted index as far as the hint and the model show them, at no cost.

    :param document: the model, whose `meta` may declare the index as partial.
    :return: `None` if the hint is the name of an index and does not show its keys.
    """
    if hint == "_id_":
        names = ["_id"]
    elif isinstance(hint, str):
        names = _DEFAULT_NAME.findall(hint) if _DEFAULT_NAME.sub("", hint) == "" else []
        if not names:
            return None
    else:
        names = [name for name, _ in _keys_of(hint)]
    paths = set(names)
    for spec in document._meta.get("index_specs") or ():
        if [name for name, _ in _keys_of(spec.get("fields", ()))] == names:
            paths.update(_paths_in(spec.get("partialFilterExpression") or {}))
    return frozenset(paths)


def hinted_index(collection: Any, hint: Any) -> HintedIndex | None:
    """Return what a hint means for old documents; `None` where the index holds them all.

    The index is looked up in the database, which takes one command.

    :param hint: the name of an index, or its keys.
    """
    keys = None if isinstance(hint, str) else _keys_of(hint)
    if keys is not None and any(name == "$natural" for name, _ in keys):
        return None
    try:
        # In a context of its own: a transaction that is bound to this one refuses the command.
        known = Context().run(_indexes_of, collection, Deadline.of(collection, None))
    except OperationFailure:
        # A view, for one: MongoDB says in its own words what is wrong with the hint.
        return None
    if keys is None:
        found = [known[hint]] if hint in known else []
    else:
        found = [index for index in known.values() if _keys_of(index["key"]) == keys]
    limits = [limit for index in found if (limit := _limit_of(index)) is not None]
    if len(limits) > 1:
        return HintedIndex(frozenset().union(*(limit.paths for limit in limits)), None)
    return limits[0] if limits else None


def _indexes_of(collection: Any, deadline: Deadline) -> Mapping[str, Mapping[str, Any]]:
    with deadline.within():
        known: Mapping[str, Mapping[str, Any]] = collection.index_information()
        return known


def _keys_of(keys: Any) -> list[tuple[str, Any]]:
    """The keys of an index in any of PyMongo's notations."""
    pairs: Sequence[Any] = list(keys.items()) if isinstance(keys, Mapping) else keys
    return [(pair, 1) if isinstance(pair, str) else (pair[0], pair[1]) for pair in pairs]


def _limit_of(index: Mapping[str, Any]) -> HintedIndex | None:
    keys = _keys_of(index["key"])
    names = [name for name, _ in keys]
    partial = index.get("partialFilterExpression")
    if any(direction not in (1, -1) for _, direction in keys) or "$**" in "".join(names):
        # Text, 2d, 2dsphere, hashed and wildcard indexes take only queries of certain forms.
        return HintedIndex(frozenset(name.partition(".$**")[0] for name in names), None)
    if partial is None and not index.get("sparse"):
        return None
    holds = partial if partial is not None else _some_exist(names)
    paths = frozenset(names) | frozenset(_paths_in(partial or {}))
    return HintedIndex(paths, None if index.get("collation") else holds)


def _some_exist(names: Sequence[str]) -> dict[str, Any]:
    conditions = [{name: {"$exists": True}} for name in names]
    return conditions[0] if len(conditions) == 1 else {"$or": conditions}


def _paths_in(query: Mapping[str, Any]) -> list[str]:
    paths: list[str] = []
    for name, value in query.items():
        if name.startswith("$"):
            for part in value if isinstance(value, (list, tuple)) else ():
                paths.extend(_paths_in(part))
        else:
            paths.append(name)
    return paths
