"""What a server offers dbperf: one object per feature, which says what is missing, why it matters and what fixes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from dbperf.errors import CapabilityError
from dbperf.postgres.binaries import OLDEST_MAJOR
from dbperf.postgres.collect import collector, parse_version
from dbperf.records.capabilities import Capability, CapabilityStatus

NEWEST_MAJOR = 18


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was asked of the server, before it is judged."""

    version: str
    major: int
    role: str
    database: str
    superuser: bool
    reads_all_stats: bool
    standby: bool
    unreadable_tables: int
    reads_statements: bool | None
    """Whether the role may read the view; None where the extension is not installed in this database."""
    settings: Mapping[str, str]
    installed: Mapping[str, tuple[str, str]]
    """Extension to version and schema."""
    available: Mapping[str, str]


@dataclass(frozen=True)
class Finding:
    """A feature's state; the feature itself knows what is needed and why."""

    status: CapabilityStatus
    found: str
    fix: str | None = None


@dataclass(frozen=True, kw_only=True)
class Feature:
    """Something that dbperf uses where the server has it."""

    name: str
    needed: str
    why: str
    judge: Callable[[Facts], Finding]
    required: bool = False

    def capability(self, facts: Facts) -> Capability:
        finding = self.judge(facts)
        return Capability(
            feature=self.name,
            status=finding.status,
            required=self.required,
            found=finding.found,
            needed=self.needed,
            why=self.why,
            fix=finding.fix,
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _server_version(facts: Facts) -> Finding:
    if facts.major < OLDEST_MAJOR:
        return Finding("missing", facts.version, f"-- upgrade the server to PostgreSQL {OLDEST_MAJOR} or newer")
    if facts.major > NEWEST_MAJOR:
        return Finding("degraded", f"{facts.version}, newer than this dbperf knows", "-- pip install -U dbperf")
    return Finding("ok", facts.version)


def _preload(facts: Facts) -> Finding:
    # The module's settings exist exactly where it was loaded at the server's start; every role sees them.
    if "pg_stat_statements.max" in facts.settings:
        return Finding("ok", "loaded")
    loaded = facts.settings.get("shared_preload_libraries")
    modules = [m.strip().strip('"') for m in (loaded or "").split(",") if m.strip()]
    listed = ", ".join(_literal(m) for m in [*modules, "pg_stat_statements"])
    before = "" if loaded is not None else " -- keep what the list holds already (this role can't see it)"
    return Finding(
        "missing",
        f"shared_preload_libraries = {loaded!r}" if loaded is not None else "not loaded",
        f"ALTER SYSTEM SET shared_preload_libraries = {listed};{before} -- then restart the server"
        " (managed services: the parameter group)",
    )


def _statements(facts: Facts) -> Finding:
    available = facts.available.get("pg_stat_statements")
    if "pg_stat_statements" not in facts.installed:
        if available is None:
            return Finding(
                "missing", "the server has no such extension", "-- install the server's postgresql-contrib package"
            )
        return Finding(
            "missing",
            f"not installed in database {facts.database}",
            "CREATE EXTENSION IF NOT EXISTS pg_stat_statements;",
        )
    version, schema = facts.installed["pg_stat_statements"]
    found = f"{version} in schema {schema}"
    if available and parse_version(version) < parse_version(available):
        status: CapabilityStatus = "degraded" if parse_version(version) >= (1, 8) else "missing"
        return Finding(status, f"{found}; {available} is there", "ALTER EXTENSION pg_stat_statements UPDATE;")
    return Finding("ok", found)


def _statement_privilege(facts: Facts) -> Finding:
    if facts.reads_statements is False:
        schema = _quoted(facts.installed["pg_stat_statements"][1])
        grant = (
            f"GRANT USAGE ON SCHEMA {schema} TO {_quoted(facts.role)};"
            f" GRANT SELECT ON {schema}.pg_stat_statements TO {_quoted(facts.role)};"
        )
        return Finding("missing", f"role {facts.role} may not read pg_stat_statements", grant)
    if facts.superuser or facts.reads_all_stats:
        return Finding("ok", f"role {facts.role} sees every role's statements")
    return Finding(
        "degraded",
        f"role {facts.role} sees the text of its own statements only",
        f"GRANT pg_read_all_stats TO {_quoted(facts.role)};",
    )


def _track(facts: Facts) -> Finding:
    value = facts.settings.get("pg_stat_statements.track")
    if value is None:
        return Finding("missing", "pg_stat_statements is not loaded", "-- see pg_stat_statements preload")
    if value == "none":
        fix = "ALTER SYSTEM SET pg_stat_statements.track = 'top'; SELECT pg_reload_conf();"
        return Finding("missing", value, fix)
    return Finding("ok", value)


def _query_id(facts: Facts) -> Finding:
    value = facts.settings.get("compute_query_id", "unknown")
    # auto means: when a module asks for it, and pg_stat_statements does.
    if value == "off" or (value == "auto" and "pg_stat_statements.max" not in facts.settings):
        found = "off" if value == "off" else "auto, and no module asks for it"
        return Finding("missing", found, "ALTER SYSTEM SET compute_query_id = 'auto'; SELECT pg_reload_conf();")
    return Finding("ok", value)


def _io_timing(facts: Facts) -> Finding:
    if facts.settings.get("track_io_timing") == "on":
        return Finding("ok", "on")
    return Finding("degraded", "off", "ALTER SYSTEM SET track_io_timing = 'on'; SELECT pg_reload_conf();")


def _tables(facts: Facts) -> Finding:
    if not facts.unreadable_tables:
        return Finding("ok", f"role {facts.role} may read every table")
    return Finding(
        "degraded",
        f"role {facts.role} may not read {facts.unreadable_tables:,} tables",
        f"GRANT pg_read_all_data TO {_quoted(facts.role)};",
    )


def _generic_plan(facts: Facts) -> Finding:
    if facts.major >= 16:
        return Finding("ok", "EXPLAIN (GENERIC_PLAN)")
    return Finding("degraded", "through PREPARE and plan_cache_mode", "-- upgrade the server to PostgreSQL 16 or newer")


def _auto_explain(facts: Facts) -> Finding:
    if "auto_explain.log_min_duration" in facts.settings:
        return Finding("ok", "loaded")
    return Finding(
        "missing",
        "not loaded",
        "ALTER SYSTEM SET session_preload_libraries = 'auto_explain'; SELECT pg_reload_conf(); -- for new connections",
    )


def _extension(name: str, package: str) -> Callable[[Facts], Finding]:
    def judge(facts: Facts) -> Finding:
        if name in facts.installed:
            version, schema = facts.installed[name]
            return Finding("ok", f"{version} in schema {schema}")
        if name in facts.available:
            return Finding("missing", "available, not installed", f"CREATE EXTENSION IF NOT EXISTS {name};")
        return Finding("missing", "the server has no such extension", f"-- install {package} on the server")

    return judge


FEATURES: tuple[Feature, ...] = (
    Feature(
        name="server version",
        needed=f"PostgreSQL {OLDEST_MAJOR} to {NEWEST_MAJOR}",
        why="older servers lack the statistics that dbperf reads",
        judge=_server_version,
        required=True,
    ),
    Feature(
        name="pg_stat_statements preload",
        needed="pg_stat_statements in shared_preload_libraries",
        why="without it the server counts no statements",
        judge=_preload,
        required=True,
    ),
    Feature(
        name="pg_stat_statements",
        needed="the extension, version 1.8 or newer, in the database that is measured",
        why="calls, times, rows and buffers of each statement are read from its view",
        judge=_statements,
        required=True,
    ),
    Feature(
        name="statement privilege",
        needed="membership in pg_read_all_stats",
        why="the text of other roles' statements is hidden without it, the application's among them",
        judge=_statement_privilege,
        required=True,
    ),
    Feature(
        name="pg_stat_statements.track",
        needed="top or all",
        why="none counts nothing",
        judge=_track,
        required=True,
    ),
    Feature(
        name="compute_query_id",
        needed="auto or on",
        why="statements are told apart by their queryid",
        judge=_query_id,
        required=True,
    ),
    Feature(
        name="track_io_timing",
        needed="on",
        why="time spent reading and writing blocks stays unknown",
        judge=_io_timing,
    ),
    Feature(
        name="table privileges",
        needed="SELECT on the tables that statements use",
        why="EXPLAIN of a statement, and column statistics, need it",
        judge=_tables,
    ),
    Feature(
        name="generic plans",
        needed="PostgreSQL 16 for EXPLAIN (GENERIC_PLAN)",
        why="plans of statements with parameters don't show the partitions that values prune at run time",
        judge=_generic_plan,
    ),
    Feature(
        name="auto_explain",
        needed="auto_explain loaded",
        why="plans of statements as they ran, with the application's own values, can't be logged",
        judge=_auto_explain,
    ),
    Feature(
        name="pgvector",
        needed="the extension vector",
        why="only databases with embeddings, and the reference target, need it",
        judge=_extension("vector", "pgvector"),
    ),
    Feature(
        name="hypopg",
        needed="the extension hypopg",
        why="a second opinion on what-if indexes; dbperf's own planner needs nothing",
        judge=_extension("hypopg", "hypopg"),
    ),
    Feature(
        name="pgstattuple",
        needed="the extension pgstattuple",
        why="bloat is estimated instead of measured without it",
        judge=_extension("pgstattuple", "postgresql-contrib"),
    ),
)


async def facts(connection: asyncpg.Connection[Any]) -> Facts:
    """Asks the server; four short catalog queries that any role may run."""
    version = connection.get_server_version()
    key = (max(version.major, OLDEST_MAJOR),)
    role = await connection.fetchrow(collector("role", key))
    assert role is not None
    settings = await connection.fetch(collector("capability_settings", key))
    installed = await connection.fetch(collector("extensions", key))
    available = await connection.fetch(collector("available_extensions", key))
    return Facts(
        version=str(await connection.fetchval("SHOW server_version")),
        major=version.major,
        role=role["role"],
        database=role["database"],
        superuser=role["superuser"],
        reads_all_stats=role["reads_all_stats"],
        standby=role["standby"],
        unreadable_tables=role["unreadable_tables"],
        reads_statements=role["reads_statements"],
        settings={r["name"]: r["value"] for r in settings},
        installed={r["name"]: (r["version"], r["schema"]) for r in installed},
        available={r["name"]: r["version"] for r in available},
    )


async def check(connection: asyncpg.Connection[Any]) -> list[Capability]:
    """Every feature, in the order in which one would fix them."""
    found = await facts(connection)
    return [feature.capability(found) for feature in FEATURES]


def demand(capabilities: Iterable[Capability]) -> None:
    """Insists on what is required.

    Raises:
        CapabilityError: naming the first required feature that is missing, with its fix as the hint.
    """
    for capability in capabilities:
        if capability.required and capability.status == "missing":
            raise CapabilityError(
                f"{capability.feature}: {capability.found}; needed: {capability.needed} ({capability.why})",
                hint=f"{capability.fix or capability.needed}  (dbperf doctor shows everything)",
            )
