"""Advice for a rule whose update does not end the match of its target, or is computed in Python."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Final

from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.translation import LeftToPython
from lazymig.updates.update import each_of

__all__ = [
    "how_to_converge",
    "how_to_translate",
    "operator_for",
    "said_of_intermediate",
    "said_of_python",
    "what_settles",
]

_REMOVERS: Final = frozenset({"$unset", "$rename"})

# What is there after them may match as what was there before.
_CHANGERS: Final = frozenset({"$bit", "$currentDate", "$inc", "$max", "$min", "$mul", "$pop"})

# What a pipeline has for functions and methods of Python that are not translated, or only of some
# values. What these give elsewhere differs, so that the choice is the author's.
_IN_PIPELINES: Final = {
    **dict.fromkeys(("strptime", "fromisoformat"), "$dateFromString"),
    **dict.fromkeys(("strftime", "isoformat"), "$dateToString"),
    **dict.fromkeys(("fromtimestamp", "utcfromtimestamp"), "$toDate"),
    **dict.fromkeys(("match", "search", "fullmatch"), "$regexFind"),
    **dict.fromkeys(("capitalize", "title", "upper"), "$toUpper"),
    **dict.fromkeys(("casefold", "lower"), "$toLower"),
    **dict.fromkeys(("strip", "lstrip", "rstrip"), "$trim"),
    **dict.fromkeys(("set", "frozenset"), "$setUnion"),
    "timedelta": "$dateAdd",
    "replace": "$replaceAll",
    "split": "$split",
    "int": "$toInt",
    "float": "$toDouble",
    "str": "$toString",
    "Decimal": "$toDecimal",
    "sorted": "$sortArray",
    "reversed": "$reverseArray",
    "reduce": "$reduce",
    "zip": "$zip",
    "sum": "$sum",
    "min": "$min",
    "max": "$max",
    "round": "$round",
    "abs": "$abs",
    "any": "$anyElementTrue",
    "all": "$allElementsTrue",
    "range": "$range",
}
_MOST_NAMED: Final = 5


def how_to_translate(left: LeftToPython) -> str | None:
    """Return the form in which the server could do what is left to Python; `None` without one."""
    operator = operator_for(left)
    if operator is not None:
        return f"write the update as a pipeline with {operator}, if its result suits"
    if left.expression.lstrip().startswith(("for ", "while ", "[", "{")):
        return (
            "for the documents of a list there is each(), or write the update as a pipeline with "
            "$map, $filter or $reduce"
        )
    return None


def operator_for(left: LeftToPython) -> str | None:
    """Return what pipelines have in the place of a function that is left to Python, if anything.

    What the function is given may come from one that pipelines have: that is not what is missing.
    """
    if left.reason.startswith("loops "):
        # It is the loop that is left, and not what gives its items.
        return None
    return _IN_PIPELINES.get(next(_called(left.expression), ""))


def _called(expression: str) -> Iterator[str]:
    """The names of the functions and methods that an expression calls, the outermost first."""
    try:
        tree = ast.parse(expression.strip())
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield node.func.attr
            elif isinstance(node.func, ast.Name):
                yield node.func.id


def what_settles(rule: BoundRule) -> str | None:
    """Return which operations wait until old documents are migrated by a rule, in words.

    `None` for a rule that does not bring about that, or only for the documents that its translation
    leaves out.
    """
    if rule.form != "python" or not rule.starts_on_match:
        return None
    if rule.writes is None:
        return "all operations"
    paths = sorted(rule.writes)
    named = ", ".join(map(repr, paths[:_MOST_NAMED]))
    more = len(paths) - _MOST_NAMED
    return f"filters, sorts and aggregations on {named}{f' and {more} others' if more > 0 else ''}"


def said_of_python(left: LeftToPython | None, settles: str | None) -> tuple[str, ...]:
    """Return why a rule is computed in Python, what that brings about, and what would not do so.

    :param settles: what `what_settles` says of the rule.
    """
    if left is None:
        return ()
    said = [f"computed in Python, because {left}"]
    if settles is not None:
        said.append(f"{settles} settle old documents first: they are migrated before the answer")
    remedy = how_to_translate(left)
    if remedy is not None:
        said.append(remedy)
    return tuple(said)


def said_of_intermediate(path: str, later: Iterable[BoundRule]) -> str | None:
    """Return what to do with a path that a rule writes and a later one takes away again.

    `None` if none of them does.

    :param later: the rules after the one that writes it, in order.
    """
    for rule in later:
        above = [each for each in rule.writes or () if f"{path}.".startswith(f"{each}.")]
        if rule.promises.issuperset(above):
            continue
        moves = {each.path: each.destination for each in rule.named_paths if each.destination}
        moved = [f"{moves[each]}{path[len(each) :]}" for each in above if each in moves]
        copied = sorted(rule.promises) if path in (rule.inputs or ()) else []
        goals = ", ".join(map(repr, moved or copied))
        if not goals:
            return f"{rule.name} takes it away again; leave it out here"
        return (
            f"it is an intermediate value, which {rule.name} moves on to {goals}; let this rule "
            f"write {goals} itself, as {rule.name} would, and keep {rule.name} for documents that "
            f"have {path!r} already"
        )
    return None


def how_to_converge(rule: BoundRule) -> str:
    """Return what to change in target or update, by the operators of the update."""
    items = each_of(rule.update)
    if items is not None and rule.target != items.target:
        return f"set no self.target, as each() brings its own: {items.target}"
    if items is not None:
        return (
            "let the update change what its where asks for, and give what it sets or adds a value "
            "where the path that it comes from is missing: {'$ifNull': ['$path', None]}"
        )
    operators = {named.operator for named in rule.named_paths}
    removed = sorted(
        named.path
        for named in rule.named_paths
        if named.operator in _REMOVERS and "$" not in named.path
    )
    if removed:
        present = {removed[0]: {"$exists": True}}
        return f"let the target ask for what the update takes away, such as {present}"
    if operators and operators <= _CHANGERS:
        return (
            "what it changes may match as before, so let the update also set a field of the model "
            "that the target asks to be missing"
        )
    if operators and operators <= {"$pull", "$pullAll"}:
        return "let the target ask for the elements that the update takes out"
    return "narrow the target to documents that lack what the update writes"
