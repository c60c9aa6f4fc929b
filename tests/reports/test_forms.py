"""The forms of rules in reports: static, translated or Python, and why it is Python."""

from __future__ import annotations

import logging
import warnings
from datetime import datetime
from typing import Any

import pytest
from mongoengine import DynamicField
from pymongo.database import Database

from lazymig import SettlingWarning, check_documents, render_report
from lazymig.reports.looks import look
from lazymig.rules.remedies import how_to_translate
from lazymig.rules.translation import LeftToPython
from tests.support.handlers import ADD_ENABLED, copying, handler, model, rule
from tests.support.translations import COPYING, DOUBLING, doubling, translate_by_name

WHY = LeftToPython(
    "datetime.strptime(day, '%Y')", 7, "parses a date, which the server does otherwise"
)
WHY_HASHED = LeftToPython("hashlib.md5(n)", 3, "calls hashlib.md5")
SAID = (
    "computed in Python, because it parses a date, which the server does otherwise "
    "(datetime.strptime(day, '%Y')"
)


def _dated(self: Any) -> None:
    self.target = {"day": {"$type": "string"}}
    self.update = {"$set": {"day": datetime.fromisoformat(self.doc["day"])}}


def _hashed(self: Any) -> None:
    self.target = {"hashed": {"$exists": False}}
    self.update = {"$set": {"hashed": hash(self.doc["n"])}}


RULES: dict[str, Any] = {
    "migration01__add": rule(*ADD_ENABLED),
    "migration02__copy": copying("n", "copy"),
    "migration03__twice": doubling,
    "migration04__day": _dated,
}
FIELDS = dict.fromkeys(("enabled", "n", "copy", "twice", "day", "hashed"))


@pytest.fixture(autouse=True)
def _translations(monkeypatch: pytest.MonkeyPatch) -> None:
    translate_by_name(
        monkeypatch,
        migration02__copy=COPYING,
        migration03__twice=DOUBLING,
        migration04__day=WHY,
        migration05__hashed=WHY_HASHED,
    )


def _post(**rules: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SettlingWarning)
        return model(handler(**rules), **{name: DynamicField() for name in FIELDS})


def _fill(database: Database[Any]) -> None:
    database["post"].insert_many(
        [{"_id": n, "n": n or "7", "day": "2026-11-29", "enabled": True} for n in range(4)]
    )


def test_get_status_says_which_it_is(mongoengine_db: Database[Any]) -> None:
    """Each rule's status has its form, and for Python the expression and line that made it so."""
    _fill(mongoengine_db)
    post = _post(**RULES)
    found = post.migration_handler(post).get_status()
    assert [each.form for each in found] == ["static", "translated", "translated", "python"]
    assert [each.dynamic for each in found] == [False, True, True, True]
    assert [each.left_to_python for each in found] == [None, None, None, WHY]
    assert [each.settles for each in found] == [
        *(None, None, None),
        "filters, sorts and aggregations on 'day'",
    ]


def test_a_standing_has_it_in_json(mongoengine_db: Database[Any]) -> None:
    """What `status` writes as JSON has the form, and the reason as an object."""
    _fill(mongoengine_db)
    rules = look(_post(**RULES), mongoengine_db["post"]).to_dict()["rules"]
    assert [each["form"] for each in rules] == ["static", "translated", "translated", "python"]
    assert rules[0]["left_to_python"] is None
    assert rules[3]["left_to_python"] == {
        "expression": WHY.expression,
        "line": 7,
        "reason": WHY.reason,
    }


def test_a_preview_says_it_and_counts_what_python_does(mongoengine_db: Database[Any]) -> None:
    """A preview has the forms, the documents outside of a guard, the reason and the other form."""
    _fill(mongoengine_db)
    post = _post(**RULES)
    report = post.migration_handler(post).preview()
    assert [each.form for each in report.rules] == ["static", "translated", "translated", "python"]
    assert [each.in_python for each in report.rules] == [None, 0, 1, None]
    lines = report.format().splitlines()
    assert "migration02__copy (lazy, translated): matches 4 documents" in lines
    assert "    1 document of them computed in Python" in lines
    dated = report.rules[3].problems
    assert dated[0].startswith(SAID)
    assert "'day' settle old documents first" in dated[1]
    assert "$dateFromString" in dated[2]


def test_a_check_says_what_settles(mongoengine_db: Database[Any]) -> None:
    """`check_documents` names the rules that make operations settle, while they have documents."""
    _fill(mongoengine_db)
    post = _post(**RULES)
    (problem,) = check_documents(post).problems
    assert problem.startswith(f"Post.migration04__day: {SAID}")
    post.migration_handler(post).migrate_pending()
    assert check_documents(post).problems == ()


def test_the_page_says_it(mongoengine_db: Database[Any]) -> None:
    """The page has each rule's form, and the reasons for Python."""
    _fill(mongoengine_db)
    page = render_report([_post(**RULES)], keep=False)
    assert "lazy, translated" in page
    assert "lazy, Python" in page
    assert "parses a date, which the server does otherwise" in page


def test_a_class_with_a_rule_that_need_not_settle_warns_once() -> None:
    """A rule that is left to Python and has another form warns where the class is defined."""
    rules = handler(**RULES)
    fields = {name: DynamicField() for name in FIELDS}
    with pytest.warns(SettlingWarning) as caught:
        _ = model(rules, **fields).migration_handler
    (first,) = caught
    text = str(first.message)
    assert text.startswith(f"Post.migration04__day is {SAID}")
    assert "'day' migrate old documents before they answer" in text
    assert "$dateFromString" in text
    assert first.filename.endswith("handlers.py")


def test_where_there_is_no_other_form_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Of a rule that only Python can compute there is a line in the log, and no warning."""
    caplog.set_level(logging.INFO, "lazymig")
    model(handler(migration05__hashed=_hashed), hashed=DynamicField(), n=DynamicField())
    (record,) = [each for each in caplog.records if "computed in Python" in each.getMessage()]
    assert record.getMessage() == (
        "Post.migration05__hashed: computed in Python, because it calls hashlib.md5 "
        "(hashlib.md5(n) in line 3); filters, sorts and aggregations on 'hashed' settle old "
        "documents first: they are migrated before the answer"
    )


def test_a_loop_is_not_replaced_by_what_is_called_for_its_items() -> None:
    """Where it is a loop that is left to Python, no operator is named for what it goes over."""
    left = LeftToPython("str(doc['x'])", 1, "loops over what is no list")
    assert how_to_translate(left) is None


def test_a_bulk_rule_does_not_warn() -> None:
    """No query waits for a bulk rule, so that it may be computed in Python without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(handler(allmigration04__day=_dated), day=DynamicField())


@pytest.mark.parametrize(
    ("expression", "advice"),
    [
        ("datetime.fromisoformat(x)", "$dateFromString"),
        ("round(float(x), 2)", "$round"),
        ("for item in self.doc['items']:", "each()"),
        ("hashlib.md5(x)", None),
        ("x[", None),
    ],
)
def test_the_other_form_goes_by_what_is_called(expression: str, advice: str | None) -> None:
    """The advice names what a pipeline has for the outermost function that it has something for."""
    found = how_to_translate(LeftToPython(expression, 1, "so"))
    assert found is None if advice is None else found is not None and advice in found


def test_no_operator_is_proposed_for_a_part() -> None:
    """What the server lacks is the outer function; that it has the inner one is of no use."""
    left = LeftToPython("re.sub('x', '-', self.doc['name'].lower())", 3, "calls sub")
    assert how_to_translate(left) is None
    assert "$toLower" in (how_to_translate(LeftToPython("name.lower()", 3, "depends")) or "")
