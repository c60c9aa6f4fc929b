"""The program `lazymig`: one module for each command or small group of them, each thin.

What a command does lies in the modules beneath; what they have in common is here: settings, models,
the session of one call, and how results and errors are written.
"""

from __future__ import annotations
