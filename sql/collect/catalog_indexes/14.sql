-- Indexes with their keys, and the constraint that owns them.
SELECT x.indexrelid::int8 AS oid, x.indrelid::int8 AS table_oid, n.nspname AS schema, c.relname AS name,
       pg_get_indexdef(x.indexrelid) AS definition, m.amname AS method,
       x.indisunique AS "unique", x.indisprimary AS "primary", x.indimmediate AS immediate,
       x.indisvalid AND x.indislive AS valid,
       ARRAY(SELECT pg_get_indexdef(x.indexrelid, k, true) FROM generate_series(1, x.indnkeyatts) k) AS keys,
       ARRAY(SELECT x.indkey[k - 1] = 0 FROM generate_series(1, x.indnkeyatts) k) AS is_expression,
       ARRAY(SELECT a.attname FROM generate_series(1, x.indnkeyatts) k
             JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[k - 1] ORDER BY k) AS key_columns,
       ARRAY(SELECT a.attname FROM generate_series(x.indnkeyatts + 1, x.indnatts) k
             JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[k - 1] ORDER BY k) AS include,
       ARRAY(SELECT (x.indoption[k - 1] & 1) = 1 FROM generate_series(1, x.indnkeyatts) k) AS descending,
       ARRAY(SELECT (x.indoption[k - 1] & 2) = 2 FROM generate_series(1, x.indnkeyatts) k) AS nulls_first,
       ARRAY(SELECT CASE WHEN o.opcdefault THEN '' ELSE o.opcname END
             FROM generate_series(1, x.indnkeyatts) k
             JOIN pg_opclass o ON o.oid = x.indclass[k - 1] ORDER BY k) AS operator_classes,
       ARRAY(SELECT a.attname FROM pg_attribute a
             WHERE a.attrelid = x.indexrelid AND a.attnum <= x.indnkeyatts ORDER BY a.attnum) AS key_names,
       pg_get_expr(x.indpred, x.indrelid) AS predicate,
       c.relpages AS pages, c.reltuples::float8 AS tuples,
       k.conname AS "constraint", pg_get_constraintdef(k.oid) AS constraint_definition,
       i.inhparent::int8 AS parent, s.idx_scan AS scans
FROM pg_index x
JOIN pg_class c ON c.oid = x.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_am m ON m.oid = c.relam
LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.conrelid = x.indrelid AND k.contype IN ('p', 'u', 'x')
LEFT JOIN pg_inherits i ON i.inhrelid = x.indexrelid
LEFT JOIN pg_stat_user_indexes s ON s.indexrelid = x.indexrelid
WHERE x.indrelid::int8 <> ALL ($1::int8[]) AND c.oid::int8 <> ALL ($1::int8[])
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_'
ORDER BY x.indexrelid
