-- Settings that decide what dbperf can measure. A module's settings exist where it is loaded; some are hidden from
-- roles without pg_read_all_settings, and then have no row.
SELECT name::text AS name, setting AS value
  FROM pg_catalog.pg_settings
 WHERE name IN ('auto_explain.log_min_duration', 'compute_query_id', 'jit', 'pg_stat_statements.max',
                'pg_stat_statements.track', 'shared_preload_libraries', 'track_io_timing')
