-- One row per entry. Columns belong to the extension's version, not the server's: a server that was upgraded keeps
-- the old extension until ALTER EXTENSION ... UPDATE. $1: database oid, or NULL for all. Texts: pg_stat_statements_text.
SELECT
    s.userid AS user_id,
    s.dbid AS database_id,
    s.queryid,
    s.toplevel,                                       -- >= 1.9
    s.plans,
    s.total_plan_time AS planning_ms,
    s.calls,
    s.total_exec_time AS total_ms,
    s.min_exec_time AS min_ms,
    s.max_exec_time AS max_ms,
    s.stddev_exec_time AS stddev_ms,
    s.rows,
    s.shared_blks_hit,
    s.shared_blks_read,
    s.shared_blks_dirtied,
    s.shared_blks_written,
    s.local_blks_hit,
    s.local_blks_read,
    s.local_blks_dirtied,
    s.local_blks_written,
    s.temp_blks_read,
    s.temp_blks_written,
    s.blk_read_time AS blk_read_ms,                   -- < 1.11
    s.blk_write_time AS blk_write_ms,                 -- < 1.11
    s.shared_blk_read_time AS blk_read_ms,            -- >= 1.11
    s.shared_blk_write_time AS blk_write_ms,          -- >= 1.11
    s.local_blk_read_time AS local_blk_read_ms,       -- >= 1.11
    s.local_blk_write_time AS local_blk_write_ms,     -- >= 1.11
    s.temp_blk_read_time AS temp_blk_read_ms,         -- >= 1.10
    s.temp_blk_write_time AS temp_blk_write_ms,       -- >= 1.10
    s.jit_functions,                                  -- >= 1.10
    s.jit_generation_time + s.jit_inlining_time + s.jit_optimization_time + s.jit_emission_time AS jit_ms, -- >= 1.10
    s.wal_buffers_full,                               -- >= 1.12
    s.parallel_workers_to_launch,                     -- >= 1.12
    s.parallel_workers_launched,                      -- >= 1.12
    s.stats_since,                                    -- >= 1.11
    s.minmax_stats_since,                             -- >= 1.11
    s.wal_records,
    s.wal_fpi,
    s.wal_bytes::bigint AS wal_bytes
FROM {schema}.pg_stat_statements(false) AS s
WHERE $1::oid IS NULL OR s.dbid = $1
