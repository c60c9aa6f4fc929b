"""The knowledge of every document that the stages of an update pipeline leave.

Nothing is executed: it follows from the stages, their expressions and the target that found the
documents. Updates of operators are read in `aftermath`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from lazymig.query.operators import is_expression
from lazymig.query.tree import And
from lazymig.raw.encoding import ANY_VALUE, AnyValue
from lazymig.updates.entries import keys_left_out
from lazymig.updates.expression_types import CONVERTED, NULL_OF_NULL, RESULTS
from lazymig.updates.knowledge import (
    ABSENT,
    ARRAY_TYPE,
    CONTAINERS,
    PRESENT,
    SINGLE,
    UNKNOWN,
    Absent,
    Arrays,
    Document,
    Elements,
    Fact,
    OneOf,
    Typed,
    Value,
    constant,
    implies_presence,
    is_present,
)
from lazymig.updates.parents import Parents, Path
from lazymig.updates.update import SET_STAGES, assignments, unset_stage_paths

__all__ = ["after_pipeline", "expressed"]

_ARITHMETIC: Final = frozenset(
    {
        *("$abs", "$ceil", "$floor", "$round", "$trunc"),
        *("$add", "$subtract", "$multiply", "$divide", "$mod"),
    }
)

_OBJECT: Final = Typed(frozenset({"object"}))


@dataclass(slots=True)
class _Stages:
    """What is known while the stages of a pipeline run one after another."""

    parents: Parents
    document: Document
    original: bool = True  # what no stage has written is still as the target found it
    variables: Mapping[str, Fact] = field(default_factory=dict)


def after_pipeline(parents: Parents, stages: Sequence[Mapping[str, Any]]) -> Document:
    """Return what is known of the documents that a target found, after well-formed stages.

    `parents` knows the target. Stages write and remove a path in every element of an array on it,
    and in arrays in arrays.
    """
    state = _Stages(parents, Document({}, exists=True))
    for stage in stages:
        ((name, value),) = stage.items()
        if name in SET_STAGES:
            # All expressions of a stage see the document as the stage found it.
            facts = [(path, _express(expression, state)) for path, expression in assignments(value)]
            for path, fact in facts:
                _insert_field(state, state.document, path, fact, creates=True)
            continue
        paths = unset_stage_paths(name, value)
        if paths is None:
            state = _Stages(parents, Document({}, exists=True, others=UNKNOWN), original=False)
            continue
        for parts in (tuple(path.split(".")) for path in paths):
            _insert_field(state, state.document, parts, ABSENT, creates=False)
    return state.document


def expressed(expression: Any, parents: Parents) -> Fact:
    """Return what an expression gives for the documents that a target found, as they were."""
    return _express(expression, _Stages(parents, Document({}, exists=True)))


def _insert_field(
    state: _Stages,
    document: Document,
    parts: Path,
    fact: Fact,
    *,
    creates: bool,
    above: Path | None = (),
) -> None:
    """Note that a stage wrote `fact` at `parts` of `document`, which is changed.

    A stage creates parents, whatever was there. `above` is where the document is, None if it may be
    in an array.
    """
    head, rest = parts[0], parts[1:]
    known = document.child(head)
    if not rest:
        document.children[head] = fact
        return
    if any(part.isdecimal() for part in rest):
        document.children[head] = UNKNOWN
        return
    here = None if above is None else (*above, head)
    child = _opened(state, known, here, creates=creates)
    if child is None:
        return
    below = here if child.array is Arrays.NONE else None
    _insert_field(state, child, rest, fact, creates=creates, above=below)
    document.children[head] = child


def _opened(
    state: _Stages, known: Fact | None, here: Path | None, *, creates: bool
) -> Document | None:
    """Return what is known of a field in which a stage is about to write a field, or to remove one.

    None: nothing becomes of it.
    """
    if isinstance(known, Document):
        exists = known.exists or creates
        return Document(dict(known.children), exists, known.array, known.holds, known.others)
    if isinstance(known, Value) and isinstance(known.value, dict):
        fields: dict[str, Fact] = {key: Value(item) for key, item in known.value.items()}
        return Document(fields, exists=True, others=ABSENT)
    if known is None:
        if state.original and here is not None and not state.parents.may_be_array(here):
            return Document({}, exists=creates)
        holds = state.original and here is not None and state.parents.holds_document(here)
        return Document({}, exists=creates, array=Arrays.ALIKE, holds=holds)
    if _is_no_container(known):
        return Document({}, exists=True, others=ABSENT) if creates else None
    if isinstance(known, Typed) and "array" not in known.types:
        return Document({}, exists=creates, others=UNKNOWN)
    return Document({}, exists=creates, array=Arrays.ALIKE, others=UNKNOWN)


def _is_no_container(fact: Fact) -> bool:
    if isinstance(fact, Value):
        return not isinstance(fact.value, (list, dict, AnyValue))
    if isinstance(fact, Typed):
        return not fact.types & CONTAINERS
    return isinstance(fact, Absent)


def _express(expression: Any, state: _Stages) -> Fact:
    """Return what an aggregation expression gives, UNKNOWN if it may give nothing at all."""
    if expression is ANY_VALUE:
        return UNKNOWN  # a string in it may turn out to be a path
    if isinstance(expression, str) and expression.startswith("$"):
        return _VARIABLES.get(expression) or _look_up(expression, state)
    if isinstance(expression, (list, tuple)):
        return Value([_item(_express(item, state)) for item in expression])
    if not isinstance(expression, Mapping):
        return constant(expression)
    if not is_expression(expression):
        fields = {name: _express(value, state) for name, value in expression.items()}
        return Document(fields, exists=True, others=ABSENT)
    ((operator, argument),) = expression.items()
    if operator == "$literal":
        return constant(argument)
    if operator == "$ifNull" and isinstance(argument, list) and argument:
        *tried, default = (_express(one, state) for one in argument)
        return OneOf((*map(_not_null, tried), default))
    branches = _branches(operator, argument)
    if branches:
        facts = [_express(branch, state) for branch in branches]
        if operator == "$cond" and _asks_for_array(argument, branches[1]):
            facts[1] = SINGLE
        return OneOf(tuple(facts))
    if operator in _CONTAINERS:
        return _CONTAINERS[operator](argument, state)
    return _result_of(operator, argument, state)


def _result_of(operator: str, argument: Any, state: _Stages) -> Fact:
    """Return what an operator gives of which the types of its results are known."""
    types = RESULTS.get(operator)
    if operator in ("$convert", "$dateFromString"):
        return _converted(types, argument, state)
    if operator == "$let" and isinstance(argument, Mapping):
        named = argument.get("vars")
        if not isinstance(named, Mapping) or "CURRENT" in named:
            return UNKNOWN  # then paths begin elsewhere
        facts = {name: _express(value, state) for name, value in named.items()}
        inner = replace(state, variables={**state.variables, **facts})
        return _express(argument.get("in"), inner)
    if types is None:
        return UNKNOWN
    inputs = _inputs(argument)
    if operator in NULL_OF_NULL and all(_is_never_null(one, state) for one in inputs):
        types -= {"null"}
    # What is computed with a decimal is one; the places of a rounding are not computed with.
    counted = inputs[:1] if operator in ("$round", "$trunc") else inputs
    if operator in _ARITHMETIC and any(_is_decimal(_express(one, state)) for one in counted):
        types -= {"int", "long", "double"}
    return Typed(types)


def _is_decimal(fact: Fact) -> bool:
    """Return whether an expression gives a decimal, or null."""
    return isinstance(fact, Typed) and fact.types <= {"decimal", "null"}


def _mapped(argument: Any, state: _Stages) -> Fact:
    """Return what `$map` gives: an array whose elements are what its expression gives, or null."""
    if not isinstance(argument, Mapping):
        return UNKNOWN
    name = argument.get("as", "this")
    inner = replace(state, variables={**state.variables, name: PRESENT})
    element = _express(argument.get("in"), inner)
    nested = not (isinstance(element, Document) and element.exists)
    array = Elements("$map", And(()), _as_element(element), filtered=False, nested=nested)
    if _is_never_null(argument.get("input"), state):
        return array
    return OneOf((array, Value(None)))


def _as_element(fact: Fact) -> Fact:
    """Return what is known of an element of an array, where nothing becomes null."""
    if isinstance(fact, OneOf):
        return OneOf(tuple(map(_as_element, fact.facts)))
    return Value(None) if isinstance(fact, Absent) else fact


def _merged(argument: Any, state: _Stages) -> Fact:
    """Return what `$mergeObjects` gives: of each field what the last one has that has it."""
    fields: dict[str, Fact] = {}
    others: Fact = ABSENT
    for one in argument if isinstance(argument, (list, tuple)) else [argument]:
        known = _fields_of(_express(one, state))
        given = {
            name: fact if is_present(fact) else _either(fields.get(name, others), fact)
            for name, fact in known.children.items()
        }
        if known.others != ABSENT:
            # It may have any other field.
            others, fields = UNKNOWN, dict.fromkeys(fields, UNKNOWN)
        fields |= given
    return Document(fields, exists=True, others=others)


def _either(earlier: Fact, fact: Fact) -> Fact:
    """Return what is known of a field that may keep what it had."""
    if isinstance(fact, Absent) or earlier == fact:
        return earlier
    return UNKNOWN


def _without_field(argument: Any, state: _Stages) -> Fact:
    """Return what `$unsetField` or `$setField` gives; null for null."""
    name = argument.get("field") if isinstance(argument, Mapping) else None
    if not isinstance(name, str) or name.startswith("$"):
        return UNKNOWN
    known = _fields_of(_express(argument.get("input"), state))
    if "value" not in argument:
        return replace(known, children={**known.children, name: ABSENT})
    value = _express(argument["value"], state)
    # Of null it makes null, which has no field.
    value = value if known.exists or isinstance(value, Absent) else UNKNOWN
    return replace(known, children={**known.children, name: value})


def _from_entries(argument: Any, state: _Stages) -> Fact:
    """Return what `$arrayToObject` gives; null for null."""
    left_out = keys_left_out(argument)
    if not left_out:
        return _result_of("$arrayToObject", argument, state)
    return Document(dict.fromkeys(left_out, ABSENT), others=UNKNOWN)


def _fields_of(fact: Fact) -> Document:
    """Return what is known of the fields of what an expression gave, if it has fields at all."""
    if isinstance(fact, Value) and isinstance(fact.value, dict):
        known: dict[str, Fact] = {name: Value(one) for name, one in fact.value.items()}
        return Document(known, exists=True, others=ABSENT)
    if isinstance(fact, Document) and fact.array is Arrays.NONE:
        return fact
    return Document({}, others=UNKNOWN)


def _asks_for_array(argument: Any, otherwise: Any) -> bool:
    """Return whether `$cond` gives a path as it is unless there is an array."""
    condition = argument.get("if") if isinstance(argument, Mapping) else argument[0]
    return (
        isinstance(otherwise, str)
        and isinstance(condition, Mapping)
        and condition.get("$isArray") in (otherwise, [otherwise])
    )


def _inputs(argument: Any) -> list[Any]:
    """Return the expressions that an operator computes from."""
    if isinstance(argument, Mapping) and not is_expression(argument):
        return [argument["input"]] if "input" in argument else list(argument.values())
    return list(argument) if isinstance(argument, (list, tuple)) else [argument]


def _is_never_null(expression: Any, state: _Stages) -> bool:
    """Return whether an expression gives something other than null for every document."""
    if isinstance(expression, str) and expression.startswith("$") and expression[1:2] != "$":
        parts = tuple(expression[1:].split("."))
        if state.original and state.document.child(parts[0]) is None:
            # Through an array, an expression gets an array.
            return all(state.parents.excludes(parts, nothing) for nothing in (ABSENT, Value(None)))
    return _is_value(_express(expression, state))


def _is_value(fact: Fact) -> bool:
    if isinstance(fact, Value):
        return fact.value is not None and fact.value is not ANY_VALUE
    if isinstance(fact, OneOf):
        return all(map(_is_value, fact.facts))
    if isinstance(fact, Document):
        return fact.exists and fact.array is Arrays.NONE
    return isinstance(fact, Elements) or (isinstance(fact, Typed) and "null" not in fact.types)


def _branches(operator: str, argument: Any) -> list[Any]:
    """Return the expressions one of which `$cond`, or `$switch` with a default, gives."""
    if operator == "$cond":
        if isinstance(argument, Mapping):
            return [argument.get("then"), argument.get("else")]
        return argument[1:] if isinstance(argument, list) else []
    if operator != "$switch" or not isinstance(argument, Mapping) or "default" not in argument:
        return []
    cases = argument.get("branches")
    if not isinstance(cases, list) or not all(isinstance(case, Mapping) for case in cases):
        return []
    return [*(case.get("then") for case in cases), argument["default"]]


def _converted(types: frozenset[str] | None, argument: Any, state: _Stages) -> Fact:
    """Return what a conversion gives, its own results for bad input and for null included."""
    if not isinstance(argument, Mapping):
        return UNKNOWN
    if types is None:
        wanted = argument.get("to")
        name = CONVERTED.get(wanted) if isinstance(wanted, (str, int)) else None
        if name is None:
            return UNKNOWN
        types = frozenset({name, "null"})
    others = [argument[key] for key in ("onError", "onNull") if key in argument]
    return OneOf((Typed(types), *(_express(one, state) for one in others)))


def _item(fact: Fact) -> Any:
    return fact.value if isinstance(fact, Value) else ANY_VALUE


def _not_null(fact: Fact) -> Fact:
    """Return what is known besides `fact` of a value that is neither null nor absent."""
    if isinstance(fact, Typed):
        return Typed(fact.types - {"null"})
    if fact in (UNKNOWN, PRESENT, ABSENT) or fact == Value(None):
        return PRESENT
    return fact


def _look_up(expression: str, state: _Stages) -> Fact:
    if expression.startswith("$$"):
        return state.variables.get(expression[2:], UNKNOWN)
    parts = tuple(expression[1:].split("."))
    fact: Fact | None = state.document
    through_array = False
    for part in parts:
        if isinstance(fact, Document):
            through_array = through_array or fact.array is not Arrays.NONE
            fact = fact.child(part)
        elif isinstance(fact, Value) and isinstance(fact.value, dict):
            fact = Value(fact.value[part]) if part in fact.value else ABSENT
        elif fact is not None:
            return UNKNOWN
    may_be_array = state.parents.may_be_array
    if (
        fact is None
        and state.original
        and implies_presence(state.parents.target, parts, may_be_array)
    ):
        return PRESENT
    if isinstance(fact, Document):
        types = _OBJECT.types if fact.array is Arrays.NONE else CONTAINERS
        fact = Typed(types) if fact.exists else UNKNOWN
    if fact is None:
        return UNKNOWN
    # Of an array, an expression gets an array of what its elements have there.
    return OneOf((fact, ARRAY_TYPE)) if through_array else fact


_CONTAINERS: Final[Mapping[str, Callable[[Any, _Stages], Fact]]] = {
    "$arrayToObject": _from_entries,
    "$map": _mapped,
    "$mergeObjects": _merged,
    "$setField": _without_field,
    "$unsetField": _without_field,
}

_VARIABLES: Final[Mapping[str, Fact]] = {
    "$$REMOVE": ABSENT,
    "$$NOW": Typed(frozenset({"date"})),
    "$$CLUSTER_TIME": Typed(frozenset({"timestamp"})),
    "$$ROOT": _OBJECT,
    "$$CURRENT": _OBJECT,
}
