"""A chunk that was broken off outside of a transaction: what it left is learned from the rule.

Its pre-images are in the backup, and what it has made of them is not: the runner was killed, or
lost its server, before it could note that. So that a restore can know the run's own writes from
those of others, the rule is applied to copies of the pre-images, in a scratch collection. A
document is the run's if it is, byte for byte, what the rule has made of the copy.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig.engines.access import Description, describe, is_mongomock
from lazymig.engines.bulk import Work
from lazymig.engines.scratch import scratch_like
from lazymig.operations.backup.files import MISSING, by_elements, digest, raw_batches
from lazymig.operations.backup.writer import BackupWriter
from lazymig.raw.elements import RawDocument, scanned
from lazymig.redaction import excerpt
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan
from lazymig.rules.rule import Scope

__all__ = ["seal_unsealed"]

logger = logging.getLogger(__name__)

# Copies that are in the scratch collection at once, and their bytes.
_BATCH = 1000
_BATCH_BYTES = 1 << 24

_PreImage = tuple[bytes, bytes]


def seal_unsealed(
    backup: BackupWriter, collection: Collection[Any], plan: Plan, scope: Scope, rule: BoundRule
) -> None:
    """Note in a backup what the chunk that was broken off has left, as far as the rule shows it.

    Where MongoDB refuses the scratch collection it stays unknown; a warning says so.

    :param rule: the rule of that chunk.
    :raises pymongo.errors.PyMongoError: the connection.
    """
    if rule.by_hand or rule.once is not None or is_mongomock(collection):
        # To apply it once more might do something once more.
        return
    work = Work(collection, plan, scope)
    left: list[bytes] = []
    try:
        for batch in _batches(backup.unsealed_pre_images()):
            left.extend(_left(work, rule, batch))
    except OperationFailure as exc:
        logger.warning(
            "%s.%s: a chunk was broken off, and what it has left cannot be learned (%s): a restore "
            "leaves its documents alone, unless it is forced",
            plan.model_name,
            rule.name,
            excerpt(exc),
        )
        return
    backup.seal_unsealed(b"".join(left))


def _batches(pre_images: Iterator[_PreImage]) -> Iterator[list[_PreImage]]:
    batch: list[_PreImage] = []
    size = 0
    for each in pre_images:
        batch.append(each)
        size += len(each[1])
        if len(batch) == _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _left(work: Work, rule: BoundRule, batch: list[_PreImage]) -> Iterator[bytes]:
    """The digests of what the rule leaves of documents that it has reached, and of the others."""
    now = _stored(work.collection, [element for element, _ in batch])
    touched = {element: document for element, document in batch if now.get(element) != document}
    made = _made(work, rule, touched) if touched else {}
    for element, document in batch:
        if element not in touched:
            yield digest(document)
        else:
            yield digest(made[element]) if element in made else MISSING


def _made(work: Work, rule: BoundRule, touched: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """What the rule makes of copies."""
    description = describe(work.collection) or Description("collection", {})
    copies = [RawDocument(document) for document in touched.values()]
    with scratch_like(work.collection, description, copies) as scratch:
        Work(scratch.collection, work.plan, work.scope).apply(rule)
        return _stored(scratch.collection, list(touched))


def _stored(collection: Collection[Any], elements: list[bytes]) -> dict[bytes, bytes]:
    query = by_elements(collection, elements)
    with closing(raw_batches(collection, query, None)) as cursor:
        return dict(itertools.chain.from_iterable(scanned(batch) for batch in cursor))
