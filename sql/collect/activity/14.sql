-- One row per busy session of the database, and one per group of sessions that only count. Sessions of other roles
-- are without state where this role may not see it. Texts as bytes: see pg_stat_statements_text.
-- $1: database oid, or NULL for all; $2: dbperf's own pids, comma-separated.
SELECT
    statement_timestamp() AS at,
    max(extract(epoch FROM clock_timestamp() - statement_timestamp()))::float8 AS server_s,
    s.kind,
    s.usesysid AS user_id,
    CASE WHEN s.kind <> 'other' THEN s.application_name END AS application_name,
    CASE WHEN s.kind = 'busy' THEN s.pid END AS pid,
    CASE WHEN s.kind = 'busy' THEN s.datid END AS database_id,
    CASE WHEN s.kind = 'busy' THEN s.backend_type END AS backend_type,
    CASE WHEN s.kind = 'busy' THEN s.state END AS state,
    CASE WHEN s.kind = 'busy' THEN s.wait_event_type END AS wait_event_type,
    CASE WHEN s.kind = 'busy' THEN s.wait_event END AS wait_event,
    CASE WHEN s.kind = 'busy' THEN s.query_id END AS queryid,
    CASE WHEN s.kind = 'busy' THEN s.xact_start END AS xact_start,
    CASE WHEN s.kind = 'busy' THEN s.state_change END AS state_change,
    CASE WHEN s.kind = 'busy' THEN {text} END AS text,
    count(*) AS sessions
FROM (
    SELECT a.*,
        CASE
            WHEN $1::oid IS NOT NULL AND a.datid IS DISTINCT FROM $1 THEN 'other'
            WHEN a.state IS NULL THEN 'hidden'
            WHEN a.state = 'idle' THEN 'idle'
            ELSE 'busy'
        END AS kind
    FROM pg_stat_activity AS a
    WHERE a.datid IS NOT NULL
        AND a.pid <> ALL (string_to_array($2, ',')::int[])
        -- Another connection of dbperf counts only while it works.
        AND NOT (a.application_name LIKE 'dbperf%' AND a.state IS NOT DISTINCT FROM 'idle')
        AND coalesce(a.backend_type, 'client backend') IN ('client backend', 'parallel worker')
) AS s
GROUP BY 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
