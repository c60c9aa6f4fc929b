"""`lazymig indexes`: the indexes of the rules; and `finish`, which drops those that can go."""

from __future__ import annotations

from tests.cli.app.models import fill

NAMES = ["lazymig_migration01__add_enabled", "lazymig_migration02__split_name"]


def test_indexes_are_shown_built_and_dropped(shop, database):
    """Without an option nothing is written; what is built is in the result, and so is what goes."""
    fill(database, 4)
    (shown,) = shop.json("indexes")["models"]
    assert (shown["model"], shown["collection"]) == ("User", f"{database.name}.user")
    assert [each["exists"] for each in shown["indexes"]] == [False] * 3
    assert list(database.user.index_information()) == ["_id_"]

    (built,) = shop.json("indexes", "--create")["models"]
    assert [each["exists"] for each in built["indexes"]] == [True] * 3
    assert built["indexes"][0] == {
        "rule": "migration01__add_enabled",
        "name": "lazymig_migration01__add_enabled",
        "keys": ["enabled"],
        "filter": {"enabled": None},
        "exists": True,
        "documents": 4,
        "reason": None,
    }

    (dropped,) = shop.json("indexes", "--drop")["models"]
    assert dropped["dropped"] == [each["name"] for each in built["indexes"]]
    assert list(database.user.index_information()) == ["_id_"]


def test_the_table_of_indexes(shop, database):
    """The same is readable, a line for each rule."""
    fill(database, 4)
    result = shop("indexes", "--create")
    assert (result.code, result.err) == (0, "")
    rows = [line.split() for line in result.out.splitlines()]
    assert rows[1] == ["rule", "index", "there", "documents"]
    assert rows[2] == ["migration01__add_enabled", NAMES[0], "yes", "4"]


def test_both_at_once_is_a_wrong_call(shop):
    """Nothing is built and dropped by one call."""
    result = shop("indexes", "--create", "--drop")
    assert result.code == 2
    assert "exclude each other" in result.err


def test_finish_drops_the_indexes_of_what_can_go_if_asked(shop, database):
    """The indexes of finished rules stay until no application asks by them: --drop-indexes says."""
    fill(database, 4)
    shop.json("indexes", "--create")
    shown = shop("finish")
    assert "--drop-indexes drops lazymig_allmigration01__drop_draft" in " ".join(shown.out.split())
    assert "lazymig_allmigration01__drop_draft" in database.user.index_information()

    (found,) = shop.json("finish", "--drop-indexes", code=1)["models"]

    assert found["dropped"] == ["lazymig_allmigration01__drop_draft"]
    assert sorted(database.user.index_information()) == ["_id_", *NAMES]


def test_a_run_builds_indexes_if_asked(shop, database):
    """`migrate --rule-indexes` leaves the indexes of the rules."""
    fill(database, 4)
    shop.json("migrate", "--yes", "--rule-indexes")
    assert set(NAMES) <= database.user.index_information().keys()
