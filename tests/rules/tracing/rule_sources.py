"""Sources of rules, drawn at random: the idioms of ordinary Python, put into one another."""

from __future__ import annotations

import itertools
import linecache
import textwrap
from typing import Any

from hypothesis import strategies as st

from lazymig.rules.rule import RuleHandler

__all__ = ["compiled", "documents", "sources"]

_PATHS = ("a", "b", "c.d", "c.e.f", "g")
_FIELDS = ("p", "q", "r")

_VALUES = (
    "1",
    "x",
    "d.get('{field}')",
    "d['{field}']",
    "str(d.get('{field}'))",
    "int(d['{field}'])",
    "[i for i in d['{field}']]",
    "len(d)",
    "(x := d.get('{field}'))",
    "(d['{field}'] if '{other}' in d else 0)",
    "d.get('{field}') or d.get('{other}')",
    "self.looked('{field}')",
    "dict(d)",
    "[d[name] for name in ('{field}', '{other}') if name in d]",
    "sorted(d['{field}'], key=lambda i: str(d.get('{other}')))",
    "(lambda: d['{field}'])()",
    "self.shortened",
    "getattr(self, 'doc')['{field}']",
)
_CONDITIONS = (
    "'{field}' in d",
    "d.get('{field}') is None",
    "isinstance(d.get('{field}'), str)",
    "type(x) is int",
    "not x",
    "x == 1",
    "len(d) > 2",
    "hasattr(x, 'lower')",
    "callable(d.get('{field}'))",
    "flag",
    "self.doc_class is None",
    "any(d.get(name) for name in ('{field}', '{other}'))",
)
_STATEMENTS = (
    "s['{path}'] = {value}",
    "s[key] = {value}",
    "s[f'{{key}}_x'] = {value}",
    "s[f'c.{{x}}'] = {value}",
    "s[key + 'y'] = {value}",
    "s['%s.z' % key] = {value}",
    "s['.'.join((key, 'j'))] = {value}",
    "s[FIELDS['{field}']] = {value}",
    "s.update({{'{path}': {value}}})",
    "s.update(g={value})",
    "s.update([('{path}', {value})])",
    "s |= {{'{path}': {value}}}",
    "s.setdefault('{path}', {value})",
    "u.setdefault('$unset', {{}})['{path}'] = ''",
    "u['$inc'] = {{'{path}': 1}}",
    "u['$rename'] = {{'{path}': 'moved'}}",
    "u = {{**u, '$max': {{'{path}': 1}}}}",
    "u['$set'] = s = {{**s, '{path}': {value}}}",
    "u['$set'] = s = copy.copy(s)",
    "u = copy.deepcopy(u); s = u.setdefault('$set', {{}})",
    "u = dict(u.items()); s = u['$set']",
    "u['$set'] = s = {{k: v for k, v in s.items() if v}}",
    "u['$set'] = s = dict.fromkeys(('{path}', key), {value})",
    "u['$set'] = s = dict(zip(('{path}', 'g'), (x, {value})))",
    "u['$set'] = s = made('{path}', {value})",
    "u['$set'] = s = functools.reduce(lambda had, k: {{**had, k: x}}, ('{path}', 'g'), s)",
    "u['$set'] = s = self.joined(s, '{path}', {value})",
    "self.put(s, '{path}', {value})",
    "self.put(u['$set'], *('{path}', {value}))",
    "put_all(s, **{{'g': {value}, 'b': x}})",
    "add = functools.partial(self.put, s); add('{path}', {value})",
    "add = lambda k, v: s.update({{k: v}}); add('{path}', {value})",
    "list(map(lambda k: s.__setitem__(k, x), ('{path}', 'g')))",
    "key = '{path}'",
    "key = FIELDS.get('{field}', key)",
    "x = {value}",
    "_, key = ('{path}', 'b')",
    "(key, *_) = ('{path}', 'b')",
    "s.pop('{path}', None)",
    "self.kept = s; self.kept['{path}'] = {value}",
    "u['$set'] = s = dict(pairs('{path}', {value}))",
    "s[{{True: 'a', False: 'g'}}['{field}' in d]] = {value}",
)
_BLOCKS = (
    "if {condition}:\n{block}",
    "if {condition}:\n{block}\nelse:\n{other_block}",
    "for key in ('{path}', 'b'):\n{block}",
    "for key, x in (('{path}', 1), ('b', d.get('{field}'))):\n{block}",
    "for key in [name for name in FIELDS.values() if name]:\n{block}",
    "for key in ('{path}', 'b'):\n    if {condition}:\n        break\n{block}",
    "for key in ('{path}', 'b'):\n    if {condition}:\n        key = 'w'; continue\n{block}",
    "for item in d.get('{field}') or ():\n    x = item\n{block}",
    "n = 0\nwhile n < 2:\n    n += 1\n{block}",
    "try:\n{block}\nexcept Exception:\n{other_block}",
    "try:\n{block}\nfinally:\n{other_block}",
    "with contextlib.suppress(Exception):\n{block}",
    "match d.get('{field}'):\n    case str() as x:\n{deep_block}\n    case _: key = '{path}'",
    "def inner():\n    nonlocal s, u, key, x\n{block}\ninner()",
    "if {condition}:\n    self.update = u\n    return",
    "if (x := d.get('{field}')) and (key := '{path}'):\n{block}",
)

_FRAME = """
import contextlib, copy, functools

FIELDS = {{"p": "a", "q": "b", "r": "c.d"}}


def made(path, value):
    found = {{}}
    found[path] = value
    return found


def pairs(path, value):
    yield path, value
    yield "g", 1


def put_all(s, **fields):
    s.update(fields)


class Rules(RuleHandler):
    def migration01__x(self, flag={flag}):
        self.target = {{}}
        d = self.doc
        x = None
        key = "{path}"
        s = {{}}
        u = {{"$set": s}}
{body}
        self.update = u

    def put(self, s, path, value):
        s[path] = value

    @staticmethod
    def joined(s, path, value):
        return {{**s, path: value}}

    def looked(self, field):
        return self.doc.get(field)

    @property
    def shortened(self):
        return str(self.doc.get("r"))[:3]
"""

_numbers = itertools.count()


@st.composite
def _texts(draw: st.DrawFn, template: str, depth: int) -> str:
    path = st.sampled_from(_PATHS)
    field = st.sampled_from(_FIELDS)
    names = {"path": draw(path), "field": draw(field), "other": draw(field)}
    names["value"] = draw(st.sampled_from(_VALUES)).format(**names)
    names["condition"] = draw(st.sampled_from(_CONDITIONS)).format(**names)
    for name, indent in (("block", 4), ("other_block", 4), ("deep_block", 8)):
        if f"{{{name}}}" in template:
            names[name] = textwrap.indent(draw(_bodies(depth - 1)), " " * indent)
    return template.format(**names)


@st.composite
def _bodies(draw: st.DrawFn, depth: int) -> str:
    templates = [*_STATEMENTS, *_BLOCKS] if depth > 0 else list(_STATEMENTS)
    chosen = draw(st.lists(st.sampled_from(templates), min_size=1, max_size=4))
    return "\n".join(draw(_texts(template, depth)) for template in chosen)


@st.composite
def sources(draw: st.DrawFn) -> str:
    """The source of a module with a handler and one rule."""
    return _FRAME.format(
        flag=draw(st.booleans()),
        path=draw(st.sampled_from(_PATHS)),
        body=textwrap.indent(draw(_bodies(2)), " " * 8),
    )


def documents() -> st.SearchStrategy[dict[str, Any]]:
    """Documents with values of the kinds that the rules tell apart."""
    values = st.one_of(
        st.none(),
        st.integers(0, 2),
        st.sampled_from(["", "1", "x"]),
        st.lists(st.integers(0, 2), max_size=2),
        st.just({"i": 1}),
    )
    return st.dictionaries(st.sampled_from(_FIELDS), values).map(lambda made: {"_id": 1, **made})


def compiled(source: str) -> type[RuleHandler]:
    """The handler of a source, which is there to be read."""
    name = f"<rules {next(_numbers)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    namespace: dict[str, Any] = {"RuleHandler": RuleHandler, "__name__": "rules_of_a_test"}
    exec(compile(source, name, "exec"), namespace)
    handler: type[RuleHandler] = namespace["Rules"]
    return handler
