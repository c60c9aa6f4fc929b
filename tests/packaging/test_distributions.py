"""What is built: a wheel and an sdist, installed in empty environments and used from there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile
from zlib import crc32

import pytest

import lazymig
from lazymig.testing.mongod import find_mongod

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(
    ".git",
    ".venv",
    ".hypothesis",
    ".*_cache",
    "__pycache__",
    "*.egg-info",
    "build",
    "dist",
    "_build",
)

USER_MODULE = """
from mongoengine import BooleanField, Document, StringField

from lazymig import DocumentMigration, History, LazyMigrationMixin, MigrationReport, once, restore


class UserMigration(DocumentMigration):
    settle_limit = None

    def migration01__add_enabled(self) -> None:
        self.target = {"enabled": {"$exists": False}}
        self.update = {"$set": {"enabled": True}}

    @once(lease=30.0)
    def migration02__greet(self) -> None:
        self.target = {"greeted": {"$exists": False}}
        name: str = self.doc["name"]
        self.update = {"$set": {"greeted": name}}


class User(LazyMigrationMixin, Document):  # type: ignore[misc]
    name = StringField()
    enabled = BooleanField()
    greeted = StringField()
    migration_handler = UserMigration


def run() -> MigrationReport:
    report: MigrationReport = UserMigration(User).migrate_pending(
        chunk_size=100, max_rate=5.0, note="x", progress=True
    )
    count: int = report.modified
    names: list[str] = [rule.name for rule in History(User).runs()[0].rules]
    print(count, names, restore)
    return report
"""
WRONG_USE = """
from user import User, UserMigration

from lazymig import frobnicate

UserMigration(User).migrate_pending(chunk_sizes=100)
"""


def _run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**_clean_environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def _clean_environment() -> dict[str, str]:
    mine = ("PYTHONPATH", "VIRTUAL_ENV", "LAZYMIG_")
    return {name: value for name, value in os.environ.items() if not name.startswith(mine)}


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of a copy of the sources, and the wheel that was built from that."""
    sources = tmp_path_factory.mktemp("sources") / "lazymig"
    shutil.copytree(ROOT, sources, ignore=LEFT_OUT)
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--outdir", folder, sources, cwd=sources)
    return folder


def _pip(*arguments: str | Path, cwd: Path) -> str:
    """Run the pip of the tests: to give an environment one of its own takes seconds."""
    return _run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, cwd=cwd)


class Light(NamedTuple):
    """An environment in which lazymig alone was installed, at first: its programs, and what it is.

    `libraries` are those that are installed, `program` is a call of `lazymig`.
    """

    programs: Path
    wheel: Path
    libraries: set[str]
    program: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def light(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Light:
    """An empty environment in which the wheel is installed, without extras."""
    (wheel,) = distributions.glob("*.whl")
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment)
    programs = environment / "bin"
    _pip("--python", programs / "python", "install", "-q", wheel, cwd=environment)
    frozen = _pip("--python", programs / "python", "freeze", cwd=environment)
    call = [programs / "lazymig", "--version"]
    program = subprocess.run(
        call, capture_output=True, text=True, check=False, env=_clean_environment()
    )
    libraries = {re.split("[ =]", line)[0].lower() for line in frozen.splitlines()}
    return Light(programs, wheel, libraries, program)


@pytest.fixture(scope="session")
def installed(light: Light) -> Path:
    """The programs of the environment, once the extra `cli` is installed there, too."""
    python, extra = light.programs / "python", f"{light.wheel}[cli]"
    _pip("--python", python, "install", "-q", extra, cwd=light.programs)
    return light.programs


def test_the_sdist_installs_the_same(distributions: Path) -> None:
    """Whoever installs the sdist gets, file by file, what the sources have."""
    # The wheel was built from the sdist.
    (wheel,) = distributions.glob("*.whl")
    with ZipFile(wheel) as archive:
        built = {
            file.filename: file.CRC
            for file in archive.infolist()
            if not file.filename.startswith(f"lazymig-{lazymig.__version__}.dist-info/")
        }
    sources = {
        file.relative_to(ROOT).as_posix(): crc32(file.read_bytes())
        for file in (ROOT / "lazymig").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert built == sources


def test_the_description_leads_nowhere(distributions: Path) -> None:
    """What a package index shows has no picture, and no link to a file that is not there."""
    (wheel,) = distributions.glob("*.whl")
    with ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        described = archive.read(name).decode("utf-8")
    assert "migration01__add_enabled" in described
    assert "](http" in described
    assert re.findall(r"!\[|<img|<!--|\]\((?!https?://)", described) == []


def test_the_sdist_has_the_documentation(distributions: Path) -> None:
    """The files that the README links to are in the sdist."""
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        there = {name.partition("/")[2] for name in archive.getnames()}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\((?!https?://)([^)#]+)", readme))
    assert linked
    assert sorted(linked - there) == []


def test_an_application_installs_little(light: Light) -> None:
    """Without extras MongoEngine, PyMongo and blinker are all, and the program names the extra."""
    assert light.libraries == {"blinker", "dnspython", "lazymig", "mongoengine", "pymongo"}
    assert (light.program.returncode, light.program.stdout) == (2, "")
    assert "run pip install 'lazymig[cli]'" in light.program.stderr
    assert len(light.program.stderr.splitlines()) == 1


def test_the_program_knows_its_version(installed: Path, tmp_path: Path) -> None:
    """`lazymig --version`, with the extra, gives the version; so does `python -m lazymig`."""
    assert lazymig.__version__ in _run(installed / "lazymig", "--version", cwd=tmp_path)
    told = _run(installed / "python", "-m", "lazymig", "--version", cwd=tmp_path)
    assert lazymig.__version__ in told


def test_the_demonstration_runs(installed: Path, tmp_path: Path) -> None:
    """`lazymig demo` works with `lazymig[cli]` alone, where a `mongod` is on PATH."""
    path = f"{find_mongod().parent}{os.pathsep}{os.environ['PATH']}"
    assert "nothing to do: no document of User" in _run(
        installed / "lazymig", "demo", cwd=tmp_path, PATH=path
    )


def test_users_are_type_checked(installed: Path, tmp_path: Path) -> None:
    """`py.typed` works: mypy checks a user's module against lazymig, and finds what is wrong."""
    (tmp_path / "user.py").write_text(USER_MODULE, encoding="utf-8")
    (tmp_path / "wrong.py").write_text(WRONG_USE, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = true\n[mypy-mongoengine.*]\nignore_missing_imports = true\n",
        encoding="utf-8",
    )
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", installed / "python", "."],
        cwd=tmp_path,
        env=_clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in checked.stdout.splitlines() if ": error:" in line]
    assert [line.partition(":")[0] for line in errors] == ["wrong.py"] * 2, checked.stdout
    assert "frobnicate" in errors[0]
    assert "chunk_sizes" in errors[1]
