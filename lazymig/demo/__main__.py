"""`python -m lazymig.demo`: the tutorial's project, made and run on a database of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import lazymig
from lazymig.demo.project import STEPS
from lazymig.testing.mongod import EmbeddedServer, ServerUnavailable

if TYPE_CHECKING:
    from lazymig.demo.page import Page

_DATABASE = "tutorial"

_PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "lazymig": (sys.executable, "-m", "lazymig"),
    "python": (sys.executable,),
}


def _environment(server: str) -> dict[str, str]:
    """The environment of the commands: without settings of the user's own project."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LAZYMIG_")}
    roots = [str(Path(lazymig.__file__).parents[1]), *filter(None, [kept.get("PYTHONPATH")])]
    uri = server.replace("/?", f"/{_DATABASE}?")
    return {**kept, "MONGODB_URI": uri, "PYTHONPATH": os.pathsep.join(roots)}


def _show(page: Page, folder: Path, environment: Mapping[str, str]) -> None:
    """Make the project step by step, and run its commands."""
    for step in STEPS:
        with page.step(step.title):
            page.text(step.text)
            for name, content in step.files.items():
                page.file(name, content)
                (folder / name).write_text(content, "utf-8")
            for words in step.commands:
                page.command(words)
                program, *arguments = shlex.split(words)
                # Nobody is asked here.
                agreed = ["--yes"] if words.startswith("lazymig migrate") else []
                subprocess.run(
                    [*_PROGRAMS[program], *arguments, *agreed],
                    cwd=folder,
                    env={**environment},
                    check=False,
                )


def main() -> int:
    """Run the demonstration; return the exit code."""
    try:
        from lazymig.demo.page import Page  # noqa: PLC0415 - it needs what an extra brings
    except ModuleNotFoundError as error:
        if error.name != "rich":
            raise
        print("rich is not installed; run pip install 'lazymig[demo]'.", file=sys.stderr)
        return 1
    page = Page()
    page.title("lazymig: old documents load in today's shape")
    page.text(
        "This makes the project of the tutorial in a folder of its own, on a MongoDB server of "
        "its own, and runs its commands. It leaves neither behind."
    )
    server = EmbeddedServer()
    try:
        server.start()
        with tempfile.TemporaryDirectory(prefix="lazymig-demo-") as folder:
            _show(page, Path(folder), _environment(server.uri))
    except ServerUnavailable as error:
        print(
            f"There is no MongoDB server to run it on: {str(error).splitlines()[0]}\n"
            "The tutorial (docs/tutorial.md) is the same story on a server that you have.",
            file=sys.stderr,
        )
        return 1
    finally:
        server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
