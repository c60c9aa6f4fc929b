"""Records of the journal that another program, or another version of lazymig, has written.

What lacks a key that is needed here, or has another type there, is not understood: it is named and
left out of what is read, and nothing is done to it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from lazymig.engines.access import Raw

__all__ = ["fault_of", "understood"]

logger = logging.getLogger(__name__)

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


def fault_of(kind: str, record: Raw) -> str | None:
    """What is not as a record of this kind has it; `None` where all is."""
    fault = _fault_in(record, _KINDS[kind])
    if fault is not None or kind != "run":
        return fault
    parts = [("control", record["control"], _CONTROL)]
    parts += [(f"rules.{place}", each, _RULE) for place, each in enumerate(record["rules"])]
    parts += [
        (f"sessions.{place}", each, _SESSION) for place, each in enumerate(record["sessions"])
    ]
    for name, part, keys in parts:
        fault = _fault_in(part, keys, f"{name}.")
        if fault is not None:
            return fault
    return None


def understood(kind: str, records: Iterable[Raw], journal: str) -> Iterator[Raw]:
    """Those of the records that are as this version writes them; the others are named in the log.

    :param journal: the full name of their collection.
    """
    for record in records:
        fault = fault_of(kind, record)
        if fault is None:
            yield record
            continue
        logger.warning(
            "%s: the record %r of kind %r is left out, because %s: another program or version has "
            "written it",
            journal,
            record.get("_id"),
            kind,
            fault,
        )


def _fault_in(record: Any, keys: Mapping[str, _Types], within: str = "") -> str | None:
    if not isinstance(record, Mapping):
        return f"{within.rstrip('.')} is no sub-document"
    for key, types in keys.items():
        if key not in record:
            return f"it has no {within}{key}"
        if not isinstance(record[key], types):
            return f"its {within}{key} is of the type {type(record[key]).__name__}"
    return None
