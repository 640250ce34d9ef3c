-- One row: which server and database this is. size_bytes is null where the role may not ask.
SELECT current_setting('server_version') AS version,
       current_setting('server_version_num')::int AS version_num,
       current_database()::text AS database,
       CASE WHEN has_database_privilege(current_database(), 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
            THEN pg_database_size(current_database()) END AS size_bytes
