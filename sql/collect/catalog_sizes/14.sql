-- Real sizes in bytes.
SELECT c.oid::int8 AS oid, pg_relation_size(c.oid) AS size_bytes
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index x ON x.indexrelid = c.oid
WHERE c.relkind IN ('r', 'm', 'i')
  AND c.oid::int8 <> ALL ($1::int8[]) AND coalesce(x.indrelid::int8, 0) <> ALL ($1::int8[])
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_'
