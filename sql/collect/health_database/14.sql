-- Since when usage is counted: the database's own reset, else the moment in which the server's statistics began
-- (after a crash they start anew, and bgwriter's say when).
SELECT current_database() AS database, current_setting('server_version') AS server_version,
       d.stats_reset, (SELECT b.stats_reset FROM pg_stat_bgwriter b) AS counted_since,
       now() AS now, pg_is_in_recovery() AS in_recovery, current_setting('block_size')::int AS block_bytes,
       (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'pgstattuple') AS pgstattuple_schema
FROM pg_stat_database d WHERE d.datname = current_database()
