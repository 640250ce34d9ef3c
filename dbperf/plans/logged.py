"""Parameter values as PostgreSQL logs them."""

from __future__ import annotations

import re

_DETAIL = re.compile(r"(?:Query Parameters:|[Pp]arameters:|Query Parameters\": \")\s*(?=\$1 = )")
_ONE = re.compile(r"(?:, )?\$(?P<n>\d+) = (?:'(?P<value>(?:[^']|'')*)'|(?P<null>NULL))")


def logged_parameters(text: str) -> list[str | None]:
    """The values of the last "Query Parameters:" (auto_explain) or "parameters:" (slow-query log) in a text, in order.

    >>> logged_parameters("DETAIL:  parameters: $1 = '42', $2 = NULL, $3 = 'it''s'")
    ['42', None, "it's"]
    >>> logged_parameters("nothing here")
    []
    """
    found: list[str | None] = []
    for m in _DETAIL.finditer(text):
        values: dict[int, str | None] = {}
        at = m.end()
        while one := _ONE.match(text, at):
            values[int(one["n"])] = one["value"]
            at = one.end()
        found = [
            None if (value := values.get(n)) is None else value.replace("''", "'")
            for n in range(1, max(values, default=0) + 1)
        ]
    return found
