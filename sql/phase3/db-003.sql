-- DB-003: case_bank by status. P95 100 ms.
SELECT status, count(*) AS cases, avg(usage_count) AS usage_count_avg, avg(success_rate) AS success_rate_avg
FROM case_bank
GROUP BY status
