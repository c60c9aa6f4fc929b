"""`lazymig check`, `diff` and `report`: what is wrong with the stored documents."""

from __future__ import annotations

import re

import pytest

from lazymig import History
from lazymig.reports.drift.checks import check_documents
from lazymig.reports.drift.diff import diff
from tests.cli.app import models
from tests.cli.app.models import User, fill

NOTE = f"--models={models.__name__}:Note"


@pytest.mark.parametrize("command", ["check", "diff"])
def test_nothing_is_wrong(shop, database, command):
    """Documents as the model has them are exit code 0."""
    database.user.insert_one({"_id": 1, "enabled": True, "first": "Ada"})
    told = shop.json(command)
    assert (told["ok"], told["models"][0]["ok"]) == (True, True)
    result = shop(command)
    assert (result.code, result.err) == (0, "")
    assert {"check": "nothing is wrong", "diff": "no drift"}[command] in result.out


def test_checks(shop, mongoengine_db):
    """The JSON is that of `check_documents()`, and the code is 1."""
    mongoengine_db.user.insert_many([{"_id": 1, "first": 5}, {"_id": 2, "enabled": True}])
    expected = check_documents(User).to_dict()
    told = shop.json("check", code=1)
    assert (told["ok"], told["models"]) == (False, [expected])


def test_checks_are_readable(shop, database):
    """Each fault is told with class, field, count, error, three `_id`s and how many more."""
    database.user.insert_many([{"_id": number, "first": 5} for number in range(12)])
    result = shop("check")
    assert (result.code, result.err) == (1, "")
    *lines, ids = result.out.splitlines()
    assert lines == [
        f"User in {database.name}.user: 12 documents checked",
        "  User.first: invalid in 12 documents",
        "    ValidationError: StringField only accepts string values",
    ]
    assert re.fullmatch(r"    _id (\d+, ){2}\d+ and 9 more", ids)
    *_lines, ids = shop("check", "--verbose").out.splitlines()
    assert sorted(re.findall(r"\d+", ids), key=int) == [str(number) for number in range(12)]
    (model,) = shop.json("check", "--verbose", code=1)["models"]
    assert len(model["findings"][0]["ids"]) == 12
    (model,) = shop.json("check", code=1)["models"]
    assert len(model["findings"][0]["ids"]) == 10


def test_how_many_are_checked(shop, database):
    """--sample says how many, --all takes every document."""
    fill(database, 1200)
    for words, count, size in (
        ([], 1000, 1000),
        (["--sample", "7"], 7, 7),
        (["--all"], 1200, None),
    ):
        (told,) = shop.json("check", *words, code=1)["models"]
        assert (told["documents"], told["sample_size"]) == (count, size)
    assert shop.json("diff", "--sample", "9", code=1)["models"][0]["documents"] == 9


@pytest.mark.parametrize("command", ["check", "diff"])
def test_findings_that_pending_rules_cure(shop, database, command):
    """They are told with the rules; with --allow-pending they are exit code 0."""
    fill(database, 3)
    told = shop.json(command, code=1)
    cured = [each["cured_by"] for each in told["models"][0]["findings"]]
    assert cured == [["migration02__split_name"]] * len(cured)
    assert cured != []
    result = shop(command, "--allow-pending")
    assert result.code == 0
    assert "cured by the pending migration02__split_name" in result.out
    assert shop.json(command, "--allow-pending")["ok"] is True
    database.user.insert_one({"_id": 99, "odd": 1})
    assert shop(command, "--allow-pending").code == 1


def test_drift(shop, mongoengine_db):
    """What differs from the model is told with the rule that would end it; the code is 1."""
    mongoengine_db.user.insert_many([{"_id": 1, "first": 5}, {"_id": 2, "frist": "Ada"}])
    expected = diff(User).to_dict()
    told = shop.json("diff", code=1)
    assert (told["ok"], told["models"]) == (False, [expected])
    result = shop("diff")
    assert (result.code, result.err) == (1, "")
    words = " ".join(result.out.split())
    assert "wrong_type: 'first' is of type int in 1 document" in words
    assert "proposed rule: convert_first_from_int" in words
    assert "proposed rule: rename_frist_to_first, with a question" in words
    assert words.endswith("lazymig new --from-diff writes the proposed rules")


@pytest.mark.parametrize("command", ["check", "diff"])
def test_models_without_rules(shop, database, command):
    """No model needs rules to be looked at, neither one that is named nor those of a module."""
    database.note.insert_one({"text": 5})
    every = shop.json(command, f"--models={models.__name__}", code=1)["models"]
    assert [each["model"] for each in every] == ["User", "Animal", "Note"]
    (told,) = shop.json(command, NOTE, code=1)["models"]
    assert told["model"] == "Note"
    assert "ValidationError" in str(told) or "wrong_type" in str(told)


def test_documents_cannot_command_the_terminal(shop, database):
    """Stored names and values that a terminal would obey are shown."""
    hidden = "\u202egro.\u2066\u2028"
    database.user.insert_one({"_id": "\x1b[31m", "\x1b[2J": 1, "first": {"\x9b": 1}, hidden: 1})
    for command in ("check", "diff"):
        out = shop(command).out
        assert r"\x1b" in out
        assert r"\u202egro.\u2066\u2028" in out
        assert not any(each in out for each in hidden if not each.isprintable())


def test_a_report(shop, database):
    """The page has the models, what was found, and keeps a look in the journal."""
    fill(database, 3)
    database.user.insert_one({"_id": 9, "odd-field": 1})
    told = shop.json("report", "--html", "report.html", "--title", "Deploy <7>")
    assert told == {"file": str(shop.folder / "report.html"), "models": ["User"]}
    page = (shop.folder / "report.html").read_text(encoding="utf-8")
    for text in ("Deploy &lt;7&gt;", "migration02__split_name", "odd-field"):
        assert text in page
    assert len(History(database).samples(User)) == 1
    result = shop("report", "--html", "report.html", "--no-record")
    assert (result.code, result.out) == (0, "written: report.html\n")


def test_a_report_without_findings(shop, database):
    """With --sample 0 the documents are neither checked nor compared; --all takes every one."""
    database.user.insert_one({"_id": 9, "odd-field": 1})
    assert shop("report", "--html", "a.html", "--sample", "0", "--no-record").code == 0
    assert "odd-field" not in (shop.folder / "a.html").read_text(encoding="utf-8")
    assert database.list_collection_names() == ["user"]
    assert shop("report", "--html", "a.html", "--all", "--no-record").code == 0
    assert "odd-field" in (shop.folder / "a.html").read_text(encoding="utf-8")


def test_a_report_that_cannot_be_written(shop, database):
    """A folder that is not there, and a file that cannot be written, are wrong calls."""
    result = shop("report", "--html", "nowhere/report.html")
    assert result.code == 2
    assert result.error == f"--html: there is no folder {shop.folder / 'nowhere'}; make it"
    result = shop("report", "--html", "/proc/report.html", "--sample", "0")
    assert result.code == 2
    assert result.error.endswith("check the path and its rights")


@pytest.mark.parametrize("command", ["check", "diff"])
def test_what_a_run_has_refused_is_not_cured(shop, database, command):
    """With --allow-pending the code is 1 while a rule was refused for a document found."""
    fill(database, 3)
    assert shop(command, "--allow-pending").code == 0
    shop.set(**{models.FAULTY: "1"})
    assert shop("migrate", "--yes", "--scope", "lazy", "--max-errors", "5").code == 1
    shop.set(**{models.FAULTY: ""})
    result = shop(command, "--allow-pending")
    assert result.code == 1
    assert "User.migration02__split_name was refused for 1 document, in quarantine" in " ".join(
        result.out.split()
    )
    run = str(History(database).runs()[0].id)
    assert shop("quarantine", "retry", run).code == 0
    assert shop(command, "--allow-pending").code == 0
