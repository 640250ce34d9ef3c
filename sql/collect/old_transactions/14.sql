-- Transactions open for longer than $1 seconds, which a concurrent build waits for; prepared ones have no process.
SELECT a.pid, extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS open_s, a.state, a.application_name,
       NULL::text AS prepared
FROM pg_stat_activity a
WHERE a.xact_start < clock_timestamp() - make_interval(secs => $1) AND a.pid <> pg_backend_pid()
  AND a.datname = current_database() AND a.backend_type = 'client backend'
UNION ALL
SELECT NULL, extract(epoch FROM clock_timestamp() - p.prepared)::float8, 'prepared', NULL, p.gid
FROM pg_prepared_xacts p WHERE p.database = current_database()
ORDER BY 2 DESC
