-- A table: $1 schema, $2 name.
SELECT c.oid::int8 AS oid, c.relkind::text AS kind, pg_has_role(c.relowner, 'USAGE') AS owned,
       pg_get_userbyid(c.relowner) AS owner, current_user::text AS role,
       ARRAY(SELECT quote_ident(xn.nspname) || '.' || quote_ident(xc.relname) || E'\t' || pg_get_indexdef(x.indexrelid)
             FROM pg_index x JOIN pg_class xc ON xc.oid = x.indexrelid JOIN pg_namespace xn ON xn.oid = xc.relnamespace
             WHERE x.indrelid = c.oid AND x.indisvalid AND x.indislive ORDER BY 1) AS indexes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'm')
