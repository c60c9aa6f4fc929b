"""Passwords are hidden wherever they stand."""

from __future__ import annotations

import pytest

from lazymig.cli.masking import Mask, masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mongodb://ada:secret@host/db", "mongodb://ada:***@host/db"),
        ("MongoDB+SRV://ada:secret@host/db", "MongoDB+SRV://ada:***@host/db"),
        (
            "at 'mongodb://ada:se@cr/et:x@a:1,b:2/db', twice",
            "at 'mongodb://ada:***@a:1,b:2/db', twice",
        ),
        ("mongodb://ada@host/db", "mongodb://ada@host/db"),
        ("mongodb://host:27017/db", "mongodb://host:27017/db"),
        ("mongodb://a:x@h and mongodb://b:y@h", "mongodb://a:***@h and mongodb://b:***@h"),
        (
            "mongodb://h/?tlsCertificateKeyFilePassword=secret&w=1",
            "mongodb://h/?tlsCertificateKeyFilePassword=***&w=1",
        ),
        (
            "mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:s",
            "mongodb://h/?authMechanismProperties=***",
        ),
        ("ada@example.org", "ada@example.org"),
    ],
)
def test_passwords_of_connection_strings_are_hidden(text, shown):
    """User and hosts stay, the password goes, percent-encoded or not."""
    assert masked(text) == shown


@pytest.mark.parametrize("password", ["secret", "se%40cret", "se cr'et", "s:e/c@ret"])
def test_a_known_password_is_hidden_everywhere(password):
    """Once a connection string is known, neither it nor its password is told, in whatever form."""
    mask = Mask()
    uri = f"mongodb://ada:{password}@host/db"
    mask.learn(uri)
    decoded = password.replace("%40", "@")
    told = mask(f"no login at {uri} with {password} or {decoded}!")
    assert told == "no login at mongodb://ada:***@host/db with *** or ***!"


def test_a_connection_string_without_password_hides_nothing():
    """Neither user name nor host is a secret."""
    mask = Mask()
    mask.learn("mongodb://host/db")
    mask.learn("mongodb://ada@host/db")
    assert mask("ada at host, db") == "ada at host, db"


def test_data_is_masked_by_form_alone():
    """In results each connection string is masked, and nothing else is changed."""
    mask = Mask()
    mask.learn("mongodb://ada:secret@host/db")
    value = {"a": ["mongodb://x:y@h", "secret", 1, None, True, 1.5], "mongodb://x:y@h": {}}
    assert mask.data(value) == {
        "a": ["mongodb://x:***@h", "secret", 1, None, True, 1.5],
        "mongodb://x:***@h": {},
    }
