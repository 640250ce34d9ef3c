-- One row: who asks, and what this role may see. Tables are counted up to 10,000.
SELECT current_user::text AS role,
       current_database()::text AS database,
       current_setting('is_superuser') = 'on' AS superuser,
       pg_has_role('pg_read_all_stats', 'USAGE') AS reads_all_stats,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       pg_is_in_recovery() AS standby,
       (SELECT count(*) FILTER (WHERE NOT has_table_privilege(t.oid, 'SELECT'))
          FROM (SELECT c.oid
                  FROM pg_catalog.pg_class c
                  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.relkind IN ('r', 'p', 'm')
                   AND n.nspname NOT LIKE 'pg\_%'
                   AND n.nspname <> 'information_schema'
                 LIMIT 10000) t) AS unreadable_tables,
       (SELECT has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
          FROM pg_catalog.pg_extension e
          JOIN pg_catalog.pg_depend d ON d.refobjid = e.oid AND d.deptype = 'e'
                                     AND d.refclassid = 'pg_catalog.pg_extension'::regclass
          JOIN pg_catalog.pg_class c ON c.oid = d.objid AND d.classid = 'pg_catalog.pg_class'::regclass
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE e.extname = 'pg_stat_statements' AND c.relname = 'pg_stat_statements') AS reads_statements
