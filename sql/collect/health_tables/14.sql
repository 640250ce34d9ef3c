-- Tables with their updates. $1: oids of relations held in ACCESS EXCLUSIVE.
SELECT t.oid::int8 AS oid, n.nspname AS schema, t.relname AS name, t.relkind = 'p' AS partitioned,
       (SELECT i.inhparent::int8 FROM pg_inherits i WHERE i.inhrelid = t.oid AND t.relispartition) AS parent,
       t.reltuples::float8 AS rows, CASE WHEN t.relkind = 'p' THEN 0 ELSE pg_relation_size(t.oid) END AS size_bytes,
       s.n_tup_ins AS inserts, s.n_tup_upd AS updates, s.n_tup_del AS deletes, s.n_tup_hot_upd AS hot_updates,
       s.n_tup_newpage_upd AS new_page_updates, -- >= 16
       NULL::int8 AS new_page_updates, -- < 16
       coalesce((SELECT split_part(o, '=', 2)::int FROM unnest(t.reloptions) o WHERE o LIKE 'fillfactor=%'), 100) AS fillfactor
FROM pg_class t
JOIN pg_namespace n ON n.oid = t.relnamespace
LEFT JOIN pg_stat_user_tables s ON s.relid = t.oid
WHERE t.relkind IN ('r', 'p', 'm')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_'
  AND t.oid::int8 <> ALL ($1::int8[])
