"""The paths of a model: fields, the items of lists and maps, and the objects that have fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lazymig.locks import cached_property
from lazymig.odm.fields import ClassFacts, FieldFacts

__all__ = ["ModelPath"]


@dataclass(frozen=True, eq=False)
class ModelPath:
    """A field of a class, the items of a list or map, or (`"object"`) the documents of a class.

    :ivar owner: the class that the field belongs to, or that the documents are of.
    :ivar facts: what the model says; `None` for objects.
    :ivar parent: for a field the object that has it, for items their list, for an object the field
        or the items that hold it, `None` for the document itself.
    :ivar siblings: for an object, the names of all classes that may be in its place.
    :ivar names: for an object, the `_cls` values that mark its documents; `None`: there is none.
    """

    index: int
    role: Literal["field", "item", "object"]
    owner: ClassFacts
    facts: FieldFacts | None
    parent: ModelPath | None
    siblings: tuple[str, ...] = ()
    names: tuple[str | None, ...] = ()

    @cached_property
    def path(self) -> str:
        """The path in database names; `[]` stands for the items of a list, `.*` for a map's."""
        outer = "" if self.parent is None else self.parent.path
        if self.role == "object":
            return outer
        if self.role == "item":
            assert self.parent is not None
            return f"{outer}{'.*' if self.parent.is_map else '[]'}"
        assert self.facts is not None
        return f"{outer}.{self.facts.stored}" if outer else self.facts.stored

    @cached_property
    def chain(self) -> tuple[ModelPath, ...]:
        """The places that lead here, from the document itself to this one."""
        return (*(() if self.parent is None else self.parent.chain), self)

    @property
    def is_map(self) -> bool:
        """Return whether what is here is a map."""
        return self.facts is not None and self.facts.container == "map"

    @cached_property
    def objects(self) -> tuple[ModelPath, ...]:
        """The objects that lead here, from the document itself to the one that has the field."""
        return tuple(each for each in self.chain if each.role == "object")
