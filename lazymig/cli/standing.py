"""The picture that `status` draws: models with totals, and their rules, in lines of any width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from lazymig.characters import shown
from lazymig.reports.status import ModelStanding, RuleStanding
from lazymig.reports.texts import Line, documents

__all__ = ["picture_of"]

_INDENT = 2

# What stands before a name, and the blanks between two columns.
_MARK = 4
_GAP = "  "


class _Figures(NamedTuple):
    """The columns of a rule: documents left and in all, the share that is done, the rate."""

    left: str
    total: str
    done: str
    rate: str


@dataclass(frozen=True, slots=True)
class _Columns:
    """The widths of the columns; `name` is 0 where the figures go below the name."""

    name: int
    figures: _Figures
    width: int

    @classmethod
    def of(cls, rules: Sequence[RuleStanding], width: int) -> _Columns:
        """Those for all rules of a picture of some columns in all."""
        rows = [_Figures("", "", "", ""), *map(_figures, rules)]
        widest = _Figures(*(max(column, key=len) for column in zip(*rows, strict=True)))
        room = width - _INDENT - _MARK - len(_joined(widest, widest)) - len(_GAP)
        longest = max((_cells(rule.name) for rule in rules), default=0)
        return cls(longest if longest <= room else 0, widest, width)


def picture_of(standings: Sequence[ModelStanding], width: int) -> Iterator[Line]:
    """A line for each model, and below it the lines of its rules. No name is cut.

    :param width: the columns of the terminal; only rows of figures are made to fit, what else is
        longer than a line is for the caller to wrap.
    """
    columns = _Columns.of([rule for each in standings for rule in each.rules], width)
    for standing in standings:
        yield _model(standing)
        if not standing.rule_count:
            yield Line("its handler has no rules", _INDENT)
        for rule in standing.rules:
            yield from _rule(rule, columns)
        for each in standing.waiting:
            state = f"waits for {standing.waiting[0].name}"
            if each.unfinished:
                state = "is no rule yet; finish it, and delete its line TODO"
            yield Line(f"{_mark(done=False)}{each.name} {state}", _INDENT, "yellow")
        # Of most rules it is the same.
        for warning in dict.fromkeys(rule.warning for rule in standing.rules):
            if warning is not None:
                yield Line(f"scans: {warning}", _INDENT, "yellow")
        yield from _views(standing)
    looks = [each.since for each in standings if each.since is not None]
    if looks:
        times = dict.fromkeys(f"{each:%Y-%m-%d %H:%M:%S}" for each in (min(looks), max(looks)))
        yield Line(f"rates since the last look, {' to '.join(times)} UTC", 0, "dim")


def _model(standing: ModelStanding) -> Line:
    left = f"{standing.left:,} of {standing.total:,} documents left"
    facts = [f"at least {left}" if standing.at_least else left]
    if standing.rule_count:
        done = sum(rule.removable for rule in standing.rules)
        facts.append(f"{done} of {standing.rule_count} rules done")
    if standing.quarantined:
        facts.append(f"{standing.quarantined:,} in quarantine")
    head = f"{_mark(done=standing.complete)}{standing.model}: {', '.join(facts)}"
    return Line(f"{head}; {shown(standing.collection)}", 0, "bold")


def _rule(rule: RuleStanding, columns: _Columns) -> Iterator[Line]:
    """The row of a rule; what does not fit beside the figures goes below."""
    name = f"{_mark(done=rule.removable)}{rule.name}"
    style = "green" if rule.removable else ""
    figures = _joined(_figures(rule), columns.figures)
    row = name + " " * (_MARK + columns.name - _cells(name)) + _GAP + figures
    indent = _INDENT
    if not columns.name:
        yield Line(name, _INDENT, style)
        row, indent = figures, _INDENT + _MARK
    facts = ", ".join(_facts(rule))
    fits = indent + _cells(row) + len(_GAP) + len(facts) <= columns.width
    yield Line((f"{row}{_GAP}{facts}" if facts and fits else row).rstrip(), indent, style)
    below = partial(Line, indent=_INDENT + _MARK)
    if facts and not fits:
        yield below(facts, style=style)
    if rule.quarantined:
        waiting = f"{documents(rule.quarantined)} in quarantine"
        yield below(f"{waiting}; lazymig quarantine list lists what runs have refused", style="red")
    if rule.remaining != 0 and rule.left_to_python is not None:
        yield from (below(text, style="dim") for text in rule.remarks)


def _facts(rule: RuleStanding) -> Iterator[str]:
    if rule.sealed:
        yield "sealed"
    if rule.indexed:
        yield "indexed"
    if rule.warning is not None:
        yield "scans"
    if rule.remaining != 0 and rule.form != "static":
        yield "in Python" if rule.form == "python" else rule.form


def _views(standing: ModelStanding) -> Iterator[Line]:
    current = [shown(each.name) for each in standing.views if each.current]
    if current:
        yield Line(f"in today's shape: the view {', '.join(current)}", _INDENT)
    for each in standing.views:
        if each.reason is not None:
            yield Line(f"the view {shown(each.name)} {each.reason}", _INDENT, "yellow")


def _cells(text: str) -> int:
    """The columns that a text takes; letters of some scripts take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - only such letters pay for the import

    return cell_len(text)


def _mark(*, done: bool) -> str:
    return "[x] " if done else "[ ] "


def _figures(rule: RuleStanding) -> _Figures:
    return _Figures(
        "unknown" if rule.remaining is None else f"{rule.remaining:,}",
        f"{rule.total:,}",
        "" if rule.done is None else _percent(rule.done),
        # Of what is done nothing is expected any more.
        "" if rule.rate is None or (rule.removable and not rule.rate) else _pace(rule.rate),
    )


def _joined(figures: _Figures, widest: _Figures) -> str:
    """The figures of a row, each under those of the other rows."""
    left, total, done, rate = (
        text.rjust(len(column)) for text, column in zip(figures, widest, strict=True)
    )
    return _GAP.join([f"{left} of {total} left", *(text for text in (done, rate) if text)])


def _percent(share: float) -> str:
    """Rounded down: 100 % is said of what is done alone."""
    return f"{int(share * 1000) / 10:.1f}%"


def _pace(rate: float) -> str:
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        if abs(rate) * seconds >= 1 or unit == "h":
            return f"{rate * seconds:,.0f}/{unit}" if rate else "0/s"
    raise AssertionError
