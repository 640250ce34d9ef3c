-- A table ($1 schema, $2 name) and its partitions; foreign ones are left out: they have no indexes of ours.
WITH RECURSIVE family AS (
    SELECT c.oid, NULL::oid AS parent FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'm')
    UNION ALL
    SELECT c.oid, i.inhparent FROM pg_inherits i JOIN family f ON f.oid = i.inhparent
    JOIN pg_class c ON c.oid = i.inhrelid
    WHERE c.relispartition AND c.relkind IN ('r', 'p')
)
SELECT c.oid::int8 AS oid, f.parent::int8 AS parent, n.nspname AS schema, c.relname AS "table",
       c.relkind = 'p' AS partitioned
FROM family f
JOIN pg_class c ON c.oid = f.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY n.nspname, c.relname
