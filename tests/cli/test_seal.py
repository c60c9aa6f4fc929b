"""`lazymig seal` and `lazymig finish --seal`."""

from __future__ import annotations

import pytest
from pymongo.errors import WriteError

from tests.cli.app import models
from tests.cli.app.models import fill

RULES = ["migration01__add_enabled", "migration02__split_name", "allmigration01__drop_draft"]


def done(database, **more):
    """One user that no rule looks for."""
    database.user.insert_one({"_id": 1, "enabled": True, "first": "Ada", **more})


def test_finished_rules_are_sealed(shop, database):
    """What no document needs is sealed, and refused by MongoDB from then on; the code is 0."""
    done(database)
    result = shop("seal")
    assert result.code == 0
    assert [line.strip() for line in result.out.splitlines()][:4] == [
        f"User in {database.name}.user",
        *(f"sealed: {rule}, from now on" for rule in RULES),
    ]
    assert "without enabled cannot be saved" in " ".join(result.out.split())
    with pytest.raises(WriteError):
        database.user.insert_one({"enabled": True, "name": "Bob"})

    told = shop.json("seal")
    assert told["ok"] is True
    (model,) = told["models"]
    assert (model["sealed"], model["added"], model["not_sealed"]) == (RULES, [], [])


def test_what_is_old_is_not_sealed(shop, database):
    """A rule that documents match is left with their number and what to do; the code is 1."""
    fill(database, 2, enabled=True)
    told = shop.json("seal", code=1)
    (model,) = told["models"]
    assert told["ok"] is False
    assert model["sealed"] == ["migration01__add_enabled", "allmigration01__drop_draft"]
    (left,) = model["not_sealed"]
    assert (left["rule"], left["scope"], left["remaining"]) == (RULES[1], "lazy", 2)
    assert "not sealed: migration02__split_name: 2 documents still match" in shop("seal").out


def test_seals_are_listed_and_taken_out(shop, database):
    """--show lists and changes nothing, --unseal takes out what is named, or all."""
    done(database)
    assert "nothing is sealed" in shop("seal", "--show").out
    shop("seal")
    shown = shop.json("seal", "--show")
    assert shown["models"][0]["sealed"] == RULES

    told = shop.json("seal", "--unseal", "--rule", RULES[1])
    assert told["unsealed"] == [f"User.{RULES[1]}"]
    assert told["models"][0]["sealed"] == [RULES[0], RULES[2]]
    assert "unsealed: User.allmigration01__drop_draft" in shop("seal", "--unseal").out
    database.user.insert_one({"name": "Bob"})


def test_status_shows_what_is_sealed(shop, database):
    """The table of `status` and its JSON say which rules are sealed."""
    done(database)
    shop("seal", "--rule", RULES[2])
    assert shop("status").out.splitlines()[-1].split()[-1] == "sealed"
    rules = shop.json("status")["models"][0]["rules"]
    assert [rule["sealed"] for rule in rules] == [False, False, True]


def test_finish_seals_what_can_go(shop, database):
    """`finish --seal` seals the rules that it names for deletion, and no others."""
    fill(database, 2, enabled=True)
    told = shop.json("finish", "--seal", code=1)
    assert told["models"][0]["seals"]["sealed"] == [RULES[0], RULES[2]]
    database.user.update_many({}, {"$unset": {"name": ""}})
    result = shop("finish", "--seal")
    assert result.code == 0
    assert [line.strip() for line in result.out.splitlines() if "can be deleted" in line] == [
        f"can be deleted: {rule}, sealed" for rule in RULES
    ]
    assert shop.json("finish")["models"][0]["seals"] is None


def test_finish_names_the_seals_that_stay(shop, database):
    """Of each rule that can go `finish` says whether it is sealed, and how the seal goes."""
    done(database)
    assert "seal" not in shop("finish").out
    shop("seal", "--rule", RULES[1])
    result = " ".join(shop("finish").out.split())
    assert [f"can be deleted: {rule}, sealed" in result for rule in RULES] == [False, True, False]
    assert "a seal stays when its rule goes; lazymig seal --unseal --rule NAME takes" in result
    removable = shop.json("finish")["models"][0]["removable"]
    assert [rule["sealed"] for rule in removable] == [False, True, False]
    removable = shop.json("finish", "--seal")["models"][0]["removable"]
    assert [rule["sealed"] for rule in removable] == [True, True, True]


def test_seals_of_rules_that_are_gone_are_listed(shop, database):
    """A seal without a rule of its target is listed, and taken out by its name."""
    done(database)
    clause = {"$and": [{"$comment": "lazymig: sealed User.migration00__gone"}, {"gone": 1}]}
    database.command("collMod", "user", validator={"$nor": [clause]})
    shown = shop("seal", "--show").out
    assert "sealed without a rule of this target: User.migration00__gone" in " ".join(shown.split())
    told = shop.json("seal", "--unseal", "--rule", "migration00__gone")
    assert told["unsealed"] == ["User.migration00__gone"]
    assert "validator" not in database.user.options()


def test_several_models_take_the_rules_that_are_theirs(shop, database):
    """With several models a rule is that of the model that has it; an unknown one is an error."""
    done(database)
    database.animal.insert_one({"_id": 1, "_cls": "Animal", "legs": 4})
    both = ("-m", f"{models.__name__}:User", "-m", f"{models.__name__}:Animal")
    told = shop.json("seal", *both, "--rule", "migration01__add_legs")
    assert [each["sealed"] for each in told["models"]] == [["migration01__add_legs"]]
    assert shop("seal", *both, "--rule", "migration09__x").error.startswith("--rule: none of")


@pytest.mark.parametrize("command", ["seal", ("finish", "--seal")], ids=str)
def test_a_collection_that_takes_no_seals_hides_nothing_of_the_others(shop, database, command):
    """Where one of several collections takes no seals, its rules say why, and the others go on."""
    done(database)
    database.animal.insert_one({"_id": 1, "_cls": "Animal", "legs": 4})
    database.command("collMod", "user", validator={"n": 1}, validationLevel="moderate")
    both = ("-m", f"{models.__name__}:User", "-m", f"{models.__name__}:Animal")
    called = (command,) if isinstance(command, str) else command
    told = shop.json(*called, *both, code=1)
    user, animal = (each.get("seals") or each for each in told["models"])
    assert animal["sealed"] == ["migration01__add_legs"]
    assert [each["rule"] for each in user["not_sealed"]] == RULES
    assert all("'moderate'" in each["reason"] for each in user["not_sealed"])


def test_finish_shows_what_can_go_where_nothing_can_be_sealed(shop, database):
    """`finish --seal` shows the lines of rules that can go, and why they are not sealed."""
    done(database)
    database.command("collMod", "user", validator={"n": 1}, validationAction="warn")
    result = shop("finish", "--seal")
    assert result.code == 1
    assert f"not sealed: {RULES[0]}: its validationLevel" in result.out
    assert f"can be deleted: {RULES[0]}" in result.out


def test_wrong_calls(shop, database):
    """A missing collection, an unknown rule and options that exclude each other are errors."""
    assert "does not exist" in shop("seal").error
    done(database)
    assert shop("seal", "--rule", "migration09__x").code == 2
    assert shop("seal", "--unseal", "--show").code == 2
    assert "is not sealed in" in shop("seal", "--unseal", "--rule", RULES[0]).error
