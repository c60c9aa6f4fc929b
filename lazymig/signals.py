"""Signals that announce migrations. They inform; nothing in lazymig depends on a receiver.

Every signal is sent with the model class as sender and these keywords:

- `document_id`: the `_id` of the document; `None` for a bulk rule, which has many.
- `rules`: the names of the rules, in order, as a tuple.
- `scope`: `"lazy"` or `"bulk"`.

`migration_failed` has `error` besides, a `MigrationError`. A bulk `post_migration` has `matched`
and `modified`, counts of documents.
"""

from __future__ import annotations

from blinker import Namespace

__all__ = ["migration_failed", "post_migration", "pre_migration"]

_signals = Namespace()

pre_migration = _signals.signal("pre_migration")
post_migration = _signals.signal("post_migration")
migration_failed = _signals.signal("migration_failed")
