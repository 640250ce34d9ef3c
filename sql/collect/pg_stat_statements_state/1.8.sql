-- What decides whether two snapshots can be compared. reset_val, not setting: dbperf's own session turns tracking off.
SELECT
    clock_timestamp() AS at,
    pg_postmaster_start_time() AS server_started_at,
    (SELECT count(*) FROM {schema}.pg_stat_statements(false)) AS entries,
    i.dealloc AS evictions,                           -- >= 1.9
    i.stats_reset AS reset_at,                        -- >= 1.9
    pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all,
    (SELECT oid FROM pg_database WHERE datname = current_database()) AS database_id,
    (SELECT json_object_agg(name, reset_val) FROM pg_settings
     WHERE name LIKE 'pg\_stat\_statements.%' OR name IN ('compute_query_id', 'track_io_timing', 'track_activities'))
        AS settings,
    (SELECT json_object_agg(oid::text, datname) FROM pg_database) AS databases,
    (SELECT json_object_agg(oid::text, rolname) FROM pg_roles) AS users,
    (SELECT json_object_agg(datid::text, active_time) FROM pg_stat_database WHERE datid <> 0) AS active_ms
FROM (VALUES (1)) AS single
    CROSS JOIN {schema}.pg_stat_statements_info AS i  -- >= 1.9
