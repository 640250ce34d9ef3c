"""What a statement's text says about it before a server sees it: how many, of which kind, which parameters.

postgast is libpg_query, PostgreSQL's own parser (version 17). A text that it can't parse may still be right on the
server (a newer PostgreSQL), so that a syntax error is left to the server to report.
"""

from __future__ import annotations

import re

import postgast

from dbperf.errors import StatementError

_PLANNED = frozenset({"select_stmt", "insert_stmt", "update_stmt", "delete_stmt", "merge_stmt"})
_PARAMETER = re.compile(r"\$\d+")
# pg_stat_statements replaces every constant, also where the grammar wants one: interval '1 day', date '2020-01-01'.
_TYPED = re.compile(
    r"\b(interval|date|timestamptz|timestamp|timetz|time|numeric|text|jsonb|json|uuid|inet|point|bytea)\s+(\$\d+)\b",
    re.IGNORECASE,
)
_TIME_ZONE = re.compile(r"\b(timestamp|time)\s+with(out|)\s+time\s+zone\s+(\$\d+)\b", re.IGNORECASE)
_EXTRACT = re.compile(r"\bextract\s*\(\s*(\$\d+)\s+from\b", re.IGNORECASE)


def plannable(sql: str) -> str:
    """The one statement in a text, without a final semicolon.

    Raises:
        StatementError: there is none, there are several, or it is one that has no plan (SET, CREATE, ...).
    """
    try:
        statements = postgast.parse(sql).stmts
    except postgast.PgQueryError:
        text = sql.strip().rstrip(";").rstrip()
        if not text:
            raise StatementError("the statement is empty") from None
        return text
    if not statements:
        raise StatementError("the statement is empty")
    if len(statements) > 1:
        raise StatementError(f"{len(statements)} statements were given, one has a plan", hint="give them one by one")
    one = statements[0]
    kind = one.stmt.WhichOneof("node")
    if kind not in _PLANNED:
        name = kind.removesuffix("_stmt").replace("_", " ").upper()
        raise StatementError(f"{name} is a utility statement: it has no plan")
    raw = sql.encode()
    end = one.stmt_location + one.stmt_len if one.stmt_len else len(raw)
    # The parser's offsets count bytes. What follows the semicolon can only be space and comments.
    return raw[one.stmt_location : end].decode().strip()


def parameters_of(sql: str) -> int:
    """The highest $n in the text; numbers in literals, comments and quoted names don't count.

    >>> parameters_of("SELECT '$3', \\"$4\\" FROM t WHERE a = $1 -- $5")
    1
    """
    return max((int(sql[start + 1 : end]) for start, end in _parameter_spans(sql)), default=0)


def _parameter_spans(sql: str) -> list[tuple[int, int]]:
    """Where the parameters are, as offsets of characters."""
    found = [(m.start(), m.end()) for m in _PARAMETER.finditer(sql)]
    if not found:
        return []
    try:
        tokens = postgast.scan(sql).tokens
    except postgast.PgQueryError:
        return found
    raw = sql.encode()
    # The scanner's offsets count bytes.
    starts = {len(raw[: t.start].decode(errors="replace")) for t in tokens if raw[t.start : t.start + 1] == b"$"}
    return [(start, end) for start, end in found if start in starts]


def repair_normalised(sql: str) -> str:
    """Makes a text of pg_stat_statements valid SQL again where it put a parameter in a constant's place.

    >>> repair_normalised("SELECT now() - interval $1, extract($2 from d) FROM t WHERE d > timestamp with time zone $3")
    'SELECT now() - $1::interval, pg_catalog.date_part($2, d) FROM t WHERE d > $3::timestamp with time zone'
    """
    for pattern, group, replacement in (
        (_TIME_ZONE, 3, r"\3::\1 with\2 time zone"),
        (_TYPED, 2, r"\2::\1"),
        (_EXTRACT, 1, r"pg_catalog.date_part(\1,"),
    ):
        if pattern.search(sql):
            real = {start for start, _ in _parameter_spans(sql)}
            sql = pattern.sub(
                lambda m, real=real, group=group, replacement=replacement: (  # type: ignore[misc]  # defaults bind the loop's values
                    m.expand(replacement) if m.start(group) in real else m[0]
                ),
                sql,
            )
    return sql
