-- Size from pg_class, not pg_relation_size: that waits for a table somebody has locked.
SELECT
    t.relid,
    t.schemaname AS schema,
    t.relname AS relation,
    t.seq_scan AS seq_scans,
    t.seq_tup_read AS seq_rows_read,
    coalesce(t.idx_scan, 0) AS index_scans,
    coalesce(t.idx_tup_fetch, 0) AS index_rows_fetched,
    t.n_tup_ins AS rows_inserted,
    t.n_tup_upd AS rows_updated,
    t.n_tup_del AS rows_deleted,
    t.n_tup_hot_upd AS rows_hot_updated,
    t.n_live_tup AS live_rows,
    t.n_dead_tup AS dead_rows,
    coalesce(io.heap_blks_read, 0) AS blks_read,
    coalesce(io.heap_blks_hit, 0) AS blks_hit,
    c.relpages::bigint * current_setting('block_size')::bigint AS size_bytes,
    t.vacuum_count + t.autovacuum_count AS vacuums,
    t.analyze_count + t.autoanalyze_count AS analyzes,
    greatest(t.last_vacuum, t.last_autovacuum) AS last_vacuum_at,
    greatest(t.last_analyze, t.last_autoanalyze) AS last_analyze_at
FROM pg_stat_user_tables AS t
    JOIN pg_class AS c ON c.oid = t.relid
    LEFT JOIN pg_statio_user_tables AS io ON io.relid = t.relid
