"""How many statements a block of a test issues, through asyncpg and SQLAlchemy in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dbperf.trace import hooks
from dbperf.trace.state import STATEMENT, RequestTrace, current, texts

_LONGEST = 300


class _Nobody:
    """Takes the events that come after the block has ended: nobody asked for them."""

    def late(self, request_id: int, event: Any) -> None:
        pass


@contextmanager
def max_queries(limit: int) -> Iterator[RequestTrace]:
    """Fails when the block issues more than `limit` statements; transaction control does not count.

    Statements of tasks and threads that the block starts count as well.

    Raises:
        AssertionError: too many; the message lists the statements, grouped and counted, most frequent first.
    """
    hooks.install()
    trace = RequestTrace(_Nobody(), {"method": "TEST", "path": ""}, 0, 0)
    token = current.set(trace)
    try:
        yield trace
    finally:
        current.reset(token)
    counts: Counter[str] = Counter()
    for event in trace.events:
        if event[0] == STATEMENT:
            counts[" ".join(texts.texts[event[1]].text.split())] += 1
    total = sum(counts.values())
    if total > limit:
        lines = [f"{n} × {text[:_LONGEST]}{'…' if len(text) > _LONGEST else ''}" for text, n in counts.most_common()]
        raise AssertionError(f"{total} statements were issued, at most {limit} are allowed:\n  " + "\n  ".join(lines))
