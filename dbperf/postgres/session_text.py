"""Texts of sessions' statements: bytes out of any database, constants masked."""

from __future__ import annotations

import re
from functools import lru_cache

from dbperf.postgres.fingerprint import literals_masked

TEXT_BYTES = 1000
SQL = "convert_to(left({column}, 1000), CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END)"
"""A text column as bytes: a SQL_ASCII database may hold what is no UTF-8, and no client could read the row."""

_QUOTED = re.compile(r"(?:\b[EBXU]&?)?'(?:[^']|'')*(?:'|$)", re.IGNORECASE)
_DOLLAR = re.compile(r"\$(\w*)\$.*?(?:\$\1\$|$)", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w$.])\d+(?:\.\d+)?(?:e[+-]?\d+)?\b", re.IGNORECASE)


@lru_cache(maxsize=2048)
def masked_text(raw: bytes) -> str:
    """A statement's text for people: constants masked, also where it is cut off and does not parse.

    >>> masked_text(b"UPDATE t SET a = 5 WHERE b = 'Kim'")
    'UPDATE t SET a = $1 WHERE b = $2'
    >>> masked_text(b"SELECT * FROM t WHERE a = 5 AND b = 'Ki")
    "SELECT * FROM t WHERE a = ? AND b = '?'"
    """
    text = raw.decode("utf-8", "replace").strip()
    parsed = literals_masked(text) if len(raw) < TEXT_BYTES else None
    if parsed is not None:
        return parsed
    return _NUMBER.sub("?", _QUOTED.sub("'?'", _DOLLAR.sub("'?'", text)))
