SELECT
    e.extversion AS version,
    quote_ident(n.nspname) AS schema
FROM pg_extension AS e
    JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'
