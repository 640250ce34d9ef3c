-- Settings that matter, and facts about the server.
SELECT
    (SELECT json_agg(json_build_object('name', p.name, 'value', current_setting(p.name), 'source', p.source)
                     ORDER BY p.name)
     FROM pg_settings AS p
     WHERE p.name IN (
        'autovacuum', 'autovacuum_analyze_scale_factor', 'autovacuum_max_workers', 'autovacuum_naptime',
        'autovacuum_vacuum_cost_delay', 'autovacuum_vacuum_cost_limit', 'autovacuum_vacuum_scale_factor',
        'checkpoint_completion_target', 'checkpoint_timeout', 'commit_delay', 'data_checksums',
        'default_statistics_target', 'default_toast_compression', 'effective_cache_size', 'effective_io_concurrency',
        'fsync', 'full_page_writes', 'hash_mem_multiplier', 'huge_pages', 'idle_in_transaction_session_timeout',
        'io_method', 'io_workers', 'jit', 'jit_above_cost', 'lock_timeout', 'maintenance_work_mem', 'max_connections',
        'max_parallel_workers', 'max_parallel_workers_per_gather', 'max_wal_size', 'max_worker_processes',
        'min_wal_size', 'plan_cache_mode', 'random_page_cost', 'seq_page_cost', 'shared_buffers',
        'statement_timeout', 'synchronous_commit', 'temp_buffers', 'track_io_timing', 'wal_buffers',
        'wal_compression', 'wal_level', 'work_mem')) AS settings,
    current_database() AS database,
    current_setting('server_version') AS server_version,
    CASE WHEN has_database_privilege(current_database(), 'CONNECT') THEN pg_database_size(current_database()) END
        AS size_bytes,
    current_setting('max_connections')::int
        - coalesce(current_setting('superuser_reserved_connections')::int, 0)
        - coalesce(current_setting('reserved_connections', true)::int, 0) AS max_connections,
    pg_is_in_recovery() AS in_recovery,
    extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 * 1000 AS recovery_lag_ms
