-- DB-006: the 10 cases nearest to a vector ($1) by cosine distance. P95 200 ms, vector index.
SELECT case_id, query_vector <=> $1 AS distance
FROM case_bank
WHERE query_vector IS NOT NULL
ORDER BY query_vector <=> $1
LIMIT 10
