-- Functions behind operators of these names that are not PostgreSQL's own. $1: names.
SELECT DISTINCT n.nspname AS schema, p.proname AS name
  FROM pg_operator o
  JOIN pg_proc p ON p.oid = o.oprcode
  JOIN pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_namespace own ON own.oid = o.oprnamespace
 WHERE o.oprname = ANY ($1::text[]) AND own.nspname <> 'pg_catalog'
