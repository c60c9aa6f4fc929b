"""Sphinx settings; `make docs` builds the pages."""

from __future__ import annotations

import lazymig

project = "lazymig"
author = "lazymig contributors"
copyright = "2026, lazymig contributors"
version = release = lazymig.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
myst_heading_anchors = 3
