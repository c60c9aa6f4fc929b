"""All worlds, by name, and what their models inherit."""

from __future__ import annotations

from mongoengine import Document, DynamicDocument

from lazymig import LazyMigrationMixin
from tests.equivalence.changes import World
from tests.equivalence.class_worlds import BRANCH_WORLD, HEIRS_WORLD, TREE_WORLD
from tests.equivalence.flat_worlds import DYNAMIC_WORLD, FLAT_WORLD, NAMED_WORLD
from tests.equivalence.nested_worlds import LIBRARY_WORLD, LISTS_WORLD, NESTED_WORLD
from tests.equivalence.state_worlds import STATES_WORLD

_ALL = (
    FLAT_WORLD,
    NAMED_WORLD,
    NESTED_WORLD,
    LISTS_WORLD,
    TREE_WORLD,
    BRANCH_WORLD,
    HEIRS_WORLD,
    DYNAMIC_WORLD,
    LIBRARY_WORLD,
    STATES_WORLD,
)
WORLDS = {world.name: world for world in _ALL}


def bases_of(world: World, lazy: bool) -> tuple[type, ...]:
    """What the root of a world's models inherits."""
    plain = DynamicDocument if world.name == "dynamic" else Document
    return (LazyMigrationMixin, plain) if lazy else (plain,)
