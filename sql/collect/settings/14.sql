-- The settings that shape plans and timings, as SHOW prints them, and every other one that was changed from its default
-- in a configuration file or on the server's command line (places and secrets left out).
SELECT s.name::text AS name, current_setting(s.name) AS value
  FROM pg_catalog.pg_settings s
 WHERE s.name IN (
           'autovacuum', 'bgwriter_lru_maxpages', 'checkpoint_timeout', 'compute_query_id', 'cpu_index_tuple_cost',
           'cpu_operator_cost', 'cpu_tuple_cost', 'data_checksums', 'default_statistics_target',
           'effective_cache_size', 'effective_io_concurrency', 'fsync', 'full_page_writes', 'hash_mem_multiplier',
           'huge_pages', 'io_method', 'io_workers', 'jit', 'jit_above_cost', 'maintenance_work_mem', 'max_connections',
           'max_parallel_workers', 'max_parallel_workers_per_gather', 'max_wal_size', 'max_worker_processes',
           'pg_stat_statements.max', 'pg_stat_statements.track', 'plan_cache_mode', 'random_page_cost',
           'seq_page_cost', 'server_encoding', 'shared_buffers', 'shared_preload_libraries', 'synchronous_commit',
           'track_io_timing', 'wal_compression', 'wal_level', 'work_mem')
    OR s.source IN ('configuration file', 'command line', 'database', 'user')
   AND s.category NOT LIKE 'File Locations%'
   AND s.category NOT LIKE 'Connections and Authentication%'
   AND s.category NOT LIKE 'Reporting and Logging%'
   AND s.category NOT LIKE 'Client Connection Defaults / Locale%'
   AND s.category NOT LIKE 'Replication%'
   AND s.category NOT LIKE 'Write-Ahead Log / Arch%'
   AND s.category NOT LIKE 'Write-Ahead Log / Recovery%'
   AND s.category NOT LIKE 'Customized Options%'
 ORDER BY 1
