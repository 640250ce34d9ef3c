SELECT
    i.indexrelid,
    i.relid,
    i.schemaname AS schema,
    i.relname AS relation,
    i.indexrelname AS index,
    i.idx_scan AS scans,
    i.idx_tup_read AS rows_read,
    i.idx_tup_fetch AS rows_fetched,
    c.relpages::bigint * current_setting('block_size')::bigint AS size_bytes,
    x.indisunique AS is_unique
FROM pg_stat_user_indexes AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_index AS x ON x.indexrelid = i.indexrelid
