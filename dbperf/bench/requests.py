"""Which requests benchmarks make: those of the reference target's API, or a user's own from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from dbperf.errors import ConfigError, UsageError
from dbperf.records.base import Record

ANALYZE, BATCH = "POST /reflection/analyze", "POST /reflection/batch"
RUN, DRY_RUN = "POST /consolidation/run", "POST /consolidation/dry-run"
CLASSIFY, SEARCH, TREE = "POST /classify", "POST /search", "GET /taxonomy/{version}/tree"
PERF = [
    ("PERF-001", ANALYZE, 0.5),
    ("PERF-002", ANALYZE, 0.95),
    ("PERF-003", BATCH, 0.5),
    ("PERF-004", BATCH, 0.95),
    ("PERF-005", RUN, 0.5),
    ("PERF-006", RUN, 0.95),
    ("PERF-007", DRY_RUN, 0.5),
    ("PERF-008", DRY_RUN, 0.95),
]
"""The limits that dbperf/bench/perf tests: name, endpoint, and of which quantile."""
TITLES = {
    "test_classify": CLASSIFY,
    "test_search": SEARCH,
    "test_taxonomy_tree": TREE,
    **{f"test_perf[{name}]": f"{endpoint}, {name}" for name, endpoint, _ in PERF},
}
"""What dbperf's own benchmark tests measure, by the names that they have in results."""
WRITES = {BATCH, RUN}
CONSOLIDATION = {"threshold": 30, "similarity_threshold": 0.95, "inactive_days": 90}
BODIES: dict[str, dict[str, Any]] = {
    BATCH: {"min_logs": 10},
    RUN: {"dry_run": False, **CONSOLIDATION},
    DRY_RUN: {"dry_run": True, **CONSOLIDATION},
    CLASSIFY: {"text": "the invoice was paid twice and the refund is late"},
    SEARCH: {"query": "refund is late", "limit": 10},
}
MOST_USED_CASE = "SELECT case_id FROM case_bank WHERE status = 'active' ORDER BY usage_count DESC, case_id LIMIT 1"
A_VERSION = "SELECT version FROM taxonomy_node ORDER BY version LIMIT 1"


class BenchRequest(Record, frozen=True, kw_only=True):
    """One request that is made again and again."""

    endpoint: str
    """Method and path as the results show it: "GET /items/{id}"."""
    path: str | None = None
    """The path that is asked for, where the endpoint has placeholders."""
    body: Any = None
    writes: bool = False

    @property
    def method(self) -> str:
        return self.endpoint.partition(" ")[0]

    @property
    def asked_path(self) -> str:
        return self.path or self.endpoint.partition(" ")[2]


def reference_requests(case_id: str | None, version: str | None) -> list[BenchRequest]:
    """The requests of PERF-001..008 and of the Phase 1-2 endpoints; those that need a case or a version which nobody
    knows are left out."""
    found = []
    if case_id is not None:
        found.append(BenchRequest(endpoint=ANALYZE, body={"case_id": case_id, "limit": 100}))
    found += [
        BenchRequest(endpoint=e, body=BODIES[e], writes=e in WRITES) for e in (BATCH, RUN, DRY_RUN, CLASSIFY, SEARCH)
    ]
    if version is not None:
        found.append(BenchRequest(endpoint=TREE, path=f"/taxonomy/{version}/tree"))
    return found


def read_requests(path: Path) -> list[BenchRequest]:
    """A user's own requests: a JSON list of objects with endpoint, and path, body and writes where they are needed.

    Raises:
        ConfigError: it can't be read, or names an endpoint twice or without its method.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=list[BenchRequest])
    except OSError as e:
        raise ConfigError(f"{path} can't be read: {e.strerror}") from e
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise ConfigError(
            f"{path}: {e}", hint='a list as [{"endpoint": "GET /items/{id}", "path": "/items/1"}, …]'
        ) from e
    names = [r.endpoint for r in found]
    for r in found:
        if not r.method.isalpha() or not r.method.isupper() or not r.endpoint.partition(" ")[2].startswith("/"):
            raise ConfigError(f"{path}: {r.endpoint!r} is no method and path", hint='write it as "GET /items"')
        if names.count(r.endpoint) > 1:
            raise ConfigError(f"{path} names {r.endpoint!r} twice")
        if r.path is not None and not r.path.startswith("/"):
            raise ConfigError(f"{path}: the path {r.path!r} of {r.endpoint!r} does not begin with /")
    if not found:
        raise ConfigError(f"{path} holds no request")
    return found


def chosen(requests: list[BenchRequest], keyword: str | None, *, writes: bool) -> list[BenchRequest]:
    """Those whose endpoint holds the keyword, and that may be made.

    Raises:
        UsageError: none is left.
    """
    named = [r for r in requests if keyword is None or keyword.lower() in r.endpoint.lower()]
    if not named:
        raise UsageError(f"no endpoint holds {keyword!r}", hint=f"there are {', '.join(r.endpoint for r in requests)}")
    allowed = [r for r in named if writes or not r.writes]
    if not allowed:
        raise UsageError(f"{named[0].endpoint} writes to your API", hint="--apply allows it")
    return allowed
