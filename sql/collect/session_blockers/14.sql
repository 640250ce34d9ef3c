SELECT waiting.pid AS blocked_pid,
  blocking.pid AS blocking_pid,
  extract(epoch FROM clock_timestamp() - min(pg_locks.waitstart))::float8 AS blocked_s,
  waiting.query AS blocked_query,
  blocking.query AS blocking_query
FROM pg_stat_activity AS waiting
JOIN pg_locks ON pg_locks.pid = waiting.pid AND NOT pg_locks.granted
CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS by (pid)
JOIN pg_stat_activity AS blocking ON blocking.pid = by.pid
WHERE waiting.wait_event_type = 'Lock'
  AND waiting.datname = current_database()
GROUP BY waiting.pid, blocking.pid, waiting.query, blocking.query
ORDER BY blocked_s DESC NULLS LAST
LIMIT 20
