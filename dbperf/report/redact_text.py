"""Takes literals and comments out of texts: SQL, and sentences that quote it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import postgast

HIDDEN = "(redacted)"
_KINDS = {
    "SCONST": "'?'", "USCONST": "'?'", "BCONST": "'?'", "XCONST": "'?'", "ICONST": "?", "FCONST": "?",
    "SQL_COMMENT": "/* ? */", "C_COMMENT": "/* ? */",
}  # fmt: skip
_PLAN_NUMBER = re.compile(r"(?:SubPlan|InitPlan|CTE)\s*$")
"""EXPLAIN's own numbering: "hashed SubPlan 1"."""
_QUOTED = re.compile(r"(?<![\w'])(?:[EeBbXxNn]|[Uu]&)?'(?:[^'\\]|''|\\.)*'(?!\w)", re.DOTALL)


def redact_sql(sql: str) -> str:
    """SQL, or an expression of EXPLAIN, without literals and comments; all of it hidden where it can't be read.

    >>> redact_sql("SELECT 1 FROM t WHERE name = 'Kim' AND x > 2.5 AND y = $1 -- for Kim")
    "SELECT ? FROM t WHERE name = '?' AND x > ? AND y = $1 /* ? */"
    """
    pieces, end = [], 0
    raw = sql.encode(errors="replace")
    try:
        tokens = postgast.scan(raw.decode()).tokens
    except postgast.PgQueryError:
        return HIDDEN
    names = postgast.pg_query_pb2.Token
    for token in tokens:
        kind = _KINDS.get(names.Name(token.token))
        before = raw[end : token.start].decode(errors="replace")
        if kind is None or (kind == "?" and _PLAN_NUMBER.search(raw[: token.start].decode(errors="replace")[-16:])):
            continue
        pieces += [before, kind]
        end = token.end
    return "".join(pieces) + raw[end:].decode(errors="replace")


def literals(sql: str) -> set[str]:
    """The literals in a text, without their quotes."""
    raw = sql.encode(errors="replace")
    try:
        tokens = postgast.scan(raw.decode()).tokens
    except postgast.PgQueryError:
        return set()
    names = postgast.pg_query_pb2.Token
    found = (raw[t.start : t.end].decode(errors="replace") for t in tokens if names.Name(t.token) in _KINDS)
    return {text.strip("'") for text in found if text.strip("'")}


def redact_prose(text: str, known: Iterable[str] = ()) -> str:
    """A sentence without quoted strings and without the literals in `known`.

    >>> redact_prose("can't use an index for name = 'Kim', so Kim is slow", {"Kim"})
    "can't use an index for name = '?', so ? is slow"
    """
    text = _QUOTED.sub("'?'", text)
    for literal in sorted(known, key=len, reverse=True):
        text = re.sub(rf"(?<![\w?]){re.escape(literal)}(?!\w)", "?", text)
    return text
