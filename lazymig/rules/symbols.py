"""The document whose every value is "some value": what a rule is looked at with when there is none.

The rule is run once for each of its branches, so that all that it may write is seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bson import Code, DBRef
from bson.errors import InvalidDocument

from lazymig.raw.encoding import ANY_VALUE, stored_bytes
from lazymig.rules.document import DocumentNeeded, ReadOnly, stop

__all__ = ["Decisions", "SymbolicDocument", "SymbolicValue", "settle_symbols"]


class Decisions:
    """The answers that a rule gets about unknown values, so that each of its branches is seen."""

    # A rule with more questions in a row than this is judged by its documents alone.
    _MOST = 6

    def __init__(self) -> None:
        self._taken: list[bool] = []
        self._next = 0

    def decide(self) -> bool:
        """Return whether this run takes the next branch: yes, until it is time for no."""
        if self._next == len(self._taken):
            if len(self._taken) == self._MOST:
                raise DocumentNeeded
            self._taken.append(True)
        self._next += 1
        return self._taken[self._next - 1]

    def turn(self) -> bool:
        """Begin another run on the next branch; return whether there is one."""
        self._next = 0
        while self._taken and not self._taken[-1]:
            self._taken.pop()
        if self._taken:
            self._taken[-1] = False
        return bool(self._taken)


class SymbolicValue:
    """Some value of a document, not known yet.

    Passes through arithmetic and comparisons; a decision by it goes both ways, one in each run;
    whatever needs the value itself stops the rule.
    """

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions

    def __getattr__(self, name: str) -> SymbolicValue:
        # copy, pickle and numeric protocols ask for dunders that a symbol must not pretend to have.
        if name.startswith("__"):
            raise AttributeError(name)
        return SymbolicValue(self._decisions)

    @property  # type: ignore[misc]
    def __class__(self) -> type[Any]:
        # isinstance() asks for the value itself.
        raise DocumentNeeded

    def _some_value(self, *_args: Any, **_kwargs: Any) -> SymbolicValue:
        return SymbolicValue(self._decisions)

    def _either(self, *_args: Any) -> bool:
        return self._decisions.decide()

    __getitem__ = __call__ = __copy__ = __deepcopy__ = _some_value
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _some_value
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _some_value
    __neg__ = __pos__ = __abs__ = _some_value

    __bool__ = __contains__ = _either
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _either

    __iter__ = __len__ = __str__ = __repr__ = __format__ = stop
    __int__ = __float__ = __index__ = stop
    __hash__ = stop


class SymbolicDocument(ReadOnly, SymbolicValue):
    """A document of which nothing is known but the keys that were read.

    `keys_read` is None once the document was read as a whole.
    """

    def __init__(self, decisions: Decisions) -> None:
        super().__init__(decisions)
        self.keys_read: frozenset[str] | None = frozenset()

    def __getattr__(self, name: str) -> Any:
        if name == "get":
            return self.__getitem__
        value = super().__getattr__(name)
        self.keys_read = None
        return value

    def __getitem__(self, key: str, default: Any = None) -> SymbolicValue:
        if self.keys_read is not None:
            self.keys_read |= {key}
        return SymbolicValue(self._decisions)

    def _whole(self, *_args: Any) -> SymbolicValue:
        self.keys_read = None
        return SymbolicValue(self._decisions)

    __copy__ = __deepcopy__ = _whole

    def __contains__(self, key: str) -> bool:
        self[key]
        return self._decisions.decide()


def settle_symbols(value: Any) -> Any:
    """Return `value` (an update) with `ANY_VALUE` in place of every symbolic value."""
    if isinstance(value, SymbolicValue):
        return ANY_VALUE
    if isinstance(value, Mapping):
        return {key: settle_symbols(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [settle_symbols(item) for item in value]
    if isinstance(value, (Code, DBRef)) and not _is_settled(value):
        return ANY_VALUE
    return value


def _is_settled(value: Code | DBRef) -> bool:
    """Return whether a value with parts of its own can be encoded: none of them is symbolic."""
    try:
        stored_bytes(value)
    except (DocumentNeeded, InvalidDocument):
        return False
    return True
