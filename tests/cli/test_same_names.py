"""Models of one name: their runs are told apart in the list, by resume and in JSON."""

from __future__ import annotations

from typing import Any

import pytest

from lazymig import History
from tests.cli.app.models import User, UserMigration, fill
from tests.support.handlers import handler, model, rule

CRM = """
from mongoengine import Document, IntField
from lazymig import DocumentMigration, LazyMigrationMixin

class ContactMigration(DocumentMigration):
    def migration01__score(self):
        self.target = {"score": {"$exists": False}}
        self.update = {"$set": {"score": 0}}

class User(LazyMigrationMixin, Document):
    id = IntField(primary_key=True)
    score = IntField()
    migration_handler = ContactMigration
    meta = {"collection": "COLLECTION", "strict": False}
"""


@pytest.mark.parametrize("collection", ["contact", "user"])
def test_runs_of_two_modules_are_told_apart(shop, database, collection):
    """The list names module and collection, so do the view of one run and the JSON."""
    shop.write("crm.py", CRM.replace("COLLECTION", collection))
    fill(database, 3)
    database[collection].update_one({"_id": 99}, {"$set": {"first": "Ada"}}, upsert=True)
    assert shop("migrate", "--yes", "--scope", "lazy").code == 0
    assert shop("migrate", "--yes", "--scope", "lazy", "--models", "crm").code == 0
    second, first = History(database).runs()
    words = " ".join(shop("runs").out.split())
    users = f"tests.cli.app.models.User in {database.name}.user"
    contacts = f"crm.User in {database.name}.{collection}"
    assert f"{first.id} finished {users} (lazy)" in words
    assert f"{second.id} finished {contacts} (lazy)" in words
    for run, named, rules in ((first, users, "User"), (second, contacts, "Contact")):
        shown = " ".join(shop("runs", run.id).out.split())
        assert f"{named}, lazy rules of {rules}Migration" in shown
    assert [run["model_class"] for run in shop.json("runs")["runs"]] == [
        "crm.User",
        "tests.cli.app.models.User",
    ]


def _stopped_run(database) -> Any:
    """A run of the application's `User` that was asked to stop behind its first chunk."""

    def stop(progress):
        if progress.matched:
            History(database).stop(progress.run_id)

    UserMigration(User).migrate_pending(database.user, chunk_size=1, progress=stop)
    return History(database).runs()[0]


def test_resume_is_of_the_very_model(shop, database):
    """Neither the latest run nor one that is named goes on as one of another model of its name."""
    shop.write("crm.py", CRM.replace("COLLECTION", "user"))
    fill(database, 5)
    run = _stopped_run(database)
    assert run.state == "stopped"
    crm = ("--models", "crm:User", "--scope", "lazy")
    shop("migrate", "--yes", "--resume", *crm)
    assert History(database).run(run.id).state == "stopped"
    both = ("--models", "crm:User", "--models", "tests.cli.app.models:User")
    assert shop("migrate", "--yes", "--resume", run.id, *both).code == 0
    assert History(database).run(run.id).state == "finished"


def test_a_moved_class_goes_on_with_a_run_that_is_named(mongoengine_db):
    """A run of a class that has another module now is not the latest of it, but can be named."""
    up = handler(migration01__up=rule({"n": {"$exists": False}}, {"$set": {"n": 1}}))
    mongoengine_db["post"].insert_many([{"_id": number} for number in range(4)])

    def stop(progress):
        if progress.matched:
            History(mongoengine_db).stop(progress.run_id)

    before = model(up, meta={"strict": False}, __module__="shop.old")
    up(before).migrate_pending(chunk_size=1, progress=stop)
    (run,) = History(mongoengine_db).runs()
    assert (run.state, run.model_class) == ("stopped", "shop.old.Post")
    moved = model(up, meta={"strict": False}, __module__="shop.new")
    assert up(moved).migrate_pending(resume=str(run.id)).complete
    assert History(mongoengine_db).run(run.id).state == "finished"
