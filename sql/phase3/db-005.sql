-- DB-005: logs counted per case. P95 100 ms.
SELECT case_id, count(*) AS logs
FROM execution_log
GROUP BY case_id
