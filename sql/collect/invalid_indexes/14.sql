-- Indexes that a failed build left: they cost writes and answer no query. One that is being built is not among them.
SELECT count(*) AS invalid
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid
  AND c.relkind = 'i'
  AND NOT EXISTS (
    SELECT FROM pg_stat_progress_create_index AS p
    WHERE p.datname = current_database() AND p.index_relid = i.indexrelid
  )
