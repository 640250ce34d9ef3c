-- Standbys and subscribers of this server; without pg_read_all_stats the lags are hidden.
SELECT
    r.application_name,
    r.state,
    r.sync_state,
    pg_wal_lsn_diff(here.lsn, r.sent_lsn)::bigint AS sent_lag_bytes,
    pg_wal_lsn_diff(here.lsn, r.replay_lsn)::bigint AS replay_lag_bytes,
    extract(epoch FROM r.write_lag)::float8 * 1000 AS write_lag_ms,
    extract(epoch FROM r.flush_lag)::float8 * 1000 AS flush_lag_ms,
    extract(epoch FROM r.replay_lag)::float8 * 1000 AS replay_lag_ms
FROM pg_stat_replication AS r
    CROSS JOIN (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                            ELSE pg_current_wal_lsn() END AS lsn) AS here
ORDER BY r.application_name, r.pid
