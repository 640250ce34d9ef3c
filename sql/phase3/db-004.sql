-- DB-004: the newest 100 logs of one case ($1). P95 20 ms, index scan.
SELECT log_id, success, error_type, execution_time_ms, created_at
FROM execution_log
WHERE case_id = $1
ORDER BY created_at DESC
LIMIT 100
