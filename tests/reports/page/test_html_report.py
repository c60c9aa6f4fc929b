"""What the HTML report says; `test_html_safety` has what it must not, `test_html_page` looks."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from mongoengine import BooleanField, Document, IntField, StringField
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
    assert {name: [*cells[:4], cells[6]] for name, cells in rows.items()} == {
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
    assert row[:4] == ["10", "3", "70 %", "0 of 2"]


def test_a_lazy_rule_that_no_match_starts_has_documents_left(mongoengine_db: Any) -> None:
    """Documents of a lazy rule without a proof are left until a run has dealt with them."""
    with pytest.warns(ConvergenceWarning):
        post = model(
            handler(migration01__a=rule({"a": {"$lt": 0}}, {"$mul": {"a": -12}})), a=IntField()
        )
    mongoengine_db.post.insert_many([{"a": -1}, {"a": 1}, {"a": 2}, {"a": 3}])
    page = render_report([post])
    (row,) = rows_of(page, "overview").values()
    assert row[:4] == ["4", "1", "75 %", "0 of 1"]
    cells = rows_of(page, "m1-rules")["migration01__a"]
    assert [*cells[:4], cells[6]] == ["lazy, static", "1", "4", "75 %", "pending"]

    post.migration_handler(post).migrate_pending()
    assert rows_of(render_report([post]), "m1-rules")["migration01__a"][1:4] == ["0", "4", "100 %"]


@pytest.mark.parametrize("written", [True, False], ids=["with a rule", "alone"])
@pytest.mark.filterwarnings("ignore::lazymig.UnfinishedRuleWarning")
def test_what_is_no_rule_yet_is_not_done(mongoengine_db: Any, written: bool) -> None:
    """A skeleton has a row, and so has a rule that waits for it; the model is not done."""

    def begun(self: Any) -> None:
        raise NotImplementedError("TODO: write the rule, then delete this line")

    done = {"migration01__a": rule(*ADD_ENABLED)} if written else {}
    rules = handler(**done, migration02__b=begun, allmigration01__c=rule({"c": 1}, {"$inc": {}}))
    mongoengine_db.post.insert_one({"enabled": True})
    page = render_report([model(rules, enabled=BooleanField())])
    assert "0 of 1 model done" in body_of(page)
    (row,) = rows_of(page, "overview").values()
    assert row[1:4] == ["at least 0", "not known", f"{len(done)} of {len(done) + 2}"]
    rows = rows_of(page, "m1-rules")
    assert {name: cells[6] for name, cells in rows.items() if name not in done} == {
        "migration02__b": "no rule yet it has its line TODO",
        "allmigration01__c": "waits for a rule that is not finished",
    }


def test_what_is_nearly_done_is_not_done(mongoengine_db: Any) -> None:
    """As long as one document is left, no share is said to be 100 %."""
    post = model(handler(migration01__a=rule(*ADD_ENABLED)), enabled=IntField())
    mongoengine_db.post.insert_many([{"enabled": 1} for _ in range(1999)])
    mongoengine_db.post.insert_one({})
    assert rows_of(render_report([post]), "m1-rules")["migration01__a"][3] == "99.9 %"


def test_the_rules_that_can_go_are_those_of_get_deprecated(any_db: Any) -> None:
    """The page says of the rules that `get_deprecated` names that they can go, and of no other."""
    post = post_model()
    fill(any_db)
    deprecated = post.migration_handler(post).get_deprecated()["deprecated"]
    rows = rows_of(render_report([post]), "m1-rules")
    assert [name for name, cells in rows.items() if cells[6] == "can go"] == deprecated
    assert deprecated
    any_db.post.insert_one({"_id": -1, "legacy": 1})
    rows = rows_of(render_report([post]), "m1-rules")
    assert not [name for name, cells in rows.items() if cells[6] == "can go"]


def test_each_rule_is_there_once(mongoengine_db: Any) -> None:
    """However many runs there were, a rule has one row, and no other part of the page names it."""
    post = post_model()
    fill(mongoengine_db)
    for hours in range(5):
        add_run(mongoengine_db, started=client_now() - timedelta(hours=hours))
    body = body_of(render_report([post]))
    for each in rows_of(render_report([post]), "m1-rules"):
        # A sparkline names its rule to screen readers.
        assert len(re.findall(rf"(?<!left for )\b{each}\b", body)) == 1


def test_a_sealed_and_an_indexed_rule_say_so(mongoengine_db: Any) -> None:
    """The state of a rule has what is sealed, and what is indexed."""
    post = model(
        handler(
            migration01__a=rule(*ADD_ENABLED),
            migration02__b=rule({"b": {"$exists": True}}, {"$unset": {"b": ""}}),
        ),
        enabled=IntField(),
    )
    mongoengine_db.post.insert_many([{"enabled": 1}, {"enabled": 1, "b": 1}])
    migration = post.migration_handler(post)
    migration.create_rule_indexes()
    assert migration.seal(rules=["migration01__a"]).sealed == ("migration01__a",)
    rows = rows_of(render_report([post]), "m1-rules")
    assert rows["migration01__a"][6] == "can go sealed indexed"
    assert rows["migration02__b"][6] == "pending indexed"


# The headline, and what is folded


def _done(*names: str) -> Any:
    return [
        model(handler(migration01__a=rule(*ADD_ENABLED)), name_of_class=name, enabled=IntField())
        for name in names
    ]


def _headline(page: str) -> str:
    (found,) = [each for each in parsed(page).iter(f"{HTML}p") if each.get("class") == "headline"]
    return text_of(found)


def test_the_page_opens_with_one_headline(mongoengine_db: Any) -> None:
    """How many models are done, of those with rules, and how many documents are in quarantine."""

    class Plain(Document):
        meta = {"collection": "plain"}

    (post,) = _done("Post")
    assert _headline(render_report([Plain])) == "No model has rules, no document in quarantine"
    mongoengine_db.post.insert_many([{"_id": 1, "enabled": 1}])
    page = render_report([post, Plain])
    assert _headline(page) == "1 of 1 model done, no document in quarantine"
    mongoengine_db.post.insert_many([{"_id": 2}, {"_id": 3}])
    run = add_run(mongoengine_db, started=client_now(), quarantined=3)
    rule_name = "migration01__a"
    add_quarantined(mongoengine_db, run, [2, 3, 4], rule=rule_name)
    page = render_report([post, Plain])
    # The fourth is gone: nobody waits for it.
    assert _headline(page) == "0 of 1 model done, 2 documents in quarantine"
    rows = rows_of(page, "overview")
    assert [row[4] for row in rows.values()] == ["2", "0"]
    assert rows_of(page, "m1-rules")[rule_name][5] == "2"
    states = {key: cells[3] for key, cells in rows_of(page, "Documents in quarantine").items()}
    assert states == {"2": "waits", "3": "waits", "4": "settled since"}


def test_a_finished_model_is_one_line_that_unfolds(mongoengine_db: Any) -> None:
    """A model that is done is folded; one that is not, or has no rules, is open."""

    class Plain(Document):
        meta = {"collection": "plain"}

    (post,) = _done("Post")
    mongoengine_db.post.insert_one({"_id": 1, "enabled": 1})

    def folded(models: list[Any]) -> list[bool]:
        tree = parsed(render_report(models))
        sections = tree.iter(f"{HTML}section")
        return [each.find(f"{HTML}details").get("open") is None for each in sections]

    assert folded([post, Plain]) == [True, False]
    assert "Post done 1 document; 1 of 1 rule done" in body_of(render_report([post]))
    mongoengine_db.post.insert_one({"_id": 2})
    assert folded([post, Plain]) == [False, False]


def test_cured_and_uncured_findings_are_apart(mongoengine_db: Any) -> None:
    """The overview and the section tell apart what a pending rule cures, and what nobody does."""
    post, checks, drift = scene(mongoengine_db)
    page = render_report([post], checks=[checks], drift=[drift])
    every = (*checks.findings, *drift.findings)
    cured = [each for each in every if each.cured_by]
    (row,) = rows_of(page, "overview").values()
    assert row[5:7] == [str(len(every) - len(cured)), str(len(cured))]
    assert cured
    uncured_part, found, cured_part = body_of(page).partition("Findings that a pending rule cures")
    assert found
    assert uncured_part.count("cure pending") == 0
    assert cured_part.count("cure pending") == len(cured)


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
    assert rows["Child"][:4] == ["2", "1", "50 %", "0 of 1"]
    assert rows["Base"][:4] == ["7", "0", "no rules", "0 of 0"]


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
    reading = {"find", "aggregate", "count", "getMore", "listCollections", "listIndexes"}
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
    assert words.startswith(
        f"failed {run_id} 2024-02-29 12:30:00, 1 h 6 min; 120 applications of rules, refused 3 "
        "From 2024-02-29 12:30:00 to 2024-02-29 13:36:40 UTC"
    )
    assert "UTC; lazy rules of PostMigration on db-worker-3, process 4242." in words
    assert "1 rule of 2 done; added up over the rules: matched 123, modified 120, " in words
    assert "modified 120, refused 3." in words
    assert "ticket 4711 MigrationFailed: it broke Waited for" in words
    assert "max_rate the rate was kept 16 min 40 s 25 % nice time was left to others" in words
    assert "6 min 40 s 10 % unheard_of no more is known 2.5 s 0 %" in words
    assert words.endswith("Options: chunk_size auto, max_rate 500.")
    moments = [each.get("datetime") for each in run.iter(f"{HTML}time")]
    assert moments == [
        "2024-02-29T12:30:00Z",
        "2024-02-29T12:30:00Z",
        "2024-02-29T13:36:40Z",
    ]


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
    assert "UTC, the last sign of life; lazy rules" in words
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
    shown = [text_of(run.find(f"{HTML}details/{HTML}summary/{HTML}code")) for run in _runs(page)]
    assert shown == [str(each) for each in reversed(ids)][:20]
    assert "23 runs, the newest finished" in body_of(page)
    assert "The newest 20 of 23." in body_of(page)


def test_runs_of_another_model_of_the_page_are_left_to_it(mongoengine_db: Any) -> None:
    """Over one collection each model has its own runs, and those of models that are not asked."""

    class Base(Document):
        meta = {"allow_inheritance": True, "collection": "post"}

    class Child(Base):
        pass

    for name in ("Base", "Child", "Gone"):
        add_run(mongoengine_db, started=client_now(), model=name)
    page = render_report([Base, Child])
    base, child = re.findall(r"<section .*?</section>", page, re.DOTALL)
    assert "PostMigration</code> for <code>Gone</code>" in base
    assert base.count('<svg class="time"') == 2
    assert child.count('<svg class="time"') == 2


# Quarantine


def test_twenty_documents_in_quarantine_are_shown(mongoengine_db: Any) -> None:
    """Of more entries the newest twenty are listed, five at once, those of the newest run first."""
    start = client_now() - DAY
    older = add_run(mongoengine_db, started=start, quarantined=30, state="failed")
    newer = add_run(mongoengine_db, started=start + DAY / 2, quarantined=2, state="failed")
    add_quarantined(mongoengine_db, older, range(30))
    add_quarantined(mongoengine_db, newer, [100, ObjectId("65a000000000000000000001")])
    page = render_report([post_model()])
    rows = rows_of(page, "Documents in quarantine")
    more = rows_of(page, "More documents in quarantine")
    assert [*rows] == ["100", 'ObjectId("65a000000000000000000001")', "0", "1", "2"]
    assert [*more] == [str(number) for number in range(3, 18)]
    assert rows["100"][:2] == [
        "migration01__add_enabled",
        "MigrationFailed: refused by the validator",
    ]


def test_what_still_waits_comes_first(mongoengine_db: Any) -> None:
    """Documents that wait for their rule are listed before those that were settled since."""
    post = post_model()
    mongoengine_db.post.insert_one({"_id": 99, "title": "a"})
    run = add_run(mongoengine_db, started=client_now(), quarantined=31, state="failed")
    add_quarantined(mongoengine_db, run, range(30))
    add_quarantined(mongoengine_db, run, [99], at=client_now() - DAY)
    add_run(mongoengine_db, started=client_now() - 2 * DAY, seconds=1)
    rows = rows_of(render_report([post]), "Documents in quarantine")
    assert [(key, cells[3]) for key, cells in rows.items()][:2] == [
        ("99", "waits"),
        ("0", "settled since"),
    ]


# Findings


def test_drift_is_told_with_examples_and_remedies(mongoengine_db: Any) -> None:
    """Each drift finding has kind, path, message, count, an example, and its cure or rule."""
    post, _checks, report = scene(mongoengine_db)
    body = body_of(render_report([post], drift=[report]))
    for finding in report.findings:
        if finding.path != "password":
            count = "1 document" if finding.count == 1 else f"{finding.count:,} documents"
            assert f"{finding.kind} {finding.path} {count} {finding.message}" in body
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
            count = "1 document" if finding.count == 1 else f"{finding.count:,} documents"
            assert (
                f"{finding.kind} {finding.model}.{finding.path} {count} "
                f"{finding.error}: {finding.message}" in body
            )
    assert 'The first has "many"; _id: 20.' in body


def test_the_overview_counts_the_findings(page: str) -> None:
    """The overview says of each model how many findings there are, and how its last run ended."""
    (row,) = rows_of(page, "overview").values()
    totals = ["400", "at least 107", "at most 73.2 %", "1 of 5"]
    assert row == [*totals, *row[4:7], "stopped"]
    assert all(re.fullmatch(r"\d+", cell) for cell in row[4:7])


def test_many_findings_are_cut(mongoengine_db: Any) -> None:
    """A report with very many findings does not fill the page with them."""
    post = post_model()
    mongoengine_db.post.insert_one({"_id": 1, "title": "a", **{f"f{n}": n for n in range(90)}})
    found = diff(post)
    report = DriftReport("Post", "a.post", 1, None, found.findings * 3, ("a problem",), ())
    body = body_of(render_report([post], drift=[report]))
    assert f"And {len(found.uncured) * 3 - 100} more. a problem" in body


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
        "The documents were neither compared with the model nor checked.",
    ):
        assert sentence in body
    (row,) = rows_of(render_report([Plain]), "overview").values()
    assert row == [
        *("0", "0", "no rules", "0 of 0", "0"),
        *("not looked for", "not looked for", "none"),
    ]


def test_nothing_found_is_said_in_words(mongoengine_db: Any) -> None:
    """Reports without findings say that all is well, and of how many documents."""

    class Plain(Document):
        name = StringField()

    Plain(name="a").save()
    page = render_report([Plain], checks=[check_documents(Plain)], drift=[diff(Plain)])
    body = body_of(page)
    assert re.search(r"1 document of \S+ was compared with the model", body)
    assert re.search(r"1 document of \S+ was checked", body)
    assert "None: every document is in order." in body
    (row,) = rows_of(page, "overview").values()
    assert row[5:7] == ["none", "none"]


def test_no_model_is_said_in_words() -> None:
    """Without models there is a page that says so."""
    assert "No model was given" in body_of(render_report([]))


def test_a_rule_that_reads_the_document_is_counted(mongoengine_db: Any) -> None:
    """A rule whose target is known has what is left, though its update needs the document."""
    post = model(handler(migration01__a=copying("old", "new")), new=IntField())
    mongoengine_db.post.insert_many([{"old": 1}, {"old": 1, "new": 1}])
    cells = rows_of(render_report([post]), "m1-rules")["migration01__a"]
    assert [*cells[:4], cells[6]] == ["lazy, translated", "1", "2", "50 %", "pending"]
