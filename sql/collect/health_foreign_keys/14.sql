-- Foreign keys, those of a partitioned table once. $1: oids of relations held in ACCESS EXCLUSIVE.
SELECT k.conname AS name, k.conrelid::int8 AS table_oid, k.confrelid::int8 AS referenced_oid,
       k.conkey::int[] AS columns, k.confdeltype AS on_delete, k.confupdtype AS on_update,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, at)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.at) AS column_names
FROM pg_constraint k
WHERE k.contype = 'f' AND k.conparentid = 0
  AND k.conrelid::int8 <> ALL ($1::int8[]) AND k.confrelid::int8 <> ALL ($1::int8[])
ORDER BY k.conrelid, k.conname
