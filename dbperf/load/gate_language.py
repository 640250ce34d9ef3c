"""The language of gates: ``p95 < 500ms``, ``stage("50 users").p95 <= 1.5 x stage("10 users").p95``.

gate     = side ("<" | "<=" | ">" | ">=" | "==") (limit | [number "x"] side)
side     = { scope "." } metric
scope    = stage("name") | endpoint("METHOD /path", * allowed)
metric   = p50 p90 p95 p99 p99.9 max               a duration
         | errors degradation cpu pool             a share: 1% or 0.01
         | rps requests deadlocks                  a number
         | rss                                     a size: 2GB
         | blocked | recovery(p99)                 a duration
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from dbperf.errors import ConfigError, UsageError, did_you_mean
from dbperf.records.base import Record
from dbperf.units import parse_duration_s, parse_size_bytes

Unit = Literal["ms", "s", "share", "per_s", "bytes", "count"]
METRICS: dict[str, Unit] = {
    "p50": "ms",
    "p90": "ms",
    "p95": "ms",
    "p99": "ms",
    "p99.9": "ms",
    "max": "ms",
    "errors": "share",
    "degradation": "share",
    "cpu": "share",
    "pool": "share",
    "rps": "per_s",
    "requests": "count",
    "deadlocks": "count",
    "rss": "bytes",
    "blocked": "s",
    "recovery": "s",
}
OPERATORS = ("<=", ">=", "==", "<", ">")
_TOKEN = re.compile(
    r"""\s*(?: (?P<op><=|>=|==|<|>) | (?P<text>"[^"]*") | (?P<number>\d+(?:\.\d+)?) (?P<unit>[A-Za-z%]\w*|%)?
    | (?P<word>p\d+(?:\.\d+)?|[A-Za-z_]\w*) | (?P<mark>[().×]) )""",
    re.VERBOSE,
)


class Side(Record, frozen=True, kw_only=True):
    metric: str
    of: str | None = None
    """The metric in ``recovery(p99)``."""
    stage: str | None = None
    endpoint: str | None = None

    @property
    def unit(self) -> Unit:
        return METRICS[self.metric]


class Gate(Record, frozen=True, kw_only=True):
    expr: str
    left: Side
    operator: str
    limit: float | None = None
    """In the left side's unit; None where `right` is given."""
    factor: float = 1.0
    right: Side | None = None


def parse_gate(expr: str, source: str = "gate") -> Gate:
    """A gate from its text.

    Raises:
        ConfigError: it is no gate; the message shows the position.
    """
    return _Parser(expr, source).gate()


class _Parser:
    def __init__(self, expr: str, source: str) -> None:
        self.expr = expr
        self.source = source
        self.tokens: list[tuple[str, str, int]] = []
        at = 0
        while expr[at:].strip():
            m = _TOKEN.match(expr, at)
            if m is None:
                at += len(expr[at:]) - len(expr[at:].lstrip())
                raise self.error(at, f"{expr[at]!r} does not belong there")
            kind = m.lastgroup or ""
            if m["number"]:
                self.tokens.append(("value", m["number"] + (m["unit"] or ""), m.start("number")))
            else:
                self.tokens.append((kind, m[kind], m.start(kind)))
            at = m.end()
        self.next = 0

    def error(self, at: int, message: str, hint: str | None = None) -> ConfigError:
        return ConfigError(f"{self.source}: {self.expr!r}, column {at + 1}: {message}", hint=hint)

    def peek(self) -> tuple[str, str, int]:
        return self.tokens[self.next] if self.next < len(self.tokens) else ("end", "the end", len(self.expr))

    def take(self, kind: str, what: str, word: str | None = None) -> tuple[str, int]:
        found, text, at = self.peek()
        if found != kind or (word is not None and text != word):
            raise self.error(at, f"{what} was expected, not {text}")
        self.next += 1
        return text, at

    def gate(self) -> Gate:
        left = self.side()
        operator, _ = self.take("op", f"one of {' '.join(OPERATORS)}")
        kind, text, at = self.peek()
        factor = 1.0
        if kind == "value":
            self.next += 1
            following = self.peek()
            if following[1] in ("x", "×"):
                factor, self.next = self.number(text, at), self.next + 1
            else:
                self.end()
                return Gate(expr=self.expr, left=left, operator=operator, limit=self.limit(left, text, at))
        at = self.peek()[2]
        right = self.side()
        self.end()
        if right.unit != left.unit:
            raise self.error(at, f"{left.metric} can't be compared with {right.metric}")
        return Gate(expr=self.expr, left=left, operator=operator, factor=factor, right=right)

    def end(self) -> None:
        kind, text, at = self.peek()
        if kind != "end":
            raise self.error(at, f"nothing more was expected, but there is {text}")

    def side(self) -> Side:
        scopes: dict[str, str] = {}
        while self.peek()[1] in ("stage", "endpoint"):
            word, at = self.take("word", "a scope")
            if word in scopes:
                raise self.error(at, f"{word} is given twice")
            self.take("mark", "(", "(")
            scopes[word] = self.take("text", f'a name in quotes, {word}("...")')[0].strip('"')
            self.take("mark", ")", ")")
            self.take("mark", "a point and a metric", ".")
        metric, at = self.take("word", "a metric")
        if metric not in METRICS:
            raise self.error(at, f"{metric!r} is no metric", did_you_mean(metric, METRICS))
        of = None
        if metric == "recovery":
            self.take("mark", "recovery(p99)", "(")
            of, at = self.take("word", "a percentile")
            if of not in ("p50", "p95", "p99"):
                raise self.error(at, f"recovery of {of!r} is not known", "p50, p95 or p99")
            self.take("mark", ")", ")")
        return Side(metric=metric, of=of, stage=scopes.get("stage"), endpoint=scopes.get("endpoint"))

    def number(self, text: str, at: int) -> float:
        try:
            return float(text)
        except ValueError:
            raise self.error(at, f"a number was expected, not {text}") from None

    def limit(self, left: Side, text: str, at: int) -> float:
        if left.unit == "share":
            percent = text.endswith("%")
            share = self.number(text.rstrip("%"), at) / (100 if percent else 1)
            if not percent and share > 1:
                raise self.error(at, f"{left.metric} is a share, not {text}", 'write it as "1%" or 0.01')
            return share
        if left.unit in ("ms", "s"):
            if text.replace(".", "").isdigit():
                raise self.error(at, f"{text} lacks a unit", f'write it as "{text}ms" or "{text}s"')
            seconds = self.quantity(parse_duration_s, text, at)
            return seconds * 1e3 if left.unit == "ms" else seconds
        if left.unit == "bytes":
            return float(self.quantity(parse_size_bytes, text, at))
        return self.number(text, at)

    def quantity(self, read: Callable[[str], float], text: str, at: int) -> float:
        try:
            return read(text)
        except UsageError as e:
            raise self.error(at, e.message, e.hint) from None
