"""Requests and answers of the Phase 3 API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _storable(text: str) -> str:
    # PostgreSQL's text holds neither NUL nor half of a surrogate pair.
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("must be text that UTF-8 can express, without NUL")
    return text


CaseId = Annotated[str, Field(min_length=1, max_length=255, examples=["case-000123"]), AfterValidator(_storable)]
FreeText = Annotated[str, Field(min_length=1, max_length=10_000), AfterValidator(_storable)]


def _now() -> datetime:
    return datetime.now(UTC)


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class AnalyzeRequest(_Request):
    case_id: CaseId
    limit: int = Field(100, ge=1, le=1000, description="Newest logs to look at")


class BatchRequest(_Request):
    min_logs: int = Field(10, ge=1, description="Cases with fewer logs are left out")


class SuggestionsRequest(_Request):
    case_id: CaseId


class ConsolidationRequest(_Request):
    dry_run: bool = Field(False, description="Change nothing")
    threshold: float = Field(30, ge=0, le=100, description="Success rate in percent below which a case performs low")
    similarity_threshold: float = Field(
        0.95, ge=0, le=1, description="Cosine similarity above which cases are the same"
    )
    inactive_days: int = Field(90, ge=1)


class ClassifyRequest(_Request):
    text: FreeText


class SearchRequest(_Request):
    query: FreeText
    limit: int = Field(10, ge=1, le=100)


class CommonError(BaseModel):
    error_type: str
    count: int
    percentage: float = Field(description="Of the failed executions")


class Performance(BaseModel):
    total_executions: int
    successful_executions: int
    failed_executions: int
    success_rate: float | None = Field(description="Percent; null without executions")
    avg_execution_time_ms: float | None
    common_errors: list[CommonError]


class AnalyzeResponse(Performance):
    case_id: str
    timestamp: datetime = Field(default_factory=_now)


class CaseSuggestions(BaseModel):
    case_id: str
    performance: Performance
    suggestions: list[str]


class BatchResponse(BaseModel):
    analyzed_cases: int
    low_performance_cases: int
    suggestions: list[CaseSuggestions]
    timestamp: datetime = Field(default_factory=_now)


class SuggestionsResponse(BaseModel):
    case_id: str
    suggestions: list[str]
    confidence: float = Field(ge=0, le=1)
    timestamp: datetime = Field(default_factory=_now)


class Removed(BaseModel):
    case_id: str
    success_rate: float
    usage_count: int


class Merged(BaseModel):
    kept: str
    archived: str
    similarity: float
    usage_count: int = Field(description="Of the kept case, with the other's added")
    success_rate: float | None = Field(description="Of the kept case, averaged")


class Archived(BaseModel):
    case_id: str
    usage_count: int
    last_used_at: datetime


class ConsolidationDetails(BaseModel):
    removed: list[Removed]
    merged: list[Merged]
    archived: list[Archived]


class ConsolidationResponse(BaseModel):
    removed_cases: int
    merged_cases: int
    archived_cases: int
    dry_run: bool
    details: ConsolidationDetails
    timestamp: datetime = Field(default_factory=_now)


class SummaryResponse(BaseModel):
    total_active_cases: int
    low_performance_candidates: int
    inactive_candidates: int
    potential_savings: int = Field(description="Cases that one of the two rules would take out of the active ones")


class RestoreResponse(BaseModel):
    restored: bool
    case_id: str


class HealthResponse(BaseModel):
    status: str


class Category(BaseModel):
    category: list[str]
    score: float


class ClassifyResponse(BaseModel):
    category: list[str] | None = Field(description="Null where nothing resembles the text")
    score: float
    alternatives: list[Category]


class SearchHit(BaseModel):
    case_id: str
    query: str
    category_path: list[str]
    score: float
    vector_score: float
    text_score: float


class SearchResponse(BaseModel):
    results: list[SearchHit]


class TreeNode(BaseModel):
    path: str
    name: str
    children: list[TreeNode]


class TreeResponse(BaseModel):
    version: str
    nodes: list[TreeNode]


class Problem(BaseModel):
    detail: str
