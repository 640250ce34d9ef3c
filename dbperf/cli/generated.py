"""Parts of pages that are written from the code and from reports/performance_baseline.json: `make docs`.

Such a part stands between two comments, `<!-- generated: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
from pathlib import Path

from dbperf.records.baseline import Baseline
from dbperf.units import format_count, format_ms, format_share

PAGES: dict[str, tuple[str, ...]] = {
    "README.md": ("service levels", "baseline"),
    "README.ko.md": ("service levels", "baseline"),
}
BASELINE = Path("reports/performance_baseline.json")


def with_parts(text: str, parts: dict[str, str]) -> str:
    """The page with its generated parts written anew.

    Raises:
        ValueError: a marker is missing.
    """
    for name, body in parts.items():
        pattern = re.compile(rf"(<!-- generated: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"no marker for {name!r}")
        text = pattern.sub(lambda m, body=body: f"{m[1]}{body}{m[2]}", text)  # type: ignore[misc]  # bound at once
    return text


def parts(root: Path) -> dict[str, str]:
    """The generated parts by name, from the repository in `root`."""
    return {"service levels": service_levels(), "baseline": baseline_table(root / BASELINE)}


def service_levels() -> str:
    """The reference API's service levels, and the limits of its queries."""
    from dbperf.phase3.levels import QUERY_LEVELS, RUN_LEVELS, SERVICE_LEVELS

    rows = ["| endpoint | P50 | P95 | P99 |", "|---|--:|--:|--:|"]
    for level in SERVICE_LEVELS:
        limits = (format_ms(level.p50_ms), format_ms(level.p95_ms), format_ms(level.p99_ms))
        rows.append(f"| `{level.endpoint}` | {' | '.join(limits)} |")
    rows += ["", "| query | | P95 | plan |", "|---|---|--:|---|"]
    for query in QUERY_LEVELS:
        rows.append(f"| {query.id} | {query.title} | {format_ms(query.p95_ms)} | {query.plan or '–'} |")
    errors = ", ".join(f"{format_share(e)} at {n}" for n, e in RUN_LEVELS.error_rate_by_users.items())
    rows += ["", f"All requests: at least {format_count(RUN_LEVELS.requests_per_s)}/s; errors below {errors} users."]
    return "\n".join(rows) + "\n"


def baseline_table(path: Path) -> str:
    """The committed baseline's figures, or how to make one."""
    from dbperf.bench.requests import TITLES
    from dbperf.records.base import read_document

    if not path.is_file():
        return '*No baseline is committed yet: `dbperf bench --save-baseline --reason "…"` writes one.*\n'
    found = read_document(Baseline, path)
    rows = ["| what | stage | P50 | P95 | measured | revision |", "|---|---|--:|--:|---|---|"]
    for e in found.entries:
        m = e.measurement
        values = {round(q.q, 4): q for q in m.quantiles}
        cells = [_figure(values.get(q)) for q in (0.5, 0.95)]
        when = f"{e.origin.measured_at:%Y-%m-%d}" if e.origin.measured_at else "–"
        revision = (e.origin.git_revision or "–")[:12]
        what = TITLES.get(m.subject, m.subject)
        rows.append(f"| {_text(what)} | {_text(m.stage or '–')} | {' | '.join(cells)} | {when} | {revision} |")
    return "\n".join(rows) + "\n"


def _figure(q: object) -> str:
    from dbperf.records.load import Quantile

    if not isinstance(q, Quantile) or q.value_ms is None:
        return "–"
    if q.ci_low_ms is None or q.ci_high_ms is None:
        return format_ms(q.value_ms)
    return f"{format_ms(q.value_ms)} ({format_ms(q.ci_low_ms)} to {format_ms(q.ci_high_ms)})"


def _text(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def write_pages(root: Path) -> list[Path]:
    """Writes every page's parts anew."""
    made = parts(root)
    for page, names in PAGES.items():
        text = (root / page).read_text(encoding="utf-8")
        (root / page).write_text(with_parts(text, {n: made[n] for n in names}), encoding="utf-8")
    return [root / page for page in PAGES]
