"""`lazymig restore`: a backup of `lazymig migrate --backup` put back."""

from __future__ import annotations

import shlex
from pathlib import Path

from lazymig.operations.journal.collection import journal_collection
from lazymig.operations.journal.lease import Lease
from lazymig.raw.elements import RawDocument
from tests.cli.app.models import User, UserMigration, fill
from tests.support import oddities


def test_a_migration_is_undone(shop, database):
    """What migrate has changed is put back, of all of its runs."""
    fill(database, 20, draft=1)
    before = list(database.user.find().sort("_id"))
    assert shop("migrate", "--yes", "--backup", "saved").code == 0
    result = shop("restore", "--yes", "saved")
    assert (result.code, result.err) == (0, "")
    assert " ".join(result.out.split()).startswith(
        f"{database.name}.user: 20 documents put back, 0 as before already, in "
    )
    assert list(database.user.find().sort("_id")) == before
    (told,) = shop.json("restore", "--yes", "saved")["databases"]
    assert (told["restored"], told["unchanged"], told["conflict_count"]) == (0, 20, 0)


def test_without_a_terminal_it_needs_yes(shop, database):
    """Where nobody can be asked, nothing is put back without --yes, and the code is 2."""
    fill(database, 2)
    assert shop("migrate", "--yes", "--backup", "saved").code == 0
    result = shop("restore", "saved")
    assert (result.code, result.error) == (2, "there is no terminal to ask on; add --yes")
    assert database.user.count_documents({"name": {"$exists": True}}) == 0


def test_conflicts(shop, database):
    """Documents that were changed since are told and left alone; --force takes them, too."""
    fill(database, 15)
    shop("migrate", "--yes", "--backup", "saved")
    database.user.update_many({}, {"$set": {"by": "app"}})
    (told,) = shop.json("restore", "--yes", "saved", code=1)["databases"]
    assert (told["restored"], told["conflict_count"]) == (0, 15)
    assert told["conflicts"][0]["reason"] == "it was changed since"
    result = shop("restore", "--yes", "saved")
    assert result.code == 1
    assert "15 documents left alone:" in result.out
    assert "and 5 more" in result.out
    assert shop("restore", "--yes", "saved", "--force").code == 0
    assert database.user.count_documents({"name": {"$exists": True}}) == 15


def test_what_a_seal_refuses_is_told_once(shop, database):
    """Once the seals that refuse the documents, and the command that ends it; --force does not."""
    fill(database, 15, draft=1)
    shop("migrate", "--yes", "--backup", "saved")
    shop("seal")
    (told,) = shop.json("restore", "--yes", "saved", code=1)["databases"]
    seals = [f"User.{name}" for name in ("migration01__add_enabled", "migration02__split_name")]
    seals.append("User.allmigration01__drop_draft")
    assert (told["refused"], told["seals"]) == (15, seals)
    result = shop("restore", "--yes", "saved")
    assert result.code == 1
    assert "--force" not in result.out
    assert [result.out.count(seal) for seal in seals] == [2, 2, 2]
    _said, command = result.out.split("before you restore again: ")
    words = shlex.split(command.replace("\\\n", ""))
    assert words == ["lazymig", "seal", "--unseal", *(f"--rule={seal}" for seal in seals)]
    assert shop(*words[1:]).code == 0
    assert shop("restore", "--yes", "saved").code == 0


def test_force_is_not_offered_to_who_gave_it(shop, database):
    """What --force has not put back it will not put back."""
    fill(database, 2)
    shop("migrate", "--yes", "--backup", "saved")
    shop("seal", "--rule", "migration02__split_name")
    database.user.update_one({"_id": 1}, {"$set": {"by": "app"}})
    assert "--force puts back what was changed" in shop("restore", "--yes", "saved").out
    result = shop("restore", "--yes", "--force", "saved")
    assert (result.code, "--force" in result.out) == (1, False)


def test_conflicts_that_no_codec_can_decode(shop, database):
    """Their `_id`s are named in the text and in the JSON."""
    kinds = oddities.ids(3)
    database.user.insert_many([RawDocument(oddities.document(each)) for each in kinds.values()])
    UserMigration(User).migrate_pending(database.user, backup="saved")
    database.user.update_many({}, {"$set": {"by": "app"}})
    (told,) = shop.json("restore", "--yes", "saved", code=1)["databases"]
    assert told["conflict_count"] == len(kinds)
    assert {"$date": {"$numberLong": str(oddities.FAR + 3)}} in [
        each["document_id"] for each in told["conflicts"]
    ]
    assert "xe9000003" in shop("restore", "--yes", "saved").out


def test_a_backup_that_is_not_there(shop, database):
    """A folder without a backup of the database is a wrong call."""
    result = shop("restore", "--yes", "nowhere")
    assert result.code == 2
    assert result.error.startswith("nowhere: there is no backup of lazymig of the database ")


def test_a_collection_that_is_run_over(shop, database):
    """Beside a run nothing is restored, and the message says who is at work."""
    fill(database, 2)
    shop("migrate", "--yes", "--backup", "saved")
    with Lease(journal_collection(database), "user"):
        result = shop("restore", "--yes", "saved")
        assert result.code == 1
        assert f"{database.name}.user: a bulk run on " in result.error
        assert database.user.count_documents({"name": {"$exists": True}}) == 0
    assert shop("restore", "--yes", "saved").code == 0
    assert database.user.count_documents({"name": {"$exists": True}}) == 2


def test_a_backup_of_several_databases(shell, client, uri, database):
    """Without a connection string each database of the models that has a backup is restored.

    Damage in the backup of one is an error before anything is put back in another.
    """
    other = client[f"{database.name}_other"]
    shell.write(
        "app.py",
        "import mongoengine\n"
        f"mongoengine.connect(host={uri!r}, uuidRepresentation='standard')\n"
        f"mongoengine.connect(host={uri.replace(database.name, other.name)!r}, alias='other',"
        " uuidRepresentation='standard')\n"
        "from tests.cli.app.models import User\n"
        "class Copy(mongoengine.DynamicDocument):\n"
        "    meta = {'collection': 'user', 'db_alias': 'other'}\n",
    )
    try:
        for each in (database, other):
            fill(each, 2)
            UserMigration(User).migrate_pending(each.user, backup="saved")
        dump = Path("saved") / max(each.name for each in (database, other)) / "user.bson.gz"
        content = dump.read_bytes()
        dump.write_bytes(content[:-1])
        damaged = shell("restore", "--yes", "saved", "--app", "app", "--models", "app")
        assert damaged.code == 2
        assert f"{dump}: it ends at byte" in damaged.error
        restored = {"name": {"$exists": True}}
        assert [each.user.count_documents(restored) for each in (database, other)] == [0, 0]
        dump.write_bytes(content)
        told = shell.json("restore", "--yes", "saved", "--app", "app", "--models", "app")[
            "databases"
        ]
        assert [each["restored"] for each in told] == [2, 2]
        assert [each["collections"] for each in told] == [
            [f"{database.name}.user"],
            [f"{other.name}.user"],
        ]
    finally:
        client.drop_database(other)
