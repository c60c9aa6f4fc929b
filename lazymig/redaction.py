"""Redaction: no passwords and no stored content in logs, reports, journals and errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from bson.errors import InvalidBSON, InvalidDocument
from pymongo.errors import BulkWriteError, OperationFailure

from lazymig.errors import LazyMigError

__all__ = ["bare", "excerpt", "in_texts", "shape_of", "without_secrets"]

_URI = re.compile(r"\b(mongodb(?:\+srv)?)://\S+", re.IGNORECASE)

# The characters of a message that are looked at, that are enough to know the trouble by, and of a
# literal in it.
_LONGEST_READ: Final = 10_000
_LONGEST_MESSAGE: Final = 300
_LONGEST_LITERAL: Final = 3
_LONGEST_NAME: Final = 40

# What MongoDB and PyMongo append to a message: the answer as a whole, or the command.
_APPENDED: Final = re.compile(
    r",? *full error: .*| *First element: .*| \(Consider Using CodecOptions.*", re.DOTALL
)

# In front of the reason, PyMongo shows the document that it cannot encode.
_SHOWN_DOCUMENT: Final = re.compile(r"^Invalid document .* \| ", re.DOTALL)

# A literal in a message; the word before it says whether it is a name or a stored value. One that
# is not closed goes to the end.
_LITERAL: Final = re.compile(
    r"(?:\b(?P<word>[\w/]+)(?P<gap>:? ))?(?<!\w)(?P<quote>[\"'])(?P<text>(?:\\.|(?!(?P=quote)).)*)"
    r"(?P<end>(?P=quote)|$)",
    re.DOTALL,
)
_NAMING: Final = re.compile(
    r"argument|at|elements?|expression|fields?|fieldname|identifier|in|index|key|name|of|operator|"
    r"paths?|stage|stored|type|unknown|update|variable",
    re.IGNORECASE,
)
_NAME: Final = re.compile(r"[\w.$\[\]-]{1,80}")
_KEY: Final = re.compile(r"(?P<name>[\w.$-]{1,80}|\"[\w.$-]{1,80}\"): ")

# Operands that are no values.
_STRUCTURAL: Final = frozenset(
    {"$exists", "$type", "$size", "$options", "$comment", "$maxDistance", "$minDistance", "$mod"}
)


def without_secrets(value: Any) -> Any:
    """The value with every connection string in its texts, keys too, cut down to its scheme."""
    return in_texts(value, partial(_URI.sub, r"\1://..."))


def in_texts(value: Any, change: Callable[[str], str]) -> Any:
    """The value with every text in it changed, those of keys too; tuples become lists."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {in_texts(key, change): in_texts(part, change) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [in_texts(part, change) for part in value]
    return value


def excerpt(problem: Any) -> str:
    """What the driver, the server or a rule says of a failure, without what is stored.

    Names of fields stay; of the values in the message, at most their first characters. What
    lazymig itself says stays whole.

    :param problem: an exception, or the text of a message.
    """
    if isinstance(problem, LazyMigError):
        return str(without_secrets(str(problem)))
    if isinstance(problem, KeyError) and _NAME.fullmatch(text := str(problem)[1:-1]):
        # Nearly always the name of a field that is missing.
        return f"'{text}'" if len(text) <= _LONGEST_NAME else f"'{text[:_LONGEST_LITERAL]}…'"
    text = _message_of(problem) if isinstance(problem, BaseException) else str(problem)
    text = _APPENDED.sub("", _SHOWN_DOCUMENT.sub("", text))[:_LONGEST_READ]
    text = _LITERAL.sub(_short_literal, _short_braces(without_secrets(text)))
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}…"


def _message_of(error: BaseException) -> str:
    if isinstance(error, BulkWriteError):
        refused = error.details.get("writeErrors") or error.details.get("writeConcernErrors")
        if refused:
            return str(refused[0].get("errmsg"))
    if isinstance(error, OperationFailure):
        return str((error.details or {}).get("errmsg") or error)
    return str(error)


def _short_braces(text: str) -> str:
    """The text with each document in it cut down to the names of its fields."""
    parts: list[str] = []
    position = depth = 0
    start = None
    quoted = False
    while position < len(text):
        char = text[position]
        if start is None:
            if char == "{":
                start, depth, quoted = position, 1, False
            else:
                parts.append(char)
        elif char == "\\" and quoted:
            position += 1
        elif char == '"':
            quoted = not quoted
        elif not quoted:
            depth += (char == "{") - (char == "}")
            if not depth:
                parts.append(_names_in(text[start + 1 : position]))
                start = None
        position += 1
    if start is not None:
        parts.append(_names_in(text[start + 1 :]))
    return "".join(parts)


def _names_in(document: str) -> str:
    """The names of the top-level fields of a document that is written out, without values."""
    names: list[str] = []
    position = depth = 0
    expected = True
    quoted = False
    while position < len(document):
        char = document[position]
        if expected and not char.isspace():
            found = _KEY.match(document, position)
            expected = False
            if found is not None:
                names.append(f"{found['name']}: …")
                position = found.end()
                continue
        if char == "\\" and quoted:
            position += 1
        elif char == '"':
            quoted = not quoted
        elif not quoted:
            depth += (char in "{[(") - (char in "}])")
            expected = expected or (char == "," and not depth)
        position += 1
    return f"{{ {', '.join(names) or '…'} }}"


def _short_literal(found: re.Match[str]) -> str:
    word, gap, quote, text = found["word"] or "", found["gap"] or "", found["quote"], found["text"]
    is_name = _NAMING.fullmatch(word) is not None and _NAME.fullmatch(text) is not None
    if is_name or len(text) <= _LONGEST_LITERAL or text == "utf-8":
        return found[0]
    return f"{word}{gap}{quote}{text[:_LONGEST_LITERAL]}…{quote}"


# What is kept of the details of an error: none of it is stored in documents.
_KEPT: Final = ("code", "codeName", "errorLabels", "keyPattern")


def bare(error: Exception) -> Exception:
    """The same error of the driver without what is stored, for those who print causes.

    Its type, its code, its labels and the code of each refused write stay.
    """
    if isinstance(error, BulkWriteError):
        counts = {key: value for key, value in error.details.items() if isinstance(value, int)}
        refused = [
            {
                "index": entry.get("index"),
                "code": entry.get("code"),
                "errmsg": excerpt(entry.get("errmsg")),
            }
            for entry in error.details.get("writeErrors") or []
        ]
        labels = {key: error.details[key] for key in _KEPT if key in error.details}
        return BulkWriteError({**counts, **labels, "writeErrors": refused})
    if isinstance(error, OperationFailure):
        text, details = excerpt(error), error.details or {}
        kept = {key: details[key] for key in _KEPT if key in details}
        return type(error)(text, error.code, {**kept, "errmsg": text})
    if isinstance(error, (InvalidBSON, InvalidDocument)):
        kind = InvalidDocument if isinstance(error, InvalidDocument) else InvalidBSON
        return kind(excerpt(error))
    return error


def shape_of(value: Any) -> Any:
    """A filter with the types of its values in their places, for logs; names and operators stay."""
    if isinstance(value, Mapping):
        return {key: part if key in _STRUCTURAL else shape_of(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(part, Mapping) for part in value):
            return [shape_of(part) for part in value]
        return ["…"] if value else []
    return type(value).__name__
