-- What has a name: $1 schema, $2 name. Several rows where several processes build the index.
SELECT c.relkind::text AS kind, c.oid::int8 AS oid, tn.nspname AS table_schema, t.relname AS "table",
       x.indisvalid AND x.indisready AND x.indislive AS valid, x.indisunique AS "unique",
       pg_get_indexdef(c.oid) AS definition, pg_relation_size(c.oid) AS size_bytes,
       p.pid AS builder, p.phase
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index x ON x.indexrelid = c.oid
LEFT JOIN pg_class t ON t.oid = x.indrelid
LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_stat_progress_create_index p ON p.index_relid = c.oid AND p.pid <> pg_backend_pid()
WHERE n.nspname = $1 AND c.relname = $2
