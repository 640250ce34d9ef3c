"""What the reference target bears: any request that its document allows, and many at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dbperf.phase3.launch import RunningTarget, start_target
from dbperf.phase3.service import IMPLEMENTATIONS
from tests.conftest import Database
from tests.support.pgserver import PgServer
from tests.support.smoke_data import copied, seeded


@pytest.fixture(scope="module")
def smoke(server_18: PgServer) -> Iterator[str]:
    with seeded(server_18) as name:
        yield name


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def served(request: pytest.FixtureRequest, server_18: PgServer, smoke: str) -> Iterator[tuple[RunningTarget, Database]]:
    with copied(server_18, smoke) as database, start_target(database.dsn, request.param, pool_size=10) as running:
        yield running, database


def test_requests_at_once_neither_fail_nor_corrupt(served: tuple[RunningTarget, Database]) -> None:
    """The first to ask: it wants the data as it was seeded, with much to be merged."""
    target, database = served
    restorable = database.psql("SELECT case_id FROM case_bank_archive").split()
    calls = [
        *[("/consolidation/run", {"similarity_threshold": 0.3})] * 6,
        *[("/reflection/batch", {"min_logs": 1})] * 6,
        *[("/consolidation/dry-run", {})] * 3,
        *[(f"/consolidation/restore/{case_id}", None) for case_id in restorable * 2],
    ]

    async def all_at_once() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            base_url=target.url,
            headers={"X-API-Key": target.api_key},
            timeout=300,
            limits=httpx.Limits(max_connections=50),
        ) as client:
            return await asyncio.gather(*(client.post(path, json=body) for path, body in calls))

    answers = asyncio.run(all_at_once())
    assert {a.status_code for a in answers} <= {200, 404}
    restored = [a for a in answers if "restore" in str(a.url) and a.status_code == 200]
    # Each was restored at least once; twice only if a consolidation archived it in between.
    assert len(restored) >= len(restorable)
    # What is archived has exactly one row for it, what is active has none.
    twice = "SELECT count(*) FROM (SELECT case_id FROM case_bank_archive GROUP BY 1 HAVING count(*) > 1) x"
    assert database.psql(twice) == "0"
    active_and_archived = (
        "SELECT count(*) FROM case_bank_archive a JOIN case_bank c USING (case_id) WHERE c.status = 'active'"
    )
    assert database.psql(active_and_archived) == "0"
    runs = [a.json() for a in answers if str(a.url).endswith("/run")]
    reported = Counter(m["archived"] for r in runs for m in r["details"]["merged"])
    restored_ids = {a.json()["case_id"] for a in restored}
    assert all(n == 1 or case_id in restored_ids for case_id, n in reported.items()), "merged by two requests"


def test_schemathesis_finds_no_server_error(served: tuple[RunningTarget, Database]) -> None:
    target, _ = served
    # Imported here: it takes 0.3 s, which each worker would spend while it collects.
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error

    headers = {"X-API-Key": target.api_key}
    document = schemathesis.openapi.from_url(f"{target.url}/openapi.json", headers=headers)
    asked: Counter[int] = Counter()

    def ask_generated(cases: st.SearchStrategy[Any]) -> None:
        @settings(
            max_examples=8,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(cases)
        def ask(case: Any) -> None:
            response = case.call(headers=headers)
            asked[response.status_code] += 1
            case.validate_response(response, checks=[not_a_server_error])

        ask()

    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) == 12
    for operation in operations:
        ask_generated(operation.as_strategy())
        if operation.body or operation.path_parameters:
            ask_generated(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    assert asked[200] > 20
    assert asked[422] > 20
    assert asked[404] > 10
