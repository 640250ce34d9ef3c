"""The tables of sql/phase3/schema.sql as SQLAlchemy classes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import REAL, BigInteger, DateTime, FetchedValue, ForeignKey, Integer, String, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dbperf.phase3.embedding import DIMENSIONS


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class as it is
        str: Text,
        float: REAL,
        datetime: DateTime(timezone=True),
        list[str]: ARRAY(Text),
        list[float]: VECTOR(DIMENSIONS),
        dict[str, Any]: JSONB,
    }


class CaseBank(Base):
    """A question that the desk has answered, and how well the answer does."""

    __tablename__ = "case_bank"

    case_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    query: Mapped[str | None]
    response_text: Mapped[str | None]
    category_path: Mapped[list[str] | None]
    query_vector: Mapped[list[float] | None]
    quality_score: Mapped[float | None]
    usage_count: Mapped[int] = mapped_column(server_default=FetchedValue())
    success_rate: Mapped[float | None]
    status: Mapped[str] = mapped_column(String(50), server_default=FetchedValue())
    version: Mapped[int] = mapped_column(server_default=FetchedValue(), server_onupdate=FetchedValue())
    updated_by: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())
    updated_at: Mapped[datetime] = mapped_column(server_default=FetchedValue(), server_onupdate=FetchedValue())
    last_used_at: Mapped[datetime | None]


class ExecutionLog(Base):
    """One use of a case."""

    __tablename__ = "execution_log"

    log_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    case_id: Mapped[str] = mapped_column(String(255), ForeignKey("case_bank.case_id"))
    success: Mapped[bool]
    error_type: Mapped[str | None] = mapped_column(String(100))
    error_message: Mapped[str | None]
    execution_time_ms: Mapped[int | None]
    context: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())


class CaseBankArchive(Base):
    """A case as it was when it was archived."""

    __tablename__ = "case_bank_archive"

    archive_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    case_id: Mapped[str | None] = mapped_column(String(255))
    query: Mapped[str | None]
    response_text: Mapped[str | None]
    category_path: Mapped[list[str] | None]
    query_vector: Mapped[list[float] | None]
    usage_count: Mapped[int | None]
    success_rate: Mapped[float | None]
    archived_at: Mapped[datetime | None] = mapped_column(server_default=FetchedValue())
    archived_reason: Mapped[str | None] = mapped_column(String(255))


class TaxonomyNode(Base):
    """A category in one version of the taxonomy."""

    __tablename__ = "taxonomy_node"

    version: Mapped[str] = mapped_column(String(50), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    parent: Mapped[str | None]
    name: Mapped[str] = mapped_column(String(255))
