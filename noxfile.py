"""The suite with the oldest and the newest versions that lazymig supports: `nox`."""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.error_on_missing_interpreters = False

# The oldest and the newest of each that `setup.cfg` admits.
VERSIONS = [
    ("0.29.1", "4.9"),
    ("0.29.*", "4.*"),
]


PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


@nox.session(python=PYTHONS)
@nox.parametrize(("mongoengine", "pymongo"), VERSIONS, ids=["oldest", "newest"])
def tests(session: nox.Session, mongoengine: str, pymongo: str) -> None:
    """Run the tests, or those that are named after `--`."""
    session.install(".[test]", f"mongoengine=={mongoengine}", f"pymongo=={pymongo}")
    shared = ("--numprocesses", "auto", "--dist", "worksteal")
    session.run("python", "-m", "pytest", *shared, *session.posargs)


@nox.session(python="3.11")
def ecosystem(session: nox.Session) -> None:
    """Run the tests of other libraries, each of which has to be there."""
    session.install(".[ecosystem,test]")
    # Setuptools 81 and later cannot build it, and it ships no wheel.
    session.install("setuptools<81", "wheel")
    session.install("--no-build-isolation", "django-mongoengine==0.5.6")
    session.run("python", "-m", "pip", "check")
    tests = session.posargs or ["tests/ecosystem"]
    session.run("python", "-m", "pytest", *tests, env={"LAZYMIG_ECOSYSTEM": "1"})


@nox.session(python=PYTHONS, default=False)
def distributions(session: nox.Session) -> None:
    """Build wheel and sdist, install each where there is nothing else, and use it."""
    folder = Path(session.create_tmp())
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(folder / "dist"))
    for pattern in ("*.whl", "*.tar.gz"):
        (file,) = (folder / "dist").glob(pattern)
        session.run("python", "-m", "venv", "--clear", str(folder / "empty"))
        python = str(folder / "empty" / "bin" / "python")
        session.run(python, "-m", "pip", "install", "-q", f"{file}[cli]", external=True)
        session.run(python, "-I", "tests/packaging/smoke.py", external=True)
