"""gevent, whose patching may come before lazymig is imported or after that."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

PACKAGE = Path(__file__).parents[3] / "lazymig"

# Of these modules gevent exchanges what is in them: who took it by name before has the old one.
PATCHED = {"queue", "select", "selectors", "socket", "subprocess", "threading", "time"}

PROGRAM = """
import sys
order, uri, name = sys.argv[1:]
if order == "before":
    from gevent import monkey
    monkey.patch_all()
import mongoengine
from lazymig import DocumentMigration, LazyMigrationMixin
if order == "after":
    from gevent import monkey
    monkey.patch_all()

class Rules(DocumentMigration):
    def migration01__enable(self):
        self.target = {"enabled": {"$exists": False}}
        self.update = {"$set": {"enabled": True}}
    def migration02__copy(self):
        self.target = {"copied": {"$exists": False}}
        self.writes = ("copied",)
        n = self.doc["n"]
        self.update = {"$set": {"copied": int(n)}}

class Post(LazyMigrationMixin, mongoengine.Document):
    key = mongoengine.IntField(primary_key=True)
    n = mongoengine.IntField()
    copied = mongoengine.IntField()
    enabled = mongoengine.BooleanField()
    meta = {"collection": "post"}
    migration_handler = Rules

mongoengine.connect(name, host=uri, uuidRepresentation="standard")
assert Post.objects.get(key=1).copied == 1
report = Rules(Post).migrate_pending()
assert (report.state, report.modified) == ("finished", 2 * 2999), report
"""


def test_what_gevent_exchanges_is_not_taken_by_name() -> None:
    """Locks, queues and threads are those of the moment in which they are made."""
    taken = [
        (path.name, node.lineno, alias.name)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and not node.level and node.module in PATCHED
        for alias in node.names
    ]
    assert taken == []


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.filterwarnings("ignore")
def test_a_run_ends_under_gevent(database: Database[Any], server_uri: str, order: str) -> None:
    """A bulk run ends, whether gevent patches before lazymig is imported or after that."""
    database["post"].insert_many([{"_id": n, "n": n} for n in range(3000)])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, order, server_uri, database.name],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert database["post"].count_documents({"enabled": True, "copied": {"$exists": True}}) == 3000
