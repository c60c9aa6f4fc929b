"""Secrets in connection strings, kept out of texts."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, unquote_plus

from lazymig.redaction import in_texts

__all__ = ["Mask", "masked"]

_HIDDEN = "***"

# Up to the last @: a password that was not percent-encoded may contain some.
_URI = re.compile(r"(mongodb(?:\+srv)?://)([^\s\"'`<>]*)@", re.IGNORECASE)

_OPTION = re.compile(
    r"((?:tlsCertificateKeyFilePassword|sslPEMPassphrase|AuthMechanismProperties)=)[^&\s\"'`<>]+",
    re.IGNORECASE,
)

# Shorter ones would be found in ordinary words.
_SHORTEST_SECRET = 4


def masked(text: str) -> str:
    """The text without the passwords of the connection strings in it."""
    return _OPTION.sub(rf"\1{_HIDDEN}", _URI.sub(_without_password, text))


def _without_password(found: re.Match[str]) -> str:
    user, colon, _password = found[2].partition(":")
    return f"{found[1]}{user}{colon and ':' + _HIDDEN}@"


class Mask:
    """Hides what connection strings have that are known, wherever it stands in a text.

    `masked` finds connection strings by their form. A driver's error may have a part of one alone.
    """

    def __init__(self) -> None:
        self._secrets: dict[str, str] = {}

    def learn(self, uri: str) -> None:
        """Hide this connection string, and the password in it, from now on."""
        scheme, found, rest = uri.partition("://")
        userinfo, at, _hosts = rest.rpartition("@")
        user, colon, password = userinfo.partition(":")
        if not (found and at and colon):
            return
        self._secrets[uri] = f"{scheme}://{user}:{_HIDDEN}@{_hosts}"
        for secret in (password, unquote(password), unquote_plus(password)):
            if len(secret) >= _SHORTEST_SECRET:
                self._secrets[secret] = _HIDDEN

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, self._secrets[secret])
        return masked(text)

    def data(self, value: Any) -> Any:
        """A value of JSON's types with every connection string in its texts masked."""
        return in_texts(value, masked)
