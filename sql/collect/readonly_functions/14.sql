-- Functions that calls by these names may reach. $1: schemas ('' where unqualified), $2: names, side by side.
SELECT n.nspname AS schema,
       p.proname AS name,
       p.provolatile::text AS volatility,
       l.lanname AS language,
       p.prosrc AS source,
       COALESCE(pg_get_function_sqlbody(p.oid), '') AS body,
       n.nspname = 'pg_catalog' AS built_in,
       EXISTS (SELECT FROM pg_depend d
                WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e') AS of_extension
  FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
  JOIN pg_proc p ON p.proname = wanted.name
  JOIN pg_namespace n ON n.oid = p.pronamespace
                     AND (n.nspname = wanted.schema OR (wanted.schema = '' AND pg_function_is_visible(p.oid)))
  JOIN pg_language l ON l.oid = p.prolang
