"""`python -m lazymig.demo`: old documents, before and after, on a database of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import mongoengine
from pymongo.database import Database

from lazymig.demo.old_documents import FEWER, THOUSANDS, Amounts
from lazymig.demo.story import show
from lazymig.testing.mongod import EmbeddedServer, ServerUnavailable

if TYPE_CHECKING:
    from lazymig.demo.page import Page

_DATABASE = "lazymig_demo"


@contextmanager
def _database(page: Page) -> Iterator[tuple[Database[dict[str, Any]], Amounts]]:
    """A database on an embedded server, or in memory where there is no server."""
    server = EmbeddedServer()
    options: dict[str, Any]
    amounts = THOUSANDS
    try:
        server.start()
        options = {"host": server.uri}
        page.text("On a MongoDB server of its own, which ends with this demonstration.")
    except ServerUnavailable as reason:
        import mongomock  # noqa: PLC0415 - needed only without a server

        options = {"mongo_client_class": mongomock.MongoClient}
        # It looks through a whole collection for each update of one document.
        amounts = FEWER
        page.text(
            "On mongomock, which imitates MongoDB in memory, and with fewer documents, because no "
            f"server can be started: {str(reason).splitlines()[0]}"
        )
    try:
        mongoengine.connect(_DATABASE, uuidRepresentation="standard", **options)
        yield mongoengine.get_db(), amounts
    finally:
        mongoengine.disconnect()
        server.close()


def main() -> int:
    """Run the demonstration; return the exit code."""
    try:
        from lazymig.demo.page import Page  # noqa: PLC0415 - it needs what an extra brings

        page = Page()
        page.title("lazymig: old documents load in today's shape")
        with _database(page) as (database, amounts):
            show(page, database, amounts)
    except ModuleNotFoundError as error:
        if error.name not in ("mongomock", "rich"):
            raise
        print(f"{error.name} is not installed; run pip install 'lazymig[demo]'.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
