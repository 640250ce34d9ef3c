"""Before against after: how much every frame changed, and whether that is beyond noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from dbperf.errors import UsageError
from dbperf.flame.drawing import layout
from dbperf.flame.ops import Node, total, tree, without_lines
from dbperf.records.stacks import Frame, FrameChange, Stacks

RESAMPLES = 1000
CONFIDENCE = 0.99
"""Higher than usual: a profile has hundreds of frames, and each is a chance to be wrong."""
MIN_BLOCKS = 5
MIN_CHANGE = 0.002
"""Of the whole; smaller changes are not worth a word."""

Floats = npt.NDArray[np.float64]


def compare(before: Stacks, after: Stacks, *, absolute: bool = False, seed: int = 1) -> list[FrameChange]:
    """Every function's total before and after, the largest change first.

    Values are shares of each profile's whole, because profiles are rarely of the same length; with `absolute`, values
    in the profiles' unit (full-stack graphs, whose unit is milliseconds per request). The interval resamples blocks of
    time of both profiles (Efron and Tibshirani 1993, ch. 8); without blocks there is no interval, and no verdict.

    Raises:
        UsageError: the units differ, or a profile is empty.
    """
    if before.unit != after.unit:
        raise UsageError(f"a profile in {before.unit} can't be compared with one in {after.unit}")
    a, b = without_lines(before), without_lines(after)
    if not total(a) or not total(b):
        raise UsageError("a profile without a sample can't be compared")
    frames = list(dict.fromkeys([*a.frames, *b.frames]))
    rng = np.random.default_rng(seed)
    drawn_a, drawn_b = _resampled(a, frames, absolute, rng), _resampled(b, frames, absolute, rng)
    values_a, values_b = _values(a, frames, absolute), _values(b, frames, absolute)
    threshold = MIN_CHANGE * (max(total(a), total(b)) if absolute else 1.0)
    found = []
    for i, f in enumerate(frames):
        low = high = None
        if drawn_a is not None and drawn_b is not None:
            tails = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
            low, high = (float(q) for q in np.quantile(drawn_b[i] - drawn_a[i], tails))
        change = float(values_b[i] - values_a[i])
        found.append(
            FrameChange(
                name=f.name,
                file=f.file,
                line=f.line,
                before=float(values_a[i]),
                after=float(values_b[i]),
                change=change,
                ci_low=low,
                ci_high=high,
                verdict=_verdict(change, low, high, threshold),
            )
        )
    step = threshold / 2  # equal for the eye: then the larger frame comes first
    return sorted(found, key=lambda c: (-round(abs(c.change) / step), -max(c.before, c.after), c.name))


def _verdict(
    change: float, low: float | None, high: float | None, threshold: float
) -> Literal["more", "less", "cant_tell"]:
    if low is None or high is None or abs(change) < threshold:
        return "cant_tell"
    return "more" if low > 0 else "less" if high < 0 else "cant_tell"


def _values(s: Stacks, frames: Sequence[Frame], absolute: bool) -> Floats:
    index = {f: i for i, f in enumerate(frames)}
    out = np.zeros(len(frames))
    for k in s.stacks:
        for i in {index[s.frames[j]] for j in k.frames}:
            out[i] += k.value
    return out if absolute else out / total(s)


def _resampled(s: Stacks, frames: Sequence[Frame], absolute: bool, rng: np.random.Generator) -> Floats | None:
    """Frames by resamples; None where the profile has too few blocks."""
    n = max((len(k.by_block) for k in s.stacks), default=0)
    if n < MIN_BLOCKS:
        return None
    index = {f: i for i, f in enumerate(frames)}
    by_block = np.zeros((len(frames), n))
    whole = np.zeros(n)
    for k in s.stacks:
        values = np.array(k.by_block)
        whole += values
        for i in {index[s.frames[j]] for j in k.frames}:
            by_block[i] += values
    weights = rng.multinomial(n, [1 / n] * n, size=RESAMPLES).T.astype(np.float64)
    drawn = by_block @ weights
    if absolute:
        return np.asarray(drawn * (total(s) / max(whole.sum(), 1e-300)))
    return np.asarray(drawn / np.maximum(whole @ weights, 1e-300))


def node_changes(before: Stacks, after: Stacks, *, absolute: bool = False) -> dict[int, float]:
    """For drawing `after`: its `layout` node numbers to the change of the same path, as a share of the whole before.

    Both are compared by function; call it with profiles `without_lines`.
    """
    scale_a = 1 / total(before)
    scale_b = scale_a if absolute else 1 / total(after)
    root = tree(before)
    nodes = layout(after)
    twin: list[Node | None] = []
    out: dict[int, float] = {}
    open_twins: list[Node | None] = []
    for i, (node, depth) in enumerate(nodes):
        del open_twins[depth:]
        if node.frame is None:
            found: Node | None = root
        else:
            above = open_twins[-1]
            found = above.children.get(node.frame) if above is not None else None
        open_twins.append(found)
        twin.append(found)
        out[i] = node.value * scale_b - (found.value if found else 0.0) * scale_a
    return out
