-- Statistics of columns as texts. $1: table names, $2: column names, side by side.
SELECT c.relname AS table,
       a.attname AS column,
       format_type(a.atttypid, a.atttypmod) AS type,
       s.most_common_vals::text::text[] AS common,
       s.histogram_bounds::text::text[] AS bounds,
       s.n_distinct
  FROM unnest($1::text[], $2::text[]) AS wanted (tab, col)
  JOIN pg_class c ON c.relname = wanted.tab AND c.relkind IN ('r', 'p', 'm', 'f') AND pg_table_is_visible(c.oid)
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = wanted.col AND a.attnum > 0
  LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
 ORDER BY s.inherited DESC
