"""Both implementations give the same answers: 200 generated requests before, and 200 after a consolidation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dbperf.phase3 import texts
from dbperf.phase3.service import IMPLEMENTATIONS
from tests.conftest import Database
from tests.integration.test_phase3_api import REFERENCE, api
from tests.support.pgserver import PgServer
from tests.support.smoke_data import copied, seeded

REQUESTS = 200

case_ids = st.one_of(
    st.integers(1, 500).map(lambda i: f"case-{i:06d}"),
    st.sampled_from(["case-000000", "case-000501", "nobody", "CASE-000001", "case-000001 ", "'; --", "ü/ü"]),
)
words = st.sampled_from(
    [w for part in (*texts.DOMAINS, *texts._THINGS, *texts._SYMPTOMS, *texts._CLIENTS) for w in part.split()]
)
# All that UTF-8 can hold; asked for by that name, hypothesis would try each of a million characters first.
anything = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
questions = st.one_of(st.lists(words, min_size=1, max_size=8).map(" ".join), anything)
consolidations = st.fixed_dictionaries(
    {},
    optional={
        "threshold": st.one_of(st.floats(0, 100), st.decimals(0, 100, places=2).map(float)),
        "similarity_threshold": st.floats(0, 1),
        "inactive_days": st.integers(1, 200),
    },
)


def post(path: str, body: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, str, Any]]:
    return st.tuples(st.just("POST"), st.just(path), body)


requests = st.one_of(
    post("/reflection/analyze", st.fixed_dictionaries({"case_id": case_ids}, optional={"limit": st.integers(0, 1001)})),
    post("/reflection/suggestions", st.fixed_dictionaries({"case_id": case_ids})),
    post("/reflection/batch", st.fixed_dictionaries({}, optional={"min_logs": st.integers(1, 200)})),
    post("/consolidation/dry-run", consolidations),
    post("/consolidation/run", consolidations.map(lambda body: {**body, "dry_run": True})),
    st.just(("GET", "/consolidation/summary", None)),
    post("/classify", st.fixed_dictionaries({"text": questions})),
    post("/search", st.fixed_dictionaries({"query": questions}, optional={"limit": st.integers(1, 100)})),
    st.sampled_from([("GET", f"/taxonomy/{v}/tree", None) for v in ("v1", "v2", "v3")]),
)


@dataclass
class Pair:
    """One API per implementation, each over a database of its own with the same data."""

    loop: asyncio.AbstractEventLoop
    clients: list[httpx.AsyncClient]
    databases: list[Database]

    def ask(self, method: str, path: str, body: Any) -> Any:
        """The common answer, without its timestamp."""

        async def both() -> list[tuple[int, Any]]:
            answers = await asyncio.gather(*(c.request(method, path, json=body) for c in self.clients))
            return [(a.status_code, a.json()) for a in answers]

        found = self.loop.run_until_complete(both())
        for status, answer in found:
            assert status < 500, (path, body, answer)
            if isinstance(answer, dict):
                answer.pop("timestamp", None)
        assert found[0] == found[1], (method, path, body)
        return found[0][1]

    def same_tables(self) -> None:
        for query in (
            "SELECT case_id, usage_count, success_rate, status FROM case_bank ORDER BY 1",
            "SELECT case_id, usage_count, success_rate, archived_reason, md5(query_vector::text)"
            " FROM case_bank_archive ORDER BY archive_id",
        ):
            assert self.databases[0].psql(query) == self.databases[1].psql(query)


@pytest.fixture(scope="module")
def smoke(server_18: PgServer) -> Iterator[str]:
    with seeded(server_18, REFERENCE) as name:
        yield name


@pytest.fixture
def pair(server_18: PgServer, smoke: str) -> Iterator[Pair]:
    loop = asyncio.new_event_loop()
    with ExitStack() as stack:
        databases = [stack.enter_context(copied(server_18, smoke)) for _ in IMPLEMENTATIONS]
        contexts = [api(d.dsn, implementation) for d, implementation in zip(databases, IMPLEMENTATIONS, strict=True)]
        yield Pair(loop, [loop.run_until_complete(c.__aenter__()) for c in contexts], databases)
        for c in contexts:
            loop.run_until_complete(c.__aexit__(None, None, None))
    loop.close()


def compare(pair: Pair, strategy: st.SearchStrategy[tuple[str, str, Any]], count: int) -> set[str]:
    """Asks both for `count` generated requests; returns the paths that were asked."""
    asked: list[str] = []

    # No shrinking: the database moves on between the requests.
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def agree(what: tuple[str, str, Any]) -> None:
        pair.ask(*what)
        asked.append(what[1])

    agree()
    assert len(asked) >= count
    return set(asked)


def test_two_hundred_requests_before_and_after_a_consolidation(pair: Pair) -> None:
    paths = compare(pair, requests, REQUESTS)
    assert len(paths) >= 10
    done = pair.ask("POST", "/consolidation/run", {})
    assert min(done["removed_cases"], done["merged_cases"], done["archived_cases"]) > 0
    pair.same_tables()
    compare(pair, requests, REQUESTS)
    pair.same_tables()


def test_consolidations_restores_and_batches_in_any_order(pair: Pair) -> None:
    writes = st.one_of(
        post("/consolidation/run", consolidations),
        st.tuples(st.just("POST"), case_ids.filter(str.isascii).map("/consolidation/restore/{}".format), st.none()),
        post("/reflection/batch", st.just({})),
    )
    compare(pair, writes, 40)
    pair.same_tables()
    archived = pair.databases[0].psql("SELECT DISTINCT case_id FROM case_bank_archive ORDER BY 1").split()
    for case_id in archived[:30]:
        pair.ask("POST", f"/consolidation/restore/{case_id}", None)
    pair.same_tables()
    # Similar to nearly everything: long chains of merges, and the limit of a hundred.
    pair.ask("POST", "/consolidation/run", {"similarity_threshold": 0, "threshold": 0, "inactive_days": 1000})
    pair.same_tables()
