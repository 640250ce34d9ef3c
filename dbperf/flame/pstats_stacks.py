"""From cProfile's table to stacks. cProfile keeps who called whom, not whole stacks: the flame graph is an estimate.

A function's time is shared among its callers in proportion to the time that each caller's calls took (what gprof
does; Graham, Kessler and McKusick 1982). Recursion is cut where a function would stand in its own stack.
"""

from __future__ import annotations

from typing import Any

from dbperf.flame.ops import Builder
from dbperf.records.stacks import Frame, Stacks

Function = tuple[str, int, str]
"""File, first line and name, as in pstats."""
MIN_SHARE = 1e-5
"""Branches of less than a hundred-thousandth of the whole are not followed further; their time stays where it is."""
MAX_DEPTH = 200


def frame_of(f: Function) -> Frame:
    """A pstats entry as a frame; built-in functions have no file."""
    file, line, name = f
    if file == "~":
        return Frame(name=name.strip("<>"), kind="native")
    return Frame(name=name, file=file, line=line)


def stacks_of_stats(stats: dict[Function, Any], *, name: str, notes: list[str] | None = None) -> Stacks:
    """Stacks in milliseconds from the dictionary of `pstats.Stats.stats`.

    Values of the dictionary: (primitive calls, calls, self seconds, cumulative seconds, callers), callers being a
    dictionary of the same four numbers by caller.
    """
    own: dict[Function, float] = {}
    callees: dict[Function, dict[Function, tuple[float, float]]] = {}
    incoming: dict[Function, float] = {}
    for f, (_, _, tottime, cumtime, callers) in stats.items():
        own[f] = float(tottime)
        for caller, (_, _, self_here, cum_here) in callers.items():
            if caller != f:
                callees.setdefault(caller, {})[f] = (float(self_here), float(cum_here))
                incoming[f] = incoming.get(f, 0.0) + float(cum_here)
        if f not in incoming and not any(c != f for c in callers):
            incoming[f] = float(cumtime)
    whole = sum(own.values())
    builder = Builder()
    roots = [f for f, (*_, callers) in stats.items() if not any(c != f for c in callers)]
    rest = dict(own)

    def spend(f: Function, seconds: float) -> float:
        given = min(seconds, rest.get(f, 0.0))
        rest[f] = rest.get(f, 0.0) - given
        return given

    # (function, share of its calls that came this way, path)
    todo: list[tuple[Function, float, tuple[Function, ...]]] = [(f, 1.0, (f,)) for f in roots]
    while todo:
        f, share, path = todo.pop()
        builder.add((frame_of(x) for x in path), spend(f, own.get(f, 0.0) * share) * 1e3)
        for callee, (_, cum_here) in callees.get(f, {}).items():
            if callee in path or len(path) >= MAX_DEPTH or not incoming.get(callee):
                continue
            part = share * cum_here / incoming[callee]
            if part * stats[callee][3] > MIN_SHARE * whole:
                todo.append((callee, part, (*path, callee)))
    for f, seconds in rest.items():  # cycles and cut branches: their time is kept, without its callers
        if seconds > MIN_SHARE * whole:
            builder.add((frame_of(f),), seconds * 1e3)
    return builder.build(
        name=name, source="cprofile", unit="ms",
        notes=["cProfile keeps callers, not stacks: paths are shared out in proportion to the callers' times",
               *(notes or [])],
    )  # fmt: skip
