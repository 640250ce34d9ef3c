"""The Phase 3 API: routes, keys and errors. What they compute is in `naive` and `tuned`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import asyncpg
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import APIKeyHeader
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from starlette.exceptions import HTTPException as StarletteHTTPException

from dbperf.errors import ConnectError
from dbperf.phase3 import rules
from dbperf.phase3.embedding import embed
from dbperf.phase3.llm import LimitedClient, SuggestionClient, load_client
from dbperf.phase3.naive import Naive
from dbperf.phase3.schemas import (
    AnalyzeRequest,
    AnalyzeResponse,
    BatchRequest,
    BatchResponse,
    CaseId,
    CaseSuggestions,
    ClassifyRequest,
    ClassifyResponse,
    ConsolidationRequest,
    ConsolidationResponse,
    HealthResponse,
    Performance,
    Problem,
    RestoreResponse,
    SearchRequest,
    SearchResponse,
    SuggestionsRequest,
    SuggestionsResponse,
    SummaryResponse,
    TreeResponse,
)
from dbperf.phase3.service import Implementation
from dbperf.phase3.settings import Settings
from dbperf.phase3.tuned import Tuned
from dbperf.postgres.connect import connect

T = TypeVar("T")
_INT4_MAX = 2**31 - 1
_RETRIES = 3
# 08 connection, 53 resources, 57 operator intervention: the database is away or full, and the request is not to blame.
_AWAY = ("08", "53", "57")
# Deadlock, serialization failure, lock timeout: the same request may well succeed now.
_RACES = ("40P01", "40001", "55P03")
_UNKNOWN_CASE = "there is no such case"


class State:
    """What the routes share."""

    def __init__(self, settings: Settings, llm: SuggestionClient | None) -> None:
        async def connection() -> asyncpg.Connection[Any]:
            return await connect(
                settings.dsn, read_only=False, statement_timeout_s=None, lock_timeout_s=None,
                application_name=settings.application_name,
            )  # fmt: skip

        self.settings = settings
        self.engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connection,
            pool_size=settings.pool_size,
            max_overflow=0,
            pool_timeout=settings.pool_timeout_s,
        )
        sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        implementations: dict[str, Callable[..., Implementation]] = {"naive": Naive, "tuned": Tuned}
        self.implementation = implementations[settings.implementation](sessions)
        client = llm or (load_client(settings.llm) if settings.llm else None)
        self.llm = LimitedClient(client) if client else None

    def now(self) -> datetime:
        return self.settings.now or datetime.now(UTC)

    async def suggestions(self, case_id: str, performance: Performance) -> list[str]:
        """From the language model where there is one and its budget lasts, else from the rules."""
        asked = await self.llm.suggest(case_id, performance) if self.llm else None
        return rules.suggestions(performance) if asked is None else asked


def _state(request: Request) -> State:
    state: State = request.app.state.phase3
    return state


Phase3 = Annotated[State, Depends(_state)]
_header = APIKeyHeader(name="X-API-Key", auto_error=False)


async def _authorised(state: Phase3, key: Annotated[str | None, Depends(_header)]) -> None:
    if key is None or not secrets.compare_digest(key.encode(), state.settings.api_key.encode()):
        raise HTTPException(403, "the header X-API-Key is missing or wrong")


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    403: {"model": Problem, "description": "No key, or a wrong one"},
    503: {"model": Problem, "description": "The database is away or overloaded"},
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "Unknown"}}
router = APIRouter(dependencies=[Depends(_authorised)], responses=_PROBLEMS)


async def _retried(work: Callable[[], Awaitable[T]]) -> T:
    """Does a transaction again when it lost a race against another."""
    for attempt in range(_RETRIES):
        try:
            return await work()
        except DBAPIError as e:
            if _sqlstate(e) not in _RACES:
                raise
            await asyncio.sleep(0.02 * 2**attempt)
    return await work()


def _sqlstate(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None) or "")


@router.post("/reflection/analyze", responses=_UNKNOWN, tags=["reflection"])
async def analyze(body: AnalyzeRequest, state: Phase3) -> AnalyzeResponse:
    """Figures of one case over its newest executions."""
    found = await state.implementation.analyze(body.case_id, body.limit)
    if found is None:
        raise HTTPException(404, _UNKNOWN_CASE)
    return AnalyzeResponse(case_id=body.case_id, **found.model_dump())


@router.post("/reflection/batch", tags=["reflection"])
async def batch(state: Phase3, body: BatchRequest | None = None) -> BatchResponse:
    """Figures of all active cases with enough logs; their success rates are stored."""
    min_logs = min((body or BatchRequest.model_validate({})).min_logs, _INT4_MAX)
    found = await _retried(lambda: state.implementation.batch(min_logs))
    low = {i: p for i, p in found.items() if p.success_rate is not None and p.success_rate < rules.LOW_RATE}
    return BatchResponse(
        analyzed_cases=len(found),
        low_performance_cases=len(low),
        suggestions=[
            CaseSuggestions(case_id=i, performance=p, suggestions=await state.suggestions(i, p)) for i, p in low.items()
        ],
    )


@router.post("/reflection/suggestions", responses=_UNKNOWN, tags=["reflection"])
async def suggestions(body: SuggestionsRequest, state: Phase3) -> SuggestionsResponse:
    """What to do about one case."""
    found = await state.implementation.analyze(body.case_id, rules.BATCH_LOGS)
    if found is None:
        raise HTTPException(404, _UNKNOWN_CASE)
    return SuggestionsResponse(
        case_id=body.case_id,
        suggestions=await state.suggestions(body.case_id, found),
        confidence=rules.confidence(found),
    )


@router.post("/consolidation/run", tags=["consolidation"])
async def run(state: Phase3, body: ConsolidationRequest | None = None) -> ConsolidationResponse:
    """Archives low performers, duplicates and inactive cases."""
    request = body or ConsolidationRequest.model_validate({})
    return await _consolidate(state, request, dry_run=request.dry_run)


@router.post("/consolidation/dry-run", tags=["consolidation"])
async def dry_run(state: Phase3, body: ConsolidationRequest | None = None) -> ConsolidationResponse:
    """What `run` would do."""
    return await _consolidate(state, body or ConsolidationRequest.model_validate({}), dry_run=True)


async def _consolidate(state: State, request: ConsolidationRequest, *, dry_run: bool) -> ConsolidationResponse:
    now = state.now()
    plan = await _retried(lambda: state.implementation.consolidate(request, now, dry_run=dry_run))
    return ConsolidationResponse(
        removed_cases=len(plan.low),
        merged_cases=len(plan.merges),
        archived_cases=len(plan.inactive),
        dry_run=dry_run,
        details=plan.details(),
    )


@router.get("/consolidation/summary", tags=["consolidation"])
async def summary(state: Phase3) -> SummaryResponse:
    """How much there is to consolidate."""
    return await state.implementation.summary(state.now())


@router.post("/consolidation/restore/{case_id}", responses=_UNKNOWN, tags=["consolidation"])
async def restore(case_id: Annotated[CaseId, Path()], state: Phase3) -> RestoreResponse:
    """Brings an archived case back as it was."""
    if not await _retried(lambda: state.implementation.restore(case_id)):
        raise HTTPException(404, "the case is unknown or not archived")
    return RestoreResponse(restored=True, case_id=case_id)


@router.get("/reflection/health", tags=["reflection"])
@router.get("/consolidation/health", tags=["consolidation"])
async def health(state: Phase3) -> HealthResponse:
    """Answers when the database does."""
    async with state.engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    return HealthResponse(status="healthy")


@router.post("/classify", tags=["taxonomy"])
async def classify(body: ClassifyRequest, state: Phase3) -> ClassifyResponse:
    """The category of a text, by the cases nearest to it."""
    vector = embed([body.text])[0]
    ranked = rules.classify(await state.implementation.nearest(vector, rules.NEIGHBOURS)) if vector.any() else []
    return ClassifyResponse(
        category=ranked[0].category if ranked else None,
        score=ranked[0].score if ranked else 0.0,
        alternatives=ranked[1:],
    )


@router.post("/search", tags=["taxonomy"])
async def search(body: SearchRequest, state: Phase3) -> SearchResponse:
    """Active cases ranked by vector and by words."""
    vector = embed([body.query])[0]
    near = await state.implementation.nearest(vector, rules.CANDIDATES) if vector.any() else []
    return SearchResponse(results=rules.search(body.query, near, body.limit))


@router.get("/taxonomy/{version}/tree", responses=_UNKNOWN, tags=["taxonomy"])
async def tree(version: Annotated[CaseId, Path(max_length=50)], state: Phase3) -> TreeResponse:
    """A version of the taxonomy, nested."""
    nodes = await state.implementation.tree(version)
    if nodes is None:
        raise HTTPException(404, "there is no such version")
    return TreeResponse(version=version, nodes=nodes)


def create_app(settings: Settings, *, llm: SuggestionClient | None = None) -> FastAPI:
    """The API over the database that `settings` names. It connects at the first request.

    Args:
        llm: a language model for suggestions, used at most five times a minute; None: `settings.llm`, else rules.
    """
    state = State(settings, llm)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await state.engine.dispose()

    app = FastAPI(title="Phase 3 API", version="3.0.0", lifespan=lifespan)
    app.state.phase3 = state
    app.include_router(router)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # Without the input itself: it may be NaN or half a surrogate pair, which JSON can't say.
        problems = [
            {"loc": [_sayable(x) for x in e["loc"]], "msg": e["msg"], "type": e["type"]} for e in error.errors()
        ]
        return JSONResponse({"detail": problems}, 422)

    @app.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException) -> Response:
        # FastAPI answers 400 to a body that is not even UTF-8; here bad input is 422 throughout.
        if error.status_code == 400:
            return JSONResponse({"detail": [{"loc": ["body"], "msg": str(error.detail), "type": "unreadable"}]}, 422)
        return await http_exception_handler(request, error)

    @app.exception_handler(ConnectError)
    @app.exception_handler(PoolTimeoutError)
    @app.exception_handler(DBAPIError)
    async def away(_: Request, error: Exception) -> JSONResponse:
        if isinstance(error, DBAPIError) and not error.connection_invalidated:
            code = _sqlstate(error)
            if not code.startswith(_AWAY) and code not in _RACES:
                raise error
        return JSONResponse({"detail": "the database is away or overloaded"}, 503)

    return app


def application() -> FastAPI:
    """What each worker of `python -m dbperf.phase3` serves."""
    return create_app(Settings.from_environment())


def _sayable(part: object) -> object:
    return part if isinstance(part, int) else str(part).encode("utf-8", "replace").decode()
