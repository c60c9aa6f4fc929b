"""What setup.cfg cannot say: the description that a package index shows."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import setup

README = Path(__file__).parent / "README.md"


def described(readme: str) -> str:
    """Return a README without what leads into the repository, where no index can follow.

    Pictures and comments go, a link to a file becomes its text. The repository has no public
    address yet; once it has, links may lead there instead.
    """
    readme = re.sub(r"<!--.*?-->\n*|!\[[^\]]*\]\([^)]*\)\n*", "", readme, flags=re.DOTALL)
    return re.sub(r"\[([^\]]*)\]\((?!https?://)[^)]*\)", r"\1", readme)


setup(long_description=described(README.read_text(encoding="utf-8")))
