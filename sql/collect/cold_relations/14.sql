-- What holds the rows and the indexes of a database's own tables, with the files that they are in.
SELECT c.oid::bigint AS oid, pg_relation_filepath(c.oid) AS file
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'i', 't', 'm') AND c.relpersistence = 'p'
  AND n.nspname <> 'information_schema' AND (n.nspname !~ '^pg_' OR n.nspname = 'pg_toast')
  AND pg_relation_filepath(c.oid) IS NOT NULL
