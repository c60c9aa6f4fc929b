"""The format of the journal's records, and those that another program or version has written.

Every record has the number of its `format`; those of the versions before there were numbers have
none, and are read as format 1. What lacks a key of format 1, or has another type there, or is of a
later format, is not understood: it is named and left out of what is read, and nothing is done to
it. A key that was added since has a default in its reader.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from lazymig.engines.access import Raw
from lazymig.errors import RunError, RunNotFound

__all__ = ["FORMAT", "checked_run", "fault_of", "is_newer", "refusing_newer", "understood"]

logger = logging.getLogger(__name__)

FORMAT: Final = 1
"""The format that this version writes, and the latest that it reads."""

_Types = tuple[type, ...]

_ANY: Final[_Types] = (object,)
_TEXT: Final[_Types] = (str,)
_TEXT_OR_NONE: Final[_Types] = (str, type(None))
_NUMBER: Final[_Types] = (int, float)
_TIME: Final[_Types] = (datetime,)
_TIME_OR_NONE: Final[_Types] = (datetime, type(None))
_MAPPING: Final[_Types] = (Mapping,)
_LIST: Final[_Types] = (list,)
_FLAG: Final[_Types] = (bool,)

_KINDS: Final[Mapping[str, Mapping[str, _Types]]] = {
    "run": {
        **dict.fromkeys(("model", "collection", "handler", "scope", "state", "host"), _TEXT),
        **dict.fromkeys(("note", "error", "waiting"), _TEXT_OR_NONE),
        **dict.fromkeys(("pid", "lease"), _NUMBER),
        **dict.fromkeys(("started", "heartbeat"), _TIME),
        **dict.fromkeys(("options", "waited", "control"), _MAPPING),
        **dict.fromkeys(("rules", "sessions"), _LIST),
        "token": _ANY,
        "ended": _TIME_OR_NONE,
    },
    "quarantine": {
        **dict.fromkeys(("collection", "rule", "error", "type"), _TEXT),
        "run": _ANY,
        "document_id": _ANY,
        "at": _TIME,
    },
    "sample": {
        **dict.fromkeys(("model", "collection"), _TEXT),
        **dict.fromkeys(("at", "since"), _TIME),
        "remaining": _MAPPING,
    },
    "lease": {"holder": _MAPPING, "token": _ANY, "expires": _TIME},
}

_CONTROL: Final = {"action": _TEXT, "limits": _MAPPING, "by": _TEXT_OR_NONE}
_SESSION: Final = {"host": _TEXT, "pid": _NUMBER, "at": _TIME, "options": _MAPPING, "note": _ANY}
_RULE: Final = {
    **dict.fromkeys(("name", "digest", "state"), _TEXT),
    **dict.fromkeys(("done", "matched", "modified", "quarantined", "passes", "seconds"), _NUMBER),
    **dict.fromkeys(("exact", "repeatable", "edited"), _FLAG),
    "at": (Mapping, type(None)),
    "total": (*_NUMBER, type(None)),
}


def is_newer(record: Raw) -> str | None:
    """Say that a record is of a later format than this version knows; `None` where it is not."""
    found = record.get("format", FORMAT)
    if isinstance(found, (int, float)) and found <= FORMAT:
        return None
    return (
        f"its format is {found}, and this version of lazymig knows {FORMAT}: it was written by a "
        "newer lazymig"
    )


def fault_of(kind: str, record: Raw) -> str | None:
    """Say what is not as a record of this kind has it, and who has written it; else `None`."""
    newer = is_newer(record)
    if newer is not None:
        return newer
    parts = [("", record, _KINDS[kind])]
    if kind == "run" and _fault_in(*parts[0]) is None:
        parts.append(("control.", record["control"], _CONTROL))
        parts += [(f"rules.{at}.", each, _RULE) for at, each in enumerate(record["rules"])]
        parts += [(f"sessions.{at}.", each, _SESSION) for at, each in enumerate(record["sessions"])]
    faults = (fault for part in parts if (fault := _fault_in(*part)) is not None)
    fault = next(faults, None)
    return None if fault is None else f"{fault}: another program or version has written it"


def checked_run(entry: Raw, journal: str) -> Raw:
    """The entry of a run that somebody has asked for.

    :param journal: the full name of its collection.
    :raises RunNotFound: this version cannot read it.
    """
    fault = fault_of("run", entry)
    if fault is None:
        return entry
    raise RunNotFound(
        f"{journal}: the record {entry['_id']} is no run that this version knows, because {fault}",
        run=entry["_id"],
    )


def refusing_newer(records: Iterable[Raw], journal: str) -> Iterator[Raw]:
    """The same records, where to leave one out would give a wrong answer.

    :param journal: the full name of their collection.
    :raises RunError: a newer version has written one.
    """
    for record in records:
        newer = is_newer(record)
        if newer is not None:
            raise RunError(
                f"{journal}: the record {record.get('_id')} cannot be read, because {newer}; "
                "use that version"
            )
        yield record


def understood(kind: str, records: Iterable[Raw], journal: str) -> Iterator[Raw]:
    """Those of the records that this version can read; the others are named in the log.

    :param journal: the full name of their collection.
    """
    for record in records:
        fault = fault_of(kind, record)
        if fault is None:
            yield record
        else:
            logger.warning(
                "%s: the record %r of kind %r is left out, because %s",
                journal,
                record.get("_id"),
                kind,
                fault,
            )


def _fault_in(within: str, record: Any, keys: Mapping[str, _Types]) -> str | None:
    if not isinstance(record, Mapping):
        return f"{within.rstrip('.')} is no sub-document"
    for key, types in keys.items():
        if key not in record:
            return f"it has no {within}{key}"
        if not isinstance(record[key], types):
            return f"its {within}{key} is of the type {type(record[key]).__name__}"
    return None
