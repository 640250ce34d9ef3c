-- DB-001: active cases with a success rate below 30, by usage, the first 100. P95 50 ms, index scan.
SELECT case_id, category_path, usage_count, success_rate, last_used_at
FROM case_bank
WHERE status = 'active' AND success_rate < 30
ORDER BY usage_count DESC
LIMIT 100
