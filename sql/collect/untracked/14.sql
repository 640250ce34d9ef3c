-- Takes dbperf's own session out of pg_stat_statements where this role may.
SELECT
    set_config('pg_stat_statements.track', 'none', false) AS track
WHERE current_setting('is_superuser') = 'on'
    OR has_parameter_privilege('pg_stat_statements.track', 'SET') -- >= 15
