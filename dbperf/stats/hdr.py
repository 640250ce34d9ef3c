"""Latency histograms in HdrHistogram's layout: counted with numpy, stored in HdrHistogram's own V2 format.

A value in microseconds falls into one of some 23,000 bins whose width is at most 1/1024 of the value, from 1 µs to 1 h
(http://hdrhistogram.org: lowest 1, highest 3.6e9, 3 significant digits). Histograms with the same layout are merged
by adding counts, which is exact; percentiles of merged histograms are those of all the requests together.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

from dbperf.errors import RecordError
from dbperf.records.load import Histogram

LOWEST_US = 1
HIGHEST_US = 3_600_000_000
DIGITS = 3
GRID_PER_DECADE = 20
"""The coarse grid of `log_grid`: 12 % wide, fine enough for two modes to show."""
_HALF_BITS = 10  # 2 * 10**DIGITS values need 11 bits of resolution; half of the sub-buckets repeat the one below
_HALF = 1 << _HALF_BITS
_LAYOUT = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
BINS: int = _LAYOUT.counts_len

Counts = npt.NDArray[np.int64]


def bin_of(values_us: npt.ArrayLike) -> Counts:
    """The bins of values in microseconds; values outside 1 µs to 1 h go into the first or last bin."""
    values = np.clip(np.asarray(values_us, dtype=np.float64), LOWEST_US, HIGHEST_US).astype(np.int64)
    bits = np.frexp(values.astype(np.float64))[1]  # the position of the highest bit; exact below 2**53
    shift = np.maximum(bits - (_HALF_BITS + 1), 0).astype(np.int64)
    bins: Counts = ((shift + 1) << _HALF_BITS) + (values >> shift) - _HALF
    return bins


def bin_edges_us(bins: npt.ArrayLike) -> tuple[Counts, Counts]:
    """The lowest and the highest value in microseconds of each bin, both inside it."""
    index = np.asarray(bins, dtype=np.int64)
    shift = np.maximum((index >> _HALF_BITS) - 1, 0)
    low = np.where(index < _HALF, index, ((index & (_HALF - 1)) + _HALF)) << shift
    return low, low + (np.int64(1) << shift) - 1


class Latencies:
    """A histogram that can be added to. Times go in and come out in the unit that the name says."""

    __slots__ = ("counts",)

    def __init__(self, counts: Counts | None = None) -> None:
        self.counts: Counts = np.zeros(BINS, dtype=np.int64) if counts is None else counts

    @classmethod
    def of_ms(cls, values_ms: npt.ArrayLike) -> Latencies:
        """A histogram of times in milliseconds."""
        new = cls()
        new.add_us(np.asarray(values_ms, dtype=np.float64) * 1e3)
        return new

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    def add_us(self, values_us: npt.ArrayLike) -> None:
        np.add.at(self.counts, bin_of(values_us), 1)

    def add(self, other: Latencies) -> None:
        self.counts += other.counts

    def at_rank_ms(self, rank: int) -> float:
        """The value of the `rank`-th smallest sample (1-based), in ms: the middle of its bin, off by 0.05 % at most."""
        at = int(np.searchsorted(np.cumsum(self.counts), rank))
        low, high = bin_edges_us(at)
        return float(low + high) / 2e3

    def at_ranks_ms(self, ranks: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """`at_rank_ms` for several ranks, each at most `count`; the bins that hold something are looked up once."""
        used = _used(self.counts)
        low, high = bin_edges_us(used)
        middle: npt.NDArray[np.float64] = (low + high) / 2e3
        found: npt.NDArray[np.float64] = middle[np.searchsorted(np.cumsum(self.counts[used]), ranks)]
        return found

    def count_at_most(self, limit_ms: float) -> int:
        """How many samples are at most `limit_ms`; exact up to the width of the bin that holds the limit."""
        return int(self.counts[: int(bin_of(limit_ms * 1e3)) + 1].sum())

    def sparse(self) -> SparseCounts:
        """The same counts in little memory, to be kept for each second of a long load."""
        used = _used(self.counts)
        return SparseCounts(used.astype(np.int32), self.counts[used])

    def mean_ms(self) -> float | None:
        """The mean from the middles of the bins, in ms; None without samples."""
        used = _used(self.counts)
        if not used.size:
            return None
        low, high = bin_edges_us(used)
        return float(np.average((low + high) / 2e3, weights=self.counts[used]))

    def range_ms(self) -> tuple[float, float] | None:
        """The smallest and the largest sample in ms (middles of their bins); None without samples."""
        used = _used(self.counts)
        if not used.size:
            return None
        low, high = bin_edges_us(used[[0, -1]])
        first, last = (low + high) / 2e3
        return float(first), float(last)

    def encode(self) -> Histogram:
        """HdrHistogram's V2 compressed payload in base64, readable by its implementations in other languages."""
        out = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
        used = _used(self.counts)
        if used.size:
            raw = np.ascontiguousarray(self.counts)
            ctypes.memmove(ctypes.addressof(out.counts), raw.ctypes.data, raw.nbytes)
            out.set_internal_tacking_values(int(used[0]), int(used[-1]), int(raw.sum()))
        return Histogram(encoded=out.encode().decode("ascii"), count=int(self.counts.sum()))

    @classmethod
    def decode(cls, histogram: Histogram | str) -> Latencies:
        """From a record or its base64 text.

        Raises:
            RecordError: it is no HdrHistogram, or one with another range or precision.
        """
        text = histogram if isinstance(histogram, str) else histogram.encoded
        try:
            read = HdrHistogram.decode(text.encode("ascii"))
        except Exception as e:
            raise RecordError(f"a latency histogram can't be decoded: {type(e).__name__}") from e
        settings = (read.lowest_trackable_value, read.highest_trackable_value, read.significant_figures)
        if settings != (LOWEST_US, HIGHEST_US, DIGITS):
            raise RecordError(f"a latency histogram has another layout (lowest, highest, digits = {settings})")
        return cls(np.array(np.ctypeslib.as_array(read.counts), dtype=np.int64))


class SparseCounts:
    """The bins of a histogram that hold something. A second's requests fill some tens of bins of 23,000."""

    __slots__ = ("_bins", "_counts", "count")

    def __init__(self, bins: npt.NDArray[np.int32], counts: Counts) -> None:
        self._bins, self._counts = bins, counts
        self.count = int(counts.sum())

    def count_at_most(self, limit_ms: float) -> int:
        """As `Latencies.count_at_most`."""
        return int(self._counts[self._bins <= int(bin_of(limit_ms * 1e3))].sum())


def _used(counts: Counts) -> Counts:
    """The bins that hold something. numpy finds what is true five times as fast as what is not 0."""
    return np.flatnonzero(counts != 0)


def log_grid(counts: Counts) -> tuple[int, list[int]]:
    """A histogram's counts on a fixed logarithmic grid, without empty ends: the first cell's number, and the counts.

    Cell i holds values from 10**(i / GRID_PER_DECADE) µs on; a bin goes into the cell that holds its middle. The same
    grid for every histogram, so that they can be drawn beside each other and added up. Without samples: (0, []).
    """
    used = _used(counts)
    if not used.size:
        return 0, []
    low_us, high_us = bin_edges_us(used)
    middles = np.maximum((low_us + high_us) / 2, 1.0)
    cells = np.floor(np.log10(middles) * GRID_PER_DECADE).astype(int)
    first, last = int(cells.min()), int(cells.max())
    totals = np.bincount(cells - first, weights=counts[used].astype(float), minlength=last - first + 1)
    return first, [int(n) for n in totals]


def merge(histograms: Iterable[Histogram]) -> Histogram:
    """All samples of several histograms in one; exact.

    Raises:
        RecordError: see `Latencies.decode`.
    """
    total = Latencies()
    for one in histograms:
        total.add(Latencies.decode(one))
    return total.encode()
