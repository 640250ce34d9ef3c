-- The versions that CREATE EXTENSION would install.
SELECT name::text AS name, default_version AS version
  FROM pg_catalog.pg_available_extensions
 WHERE name IN ('hypopg', 'pg_stat_statements', 'pgstattuple', 'vector')
