SELECT
    s.slot_name AS slot,
    s.slot_type,
    s.active,
    pg_wal_lsn_diff(
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, s.restart_lsn
    )::bigint AS retained_wal_bytes
FROM pg_replication_slots AS s
WHERE NOT s.temporary
ORDER BY s.slot_name
