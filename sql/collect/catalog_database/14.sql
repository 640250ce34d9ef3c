-- The database, its locale and the planner's settings as this session has them.
SELECT current_database() AS database, current_setting('server_version') AS version,
       current_setting('server_version_num')::int AS version_num, current_setting('block_size')::int AS block_size_bytes,
       pg_encoding_to_char(d.encoding) AS encoding, d.datcollate AS collate, d.datctype AS ctype,
       coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') AS locale_provider, current_setting('search_path') AS search_path,
       (SELECT jsonb_object_agg(name, current_setting(name)) FROM pg_settings
        WHERE category LIKE 'Query Tuning%'
           OR name IN ('work_mem', 'hash_mem_multiplier', 'max_parallel_workers_per_gather', 'max_parallel_workers',
                       'max_worker_processes', 'effective_io_concurrency', 'default_text_search_config', 'TimeZone',
                       'DateStyle', 'IntervalStyle', 'array_nulls', 'bytea_output', 'standard_conforming_strings',
                       'transform_null_equals', 'enable_partition_pruning', 'row_security', 'temp_buffers')) AS settings,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('name', e.extname, 'schema', n.nspname, 'version', e.extversion)
                                  ORDER BY e.oid), '[]')
        FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace) AS extensions,
       (SELECT count(*) FROM pg_tablespace WHERE spcoptions IS NOT NULL) AS tablespaces_with_costs
FROM pg_database d WHERE d.datname = current_database()
