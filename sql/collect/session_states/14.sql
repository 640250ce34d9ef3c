SELECT coalesce(state, 'unknown') AS state,
  coalesce(wait_event_type || ':' || wait_event, 'CPU') AS wait,
  count(*) AS sessions
FROM pg_stat_activity
WHERE backend_type = 'client backend'
  AND pid <> pg_backend_pid()
  AND application_name <> 'dbperf' -- the sessions that collect
GROUP BY 1, 2
