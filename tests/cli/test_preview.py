"""`lazymig preview`: what a migration would do."""

from __future__ import annotations

from tests.cli.app.models import User, UserMigration, fill


def test_it_tells_what_the_library_tells(shop, database):
    """The JSON is that of the report of `preview()`."""
    fill(database, 3, draft=1)
    (told,) = shop.json("preview", "--sample", "0")["models"]
    assert told == UserMigration(User).preview(database.user, sample=0).to_dict()
    (told,) = shop.json("preview")["models"]
    assert len(told["samples"]) == 3


def test_before_and_after(shop, database):
    """Rules, plans and differences are shown, removed and added values on lines of their own."""
    database.user.insert_one({"_id": 1, "name": "Ada Lovelace"})
    result = shop("preview")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    said = lines.index("    plan: COLLSCAN", 5) + 1
    assert lines[said].startswith("    computed in Python, because it reads os.environ")
    end = lines.index("", said)
    assert [*lines[:said], *lines[end:]] == [
        f"User in {database.name}.user: about 1 document",
        "",
        "migration01__add_enabled (lazy, static): matches 1 document",
        "    plan: COLLSCAN",
        "",
        "migration02__split_name (lazy, dynamic): matches 1 document",
        "    plan: COLLSCAN",
        "",
        "allmigration01__drop_draft (bulk, static): matches 0 documents",
        "    plan: COLLSCAN",
        "",
        "1 document sampled; 0 would stay as is",
        "",
        "_id 1: migration01__add_enabled, migration02__split_name",
        "    + enabled: True",
        "    + first: 'Ada'",
        "    + last: 'Lovelace'",
        "    - name: 'Ada Lovelace'",
    ]


def test_rules_of_one_scope(shop, database):
    """--scope leaves the other rules out."""
    fill(database, 1)
    for scope, count in (("lazy", 2), ("bulk", 1), ("all", 3)):
        (told,) = shop.json("preview", "--scope", scope)["models"]
        assert len(told["rules"]) == count


def test_nothing_is_written(shop, database):
    """A preview changes neither the documents nor the collections."""
    fill(database, 5)
    before = list(database.user.find())
    shop("preview")
    assert list(database.user.find()) == before
    assert database.list_collection_names() == ["user"]


def test_documents_cannot_command_the_terminal(shop, database):
    """Escape sequences in stored values and names are shown, in text and in JSON."""
    database.user.insert_one({"_id": "\x1b[31m", "draft": {"\x1b[2J": "\x9b"}, "enabled": True})
    result = shop("preview")
    assert result.code == 0
    assert r"\x1b[31m" in result.out
    shop.json("preview")


def test_connection_strings_in_documents_are_masked(shop, database):
    """A connection string among the stored values loses its password."""
    database.user.insert_one({"_id": 1, "enabled": True, "draft": "mongodb://a:hidden@h"})
    assert "mongodb://a:***@h" in shop("preview").out
    (told,) = shop.json("preview")["models"]
    assert told["samples"][0]["before"]["draft"] == "mongodb://a:***@h"
