"""The files for a public host: they are well-formed, and name what the package names."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
WORKFLOW = GITHUB / "workflows" / "ci.yml"


def read(path: Path) -> Any:
    """The contents of a YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted(GITHUB.rglob("*.y*ml")), ids=lambda path: path.name)
def test_every_file_is_yaml(path: Path) -> None:
    """Each file is a mapping without a key that comes twice."""
    assert isinstance(read(path), dict)
    keys = [
        (len(indent), name)
        for indent, name in re.findall(
            r"^( *)(\w+):", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        if not indent
    ]
    assert len(keys) == len(set(keys))


def test_the_matrix_is_what_the_package_names() -> None:
    """The workflow runs each Python of the classifiers, with four versions of MongoDB."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    pythons = re.findall(r"Python :: (3\.\d+)$", parser["metadata"]["classifiers"], re.MULTILINE)
    matrix = read(WORKFLOW)["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == pythons
    assert matrix["mongodb"] == ["5.0", "6.0", "7.0", "8.0"]


def test_the_workflow_says_that_it_was_not_run() -> None:
    """Whoever reads the file learns that nobody has seen it at work."""
    assert "it has not been run" in WORKFLOW.read_text(encoding="utf-8").partition("name:")[0]


def test_the_workflow_runs_what_there_is() -> None:
    """The targets of make in the workflow are in the Makefile, its Python compiles."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    steps = [step for job in read(WORKFLOW)["jobs"].values() for step in job["steps"]]
    called = [target for step in steps for target in _targets(step.get("run", ""))]
    assert called
    assert [name for name in called if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []
    for step in steps:
        if step.get("shell") == "python":
            compile(step["run"], "ci.yml", "exec")


def _targets(command: str) -> list[str]:
    first, *rest = command.split() or [""]
    return rest if first == "make" else []


def test_the_forms_ask_for_versions() -> None:
    """The forms for faults ask for the versions, and every field of a form has an id of its own."""
    for name in ("bug.yml", "wrong_answer.yml", "feature.yml"):
        body = read(GITHUB / "ISSUE_TEMPLATE" / name)["body"]
        ids = [part["id"] for part in body if part["type"] != "markdown"]
        assert len(ids) == len(set(ids))
        assert ("versions" in ids) == (name != "feature.yml")
