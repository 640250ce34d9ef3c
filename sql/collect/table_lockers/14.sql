-- Who holds a lock on a table ($1: oid) that a concurrent build can't share, and what of it is autovacuum.
SELECT l.pid, l.mode, a.backend_type, a.state, a.application_name,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS open_s,
       a.backend_type = 'autovacuum worker' AND a.query LIKE '%(to prevent wraparound)' AS wraparound,
       left(regexp_replace(a.query, '\s+', ' ', 'g'), 60) AS query
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.relation::int8 = $1 AND l.granted AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY l.mode IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock'), 6 DESC NULLS LAST
