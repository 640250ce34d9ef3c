-- Whether indexes can be built here at all, and where the data are.
SELECT pg_is_in_recovery() AS standby, current_setting('transaction_read_only') = 'on' AS read_only,
       current_setting('server_version') AS server_version, current_database() AS database,
       has_database_privilege(current_database(), 'TEMP') AS may_temp,
       CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE') THEN current_setting('data_directory') END AS data_directory
