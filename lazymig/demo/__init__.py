"""The demonstration that `python -m lazymig.demo` runs, and the embedded server it runs on."""

from __future__ import annotations
