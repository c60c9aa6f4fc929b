"""Documents of a part that do not load or validate, and what a load does to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from lazymig.engines.access import Raw, by_ids
from lazymig.engines.loads.lazy import Failure, refresh, rescue
from lazymig.engines.part import Part
from lazymig.engines.reading.decoding import named
from lazymig.engines.refusals import undecodable
from lazymig.engines.report import Tally
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Family

__all__ = ["rescue_all", "rescue_broken"]

# Documents that are rebuilt through the model at once, each batch within `lazy_timeout`.
_BATCH: Final = 100


def rescue_broken(
    part: Part, rules: Sequence[BoundRule], is_broken: Callable[[Raw], bool]
) -> dict[str, Tally]:
    """Do what a load does to the documents of a part that do not load or validate.

    :param rules: the rules whose documents show themselves only by that.
    :param is_broken: whether a raw document fails to load, or to validate, through the model.
    :return: what each lazy rule has done, by its name.
    """
    counts = {rule.name: Tally() for rule in part.plan.lazy}
    for documents in part.stream(None):
        broken = [document for document in documents if is_broken(document)]
        for name, tally in rescue_all(part, broken, is_broken, rules[0]).items():
            counts[name].add(tally)
        if sum(len(tally.errors) for tally in counts.values()) >= part.most_errors:
            break
    return counts


def rescue_all(
    part: Part, documents: Sequence[Raw], is_broken: Callable[[Raw], bool], blamed: BoundRule
) -> dict[str, Tally]:
    """Do what a load does to documents that do not load or validate.

    First the rules that a match starts are applied, and if that does not help all lazy rules.

    :param blamed: the rule that has the errors which name none.
    :return: what each lazy rule has done, by its name; those that did nothing are left out.
    """
    family = Family(part.plan, {})
    counts: dict[str, Tally] = {}
    documents, nameless = named(documents)
    if nameless:
        counts[blamed.name] = Tally(
            errors=[undecodable(blamed, each.stored_id, each.error) for each in nameless]
        )
    for first in range(0, len(documents), _BATCH):
        batch = documents[first : first + _BATCH]
        if part.before_write is not None:
            part.before_write(by_ids([document["_id"] for document in batch]))
        applied: dict[Any, list[str]] = {}
        fresh = refresh(part.collection, batch, family, applied)
        _count_applied(counts, applied, fresh, blamed)
        broken = [
            document for document in fresh if isinstance(document, Mapping) and is_broken(document)
        ]
        applied.clear()
        rescued = rescue(part.collection, broken, family, applied=applied) if broken else []
        _count_applied(counts, applied, rescued, blamed)
    return counts


def _count_applied(
    counts: dict[str, Tally],
    applied: Mapping[Any, Sequence[str]],
    documents: Sequence[Raw | Failure | None],
    blamed: BoundRule,
) -> None:
    for names in applied.values():
        for name in names:
            tally = counts.setdefault(name, Tally())
            tally.matched += 1
            tally.modified += 1
    for document in documents:
        if isinstance(document, Failure):
            name = document.error.rule or blamed.name
            counts.setdefault(name, Tally()).errors.append(document.refusal)
