"""Expressions of rules as chance makes them: forms in forms in forms."""

from __future__ import annotations

from hypothesis import strategies as st

Texts = st.SearchStrategy[str]

_ATOMS: Texts = st.sampled_from(
    [
        *('d["x"]',) * 6,
        *('d.get("z")', 'd.get("z", 0)', 'd["x"].get("a", "")', 'd["x"]["a"]', 'd["x"][0]'),
        *('"a"', '" B "', "0", "1", "100", "1.5", "-0.5", "True", "None", '""', "2**31", "2**40"),
        *("[]", "{}", '("a", 1)'),
    ]
)
_TESTS = [
    *("isinstance({0}, str)", "isinstance({0}, (int, float))", "isinstance({0}, dict)"),
    *("isinstance({0}, list)", "isinstance({0}, bool)", "{0} is None", "{0} is not None"),
    *('"z" in d', '"a" in {0}', "{0} == {1}", "{0} != {1}", '{0} in ("a", 1, None)', "{0} < {1}"),
    *("not {0}", "{0} and {1}", "{0} or {1}", "bool({0})", '{0}.startswith("a")', "1 < {0} <= 9"),
    *("{0} is True", 'any(i == "a" for i in {0})', "{0}", "{0} > 0", '"a" not in {0}'),
]
_FORMS = [
    *("{0} + {1}", "{0} - {1}", "{0} * {1}", "{0} / {1}", "{0} // {1}", "{0} % {1}", "-{0}"),
    *("{0} * 2", "{0} + 1", "{0} / 100", "{0} + '!'", "int({0})", "float({0})", "str({0})"),
    *("round({0})", "round({0}, 2)", "abs({0})", "len({0})", "bool({0})", "sum({0})", "list({0})"),
    *("dict({0})", "{0}.lower()", "{0}.strip()", "{0}.title()", '{0}.split(",")', "{0}.split()"),
    *('"-".join({0})', '{0}.replace("a", "b")', "f'''{{{0}}}:{{{1}}}'''", '"%s/%s" % ({0}, {1})'),
    *("{0}[0]", "{0}[-1]", "{0}[1:]", "{0}[:2]", '{0}["a"]', '{0}.get("a")', '{0}.get("a", {1})'),
    *("[{0}, {1}]", '{{"a": {0}, "b": {1}}}', '{{**{0}, "a": {1}}}', "[*{0}, {1}]", "({0})"),
    *('{{"a": {0}}}["a"]', '{{1: "new", "a": {1}}}.get({0}, {1})', '{{1: "b", 2: {1}}}[{0}]'),
    *(
        "[i for i in {0}]",
        "[i for i in {0} if i]",
        '[i["a"] for i in {0}]',
        "[(i, {1}) for i in {0}]",
    ),
    *('[{{**i, "n": {1}}} for i in {0}]', "{{k: v for k, v in {0}.items() if v != {1}}}"),
    *("[str(i) for i in {0} if isinstance(i, int)]", "[v for v in {0}.values()]", "ObjectId({0})"),
    *("{0} or {1}", "{0} and {1}", "datetime.fromisoformat({0})", "[j for j in [{0}, {1}] if j]"),
]


def _grown(inner: Texts) -> Texts:
    pairs = st.tuples(inner, inner)
    forms = st.builds(lambda form, pair: f"({form.format(*pair)})", st.sampled_from(_FORMS), pairs)
    tests = st.builds(lambda form, pair: f"({form.format(*pair)})", st.sampled_from(_TESTS), pairs)
    choices = st.builds(lambda yes, test, no: f"({yes} if {test} else {no})", inner, tests, inner)
    return st.one_of(forms, forms, forms, tests, choices)


expressions: Texts = st.recursive(_ATOMS, _grown, max_leaves=5)
"""Source texts of expressions over the document `d`."""

tests: Texts = st.builds(
    lambda form, one, other: form.format(one, other), st.sampled_from(_TESTS), _ATOMS, _ATOMS
)
"""Source texts of conditions."""
