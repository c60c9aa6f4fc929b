"""The page's template, and how stored values are written in it: escaped, cut, without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bson import ObjectId, json_util
from bson.json_util import RELAXED_JSON_OPTIONS

from lazymig.characters import clipped, printable, shown
from lazymig.errors import check_extra
from lazymig.raw.encoding import ANY_UUID
from lazymig.redaction import without_secrets
from lazymig.reports.texts import applications, duration

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["template"]

_LONGEST_TEXT = 1000

_JSON = RELAXED_JSON_OPTIONS.with_options(uuid_representation=ANY_UUID.uuid_representation)

# Names of fields whose values nobody should read in a report.
_SECRET = re.compile(
    r"passw|pwd|passphrase|secret|token|credential|api[-_]?key|private[-_]?key", re.IGNORECASE
)
_NOT_SHOWN = "(not shown)"

# Name and password in an address of any kind; `without_secrets` cuts those of MongoDB.
_LOGIN = re.compile(r"(?<=://)[^\s/]+@")


def template() -> Template:
    """The template of the page, with its filters.

    :raises MissingExtra: jinja2 is not installed.
    """
    check_extra("the HTML report", "jinja2")
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=PackageLoader("lazymig.reports.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_readable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        applications=applications,
        duration=duration,
        json=_json,
        moment=_moment,
        number="{:,}".format,
        percent=_percent,
        secret=_is_secret,
        shown=_shown,
    )
    return environment.get_template("report.html.j2")


def _readable(value: Any) -> Any:
    """What every text goes through before it is escaped; HTML could not even hold some of it."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return printable(clipped(_without_logins(value), _LONGEST_TEXT))


def _shown(value: str) -> str:
    """A name or value of the database."""
    return shown(_without_logins(value))


def _without_logins(text: str) -> str:
    """The text without what connects; half an address could not be recognized, so this is first."""
    return _LOGIN.sub("...@", without_secrets(text))


def _json(value: Any) -> str:
    """A stored value: Extended JSON, but for an ObjectId, which is shown as in the shell."""
    if isinstance(value, ObjectId):
        return f'ObjectId("{value}")'
    return json_util.dumps(_without_fields(value), json_options=_JSON, ensure_ascii=False)


def _without_fields(value: Any) -> Any:
    """The value without what is in fields that are named after secrets, at any depth."""
    if isinstance(value, Mapping):
        return {
            name: _NOT_SHOWN if _SECRET.search(str(name)) else _without_fields(inner)
            for name, inner in value.items()
        }
    return [_without_fields(item) for item in value] if isinstance(value, list) else value


def _is_secret(path: str) -> bool:
    return _SECRET.search(path) is not None


def _moment(moment: datetime) -> str:
    """A time of the journal, which is UTC."""
    return moment.isoformat(" ", "seconds")


def _percent(share: float) -> str:
    """A share, rounded down: 100 % is said of what is done alone."""
    # Of 0.57 a float has a little less.
    return f"{int(share * 1000 + 1e-6) / 10:g} %"
