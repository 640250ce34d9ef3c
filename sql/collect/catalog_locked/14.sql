-- Relations that someone holds or awaits in ACCESS EXCLUSIVE mode: even their definitions can't be read without waiting.
SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid IN (SELECT relation FROM pg_locks
                WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND relation IS NOT NULL
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
ORDER BY 1
