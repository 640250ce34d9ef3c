-- CHECK constraints, and FOREIGN KEYs that no partitioned table hands down: the planner proves and estimates with them.
SELECT k.conrelid::int8 AS table_oid, k.conname AS name, k.contype::text AS kind, pg_get_constraintdef(k.oid) AS definition
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (k.contype = 'c' OR (k.contype = 'f' AND k.conparentid = 0))
  AND c.oid::int8 <> ALL ($1::int8[]) AND k.confrelid::int8 <> ALL ($1::int8[])
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_'
ORDER BY k.oid
