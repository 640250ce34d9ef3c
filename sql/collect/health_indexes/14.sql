-- Every index of the users' schemas with what decides whether it may go. $1: oids of relations held in ACCESS EXCLUSIVE.
-- A key is its text, operator class and collation: two keys with the same text may still order differently.
SELECT x.indexrelid::int8 AS oid, x.indrelid::int8 AS table_oid, n.nspname AS schema, t.relname AS "table",
       c.relname AS name, m.amname AS method, pg_get_indexdef(x.indexrelid) AS definition,
       ARRAY(SELECT concat_ws(' ', pg_get_indexdef(x.indexrelid, k, true), x.indclass[k - 1], x.indcollation[k - 1])
             FROM generate_series(1, x.indnkeyatts) k ORDER BY k) AS keys,
       ARRAY(SELECT x.indoption[k - 1]::int FROM generate_series(1, x.indnkeyatts) k ORDER BY k) AS options,
       ARRAY(SELECT x.indkey[k - 1]::int FROM generate_series(1, x.indnkeyatts) k ORDER BY k) AS key_columns,
       ARRAY(SELECT x.indkey[k - 1]::int FROM generate_series(x.indnkeyatts + 1, x.indnatts) k ORDER BY k) AS include,
       pg_get_expr(x.indpred, x.indrelid) AS predicate,
       x.indisunique AS "unique", x.indisprimary AS "primary", x.indisreplident AS replica_identity,
       x.indisclustered AS clustered, x.indexprs IS NOT NULL AS has_expressions,
       x.indisvalid AND x.indisready AND x.indislive AS valid, c.relkind = 'I' AS partitioned,
       k.conname AS "constraint",
       EXISTS (SELECT FROM pg_constraint f WHERE f.conindid = x.indexrelid AND f.contype = 'f') AS referenced,
       i.inhparent::int8 AS parent, pg_relation_size(x.indexrelid) AS size_bytes, c.reltuples::float8 AS entries,
       coalesce((SELECT split_part(o, '=', 2)::int FROM unnest(c.reloptions) o WHERE o LIKE 'fillfactor=%'), 90) AS fillfactor,
       (SELECT sum(v.avg_width * (1 - v.null_frac))::float8 FROM pg_attribute a
        JOIN pg_stats v ON v.schemaname = n.nspname AND v.attname = a.attname AND NOT v.inherited
             AND v.tablename = CASE WHEN a.attrelid = x.indrelid THEN t.relname ELSE c.relname END
        WHERE (a.attrelid = x.indrelid AND a.attnum = ANY (x.indkey::int2[]) AND a.attnum > 0)
           OR (a.attrelid = x.indexrelid AND x.indkey[a.attnum - 1] = 0)) AS width_bytes,
       (SELECT count(*) FROM pg_attribute a
        JOIN pg_stats v ON v.schemaname = n.nspname AND v.attname = a.attname AND NOT v.inherited
             AND v.tablename = CASE WHEN a.attrelid = x.indrelid THEN t.relname ELSE c.relname END
        WHERE (a.attrelid = x.indrelid AND a.attnum = ANY (x.indkey::int2[]) AND a.attnum > 0)
           OR (a.attrelid = x.indexrelid AND x.indkey[a.attnum - 1] = 0)) = x.indnatts AS width_known,
       s.idx_scan AS scans,
       s.last_idx_scan AS last_scan_at, -- >= 16
       NULL::timestamptz AS last_scan_at, -- < 16
       EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = x.indexrelid) AS building
FROM pg_index x
JOIN pg_class c ON c.oid = x.indexrelid
JOIN pg_class t ON t.oid = x.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_am m ON m.oid = c.relam
LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.conrelid = x.indrelid AND k.contype IN ('p', 'u', 'x')
LEFT JOIN pg_inherits i ON i.inhrelid = x.indexrelid
LEFT JOIN pg_stat_user_indexes s ON s.indexrelid = x.indexrelid
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_'
  AND x.indrelid::int8 <> ALL ($1::int8[]) AND x.indexrelid::int8 <> ALL ($1::int8[])
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.objid = x.indrelid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e')
ORDER BY n.nspname, t.relname, c.relname
