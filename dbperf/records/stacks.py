"""Stacks with weights: what a profiler saw, whatever the profiler (`stacks.json`)."""

from __future__ import annotations

from typing import ClassVar, Literal

from dbperf.records.base import Document, Record

FrameKind = Literal["python", "native", "endpoint", "await", "sql", "plan", "wait", "unattributed", "other"]
Unit = Literal["samples", "ms", "bytes"]


class Frame(Record, frozen=True, kw_only=True, order=True):
    """One place in a program, a statement or a plan."""

    name: str
    """Function, endpoint, statement or plan node."""
    file: str | None = None
    line: int | None = None
    kind: FrameKind = "python"


class Stack(Record, frozen=True, kw_only=True):
    """One stack and its weight."""

    frames: tuple[int, ...]
    """Numbers of frames, outermost first. Empty: time of no frame."""
    value: float
    by_block: tuple[float, ...] = ()
    """The same by stretch of time, for resampling; empty where the profiler kept no order."""


class Stacks(Document, frozen=True, kw_only=True):
    """`stacks.json`. Immutable: every operation of `dbperf.flame` makes a new one."""

    kind: ClassVar[str] = "stacks"
    file_name: ClassVar[str] = "stacks.json"

    name: str
    """What was profiled."""
    source: str
    """What looked: "py-spy", "cprofile", "sampler", "memray", "trace", ..."""
    unit: Unit
    frames: list[Frame]
    stacks: list[Stack]
    duration_s: float | None = None
    """Wall time over which was looked."""
    rate_per_s: float | None = None
    """Samples per second, where it was sampled."""
    notes: list[str] = []
    """What weakens it: a lower rate, a fallback, shares that were scaled."""


class FrameChange(Record, frozen=True, kw_only=True):
    """One frame before and after. Values are shares of the whole, or in the profile's unit where both are in ms."""

    name: str
    file: str | None = None
    line: int | None = None
    before: float
    after: float
    change: float
    ci_low: float | None = None
    ci_high: float | None = None
    verdict: Literal["more", "less", "cant_tell"]
    """Beyond noise: the interval of the change, resampled by block, leaves out zero."""


class HotSpot(Record, frozen=True, kw_only=True):
    """A function, statement or plan node by its self time, and what to do where a rule knows."""

    name: str
    kind: FrameKind
    place: str | None
    """"file:line"."""
    self_value: float
    total_value: float
    share: float
    """Self over the whole (0..1)."""
    rule_id: str | None = None
    advice: str | None = None
