"""The SQL that dbperf reads statistics with: `sql/collect/<query>/<min-version>.sql`.

The file with the highest minimum version that is not above the given one is taken. Inside a file, a line that ends in
``-- >= 1.9`` or ``-- < 1.11`` stays only where that holds, so that a column which came or went with a version is one
line and not a copy of the query. A comment marks each as dbperf's own.
"""

from __future__ import annotations

import re
from functools import cache

from dbperf.resources import resource

Version = tuple[int, ...]
_OWN = re.compile(r"(SELECT|WITH) /\* dbperf ")
_CONDITION = re.compile(r"\s*-- (>=|<) (\d+(?:\.\d+)*)$")


def parse_version(text: str) -> Version:
    """A version as a tuple, so that 1.10 is above 1.9.

    >>> parse_version("1.10") > parse_version("1.9")
    True
    """
    return tuple(int(part) for part in re.findall(r"\d+", text))


def keep_lines(text: str, version: Version) -> str:
    """The lines whose condition, where they have one, holds for a version; comments go.

    >>> print(keep_lines("SELECT a,\\n  b, -- >= 1.9\\n  c, -- < 1.9\\n  d -- a word\\nFROM t", (1, 10)))
    SELECT a,
      b,
      d
    FROM t
    """
    kept = []
    for line in text.splitlines():
        if m := _CONDITION.search(line):
            wanted = parse_version(m[2])
            if (version >= wanted) != (m[1] == ">="):
                continue
        code = line.partition("--")[0].rstrip()
        if code:
            kept.append(code)
    return "\n".join(kept)


@cache
def collector(name: str, version: Version) -> str:
    """The query of that name for a version of the server or extension; `{schema}` is left for the caller.

    Raises:
        LookupError: the query's oldest file is for a newer version.
    """
    files = {parse_version(path.stem): path for path in resource(f"sql/collect/{name}").glob("*.sql")}
    fitting = [v for v in files if v <= version]
    if not fitting:
        raise LookupError(f"sql/collect/{name} has no query for version {'.'.join(map(str, version))}")
    text = keep_lines(files[max(fitting)].read_text(encoding="utf-8"), version)
    # Behind the first word: PostgreSQL 18 cuts a comment before it off the text that pg_stat_statements keeps.
    verb, rest = text.lstrip().split(maxsplit=1)
    return f"{verb} /* dbperf {name} */\n{rest}"


def is_own(text: str) -> bool:
    """Whether a statement's text is one of dbperf's own queries.

    >>> is_own(collector("pg_stat_statements", (1, 12))), is_own("SELECT 1")
    (True, False)
    """
    return _OWN.match(text) is not None
