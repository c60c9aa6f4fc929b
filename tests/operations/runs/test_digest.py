"""The digest of a rule: what changes it, and what does not."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from mongoengine import IntField

from lazymig import DocumentMigration
from lazymig.operations.runs.digest import digest_of
from lazymig.rules.binding import bind
from lazymig.rules.discovery import discover
from tests.support.handlers import handler, model, rule

ROOT = Path(__file__).parents[3]

RULE = """
    class Rules(DocumentMigration):
        def migration01__copy(self):
            self.target = {"n": {"$exists": False}}
            self.update = {"$set": {"n": 1}}
"""


def _digest(rules: Any) -> str:
    (found,) = discover(rules)
    bound = bind(found, rules, model(name_of_class="Seen", n=IntField()))
    assert bound is not None
    return digest_of(bound)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Digest of the rule in a module with this source."""
    count = iter(range(100))

    def digest(source: str) -> str:
        path = tmp_path / f"rules_{next(count)}.py"
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        namespace: dict[str, Any] = {"DocumentMigration": DocumentMigration, "__name__": "rules"}
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), namespace)
        return _digest(namespace["Rules"])

    return digest


def _without_source(source: str) -> str:
    namespace: dict[str, Any] = {"DocumentMigration": DocumentMigration, "__name__": "rules"}
    exec(compile(textwrap.dedent(source), "<typed in>", "exec"), namespace)
    return _digest(namespace["Rules"])


def test_a_digest_is_sixteen_hexadecimal_digits(written) -> None:
    """A digest is short text that any journal can hold."""
    digest = written(RULE)
    assert len(digest) == 16
    assert int(digest, 16) >= 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self.target =", "# why\n            self.target ="),
        ("self.target =", '"""What it does."""\n\n            self.target ='),
        ('{"n": {"$exists": False}}', '{\n                "n": {"$exists": False},\n            }'),
        ('"n"', "'n'"),
    ],
    ids=["comment", "docstring", "line breaks", "quotes"],
)
def test_the_writing_does_not_count(written, old: str, new: str) -> None:
    """Comments, the docstring, line breaks and quotes leave the digest as it is."""
    assert written(RULE.replace(old, new)) == written(RULE)


@pytest.mark.parametrize("digest", ["written", "typed in"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('{"n": 1}', '{"n": 2}'),
        ('{"n": 1}', '{"n": 1.0}'),
        ('{"n": 1}', '{"n": True}'),
        ('"$exists": False', '"$exists": 0'),
        ('"$set"', '"$max"'),
    ],
)
def test_another_rule_has_another_digest(written, digest: str, old: str, new: str) -> None:
    """Whatever the method says otherwise changes the digest, with its source and without."""
    take = written if digest == "written" else _without_source
    assert take(RULE.replace(old, new)) != take(RULE)


def test_without_source_the_docstring_does_not_count() -> None:
    """Where there is no source the code is taken; its docstring does not count either."""
    documented = RULE.replace("self.target =", '"""What it does."""\n            self.target =')
    other = documented.replace("What it does", "What else it does")
    assert _without_source(documented) == _without_source(other)


def test_every_process_gets_the_same_digest() -> None:
    """The seed of the hashes, which orders sets anew in each process, is nowhere in a digest."""
    source = RULE.replace("self.update", 'x = self.doc_class in {"a", "b", "c", "d"}; self.update')
    script = (
        "from tests.operations.runs.test_digest import _without_source\n"
        f"print(_without_source({source!r}))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert digests == {f"{_without_source(source)}\n"}


def test_what_a_method_closes_over_counts() -> None:
    """Rules from one factory differ by the values that it was given."""
    one = handler(migration01__a=rule({"n": None}, {"$set": {"n": 1}}))
    again = handler(migration01__a=rule({"n": None}, {"$set": {"n": 1}}))
    two = handler(migration01__a=rule({"n": None}, {"$set": {"n": 2}}))
    assert _digest(one) == _digest(again)
    assert _digest(one) != _digest(two)


def test_what_a_decorator_hides_counts() -> None:
    """A wrapped method is looked into, and an object without a BSON form does no harm."""

    def decorated(method: Any, mark: object) -> Any:
        def wrapper(self: Any) -> None:
            assert mark is not None
            method(self)

        return functools.update_wrapper(wrapper, method, assigned=(), updated=())

    def digest(number: int) -> str:
        method = rule({"n": None}, {"$set": {"n": number}})
        return _digest(handler(migration01__a=decorated(method, object())))

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)
