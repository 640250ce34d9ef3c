-- Data of statistics objects that the role may see.
SELECT e.statistics_schemaname AS schema, e.statistics_name AS name,
       e.inherited, -- >= 15
       false AS inherited, -- < 15
       s.stxkeys::int2[] AS keys,
       e.n_distinct::text AS n_distinct, e.dependencies::text AS dependencies,
       e.most_common_vals IS NOT NULL AS has_mcv, s.stxexprs IS NOT NULL AS has_expressions
FROM pg_stats_ext e
JOIN pg_namespace n ON n.nspname = e.statistics_schemaname
JOIN pg_statistic_ext s ON s.stxname = e.statistics_name AND s.stxnamespace = n.oid
ORDER BY 1, 2, 3
