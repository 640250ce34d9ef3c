"""Which entries of pg_stat_statements are one statement: IN lists and VALUES that differ only in length."""

from __future__ import annotations

import re
from functools import lru_cache

import postgast

_PARAMETER = re.compile(r"\$\d+")
_SQUASHED = re.compile(r"\s*/\*, \.\.\. \*/")  # PostgreSQL 18 writes IN ($1 /*, ... */)
_SPACE = re.compile(r"\s+")
_IN_LIST = re.compile(r"\b(IN\s*\(|ARRAY\s*\[)\s*([^(),\]]+?)(?:\s*,\s*\2)*\s*([)\]])", re.IGNORECASE)
_ROW = r"\((?:[^()]|\([^()]*\))*\)"
_VALUES = re.compile(rf"\b(VALUES)\s*({_ROW})(?:\s*,\s*\2)+", re.IGNORECASE)


@lru_cache(maxsize=8192)
def fingerprint(text: str) -> str | None:
    """libpg_query's fingerprint in hexadecimal, or None where its parser does not know the text.

    Constants, white space and comments do not matter, nor does the length of IN lists and VALUES
    (https://github.com/pganalyze/libpg_query/wiki/Fingerprinting).

    >>> fingerprint("SELECT * FROM t WHERE a IN ($1, $2)") == fingerprint("select * from t where a in (7)")
    True
    >>> fingerprint("SELECT FROM WHERE") is None
    True
    """
    try:
        return str(postgast.fingerprint(text).hex)
    except (postgast.PgQueryError, UnicodeEncodeError):
        return None


def shape(text: str) -> str:
    """The text with its parameters' numbers, IN lists and VALUES rows reduced to one.

    A fingerprint alone is too coarse to merge by: it does not tell f($1) from f($1, $2), nor BEGIN from BEGIN READ
    ONLY. Entries are merged where fingerprint and shape are both the same.

    >>> shape("SELECT a FROM t WHERE b IN ($1, $2,$3) AND c = $4")
    'SELECT a FROM t WHERE b IN ($) AND c = $'
    >>> shape("INSERT INTO t VALUES ($1, now()), ($2, now())")
    'INSERT INTO t VALUES ($, now())'
    """
    text = _SPACE.sub(" ", _SQUASHED.sub("", _PARAMETER.sub("$", text))).strip()
    return _VALUES.sub(r"\1 \2", _IN_LIST.sub(r"\1\2\3", text))


def literals_masked(text: str) -> str | None:
    """The text with constants replaced by $1, $2, or None where libpg_query can't parse it.

    >>> literals_masked("SELECT * FROM t WHERE name = 'Kim'")
    'SELECT * FROM t WHERE name = $1'
    """
    try:
        return str(postgast.normalize(text))
    except (postgast.PgQueryError, UnicodeEncodeError):
        return None
