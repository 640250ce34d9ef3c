-- One row per session. Asked for 20 times a second, so it costs the server as little as it can: the function below
-- pg_stat_activity, without that view's joins; rows of what is busy only, unless all are asked for; no grouping and no
-- sorting. What is of no interest is left out by dbperf (wait_totals.py). Sessions of other roles are without state
-- where this role may not see it. Texts as bytes: see pg_stat_statements_text.
-- $1: database oid, or NULL for all; $2: idle and hidden sessions, and those of other databases, as well.
SELECT
    statement_timestamp() AS at,
    clock_timestamp() AS read_at,
    a.usesysid AS user_id,
    a.application_name,
    a.pid,
    a.datid AS database_id,
    a.backend_type,
    a.state,
    a.wait_event_type,
    a.wait_event,
    a.query_id AS queryid,
    a.xact_start,
    a.state_change,
    CASE WHEN a.state <> 'idle' AND ($1::oid IS NULL OR a.datid = $1) THEN {text} END AS text
FROM pg_stat_get_activity(NULL) AS a
WHERE a.datid IS NOT NULL AND ($2::bool OR (a.state <> 'idle' AND ($1::oid IS NULL OR a.datid = $1)))
