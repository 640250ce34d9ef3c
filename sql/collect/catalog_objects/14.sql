-- Everything else that statements and tables refer to: schemas, collations, sequences, policies, servers, statistics.
SELECT 'schema' AS kind, quote_ident(n.nspname) AS name, 'CREATE SCHEMA IF NOT EXISTS ' || quote_ident(n.nspname) AS sql
FROM pg_namespace n
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_'
UNION ALL
SELECT 'collation', quote_ident(n.nspname) || '.' || quote_ident(c.collname),
       'CREATE COLLATION ' || quote_ident(n.nspname) || '.' || quote_ident(c.collname) || ' ('
       || CASE c.collprovider WHEN 'i' THEN 'provider = icu, locale = '
                              ELSE 'provider = libc, locale = ' END
       || quote_literal(coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale', c.collcollate))
       || CASE WHEN c.collisdeterministic THEN '' ELSE ', deterministic = false' END || ')'
FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
UNION ALL
SELECT 'sequence', quote_ident(n.nspname) || '.' || quote_ident(c.relname),
       'CREATE SEQUENCE IF NOT EXISTS ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname !~ '^pg_(toast_)?temp_'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('e', 'i'))
UNION ALL
SELECT 'server', quote_ident(s.srvname), w.fdwname || chr(10) || coalesce(
         (SELECT string_agg(o, chr(10)) FROM unnest(s.srvoptions) o
          WHERE split_part(o, '=', 1) IN ('fdw_startup_cost', 'fdw_tuple_cost', 'fetch_size', 'extensions')), '')
FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
UNION ALL
SELECT 'policy', quote_ident(n.nspname) || '.' || quote_ident(c.relname),
       'CREATE POLICY ' || quote_ident(p.polname) || ' ON ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname)
       || CASE WHEN p.polpermissive THEN '' ELSE ' AS RESTRICTIVE' END
       || ' FOR ' || CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                                   WHEN 'd' THEN 'DELETE' ELSE 'ALL' END || ' TO public'
       || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
       || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
FROM pg_policy p
JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid::int8 <> ALL ($1::int8[]) AND row_security_active(c.oid)
  AND (0 = ANY (p.polroles) OR EXISTS (SELECT FROM unnest(p.polroles) r WHERE pg_has_role(r, 'USAGE')))
UNION ALL
SELECT 'statistics', quote_ident(n.nspname) || '.' || quote_ident(s.stxname), pg_get_statisticsobjdef(s.oid)
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
WHERE s.stxrelid::int8 <> ALL ($1::int8[])
UNION ALL
SELECT 'aggregate', quote_ident(n.nspname) || '.' || quote_ident(p.proname), ''
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.prokind = 'a' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1, 2
