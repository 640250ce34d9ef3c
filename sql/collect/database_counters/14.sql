SELECT d.xact_commit AS commits,
  d.xact_rollback AS rollbacks,
  d.deadlocks,
  d.temp_bytes,
  CASE WHEN pg_is_in_recovery() THEN NULL ELSE (pg_current_wal_insert_lsn() - '0/0')::bigint END AS wal_bytes,
  (SELECT checkpoints_timed + checkpoints_req FROM pg_stat_bgwriter) AS checkpoints, -- < 17
  (SELECT num_timed + num_requested FROM pg_stat_checkpointer) AS checkpoints, -- >= 17
  (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS max_connections
FROM pg_stat_database AS d
WHERE d.datname = current_database()
