"""What the HTML report says; `test_html_safety` has what it must not, `test_html_page` looks."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from mongoengine import Document, IntField, StringField
from pymongo.errors import OperationFailure

from lazymig import ConvergenceWarning
from lazymig.operations.journal.collection import client_now
from lazymig.operations.journal.journal import Journal
from lazymig.reports.drift.checks import check_documents
from lazymig.reports.drift.diff import diff
from lazymig.reports.drift.findings import CheckReport, DriftReport
from lazymig.reports.page.page import render_report
from tests.support.commands import CommandLog
from tests.support.handlers import ADD_ENABLED, copying, handler, model, rule
from tests.support.reports import (
    DAY,
    HTML,
    SVG,
    add_quarantined,
    add_run,
    add_samples,
    body_of,
    fill,
    parsed,
    post_model,
    rendered,
    rows_of,
    scene,
    text_of,
)


@pytest.fixture(scope="module")
def page(server_uri: str) -> str:
    """The page of a database in the middle of its migration."""
    return rendered(server_uri, scene)


# Rules


def test_each_rule_tells_what_it_has_left(page: str) -> None:
    """A rule's row has its scope, what it has left, of how many, the share done, and its state."""
    rows = rows_of(page, "m1-rules")
    # The column of the sparkline is looked at below.
    assert {name: [*cells[:4], cells[5]] for name, cells in rows.items()} == {
        "migration01__add_enabled": ["lazy, static", "100", "400", "75 %", "pending"],
        "migration02__rename_title": ["lazy, static", "10", "400", "97.5 %", "pending"],
        "migration03__by_document": [
            "lazy, Python",
            "not known",
            "400",
            "not known",
            "not countable its target needs a document",
        ],
        "allmigration01__count": [
            "bulk, static",
            "400",
            "400",
            "not known",
            "stays matched its update does not end its match",
        ],
        "allmigration02__drop_legacy": ["bulk, static", "0", "400", "100 %", "can go"],
    }


def test_a_document_with_two_pending_rules_is_one_document(mongoengine_db: Any) -> None:
    """What a model has left is counted in documents, not in rules."""
    post = model(
        handler(
            migration01__a=rule(*ADD_ENABLED),
            migration02__b=rule({"b": {"$exists": True}}, {"$unset": {"b": ""}}),
        ),
        enabled=IntField(),
    )
    mongoengine_db.post.insert_many(
        [{"b": 1}, {"b": 1}, {"b": 1, "enabled": 1}, *({"enabled": 1} for _ in range(7))]
    )
    (row,) = rows_of(render_report([post]), "overview").values()
    assert row[:4] == ["10", "3", "70 %", "2"]


def test_a_lazy_rule_that_no_match_starts_has_documents_left(mongoengine_db: Any) -> None:
    """Documents of a lazy rule without a proof are left until a run has dealt with them."""
    with pytest.warns(ConvergenceWarning):
        post = model(
            handler(migration01__a=rule({"a": {"$lt": 0}}, {"$mul": {"a": -12}})), a=IntField()
        )
    mongoengine_db.post.insert_many([{"a": -1}, {"a": 1}, {"a": 2}, {"a": 3}])
    page = render_report([post])
    (row,) = rows_of(page, "overview").values()
    assert row[:4] == ["4", "1", "75 %", "1"]
    cells = rows_of(page, "m1-rules")["migration01__a"]
    assert [*cells[:4], cells[5]] == ["lazy, static", "1", "4", "75 %", "pending"]

    post.migration_handler(post).migrate_pending()
    assert rows_of(render_report([post]), "m1-rules")["migration01__a"][1:4] == ["0", "4", "100 %"]


def test_what_is_nearly_done_is_not_done(mongoengine_db: Any) -> None:
    """As long as one document is left, no share is said to be 100 %."""
    post = model(handler(migration01__a=rule(*ADD_ENABLED)), enabled=IntField())
    mongoengine_db.post.insert_many([{"enabled": 1} for _ in range(1999)])
    mongoengine_db.post.insert_one({})
    assert rows_of(render_report([post]), "m1-rules")["migration01__a"][3] == "99.9 %"


def test_the_rules_that_can_go_are_those_of_get_deprecated(any_db: Any) -> None:
    """The page names the rules that `get_deprecated` names, and no other."""
    post = post_model()
    fill(any_db)
    deprecated = post.migration_handler(post).get_deprecated()["deprecated"]
    body = body_of(render_report([post]))
    assert f"Can go: {', '.join(deprecated)}. No stored document matches it" in body
    any_db.post.insert_one({"_id": -1, "legacy": 1})
    assert "No rule can go yet" in body_of(render_report([post]))


def test_a_subclass_is_counted_by_itself(mongoengine_db: Any) -> None:
    """The documents, what is left and the samples of a subclass are those of its own class."""

    class Base(Document):
        meta = {"allow_inheritance": True, "collection": "post"}

    class Child(Base):
        migration_handler = handler(migration01__a=rule(*ADD_ENABLED))
        enabled = IntField()

    mongoengine_db.post.insert_many([{"_cls": "Base"} for _ in range(5)])
    mongoengine_db.post.insert_many([{"_cls": "Base.Child"}, {"_cls": "Base.Child", "enabled": 1}])
    rows = rows_of(render_report([Base, Child]), "overview")
    assert rows["Child"][:4] == ["2", "1", "50 %", "1"]
    assert rows["Base"][:4] == ["7", "0", "no rules", "0"]


# Over time


def _sparks(page: str) -> dict[str, Any]:
    """The sparklines by the rule of their row."""
    found = {}
    for row in parsed(page).iter(f"{HTML}tr"):
        for svg in row.iter(f"{SVG}svg"):
            if svg.get("class") == "spark":
                found[text_of(row[0])] = svg
    return found


def test_a_sparkline_goes_through_the_samples(mongoengine_db: Any) -> None:
    """A rule's line begins at its first sample and ends at what is left now, and says so."""
    fill(mongoengine_db)
    add_samples(mongoengine_db)
    svg = _sparks(render_report([post_model()]))["migration02__rename_title"]
    (line,) = svg.findall(f"{SVG}polyline")
    assert len(line.get("points").split()) == 11
    words = text_of(svg.find(f"{SVG}desc"))
    assert re.fullmatch(r"300 at \S+ \S+ UTC, 10 at \S+ \S+ UTC, in 11 samples\.", words)
    assert svg.get("role") == "img"
    labels = svg.get("aria-labelledby").split()
    assert labels == [svg.find(f"{SVG}title").get("id"), svg.find(f"{SVG}desc").get("id")]


def test_rules_that_have_something_left_have_a_sparkline(page: str) -> None:
    """A rule that nobody can count, and one that is finished, have none."""
    assert set(_sparks(page)) == {
        "migration01__add_enabled",
        "migration02__rename_title",
        "allmigration01__count",
    }


def test_a_page_is_a_sample(any_db: Any) -> None:
    """What was counted for the page is kept in the journal."""
    fill(any_db)
    render_report([post_model()], journal="other")
    (sample,) = any_db.other.find({"kind": "sample"})
    assert (sample["model"], sample["collection"]) == ("Post", "post")
    assert sample["remaining"]["migration01__add_enabled"] == 100


def test_without_keep_nothing_is_written(monitored_db: Any, command_log: CommandLog) -> None:
    """With `keep=False` the page has a fresh sample too, and only reading commands are sent."""
    post, checks, drift = scene(monitored_db)
    command_log.clear()
    page = render_report([post], checks=[checks], drift=[drift], keep=False)
    reading = {"find", "aggregate", "count", "getMore", "hello", "listCollections"}
    assert set(command_log.names) <= reading
    assert command_log.names
    assert "in 11 samples" in text_of(_sparks(page)["migration01__add_enabled"])


def test_without_the_right_to_write_there_is_a_page(
    mongoengine_db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused sample is named on the page, whose line has it all the same."""

    def refuse(*_args: Any) -> None:
        raise OperationFailure("not authorized on db", 13, {"codeName": "Unauthorized"})

    fill(mongoengine_db)
    add_samples(mongoengine_db)
    monkeypatch.setattr(Journal, "sample", refuse)
    page = render_report([post_model()])
    assert "not kept in the journal: the server has refused the write (Unauthorized)" in body_of(
        page
    )
    assert "in 11 samples" in text_of(_sparks(page)["migration01__add_enabled"])


def test_samples_of_another_collection_are_not_mixed_in(mongoengine_db: Any) -> None:
    """A model's lines have the samples of its own collection alone."""
    fill(mongoengine_db)
    add_samples(mongoengine_db)
    mongoengine_db.lazymig_journal.update_many({}, {"$set": {"collection": "elsewhere"}})
    sparks = _sparks(render_report([post_model()]))
    assert "in 1 sample." in text_of(sparks["migration01__add_enabled"])


# Runs


def _runs(page: str) -> list[Any]:
    (runs,) = [each for each in parsed(page).iter(f"{HTML}ol") if each.get("class") == "runs"]
    return list(runs)


def test_a_run_tells_what_it_was(mongoengine_db: Any) -> None:
    """A run has its state, times with their unit, host, note, counts, waits, options, and error."""
    run_id = add_run(
        mongoengine_db,
        started=datetime(2024, 2, 29, 12, 30),
        seconds=4000,
        state="failed",
        quarantined=3,
        waited={"max_rate": 1000.0, "nice": 400.0, "unheard_of": 2.5},
        note="ticket 4711",
        error="MigrationFailed: it broke",
    )
    (run,) = _runs(render_report([post_model()]))
    words = text_of(run)
    assert words.startswith(f"failed {run_id} From 2024-02-29 12:30:00 to 2024-02-29 13:36:40 UTC")
    assert "UTC (1 h 6 min); lazy rules of PostMigration on db-worker-3, process 4242." in words
    assert "ticket 4711 MigrationFailed: it broke Rule" in words
    assert "migration01__add_enabled done 400 of 400 123 120 3 42 s" in words
    assert "migration02__rename_title pending 0 0 0 0 0.0 s" in words
    assert "max_rate the rate was kept 16 min 40 s 25 % nice time was left to others" in words
    assert "6 min 40 s 10 % unheard_of no more is known 2.5 s 0 %" in words
    assert words.endswith("Options: chunk_size auto, max_rate 500.")
    moments = [each.get("datetime") for each in run.iter(f"{HTML}time")]
    assert moments == ["2024-02-29T12:30:00Z", "2024-02-29T13:36:40Z"]


def test_the_bars_stand_on_one_time_line(mongoengine_db: Any) -> None:
    """Each run's bar has its share of the time from the first start to the last end."""
    start = datetime(2024, 2, 29)
    for hours, length, state in ((0, 2, "finished"), (5, 5, "stopped")):
        add_run(
            mongoengine_db,
            started=start + timedelta(hours=hours),
            seconds=length * 3600,
            state=state,
        )
    bars = [
        (each.get("class"), each.get("x"), each.get("width"))
        for run in _runs(render_report([post_model()]))
        for each in run.iter(f"{SVG}rect")
        if each.get("class").startswith("ran")
    ]
    assert bars == [("ran stopped", "500", "500"), ("ran finished", "0", "200")]


def test_a_run_at_work_ends_at_its_last_sign_of_life(mongoengine_db: Any) -> None:
    """Of a run that has not ended, the page says what it waits for and what it was asked for."""
    now = client_now()
    add_run(
        mongoengine_db,
        started=now - timedelta(seconds=90),
        seconds=90,
        state="running",
        lease=3600,
        waiting="replication lag 9.0 s > max_replication_lag 5 s",
        control={"action": "stop", "limits": {}, "by": "ada"},
    )
    (run,) = _runs(render_report([post_model()]))
    words = text_of(run)
    assert "UTC (1 min 30 s), the last sign of life; lazy rules" in words
    assert "Waits at this moment: replication lag 9.0 s > max_replication_lag 5 s" in words
    assert "Asked to stop by ada." in words
    assert words.startswith("waiting ")


def test_of_many_runs_the_newest_are_shown(mongoengine_db: Any) -> None:
    """Twenty runs are shown, the newest first, and the others counted."""
    start = client_now() - DAY
    ids = [
        add_run(mongoengine_db, started=start + timedelta(minutes=number)) for number in range(23)
    ]
    page = render_report([post_model()])
    shown = [text_of(run.find(f"{HTML}h4/{HTML}code")) for run in _runs(page)]
    assert shown == [str(each) for each in reversed(ids)][:20]
    assert "The newest 20 of 23 runs." in body_of(page)


def test_runs_of_another_model_of_the_page_are_left_to_it(mongoengine_db: Any) -> None:
    """Over one collection each model has its own runs, and those of models that are not asked."""

    class Base(Document):
        meta = {"allow_inheritance": True, "collection": "post"}

    class Child(Base):
        pass

    for name in ("Base", "Child", "Gone"):
        add_run(mongoengine_db, started=client_now(), model=name)
    page = render_report([Base, Child])
    base, child = re.findall(r'<section id="m\d+".*?</section>', page, re.DOTALL)
    assert "PostMigration</code> for <code>Gone</code>" in base
    assert base.count("<h4 ") == 2
    assert child.count("<h4 ") == 2


# Quarantine


def test_twenty_documents_in_quarantine_are_shown(mongoengine_db: Any) -> None:
    """Of more refused documents the newest twenty are listed, those of the newest run first."""
    start = client_now() - DAY
    older = add_run(mongoengine_db, started=start, quarantined=30, state="failed")
    newer = add_run(mongoengine_db, started=start + DAY / 2, quarantined=2, state="failed")
    add_quarantined(mongoengine_db, older, range(30))
    add_quarantined(mongoengine_db, newer, [100, ObjectId("65a000000000000000000001")])
    page = render_report([post_model()])
    rows = rows_of(page, "m1-refused")
    assert [*rows][:2] == ["100", 'ObjectId("65a000000000000000000001")']
    assert [*rows][2:] == [str(number) for number in range(18)]
    assert rows["100"][:2] == [
        "migration01__add_enabled",
        "MigrationFailed: refused by the validator",
    ]
    assert "The newest 20 of more" in body_of(page)


def test_few_documents_in_quarantine_are_counted(mongoengine_db: Any) -> None:
    """Where all refused documents are shown, their number is said."""
    run = add_run(mongoengine_db, started=client_now(), quarantined=3, state="failed")
    add_quarantined(mongoengine_db, run, ["a"])
    assert "1 document is left as it was." in body_of(render_report([post_model()]))


# Findings


def test_drift_is_told_with_examples_and_remedies(mongoengine_db: Any) -> None:
    """Each drift finding has kind, path, message, count, an example, and its cure or rule."""
    post, _checks, report = scene(mongoengine_db)
    body = body_of(render_report([post], drift=[report]))
    for finding in report.findings:
        if finding.path != "password":
            assert f"{finding.kind} {finding.path} {finding.message}" in body
    assert '_id 22 with {"deep": ["a", 1]}' in body
    assert "cure pending The pending migration02__rename_title ends it." in body
    (stray,) = [each for each in report.findings if each.path == "stray"]
    assert stray.proposal is not None
    assert f"rule offered {stray.proposal.words}, with a question to answer first: where" in body


def test_check_findings_are_told_with_examples(mongoengine_db: Any) -> None:
    """Each check finding has kind, path, error, count, a value, and `_id`s."""
    post, report, _drift = scene(mongoengine_db)
    body = body_of(render_report([post], checks=[report]))
    for finding in report.findings:
        if finding.path != "password":
            assert (
                f"{finding.kind} {finding.model}.{finding.path} "
                f"{finding.error}: {finding.message} {finding.count} document" in body
            )
    assert '1 document; the first has "many"; _id: 20.' in body


def test_the_overview_counts_the_findings(page: str) -> None:
    """The overview says of each model how many findings there are, and how its last run ended."""
    (row,) = rows_of(page, "overview").values()
    assert row == ["400", "at least 107", "at most 73.2 %", "5", "1", "stopped", *row[6:]]
    assert re.fullmatch(r"\d+ findings", row[6])
    assert re.fullmatch(r"\d+ findings", row[7])


def test_many_findings_are_cut(mongoengine_db: Any) -> None:
    """A report with very many findings does not fill the page with them."""
    post = post_model()
    mongoengine_db.post.insert_one({"_id": 1, "title": "a", **{f"f{n}": n for n in range(90)}})
    found = diff(post)
    report = DriftReport("Post", "a.post", 1, None, found.findings * 3, ("a problem",), ())
    body = body_of(render_report([post], drift=[report]))
    assert f"And {len(found.findings) * 3 - 100} more. a problem" in body


def test_reports_may_be_given_by_model(mongoengine_db: Any) -> None:
    """A mapping's values are taken as a sequence's items are."""
    post, checks, drift = scene(mongoengine_db)
    assert "missing_default enabled" in body_of(render_report([post], drift={post: drift}))
    assert "required Post.title" in body_of(render_report([post], checks={"Post": checks}))


def test_a_report_of_no_model_is_refused(mongoengine_db: Any) -> None:
    """Findings are never left out silently: those of a model that is not given are an error."""
    report = CheckReport("Other", "a.other", 1, None, (), ())
    with pytest.raises(ValueError, match="checks has a report about Other"):
        render_report([post_model()], checks=[report])


def test_what_is_no_model_is_refused() -> None:
    """A class that has no documents is an error, before a database is asked."""
    with pytest.raises(TypeError, match="give a MongoEngine Document class"):
        render_report([dict])


# Empty states


def test_nothing_is_said_in_words(any_db: Any) -> None:
    """A model without rules, documents, runs and reports has a sentence for each."""

    class Plain(Document):
        name = StringField()

    body = body_of(render_report([Plain]))
    for sentence in (
        "This model has no rules.",
        "The journal has no run over this collection.",
        "No document is in quarantine.",
        "Drift was not looked for.",
        "The documents were not checked.",
    ):
        assert sentence in body
    (row,) = rows_of(render_report([Plain]), "overview").values()
    assert row == ["0", "0", "no rules", "0", "0", "none", "not looked for", "not looked for"]


def test_nothing_found_is_said_in_words(mongoengine_db: Any) -> None:
    """Reports without findings say that all is well, and of how many documents."""

    class Plain(Document):
        name = StringField()

    Plain(name="a").save()
    page = render_report([Plain], checks=[check_documents(Plain)], drift=[diff(Plain)])
    body = body_of(page)
    assert "1 document of" in body
    assert "The model and the stored documents agree." in body
    assert "Every document that was checked is in order." in body
    (row,) = rows_of(page, "overview").values()
    assert row[6:] == ["nothing", "nothing"]


def test_no_model_is_said_in_words() -> None:
    """Without models there is a page that says so."""
    assert "No model was given" in body_of(render_report([]))


def test_a_rule_that_reads_the_document_is_counted(mongoengine_db: Any) -> None:
    """A rule whose target is known has what is left, though its update needs the document."""
    post = model(handler(migration01__a=copying("old", "new")), new=IntField())
    mongoengine_db.post.insert_many([{"old": 1}, {"old": 1, "new": 1}])
    cells = rows_of(render_report([post]), "m1-rules")["migration01__a"]
    assert [*cells[:4], cells[5]] == ["lazy, translated", "1", "2", "50 %", "pending"]
