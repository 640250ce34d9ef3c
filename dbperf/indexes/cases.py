"""Values in the place of a statement's parameters, and which of many observed ones stand for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import postgast

from dbperf.postgres.shadow_ddl import literal

GENERIC_SHARE = 0.25
"""Share of a parameterised statement's calls that the generic plan stands for, beside values that were observed."""


def with_values(sql: str, values: Mapping[int, str | None]) -> str | None:
    """The text with some parameters replaced by literals; None where it does not scan.

    >>> with_values("SELECT '$1' FROM t WHERE a = $1 AND b = $2", {1: "it's"})
    "SELECT '$1' FROM t WHERE a = 'it''s' AND b = $2"
    """
    try:
        tokens = postgast.scan(sql).tokens
    except postgast.PgQueryError:
        return None
    raw, parts, end = sql.encode(), [], 0
    for t in tokens:
        text = raw[t.start : t.end]
        if text.startswith(b"$") and text[1:].isdigit() and int(text[1:]) in values:
            value = values[int(text[1:])]
            parts += [raw[end : t.start], b"NULL" if value is None else literal(value).encode()]
            end = t.end
    return b"".join([*parts, raw[end:]]).decode()


def sampled(counts: Sequence[tuple[str, float]], most: int) -> list[tuple[str, float]]:
    """At most `most` of the entries, with weights that sum to all counts.

    Systematic sampling with probability proportional to size (Madow 1949), from the most frequent down: what makes up
    1/`most` of the whole is always in. Equal input gives equal output.

    >>> sampled([("a", 8.0), ("b", 1.0), ("c", 1.0)], 2)
    [('a', 10.0)]
    >>> sampled([("a", 2.0), ("b", 3.0)], 5)
    [('a', 2.0), ('b', 3.0)]
    """
    if len(counts) <= most:
        return list(counts)
    ordered = sorted(counts, key=lambda c: -c[1])
    step = sum(n for _, n in ordered) / most
    picked: dict[str, float] = {}
    upto, point = 0.0, step / 2
    for name, n in ordered:
        upto += n
        while point < upto and len(picked) <= most:
            picked[name] = picked.get(name, 0.0) + step
            point += step
    return list(picked.items())
