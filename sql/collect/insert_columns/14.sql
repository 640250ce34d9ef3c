-- Columns of a table ($1: as written in a statement) that a new row may not share with another, with their types.
SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type,
       EXISTS (SELECT FROM pg_index x WHERE x.indrelid = a.attrelid AND x.indisunique AND a.attnum = ANY (x.indkey::int2[]))
           AS in_unique
FROM pg_attribute a
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
