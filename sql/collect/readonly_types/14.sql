-- Functions that a conversion to types of these names may call, and checks of domains. $1: names.
SELECT DISTINCT n.nspname AS schema, p.proname AS name, NULL::text AS checked
  FROM pg_type t
  JOIN pg_namespace own ON own.oid = t.typnamespace AND own.nspname <> 'pg_catalog'
  LEFT JOIN pg_cast ca ON ca.casttarget = t.oid OR ca.castsource = t.oid
  JOIN pg_proc p ON p.oid IN (t.typinput, ca.castfunc)
  JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE t.typname = ANY ($1::text[])
UNION ALL
SELECT NULL, NULL, pg_get_expr(co.conbin, 0)
  FROM pg_type t
  JOIN pg_constraint co ON co.contypid = t.oid
 WHERE t.typname = ANY ($1::text[]) AND t.typtype = 'd'
