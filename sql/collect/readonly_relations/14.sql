-- What reading relations by these names may run. $1: schemas ('' where unqualified), $2: names, side by side.
SELECT n.nspname AS schema,
       c.relname AS name,
       c.relkind::text AS kind,
       CASE WHEN c.relkind IN ('v') THEN pg_get_viewdef(c.oid) END AS definition,
       CASE WHEN c.relrowsecurity THEN
         (SELECT array_agg(pg_get_expr(pol.polqual, pol.polrelid)) FROM pg_policy pol
           WHERE pol.polrelid = c.oid AND pol.polqual IS NOT NULL) END AS policies,
       (SELECT count(*) FROM pg_inherits i JOIN pg_class k ON k.oid = i.inhrelid
         WHERE i.inhparent = c.oid AND k.relkind = 'f') AS foreign_partitions
  FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
  JOIN pg_class c ON c.relname = wanted.name
  JOIN pg_namespace n ON n.oid = c.relnamespace
                     AND (n.nspname = wanted.schema OR (wanted.schema = '' AND pg_table_is_visible(c.oid)))
 WHERE c.relkind IN ('r', 'p', 'm', 'f', 'v', 'S', 't')
