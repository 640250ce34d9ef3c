-- DB-002: cases by usage, the first 100. P95 50 ms, index scan.
SELECT case_id, category_path, usage_count, success_rate, status
FROM case_bank
ORDER BY usage_count DESC
LIMIT 100
