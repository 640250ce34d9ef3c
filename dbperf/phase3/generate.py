"""The seed data as arrays: which case is used how much, when, and how well. Pure; a seed number fixes everything.

Everything happens on a *use axis* from 0 to 1 on which use is uniform; `Calendar` maps it to 180 days with working
hours, growth and incidents.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from dbperf.phase3 import texts
from dbperf.phase3.embedding import DIMENSIONS, FloatArray, embed, normalised
from dbperf.phase3.scales import Scale
from dbperf.records.base import Record

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SPAN_DAYS = 180
_HOUR_US = 3_600_000_000
_EPOCH_2000_US = 946_684_800_000_000
"""PostgreSQL counts microseconds from 2000-01-01, Python from 1970-01-01."""
STATUSES = ("active", "archived", "deprecated")
ERROR_TYPES = (
    "timeout", "validation_error", "upstream_unavailable", "rate_limited", "parse_error", "permission_denied",
    "conflict", "internal_error",
)  # fmt: skip
NO_TIME = -(2**62)


class Incidents(Record, frozen=True, kw_only=True):
    """Stretches of time in which one domain fails with one kind of error, and is retried more."""

    start_us: Ints
    end_us: Ints
    domain: Ints
    error: Ints


class Calendar(Record, frozen=True, kw_only=True):
    """Maps the use axis (0..1) to microseconds since 2000-01-01."""

    use: Floats
    """Share of all use before each hour."""
    hours_us: Floats
    incidents: Incidents

    def at(self, use: Floats) -> Ints:
        return np.interp(use, self.use, self.hours_us).astype(np.int64)


def calendar(seed: int, reference: datetime) -> Calendar:
    """180 days that end at `reference`: busy by day, quiet at weekends, growing, with 24 incidents."""
    rng = np.random.default_rng((seed, 1))
    hours = np.arange(SPAN_DAYS * 24)
    end_us = round(reference.astimezone(UTC).timestamp() * 1e6) - _EPOCH_2000_US
    start_us = end_us - SPAN_DAYS * 24 * _HOUR_US
    first_hour = start_us // _HOUR_US
    of_day, of_week = (first_hour + hours) % 24, ((first_hour + hours) // 24 + 5) % 7  # 2000-01-01 was a Saturday
    intensity = 0.3 + np.exp(-(((of_day - 13) / 4.5) ** 2))
    intensity *= np.where(of_week < 5, 1.0, 0.35) * (0.8 + 0.4 * hours / hours.size)
    begin = np.sort(rng.choice(hours[:-12], size=24, replace=False))
    length = rng.integers(1, 7, size=24)
    for b, n in zip(begin, length, strict=True):
        intensity[b : b + n] *= 2.5
    use = np.concatenate(([0.0], np.cumsum(intensity)))
    return Calendar(
        use=use / use[-1],
        hours_us=start_us + np.arange(hours.size + 1, dtype=np.float64) * _HOUR_US,
        incidents=Incidents(
            start_us=start_us + begin * _HOUR_US,
            end_us=start_us + (begin + length) * _HOUR_US,
            domain=rng.integers(0, len(texts.DOMAINS), size=24),
            error=rng.integers(0, len(ERROR_TYPES), size=24),
        ),
    )


class Cases(Record, frozen=True, kw_only=True):
    """All cases, one array entry each."""

    choices: texts.Choices
    """Random numbers that fix the texts, (cases, CHOICES)."""
    status: Ints
    """Index into STATUSES."""
    logs: Ints
    usage_count: Ints
    base_rate: Floats
    """Probability of success outside incidents."""
    success_rate: Floats
    """The stored percentage; NaN: never computed."""
    quality: Floats
    birth: Floats
    """First and last use on the use axis."""
    death: Floats
    copy_of: Ints
    """Index of the case that it nearly duplicates; -1: none."""
    no_vector: Bools
    archived: Ints
    """Indexes of the cases with a row in case_bank_archive."""


def cases(scale: Scale, seed: int) -> Cases:
    """The cases of a scale.

    Among the active ones, 8 % are low performers, 10 % inactive and 5 % near-duplicates, so that each rule of the
    consolidation has something to find.
    """
    rng = np.random.default_rng((seed, 2))
    n = scale.cases
    by_rank = rng.permutation(n)
    counts_by_rank = _zipf(n, scale.logs)
    logs = np.empty(n, np.int64)
    logs[by_rank] = counts_by_rank
    status = np.where(rng.random(n) < 0.88, 1, 2)
    choices = rng.integers(0, 2**32, size=(n, texts.CHOICES), dtype=np.uint32)

    often = int(np.searchsorted(-counts_by_rank, -10, side="right"))  # ranks with at least ten logs
    busy = by_rank[np.sort(np.append(rng.choice(np.arange(1, often), scale.busy - 1, replace=False), 0))]
    calm = rng.choice(by_rank[often:], scale.active - scale.busy, replace=False)
    active = np.concatenate((busy, calm))
    status[active] = 0

    base_rate = np.where(rng.random(n) < 0.82, rng.beta(12, 2, n), rng.beta(2, 5, n))
    birth = np.where(rng.random(n) < 0.4, 0.0, rng.uniform(0, 0.9, n))
    death = birth + (1 - birth) * rng.uniform(0.05, 1, n)
    death[active] = 1.0
    birth[calm] = rng.uniform(0.55, 0.9, calm.size)
    usage = np.rint(logs * rng.uniform(1.0, 1.6, n)).astype(np.int64) + rng.integers(0, 4, n)

    inactive, low, twins = np.split(
        rng.permutation(calm), np.cumsum([round(0.10 * scale.active), round(0.05 * scale.active)])
    )
    low = np.concatenate((low, rng.choice(busy[logs[busy] < 250], round(0.03 * scale.active), replace=False)))
    birth[inactive] = rng.uniform(0, 0.15, inactive.size)
    death[inactive] = rng.uniform(0.16, 0.35, inactive.size)
    base_rate[low] = rng.uniform(0.04, 0.24, low.size)
    usage[low] = np.clip(usage[low], 11 + rng.integers(0, 40, low.size), 480)

    noisy = np.clip(base_rate * 100 + rng.normal(0, 2, n), 0, 100)
    success_rate = np.where(rng.random(n) < 0.08, np.nan, np.round(noisy, 2))
    success_rate[low] = np.round(base_rate[low] * 100, 2)

    copy_of = np.full(n, -1, np.int64)
    pairs = max(1, round(0.05 * scale.active))
    copy_of[twins[:pairs]] = twins[pairs : 2 * pairs]
    others = rng.permutation(np.flatnonzero(status != 0))
    more = max(1, round(0.04 * n) - pairs)
    copy_of[others[:more]] = others[more : 2 * more]
    choices[copy_of >= 0, :3] = choices[copy_of[copy_of >= 0], :3]  # near-duplicates share their category

    no_vector = rng.random(n) < 0.01
    no_vector[twins[: 2 * pairs]] = False
    no_vector[others[: 2 * more]] = False
    archived = np.sort(rng.choice(np.flatnonzero((status == 1) & (copy_of < 0)), scale.archive, replace=False))
    return Cases(
        choices=choices, status=status, logs=logs, usage_count=usage, base_rate=base_rate, success_rate=success_rate,
        quality=np.round(rng.beta(8, 3, n), 3), birth=birth, death=death, copy_of=copy_of, no_vector=no_vector,
        archived=archived,
    )  # fmt: skip


def _zipf(n: int, total: int) -> Ints:
    """`total` uses of `n` things, the most used first: Zipf-Mandelbrot with s = 1, q = 2.7, exact in sum."""
    weights = 1 / (np.arange(n) + 2.7)
    exact = weights / weights.sum() * total
    counts = np.floor(exact).astype(np.int64)
    missing = total - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    return np.sort(counts)[::-1]


class CaseTexts(Record, frozen=True, kw_only=True):
    """Texts and vectors of some cases."""

    query: list[str]
    response: list[str]
    category: list[list[str]]
    vectors: FloatArray


def case_texts(all_cases: Cases, seed: int, start: int, stop: int) -> CaseTexts:
    """Texts and vectors of the cases start..stop-1. A near-duplicate gets its original's vector plus a little noise."""
    choices = all_cases.choices
    query, originals = [], []
    for i in range(start, stop):
        source = int(all_cases.copy_of[i])
        original = query_text = texts.query_text(choices[i if source < 0 else source])
        if source >= 0:
            query_text = texts.reworded(original, choices[i])
        query.append(query_text)
        originals.append(original)
    vectors = embed(originals)
    copies = np.flatnonzero(all_cases.copy_of[start:stop] >= 0)
    if copies.size:
        rng = np.random.default_rng((seed, 3, start))
        noise = rng.normal(size=(copies.size, DIMENSIONS))
        noise /= np.sqrt((noise * noise).sum(axis=1, keepdims=True))
        # Cosine similarity 1 / sqrt(1 + size²): from 0.995 down to 0.965.
        size = rng.uniform(0.1, 0.27, size=(copies.size, 1))
        vectors[copies] = normalised(vectors[copies].astype(np.float64) + size * noise)
    return CaseTexts(
        query=query,
        response=[texts.response_text(choices[i]) for i in range(start, stop)],
        category=[texts.category(choices[i]) for i in range(start, stop)],
        vectors=vectors,
    )


class Uses(Record, frozen=True, kw_only=True):
    """Every use of every case in the order of time. At 10 million, two arrays of 40 MB."""

    case: NDArray[np.int32]
    use: NDArray[np.float32]
    last: Floats
    """Last use of each case on the use axis; NaN: never used."""


def uses(all_cases: Cases, seed: int) -> Uses:
    """When each case was used: between its birth and its death."""
    rng = np.random.default_rng((seed, 4))
    case = np.repeat(np.arange(all_cases.logs.size, dtype=np.int32), all_cases.logs)
    use = rng.random(case.size, dtype=np.float32)
    use *= (all_cases.death - all_cases.birth).astype(np.float32)[case]
    use += all_cases.birth.astype(np.float32)[case]
    order = np.argsort(use, kind="stable")
    case, use = case[order], use[order]
    last = np.full(all_cases.logs.size, np.nan)
    last[case] = use  # in the order of time: the last one stays
    return Uses(case=case, use=use, last=last)


class Logs(Record, frozen=True, kw_only=True):
    """Some rows of execution_log, as columns."""

    case: Ints
    created_us: Ints
    success: Bools
    error: Ints
    """Index into ERROR_TYPES; meaningless where successful."""
    time_ms: Ints
    details: Ints
    """Random numbers for message and context."""


def logs(all_cases: Cases, all_uses: Uses, days: Calendar, seed: int, *, chunk: int = 50_000) -> Iterator[Logs]:
    """All logs in the order of time, `chunk` at once."""
    domain = texts.domain_of(all_cases.choices)
    before = NO_TIME
    for number, start in enumerate(range(0, all_uses.case.size, chunk)):
        rng = np.random.default_rng((seed, 5, number))
        case = all_uses.case[start : start + chunk].astype(np.int64)
        created = days.at(all_uses.use[start : start + chunk].astype(np.float64))
        created += rng.integers(0, 900_000, case.size)
        # The jitter must not reach past the end, nor undo the order.
        created = np.minimum(np.maximum.accumulate(np.maximum(created, before)), int(days.hours_us[-1]) - 1)
        before = int(created[-1])
        rate = all_cases.base_rate[case].copy()
        # Half of a case's errors are of its own usual kind.
        usual = (case * 7 + domain[case]) % len(ERROR_TYPES)
        error = np.where(rng.random(case.size) < 0.5, usual, rng.integers(0, len(ERROR_TYPES), case.size))
        for i in range(days.incidents.start_us.size):
            low, high = np.searchsorted(created, (days.incidents.start_us[i], days.incidents.end_us[i]))
            hit = low + np.flatnonzero(domain[case[low:high]] == days.incidents.domain[i])
            rate[hit] = np.minimum(rate[hit], 0.15)
            error[hit] = days.incidents.error[i]
        success = rng.random(case.size) < rate
        time_ms = np.exp(rng.normal(4.8, 0.7, case.size)).astype(np.int64) + 1
        time_ms[~success & (error == 0)] = 30_000  # a timeout takes as long as its limit
        time_ms[rng.random(case.size) < 0.01] = -1
        yield Logs(
            case=case, created_us=created, success=success, error=error, time_ms=time_ms,
            details=rng.integers(0, 2**31, case.size),
        )  # fmt: skip
