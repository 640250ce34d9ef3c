-- Texts of some entries as bytes: a SQL_ASCII database may hold text that is no valid UTF-8, and a client that asked
-- for UTF-8 could not read the row. $1: database oid or NULL; $2: queryids or NULL for all, as text:
-- for an array parameter asyncpg would look the type up, with a statement that is not marked as dbperf's.
SELECT
    s.userid AS user_id,
    s.dbid AS database_id,
    s.queryid,
    s.toplevel,                                       -- >= 1.9
    convert_to(s.query, CASE getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END) AS text
FROM {schema}.pg_stat_statements(true) AS s
WHERE ($1::oid IS NULL OR s.dbid = $1) AND ($2::text IS NULL OR s.queryid = ANY (string_to_array($2, ',')::bigint[]))
