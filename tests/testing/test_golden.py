"""Golden files: read, checked, and rewritten from what the rules give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mongoengine
import pytest
from mongoengine import (
    BinaryField,
    BooleanField,
    DateTimeField,
    Decimal128Field,
    FloatField,
    IntField,
    ObjectIdField,
    StringField,
    UUIDField,
)
from pymongo.database import Database

from lazymig.testing import GoldenCase, golden_cases
from tests.support.handlers import ADD_ENABLED, handler, model, rule

ENABLE = {"migration01__enable": rule(*ADD_ENABLED)}
DRAFT = {"allmigration01__draft": rule({"draft": {"$exists": True}}, {"$unset": {"draft": ""}})}

VALUES: dict[str, Any] = {
    "date": {"$date": "2020-01-01T00:00:00.001Z"},
    "object_id": {"$oid": "5f0000000000000000000001"},
    "uuid": {"$uuid": "00000000-0000-0000-0000-000000000001"},
    "binary": {"$binary": {"base64": "AQI=", "subType": "00"}},
    "decimal": {"$numberDecimal": "1.50"},
    "long": {"$numberLong": "1099511627776"},
    "whole": 1.0,
    "text": "ä",
}


def _post(**fields: Any) -> Any:
    return model(handler(**ENABLE, **DRAFT), enabled=BooleanField(), **fields)


def _post_of_everything() -> Any:
    return _post(
        date=DateTimeField(),
        object_id=ObjectIdField(),
        uuid=UUIDField(),
        binary=BinaryField(),
        decimal=Decimal128Field(),
        long=getattr(mongoengine, "LongField", IntField)(),
        whole=FloatField(),
        text=StringField(),
    )


def _written(folder: Path, content: Any, name: str = "old_post") -> Path:
    path = folder / f"{name}.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def _refusal(path: Path, given: Any = None) -> str:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the caller looks at the text
        GoldenCase(path, given).check()
    assert str(refusal.value).startswith(f"{path}: ")
    return str(refusal.value)


def test_the_cases_of_a_folder_come_in_order(tmp_path: Path) -> None:
    """Every JSON file below the folder is a case that is named after it, whatever else is there."""
    (tmp_path / "inner").mkdir()
    for name in ("b", "a", "inner/c"):
        _written(tmp_path, {}, name)
    (tmp_path / "README.md").touch()
    cases = golden_cases(tmp_path)
    assert [str(case) for case in cases] == ["a", "b", "c"]
    assert golden_cases(str(tmp_path)) == cases


def test_a_folder_without_cases_is_an_error(tmp_path: Path) -> None:
    """A test that is parametrized by a wrong folder fails, instead of testing nothing."""
    for folder in (tmp_path, tmp_path / "gone"):
        with pytest.raises(FileNotFoundError, match="holds no golden files"):
            golden_cases(folder)


def test_a_right_file_passes(any_db: Any, tmp_path: Path) -> None:
    """A file whose `after` is what the rules make of its `before` passes."""
    _written(tmp_path, {"before": {"_id": 1}, "after": {"_id": 1, "enabled": True}})
    (case,) = golden_cases(tmp_path, _post())
    case.check()


def test_a_wrong_file_fails_with_its_path(any_db: Any, tmp_path: Path) -> None:
    """The failure names the file and the paths that differ."""
    path = _written(tmp_path, {"before": {"_id": 1}, "after": {"enabled": False}})
    with pytest.raises(AssertionError) as failure:
        GoldenCase(path, _post()).check()
    assert str(failure.value).startswith(f"{path}: Post: what is stored is not what was expected")
    assert "expected: False (bool)" in str(failure.value)


def test_the_scope_of_a_file_counts(any_db: Any, tmp_path: Path) -> None:
    """A file may ask for bulk rules, or for all."""
    for scope, after in (("bulk", {}), ("all", {"enabled": True})):
        path = _written(tmp_path, {"scope": scope, "before": {"draft": 1}, "after": after})
        GoldenCase(path, _post()).check()


def test_every_type_goes_through_a_file(mongoengine_db: Any, tmp_path: Path) -> None:
    """Extended JSON stands for the BSON type that it names, stored or expected."""
    path = _written(tmp_path, {"before": VALUES, "after": {**VALUES, "enabled": True}})
    GoldenCase(path, _post_of_everything()).check()
    for name, value in VALUES.items():
        path = _written(tmp_path, {"before": {}, "after": {name: value, "enabled": True}})
        with pytest.raises(AssertionError, match=name):
            GoldenCase(path, _post_of_everything()).check()


def test_a_uuid_is_stored_as_the_file_has_it(database: Database[Any], tmp_path: Path) -> None:
    """A file with a UUID can be checked on a client that was not told how to write UUIDs."""
    host, port = database.client.address or ("", 0)
    mongoengine.connect(
        database.name, host=host, port=port, uuidRepresentation="unspecified", directConnection=True
    )
    document = {"binary": VALUES["uuid"]}
    path = _written(tmp_path, {"before": document, "after": {**document, "enabled": True}})
    GoldenCase(path, _post_of_everything()).check()
    case = GoldenCase(_written(tmp_path, {"before": document}), _post_of_everything())
    case.update()
    case.check()


def test_an_update_writes_what_the_rules_give(mongoengine_db: Any, tmp_path: Path) -> None:
    """The `after` of the file is what is stored, and what has been written passes the check."""
    content = {"scope": "all", "before": {**VALUES, "draft": 1}, "after": {"enabled": 1}}
    path = _written(tmp_path, content)
    case = GoldenCase(path, _post_of_everything())
    assert case.update() is True
    case.check()
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["scope"] == "all"
    assert written["before"] == content["before"]
    assert written["after"]["date"] == VALUES["date"]
    assert "_id" not in written["after"]
    assert "ä" in path.read_text(encoding="utf-8")


def test_an_update_completes_a_new_file(any_db: Any, tmp_path: Path) -> None:
    """A file of which only `before` was written gets its `after`; until then its check says how."""
    path = _written(tmp_path, {"before": {"_id": 3}})
    assert "pytest --lazymig-update-golden writes" in _refusal(path, _post())
    assert GoldenCase(path, _post()).update() is True
    assert json.loads(path.read_text()) == {
        "before": {"_id": 3},
        "after": {"_id": 3, "enabled": True},
    }


@pytest.mark.parametrize("identity", [{}, {"_id": 1}])
def test_an_update_leaves_a_right_file_alone(any_db: Any, tmp_path: Path, identity: Any) -> None:
    """A file that is right is not written, however it is laid out."""
    after = {"enabled": True, **identity}
    layout = f'{{"after": {json.dumps(after)},\n\n "before": {json.dumps(identity)}}}'
    path = _written(tmp_path, layout)
    assert GoldenCase(path, _post()).update() is False
    assert path.read_text() == layout


def test_a_file_may_name_its_model(any_db: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """`model` in the file goes before the model of the call."""
    monkeypatch.setattr(Holder, "Model", _post())
    named = {"model": f"{__name__}:Holder.Model", "before": {}, "after": {"enabled": True}}
    GoldenCase(_written(tmp_path, named), "never asked for").check()


class Holder:
    """Holds a model that a file names."""

    Model: Any = None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON"),
        ([], "is no golden file"),
        ({"after": {}}, "is no golden file"),
        ({"before": []}, "is no golden file"),
        ({"before": {}, "after": {}, "afer": {}}, "unknown key 'afer'; use model, scope, before"),
        ({"before": {}, "after": {}, "model": "gone.models:User"}, "cannot be imported: No module"),
        ({"before": {}, "after": {}, "scope": "both"}, "scope is 'both'; use lazy, bulk, all"),
        ({"before": {}, "after": {}}, "names no model; add 'model'"),
        ({"before": {}, "after": {}, "model": "User"}, "write 'package.module:Class'"),
        (
            {"before": {}, "after": {}, "model": f"{__name__}:Gone"},
            "has no 'Gone'; correct 'model'",
        ),
    ],
)
def test_a_malformed_file_says_what_is_wrong(tmp_path: Path, content: Any, said: str) -> None:
    """Whatever is wrong with a file is said with its path, before anything is written."""
    assert said in _refusal(_written(tmp_path, content))
