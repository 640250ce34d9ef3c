-- Counters of the connection's database.
SELECT
    d.xact_commit AS commits,
    d.xact_rollback AS rollbacks,
    d.blks_read,
    d.blks_hit,
    d.tup_returned AS rows_returned,
    d.tup_fetched AS rows_fetched,
    d.tup_inserted AS rows_inserted,
    d.tup_updated AS rows_updated,
    d.tup_deleted AS rows_deleted,
    d.conflicts,
    d.deadlocks,
    d.temp_files,
    d.temp_bytes,
    d.checksum_failures,
    d.blk_read_time AS blk_read_ms,
    d.blk_write_time AS blk_write_ms,
    d.session_time AS session_ms,
    d.active_time AS active_ms,
    d.idle_in_transaction_time AS idle_in_transaction_ms,
    d.sessions,
    d.sessions_abandoned,
    d.sessions_fatal,
    d.sessions_killed,
    d.stats_reset
FROM pg_stat_database AS d
WHERE d.datname = current_database()
