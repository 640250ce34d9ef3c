-- Tables, partitioned tables, materialised views and foreign tables of the database, extensions' own left out.
SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       c.relpages AS stored_pages, c.reltuples::float8 AS tuples, c.relallvisible AS all_visible_pages,
       coalesce(c.reloptions, '{}') AS options,
       CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END AS partition_key,
       CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) END AS partition_bound,
       ARRAY(SELECT inhparent::int8 FROM pg_inherits WHERE inhrelid = c.oid ORDER BY inhseqno) AS parents,
       f.srvname AS server, f.fdwname AS fdw,
       c.relrowsecurity AND row_security_active(c.oid) AS row_security,
       s.n_tup_upd AS updates, s.n_tup_ins AS inserts, s.n_tup_del AS deletes, s.n_tup_hot_upd AS hot_updates,
       has_any_column_privilege(c.oid, 'SELECT') AS readable
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN (SELECT t.ftrelid, v.srvname, w.fdwname
           FROM pg_foreign_table t
           JOIN pg_foreign_server v ON v.oid = t.ftserver
           JOIN pg_foreign_data_wrapper w ON w.oid = v.srvfdw) f ON f.ftrelid = c.oid
LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.relkind IN ('r', 'p', 'm', 'f') AND c.oid::int8 <> ALL ($1::int8[])
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.oid
