"""The strings of a rule: their methods, and what is made a string.

No comparison of strings follows a collation: all are by bytes or patterns.
"""

from __future__ import annotations

import ast
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from lazymig.rules.translating.characters import (
    begins_with,
    ends_with,
    holds,
    require_ascii,
)
from lazymig.rules.translating.conditions import BOOL
from lazymig.rules.translating.containers import ARRAY
from lazymig.rules.translating.context import Context, evaluates
from lazymig.rules.translating.scope import is_type
from lazymig.rules.translating.symbols import (
    Computed,
    Constant,
    Left,
    Row,
    Symbol,
    Types,
    literal,
)

__all__ = [
    "SPACE",
    "STRING",
    "concatenated",
    "method_of_text",
    "percent",
    "text_methods",
    "to_text",
]

STRING: Final[Types] = frozenset({"string"})
# The server gives no more words of one string than 64 megabytes hold.
_LONGEST_TITLE: Final = 10_000
_NOTHING: Final[Types] = frozenset({"null"})
_AS_NUMBER: Final[Types] = frozenset({"int", "long", "objectId"})

SPACE: Final = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
"""What Python takes for white space."""


def concatenated(context: Context, parts: Sequence[Symbol], node: ast.AST) -> Symbol:
    """Return strings, one after another; all of them have to be strings."""
    texts = [
        context.require(part, STRING, node, "joins with a string what is none") for part in parts
    ]
    if len(texts) == 1:
        return texts[0]
    return Computed({"$concat": [text.expression for text in texts]}, STRING)


def to_text(context: Context, value: Symbol, node: ast.AST) -> Symbol:
    """Return `str(value)`."""
    if isinstance(value, Constant):
        if type(value.value) not in (str, int, bool, type(None)):
            raise Left(node, "makes a string of a constant that is neither text nor number")
        return Constant(str(value.value))

    def of_flag(flag: Computed) -> Symbol:
        return Computed({"$cond": [flag.expression, "True", "False"]}, STRING)

    return context.by_type(
        value,
        [
            (STRING, lambda text: text),
            (_AS_NUMBER, lambda number: Computed({"$toString": number.expression}, STRING)),
            (BOOL, of_flag),
            (_NOTHING, lambda _: Constant("None")),
        ],
        node,
        "makes a string of a float, a date or a container",
    )


def _text_of(value: Symbol, node: ast.AST) -> str:
    if not isinstance(value, Constant) or type(value.value) is not str or "\x00" in value.value:
        raise Left(node, "calls a method of a string with an argument that is no constant string")
    return value.value


# --- Formatting -----------------------------------------------------------------------------


@evaluates(ast.JoinedStr)
def _joined(context: Context, node: ast.JoinedStr) -> Symbol:
    parts: list[Symbol] = []
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            if part.format_spec is not None or part.conversion not in (-1, ord("s")):
                raise Left(part, "formats a value")
            parts.append(to_text(context, context.evaluate(part.value), part))
        else:
            parts.append(context.evaluate(part))
    return _written(context, parts, node)


def _written(context: Context, parts: Sequence[Symbol], node: ast.AST) -> Symbol:
    constants = [part.value for part in parts if isinstance(part, Constant)]
    if not all(isinstance(value, str) for value in constants):
        raise Left(node, "joins with a string what is none")
    if len(constants) == len(parts):
        return Constant("".join(constants))
    filled = [part for part in parts if not isinstance(part, Constant) or part.value != ""]
    return concatenated(context, filled, node)


def percent(context: Context, template: str, value: Symbol, node: ast.AST) -> Symbol:
    """Return `template % value`, of texts and whole numbers."""
    values = list(value.items) if isinstance(value, Row) and value.kind is tuple else [value]
    if isinstance(value, Constant) and isinstance(value.value, tuple):
        values = [Constant(one) for one in value.value]
    parts: list[Symbol] = []
    pieces = template.replace("%%", "\x00").split("%")
    if len(pieces) != len(values) + 1:
        raise Left(node, "formats as many values as there are not")
    parts.append(Constant(pieces[0].replace("\x00", "%")))
    for piece, one in zip(pieces[1:], values, strict=True):
        if piece[:1] == "d":
            one = context.require(one, frozenset({"int", "long"}), node)  # noqa: PLW2901
        elif piece[:1] != "s":
            raise Left(node, "formats a value otherwise than by %s or %d")
        parts += [to_text(context, one, node), Constant(piece[1:].replace("\x00", "%"))]
    return _written(context, parts, node)


def _format(context: Context, template: str, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    parts: list[Symbol] = []
    left = list(given)
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError as exc:
        raise Left(node, "has a format that is none") from exc
    for text, name, spec, conversion in pieces:
        parts.append(Constant(text))
        if name is None:
            continue
        if name or spec or conversion or not left:
            raise Left(node, "formats a value")
        parts.append(to_text(context, left.pop(0), node))
    return _written(context, parts, node)


# --- Methods --------------------------------------------------------------------------------

_Method = Callable[[Context, Computed, Sequence[Symbol], ast.AST], Symbol]


def _no_arguments(given: Sequence[Symbol], node: ast.AST) -> None:
    if given:
        raise Left(node, "calls a method of a string with more arguments than are translated")


def _lower(context: Context, text: Computed, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    _no_arguments(given, node)
    require_ascii(context.scope, text.expression)
    return Computed({"$toLower": text.expression}, STRING)


def _upper(context: Context, text: Computed, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    _no_arguments(given, node)
    require_ascii(context.scope, text.expression)
    return Computed({"$toUpper": text.expression}, STRING)


def _word(text: Any) -> Any:
    """A word of ASCII with its first letter in upper case, the others in lower case."""
    first = {"$toUpper": {"$substrBytes": [text, 0, 1]}}
    return {"$concat": [first, {"$toLower": {"$substrBytes": [text, 1, -1]}}]}


def _capitalize(context: Context, text: Computed, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    _no_arguments(given, node)
    require_ascii(context.scope, text.expression)
    return Computed({"$let": {"vars": {"text": text.expression}, "in": _word("$$text")}}, STRING)


def _title(context: Context, text: Computed, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    _no_arguments(given, node)
    require_ascii(context.scope, text.expression)
    context.scope.require({"$lte": [{"$strLenBytes": text.expression}, _LONGEST_TITLE]})
    pieces = {"$regexFindAll": {"input": text.expression, "regex": "[A-Za-z]+|[^A-Za-z]+"}}
    grown = {"$concat": ["$$value", _word("$$this.match")]}
    return Computed({"$reduce": {"input": pieces, "initialValue": "", "in": grown}}, STRING)


def _stripping(operator: str) -> _Method:
    def strip(_context: Context, text: Computed, given: Sequence[Symbol], node: ast.AST) -> Symbol:
        _no_arguments(given[1:], node)
        is_none = not given or (isinstance(given[0], Constant) and given[0].value is None)
        letters = SPACE if is_none else _text_of(given[0], node)
        if not letters:
            return text
        return Computed({operator: {"input": text.expression, "chars": literal(letters)}}, STRING)

    return strip


def _split(_context: Context, text: Computed, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    _no_arguments(given[2:], node)
    if not given or (isinstance(given[0], Constant) and given[0].value is None):
        _no_arguments(given[1:], node)
        return Computed(_words(text), ARRAY, STRING, fresh=True)
    mark = _text_of(given[0], node)
    if not mark:
        raise Left(node, "splits at an empty string")
    if len(given) == 1:
        return Computed({"$split": [text.expression, literal(mark)]}, ARRAY, STRING, fresh=True)
    if not isinstance(given[1], Constant) or given[1].value != 1:
        raise Left(node, "splits more than once, and not everywhere")
    found, before, after = _around(text, mark)
    pair = {"$cond": [found, [before, after], [text.expression]]}
    return Computed(pair, ARRAY, STRING, fresh=True)


def _words(text: Computed) -> Any:
    spaced = {"$replaceAll": {"input": "$$value", "find": "$$this", "replacement": " "}}
    blanks = literal([letter for letter in SPACE if letter != " "])
    plain = {"$reduce": {"input": blanks, "initialValue": text.expression, "in": spaced}}
    full = {"$gt": [{"$strLenBytes": "$$this"}, 0]}
    return {"$filter": {"input": {"$split": [plain, " "]}, "cond": full}}


def _around(text: Computed, mark: str) -> tuple[Any, Any, Any]:
    """Whether a mark is in a text, and what is before and after the first one."""
    before = {"$arrayElemAt": [{"$split": [text.expression, literal(mark)]}, 0]}
    beginning = {"$concat": [before, literal(mark)]}
    after = {"$replaceOne": {"input": text.expression, "find": beginning, "replacement": ""}}
    return holds(text.expression, mark), before, after


def _partition(_context: Context, text: Computed, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    if len(given) != 1 or not (mark := _text_of(given[0], node)):
        raise Left(node, "partitions at no constant string")
    found, before, after = _around(text, mark)
    parts = ((before, text.expression), (literal(mark), ""), (after, ""))
    return Row(tuple(Computed({"$cond": [found, yes, no]}, STRING) for yes, no in parts), tuple)


def _replace(_context: Context, text: Computed, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    if len(given) != 2:
        raise Left(node, "replaces a limited number of times")
    found, put = (_text_of(one, node) for one in given)
    if not found:
        raise Left(node, "replaces the empty string")
    how = {"input": text.expression, "find": literal(found), "replacement": literal(put)}
    return Computed({"$replaceAll": how}, STRING)


def _ends(*, start: bool) -> _Method:
    def ends(_context: Context, text: Computed, given: Sequence[Symbol], node: ast.AST) -> Symbol:
        _no_arguments(given[1:], node)
        one = given[0] if given else None
        if isinstance(one, Row) and one.kind is tuple:
            texts = [_text_of(each, node) for each in one.items]
        elif isinstance(one, Constant) and isinstance(one.value, tuple):
            texts = [_text_of(Constant(each), node) for each in one.value]
        else:
            texts = [_text_of(one or Constant(None), node)]
        if not texts:
            return Constant(False)
        if "" in texts:
            return Constant(True)
        tests = [(begins_with if start else ends_with)(text.expression, one) for one in texts]
        return Computed(tests[0] if len(tests) == 1 else {"$or": tests}, BOOL)

    return ends


def _of_digits(context: Context, text: Computed, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    _no_arguments(given, node)
    require_ascii(context.scope, text.expression)
    return Computed({"$regexMatch": {"input": text.expression, "regex": r"\A[0-9]++\z"}}, BOOL)


_METHODS: Final[Mapping[str, _Method]] = {
    "capitalize": _capitalize,
    "endswith": _ends(start=False),
    "isdigit": _of_digits,
    "lower": _lower,
    "lstrip": _stripping("$ltrim"),
    "partition": _partition,
    "replace": _replace,
    "rstrip": _stripping("$rtrim"),
    "split": _split,
    "startswith": _ends(start=True),
    "strip": _stripping("$trim"),
    "title": _title,
    "upper": _upper,
}
text_methods: Final = frozenset(_METHODS) | {"join", "format"}
"""The methods of strings that are translated."""


def method_of_text(
    context: Context, name: str, owner: Symbol, given: Sequence[Symbol], node: ast.AST
) -> Symbol:
    """Return what a method of a string gives."""
    if name == "format" and isinstance(owner, Constant) and isinstance(owner.value, str):
        return _format(context, owner.value, given, node)
    if name == "join":
        if len(given) != 1:
            raise Left(node, "joins other than one list")
        return _join(context, owner, given[0], node)
    if isinstance(owner, Constant) and all(isinstance(one, Constant) for one in given):
        return _of_constants(name, owner, given, node)
    text = context.require(owner, STRING, node, f"calls {name} of what is no string")
    return _METHODS[name](context, text, given, node)


def _of_constants(name: str, owner: Constant, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    values = [one.value for one in given if isinstance(one, Constant)]
    if not isinstance(owner.value, str):
        raise Left(node, f"calls {name} of what is no string")
    try:
        found = getattr(owner.value, name)(*values)
    except (TypeError, ValueError) as exc:
        raise Left(node, "calls a method of a constant, which raises") from exc
    if isinstance(found, (list, tuple)):
        return Row(tuple(map(Constant, found)), type(found))
    return Constant(found)


def _join(context: Context, mark: Symbol, parts: Symbol, node: ast.AST) -> Symbol:
    between = literal(_text_of(mark, node))
    if isinstance(parts, Row):
        separated: list[Symbol] = []
        for part in parts.items:
            separated += [mark, part] if separated else [part]
        return _written(context, separated or [Constant("")], node)
    value = context.require(parts, ARRAY, node, "joins what is no list")
    name = context.variable("part")
    tests = {"$map": {"input": value.expression, "as": name, "in": is_type(f"$${name}", STRING)}}
    context.scope.require({"$allElementsTrue": [tests]})
    grown = {"$concat": ["$$value", between, "$$this"]}
    first = {"$eq": [{"$type": "$$value"}, "null"]}
    joined = {"$cond": [first, "$$this", grown]}
    whole = {"$reduce": {"input": value.expression, "initialValue": None, "in": joined}}
    return Computed({"$ifNull": [whole, ""]}, STRING)
