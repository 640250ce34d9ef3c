"""The business rules, once for both implementations: what counts as low, inactive, the same, similar. Pure.

Percentages are rounded half up to two decimals from integers, so that SQL and Python could only agree. success_rate is
stored as a 4-byte float; `stored` gives back the two decimals that went in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from dbperf.phase3.embedding import tokens
from dbperf.phase3.schemas import (
    Archived,
    Category,
    CommonError,
    ConsolidationDetails,
    ConsolidationRequest,
    Merged,
    Performance,
    Removed,
    SearchHit,
)

BATCH_LOGS = 100
"""A batch looks at this many of a case's newest logs."""
LOW_RATE = 50
"""Below this success rate a case gets suggestions."""
MERGE_LIMIT = 100
"""Cases that one consolidation merges at most; the next one goes on."""
LOW_USAGE = (10, 500)
INACTIVE_USAGE = 100
NEVER_BEFORE_DAYS = 7
NEIGHBOURS = 10
"""Cases that vote on a text's category."""
CANDIDATES = 100
"""Cases nearest by vector that a search ranks again by words."""
COMMON_ERRORS = 10
UNKNOWN_ERROR = "unknown"
_FOREVER_DAYS = 36_500


def percentage(part: int, whole: int) -> float:
    """Percent, half up to two decimals.

    >>> percentage(1, 3), percentage(1, 8), percentage(1, 800)
    (33.33, 12.5, 0.13)
    """
    return (20_000 * part + whole) // (2 * whole) / 100


def stored(rate: float | None) -> float | None:
    """What went into a column of type real, to two decimals."""
    return None if rate is None else round(rate, 2)


def performance(total: int, successes: int, time_sum_ms: int, timed: int, errors: Mapping[str, int]) -> Performance:
    """The figures of one case from its counts; `errors` maps an error type to its number."""
    failed = total - successes
    ranked = sorted(errors.items(), key=lambda item: (-item[1], item[0]))[:COMMON_ERRORS]
    return Performance(
        total_executions=total,
        successful_executions=successes,
        failed_executions=failed,
        success_rate=percentage(successes, total) if total else None,
        avg_execution_time_ms=(200 * time_sum_ms + timed) // (2 * timed) / 100 if timed else None,
        common_errors=[CommonError(error_type=t, count=n, percentage=percentage(n, failed)) for t, n in ranked],
    )


_ADVICE = {
    "timeout": "Raise the time limit, or split the answer into smaller steps.",
    "validation_error": "Check the answer's fields against the current schema.",
    "upstream_unavailable": "Retry with a growing pause when the other system is away.",
    "rate_limited": "Slow down, or ask for a higher limit.",
    "parse_error": "Ask for a stricter output format.",
    "permission_denied": "Check which permissions the case needs, and name them in the answer.",
    "conflict": "Read the newest version before writing.",
}


def suggestions(found: Performance) -> list[str]:
    """What to do about a case, from its figures."""
    if not found.total_executions or found.success_rate is None:
        return ["Collect executions first: there are none."]
    advice = []
    if found.success_rate < LOW_RATE:
        advice.append(f"Review the answer: only {found.success_rate:g} % of executions succeed.")
    for error in found.common_errors[:3]:
        if error.percentage >= 20:
            what = _ADVICE.get(error.error_type, "Look at the error messages of the newest failures.")
            advice.append(f"{error.error_type} ({error.percentage:g} % of failures): {what}")
    if found.avg_execution_time_ms is not None and found.avg_execution_time_ms > 5_000:
        advice.append(f"Executions take {found.avg_execution_time_ms:g} ms on average: shorten the answer.")
    if found.total_executions < 10:
        advice.append("Few executions: judge again after ten.")
    return advice or ["Nothing stands out."]


def confidence(found: Performance) -> float:
    """How far suggestions can be trusted (0..1): all the way from 100 executions on."""
    return min(found.total_executions, 100) / 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What the rules look at in an active case."""

    case_id: str
    usage_count: int
    success_rate: float | None
    """To two decimals, see `stored`."""
    last_used_at: datetime | None


def is_low(case: Facts, threshold: float) -> bool:
    """Low performance: used enough to judge, not so much that it is sorely needed."""
    low, high = LOW_USAGE
    return case.success_rate is not None and case.success_rate < threshold and low < case.usage_count < high


def unused_since(now: datetime, inactive_days: int) -> datetime:
    """The moment before which the last use of an inactive case lies: never one used in the last 7 days."""
    return now - timedelta(days=max(NEVER_BEFORE_DAYS, min(inactive_days, _FOREVER_DAYS)))


def is_inactive(case: Facts, since: datetime) -> bool:
    """Rarely used, and not for long."""
    return case.last_used_at is not None and case.last_used_at < since and case.usage_count < INACTIVE_USAGE


@dataclass(kw_only=True)
class Plan:
    """What a consolidation does. A case goes to the first rule that takes it: low, then duplicate, then inactive.

    All rules judge the state at the start, and a case that has just taken over another's usage is not archived as
    inactive in the same consolidation.
    """

    low: list[Facts] = field(default_factory=list)
    merges: list[Merge] = field(default_factory=list)
    inactive: list[Facts] = field(default_factory=list)

    def details(self) -> ConsolidationDetails:
        """The answer's lists."""
        return ConsolidationDetails(
            removed=[
                Removed(case_id=c.case_id, success_rate=c.success_rate or 0.0, usage_count=c.usage_count)
                for c in self.low
            ],
            merged=[
                Merged(
                    kept=m.kept.case_id, archived=m.archived.case_id, similarity=round(m.similarity, 4),
                    usage_count=m.kept.usage_count, success_rate=m.kept.success_rate,
                )
                for m in self.merges
            ],
            archived=[
                Archived(case_id=c.case_id, usage_count=c.usage_count, last_used_at=c.last_used_at)
                for c in self.inactive
                if c.last_used_at is not None
            ],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Merge:
    """Two cases that say the same."""

    kept: Facts
    """With the other's usage added and the success rates averaged."""
    archived: Facts
    similarity: float


def merge(a: Facts, b: Facts, similarity: float) -> Merge:
    """Keeps the one used more; of two used alike, the one with the lower id."""
    kept, other = (a, b) if (-a.usage_count, a.case_id) <= (-b.usage_count, b.case_id) else (b, a)
    rates = [r for r in (kept.success_rate, other.success_rate) if r is not None]
    return Merge(
        kept=replace(
            kept,
            usage_count=kept.usage_count + other.usage_count,
            success_rate=round(sum(rates) / len(rates), 2) if rates else None,
        ),
        archived=other,
        similarity=similarity,
    )


def merges(facts: Mapping[str, Facts], pairs: Iterable[tuple[str, str, float]]) -> Iterator[Merge]:
    """Resolves similar pairs greedily, at most MERGE_LIMIT.

    Args:
        facts: the cases by id.
        pairs: (lower id, higher id, similarity) in the order of the ids. A pair one of whose cases is archived
            already, or not in `facts`, is passed over.
    """
    current = dict(facts)
    done = 0
    for low, high, similarity in pairs:
        if low not in current or high not in current:
            continue
        result = merge(current[low], current[high], similarity)
        current[result.kept.case_id] = result.kept
        del current[result.archived.case_id]
        yield result
        done += 1
        if done == MERGE_LIMIT:
            return


def plan(low: Sequence[Facts], found: Iterable[Merge], inactive: Iterable[Facts]) -> Plan:
    """A plan from each rule's cases; `found` must not contain low performers."""
    chosen = list(found)
    taken = {c.case_id for c in low} | {c.case_id for m in chosen for c in (m.kept, m.archived)}
    return Plan(low=list(low), merges=chosen, inactive=[c for c in inactive if c.case_id not in taken])


def request_for_summary() -> ConsolidationRequest:
    """The thresholds that a summary counts with: the defaults."""
    return ConsolidationRequest.model_validate({})


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbour:
    """An active case near a text."""

    case_id: str
    similarity: float
    query: str
    category_path: Sequence[str]


def classify(near: Sequence[Neighbour]) -> list[Category]:
    """Categories by their share of the neighbours' similarity, best first."""
    votes: dict[tuple[str, ...], float] = {}
    for n in near:
        key = tuple(n.category_path)
        votes[key] = votes.get(key, 0.0) + n.similarity
    total = sum(votes.values())
    ranked = sorted(votes.items(), key=lambda item: (-round(item[1] / total, 4), item[0]))
    return [Category(category=list(path), score=round(vote / total, 4)) for path, vote in ranked]


def search(query: str, near: Iterable[Neighbour], limit: int) -> list[SearchHit]:
    """Ranks neighbours by 0.7 × vector similarity + 0.3 × share of the query's words that the case has."""
    words = set(tokens(query))
    hits = []
    for n in near:
        text_score = len(words & set(tokens(n.query))) / len(words)
        hits.append(
            SearchHit(
                case_id=n.case_id, query=n.query, category_path=list(n.category_path),
                score=round(0.7 * n.similarity + 0.3 * text_score, 4),
                vector_score=round(n.similarity, 4), text_score=round(text_score, 4),
            )
        )  # fmt: skip
    hits.sort(key=lambda hit: (-hit.score, hit.case_id))
    return hits[:limit]
