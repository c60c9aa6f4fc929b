"""From a handler class to its rules, in order."""

from __future__ import annotations

from typing import Any

import pytest

from lazymig.errors import RuleDefinitionError
from lazymig.rules.discovery import discover
from lazymig.rules.rule import RuleHandler
from tests.support.handlers import ADD_ENABLED, rule


def _rules_of(**body: Any) -> type[RuleHandler]:
    return type("Rules", (RuleHandler,), body)


def _names(handler: type) -> list[str]:
    return [found.name for found in discover(handler)]


def _some_rule(self: Any) -> None:
    self.target, self.update = ADD_ENABLED


# Names and numbers


@pytest.mark.parametrize(
    "name",
    [
        "migration_01",
        "migration1x",
        "migration01",
        "migration01_",
        "migration01__",
        "migration01___x",
        "migration__add",
        "migrations",
        "migration-01",
        "allmigration",
        "allmigration_01__x",
        "allmigration01",
        "migration٣__x٣!",
    ],
)
def test_a_name_that_looks_like_a_rule_and_is_none_is_an_error(name: str) -> None:
    """No method that begins like a rule is skipped; the error names handler, method and remedy."""
    with pytest.raises(RuleDefinitionError, match="migrationNN__words") as caught:
        discover(_rules_of(**{name: _some_rule}))
    assert (caught.value.model, caught.value.rule) == ("Rules", name)


@pytest.mark.parametrize(
    "value", [1, {}, property(_some_rule), staticmethod(_some_rule), classmethod(_some_rule)]
)
def test_an_attribute_with_a_rule_name_must_be_a_function(value: Any) -> None:
    """A rule's name on anything but a plain method is an error."""
    with pytest.raises(RuleDefinitionError, match="looks like a rule and is none"):
        discover(_rules_of(migration01__x=value))


@pytest.mark.parametrize(
    ("name", "number", "scope"),
    [
        ("migration01__add", 1, "lazy"),
        ("migration01_add", 1, "lazy"),
        ("migration7__add_2_tags", 7, "lazy"),
        ("allmigration12__add", 12, "bulk"),
        ("allmigration01_remove_tags", 1, "bulk"),
        ("migration0010__x", 10, "lazy"),
    ],
)
def test_the_name_gives_number_and_scope(name: str, number: int, scope: str) -> None:
    """One or two underscores after the number are a rule; its prefix says who runs it."""
    (found,) = discover(_rules_of(**{name: _some_rule}))
    assert (found.name, found.number, found.scope) == (name, number, scope)


def test_other_attributes_are_left_alone() -> None:
    """Names that do not begin like a rule are none of lazymig's business."""
    body = {"helper": _some_rule, "migrate_name": _some_rule, "_migration": 1, "MIGRATION": 2}
    assert _names(_rules_of(**body)) == []


def test_order_is_numeric() -> None:
    """Rule 10 comes after rule 2, and bulk rules after lazy ones."""
    handler = _rules_of(
        migration10__c=_some_rule,
        migration2__b=_some_rule,
        migration1__a=_some_rule,
        allmigration9__y=_some_rule,
        allmigration10__z=_some_rule,
    )
    assert _names(handler) == [
        "migration1__a",
        "migration2__b",
        "migration10__c",
        "allmigration9__y",
        "allmigration10__z",
    ]


@pytest.mark.parametrize(
    "twins",
    [
        ("migration01__a", "migration01__b"),
        ("migration01__a", "migration1_b"),
        ("allmigration3__a", "allmigration03__b"),
    ],
)
def test_a_number_used_twice_is_an_error(twins: tuple[str, str]) -> None:
    """Two rules of one scope with one number leave their order open; the error names both."""
    with pytest.raises(RuleDefinitionError) as caught:
        discover(_rules_of(**dict.fromkeys(twins, _some_rule)))
    assert all(name in str(caught.value) for name in twins)


def test_scopes_have_numbers_of_their_own() -> None:
    """A lazy and a bulk rule may have the same number."""
    assert len(discover(_rules_of(migration01__a=_some_rule, allmigration01__a=_some_rule))) == 2


def test_rules_are_inherited_and_overridden_by_name() -> None:
    """A subclass has its base's rules, its own, and its own version of one that it names again."""
    base = _rules_of(migration01__a=_some_rule, migration03__c=_some_rule)
    new = rule({"a": 1}, {"$unset": {"a": ""}})
    child = type("Child", (base,), {"migration02__b": _some_rule, "migration03__c": new})
    found = discover(child)
    assert [each.name for each in found] == ["migration01__a", "migration02__b", "migration03__c"]
    assert found[2].method is new


def test_an_inherited_number_clashes_too() -> None:
    """A new rule with the number of an inherited one is an error in the subclass."""
    base = _rules_of(migration01__a=_some_rule)
    with pytest.raises(RuleDefinitionError, match="number 1"):
        discover(type("Child", (base,), {"migration01__b": _some_rule}))


def test_none_takes_an_inherited_rule_back() -> None:
    """A subclass that sets an inherited rule to None does not have it, and its number is free."""
    base = _rules_of(migration01__a=_some_rule)
    child = type("Child", (base,), {"migration01__a": None, "migration01__b": _some_rule})
    assert _names(child) == ["migration01__b"]
    assert _names(base) == ["migration01__a"]
