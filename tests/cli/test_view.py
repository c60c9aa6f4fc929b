"""`lazymig view`; and `status` and `finish`, which know of the views."""

from __future__ import annotations

from typing import Any

from tests.cli.app import models
from tests.cli.app.models import fill

ANIMAL = ("-m", f"{models.__name__}:Animal")
DOG = ("-m", f"{models.__name__}:Dog")
BOTH = ("-m", f"{models.__name__}:User", *ANIMAL)


def animals(database: Any) -> None:
    """Two animals, one of them old."""
    database.animal.insert_many([{"_id": 1, "_cls": "Animal"}, {"_id": 2, "_cls": "Animal.Dog"}])


def older(database: Any, name: str = "today", model: str = "Animal") -> None:
    """A view that other rules have made."""
    pipeline = [{"$match": {"$comment": f"lazymig: view of {model}"}}, {"$set": {"x": 1}}]
    database.command("create", name, viewOn="animal", pipeline=pipeline)


def test_a_view_is_created_listed_and_dropped(shop, database):
    """NAME creates the view, without it the views are listed, --drop drops one."""
    animals(database)
    result = shop("view", "today", *ANIMAL)
    assert (result.code, result.err) == (0, "")
    lines = [line.split() for line in result.out.splitlines()]
    assert lines[0] == ["Animal", "in", f"{database.name}.animal"]
    assert lines[1:3] == [["view", "of", "current"], ["today", "Animal", "yes"]]
    assert {each["legs"] for each in database.today.find()} == {4}

    (listed,) = shop.json("view", *ANIMAL)["models"]
    assert listed == {
        "model": "Animal",
        "collection": f"{database.name}.animal",
        "views": [
            {
                "name": "today",
                "model": "Animal",
                "collection": f"{database.name}.animal",
                "current": True,
                "reason": None,
            }
        ],
    }
    told = shop.json("view", "today", "--drop", *ANIMAL)
    assert (told["dropped"], told["models"][0]["views"]) == (["today"], [])
    assert "today" not in database.list_collection_names()
    assert "has no views" in shop("view", *ANIMAL).out


def test_the_view_of_a_subclass(shop, database):
    """The view of a subclass holds its documents alone."""
    animals(database)
    shop("view", "dogs", *DOG)
    assert list(database.dogs.find()) == [{"_id": 2, "_cls": "Animal.Dog", "legs": 4}]


def test_an_older_view_is_brought_up_to_date(shop, database):
    """The list, `status` and its JSON say that a view is older than the rules; NAME ends that."""
    animals(database)
    older(database)
    for call in (("view", *ANIMAL), ("status", *ANIMAL)):
        text = " ".join(shop(*call).out.split())
        assert "the view today is older than the rules; create it again" in text
    (standing,) = shop.json("status", *ANIMAL)["models"]
    assert [(each["name"], each["current"]) for each in standing["views"]] == [("today", False)]

    shop("view", "today", *ANIMAL)
    assert {each.get("legs") for each in database.today.find()} == {4}
    assert "in today's shape: the view today" in shop("status", *ANIMAL).out
    assert shop.json("status", *ANIMAL)["models"][0]["views"][0]["current"] is True


def test_a_view_is_of_one_model(shop, database):
    """With several models --models has to name the one; a name to drop is found among them."""
    fill(database, 1)
    animals(database)
    result = shop("view", "today", *BOTH)
    assert result.code == 2
    assert "the view of which model? Name one with --models; these are User, Animal" in result.error
    shop("view", "today", *ANIMAL)
    assert [len(each["views"]) for each in shop.json("view", *BOTH)["models"]] == [0, 1]
    assert shop.json("view", "today", "--drop", *BOTH)["dropped"] == ["today"]
    result = shop("view", "today", "--drop", *BOTH)
    assert (result.code, "none of the models has a view 'today'" in result.error) == (2, True)


def test_what_cannot_be_created_is_one_line(shop, database):
    """A rule that cannot be shown, a name that is taken and a view that is not there are errors."""
    fill(database, 1)
    animals(database)
    result = shop("view", "today")
    assert result.code == 1
    assert "migration02__split_name" in result.error
    assert shop("view", "animal", *ANIMAL).error == (
        "Animal: the view animal: this is the name of a collection; nothing of it was changed: "
        "choose another name"
    )
    assert "there is none" in shop("view", "today", "--drop", *ANIMAL).error
    assert shop("view", "--drop", *ANIMAL).error == "--drop needs the name of the view"
    assert "does not exist" in shop("view", "today", "--uri", _elsewhere(shop), *ANIMAL).err


def test_several_views_are_named_together(shop, database):
    """`finish` speaks of one view or of several."""
    animals(database)
    for name in ("today", "tomorrow"):
        shop("view", name, *ANIMAL)
    text = " ".join(shop("finish", *ANIMAL).out.split())
    assert "readers need them: the views today, tomorrow" in text


def test_a_name_of_mongodbs_own(shop, database):
    """MongoDB says of its own names that a right is missing; the error says what is wrong."""
    animals(database)
    result = shop("view", "system.today", *ANIMAL)
    assert (result.code, "such names are MongoDB's own; choose" in result.error) == (1, True)


def _elsewhere(shop: Any) -> str:
    uri: str = shop.environment()["LAZYMIG_URI"]
    return uri.replace("/lazymig_", "/lazymig_other_")


def test_finish_drops_views_if_asked(shop, database):
    """The views of a model stay while rules are pending, and then until --drop-views says."""
    animals(database)
    shop("view", "today", *ANIMAL)
    text = " ".join(shop("finish", *ANIMAL).out.split())
    assert "while rules are pending, readers need it: the view today" in text
    (found,) = shop.json("finish", "--drop-views", *ANIMAL, code=1)["models"]
    assert (found["views"], found["dropped_views"]) == (["today"], [])
    text = " ".join(shop("finish", "--drop-views", *ANIMAL).out.split())
    assert "while rules are pending, --drop-views has left it: the view today" in text

    database.animal.update_many({}, {"$set": {"legs": 4}})
    text = " ".join(shop("finish", *ANIMAL).out.split())
    assert "once nobody reads it, --drop-views drops the view today" in text
    assert "today" in database.list_collection_names()
    (found,) = shop.json("finish", "--drop-views", *ANIMAL)["models"]
    assert (found["views"], found["dropped_views"]) == (["today"], ["today"])
    assert "today" not in database.list_collection_names()
    older(database)
    assert "dropped: the view today" in shop("finish", "--drop-views", *ANIMAL).out


def test_views_of_other_models_and_of_no_lazymig_are_left(shop, database):
    """`finish --drop-views` drops those of the model alone."""
    animals(database)
    database.animal.update_many({}, {"$set": {"legs": 4}})
    older(database, "gone", "Gone")
    database.command("create", "theirs", viewOn="animal", pipeline=[])
    shop("view", "dogs", *DOG)
    assert shop.json("finish", "--drop-views", *ANIMAL)["models"][0]["dropped_views"] == []
    assert {"gone", "theirs", "dogs"} <= set(database.list_collection_names())
