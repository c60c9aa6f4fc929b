"""Names and texts that are alike: former names of fields, of classes, and misspelt choices."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["closeness", "meant_choice", "successors"]

# What an abbreviation counts: qty for quantity.
_ABBREVIATED = 0.7
# Two texts that mean the same value of a choice.
_ALIKE = 0.8


def closeness(name: str, other: str) -> float:
    """How much two names are alike, from 0 to 1; an abbreviation is rather like the whole."""
    one, two = sorted((_plain(name), _plain(other)), key=len)
    if not one:
        return 0.0
    ratio = difflib.SequenceMatcher(None, one, two).ratio()
    if len(one) > 2 and one[0] == two[0]:
        letters = iter(two)
        if all(letter in letters for letter in one):
            ratio = max(ratio, _ABBREVIATED)
    return ratio


def successors(
    name: str | None, known: Mapping[str, Iterable[str]], keys: Iterable[str] = ()
) -> tuple[str, ...]:
    """The classes that documents of an unknown class are likely to be of now.

    :param known: the fields of each class, in database names, by the class's name.
    :param keys: the names of the fields that such documents have.
    """
    have = set(keys) - {"_id", "_cls"}

    def likeness(candidate: str) -> float:
        fields = set(known[candidate]) - {"_id", "_cls"}
        shared = len(have & fields) / len(have | fields) if have | fields else 0.0
        names = 0.0 if name is None else closeness(_leaf(name), _leaf(candidate))
        return shared + names

    # Of equals the first: a base class stands before its subclasses.
    ranked = sorted(known, key=likeness, reverse=True)
    return tuple(ranked[:3])


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def meant_choice(text: str, choices: Sequence[Any]) -> str | None:
    """The choice that a text is likely to mean."""
    texts = [choice for choice in choices if isinstance(choice, str)]
    for choice in texts:
        if _plain(choice) == _plain(text) and _plain(text):
            return choice
    close = [(closeness(text, choice), choice) for choice in texts]
    best = max(close, default=(0.0, ""))
    return best[1] if best[0] >= _ALIKE else None
