-- What a dropped index needs to come back exactly: definition, and all that pg_get_indexdef leaves out.
-- $1 schema, $2 name: the index and, where it is partitioned, the indexes of its partitions.
WITH RECURSIVE family AS (
    SELECT c.oid, NULL::oid AS parent FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('i', 'I')
    UNION ALL
    SELECT i.inhrelid, i.inhparent FROM pg_inherits i JOIN family f ON f.oid = i.inhparent
)
SELECT c.oid::int8 AS oid, f.parent::int8 AS parent, n.nspname AS schema, c.relname AS name,
       tn.nspname AS table_schema, t.relname AS "table", pg_get_indexdef(c.oid) AS definition,
       pg_relation_size(c.oid) AS size_bytes, c.relkind = 'I' AS partitioned,
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid) AS is_part,
       x.indisunique OR x.indisprimary OR x.indisreplident OR EXISTS (
           SELECT FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x', 'f')) AS carries_rule,
       x.indisclustered AS clustered, x.indisvalid AND x.indisready AND x.indislive AS valid,
       s.spcname AS tablespace, obj_description(c.oid, 'pg_class') AS comment,
       ARRAY(SELECT a.attnum || '=' || a.attstattarget FROM pg_attribute a
             WHERE a.attrelid = c.oid AND coalesce(a.attstattarget, -1) >= 0 ORDER BY a.attnum) AS statistics_targets
FROM family f
JOIN pg_class c ON c.oid = f.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_index x ON x.indexrelid = c.oid
JOIN pg_class t ON t.oid = x.indrelid
JOIN pg_namespace tn ON tn.oid = t.relnamespace
LEFT JOIN pg_tablespace s ON s.oid = c.reltablespace
ORDER BY c.oid
