-- Sessions that wait for a heavyweight lock, and those that hold one which is waited for. pg_locks and pg_blocking_pids
-- hold up the lock manager for a moment, so this is asked only when a sample shows a session that waits for a lock.
-- $1: pids that wait, comma-separated.
WITH locks AS MATERIALIZED (
    SELECT l.* FROM pg_locks AS l
), waiting AS MATERIALIZED (
    SELECT
        l.pid,
        pg_blocking_pids(l.pid) AS blocked_by,
        l.waitstart,
        l.locktype,
        l.mode,
        -- Who waits for another transaction to end a row's update holds the row's tuple lock meanwhile.
        coalesce(l.relation, (SELECT min(t.relation::oid::bigint)::oid FROM locks AS t
                              WHERE t.pid = l.pid AND t.locktype = 'tuple' AND t.granted)) AS relation
    FROM locks AS l
    WHERE NOT l.granted AND l.pid = ANY (string_to_array($1, ',')::int[])
)
SELECT
    clock_timestamp() AS at,
    extract(epoch FROM clock_timestamp() - statement_timestamp())::float8 AS server_s,
    a.pid,
    a.backend_type,
    a.usesysid AS user_id,
    a.datid AS database_id,
    a.application_name,
    a.state,
    a.query_id AS queryid,
    a.xact_start,
    {text} AS text,
    array_to_string(w.blocked_by, ',') AS blocked_by,
    w.waitstart AS wait_started_at,
    w.locktype AS lock_type,
    w.mode AS lock_mode,
    CASE WHEN a.datname = current_database() THEN w.relation::regclass::text END AS relation
FROM pg_stat_activity AS a
    LEFT JOIN waiting AS w ON w.pid = a.pid
WHERE w.pid IS NOT NULL OR a.pid IN (SELECT unnest(v.blocked_by) FROM waiting AS v)
