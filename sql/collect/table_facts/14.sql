-- Tables of a plan: size, column types, indexes. $1: schemas ('' where the plan does not say), $2: names, side by side.
SELECT n.nspname AS schema,
       c.relname AS name,
       c.reltuples::float8 AS rows,
       c.relpages AS pages,
       (SELECT json_object_agg(a.attname, format_type(a.atttypid, a.atttypmod))
          FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS types,
       EXISTS (SELECT FROM pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname) AS has_statistics,
       (SELECT json_agg(json_build_object(
                 'name', ic.relname,
                 'method', am.amname,
                 'partial', i.indpred IS NOT NULL,
                 'pattern_ops', EXISTS (SELECT FROM pg_opclass o
                                         WHERE o.oid = i.indclass[0] AND o.opcname LIKE '%pattern_ops')
                                OR EXISTS (SELECT FROM pg_collation co
                                            WHERE co.oid = i.indcollation[0] AND co.collname IN ('C', 'POSIX')),
                 'columns', (SELECT json_agg(COALESCE(
                                       (SELECT a.attname FROM pg_attribute a
                                         WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[k - 1] AND a.attnum > 0),
                                       pg_get_indexdef(i.indexrelid, k, true)) ORDER BY k)
                               FROM generate_series(1, i.indnkeyatts) k)) ORDER BY ic.relname)
          FROM pg_index i
          JOIN pg_class ic ON ic.oid = i.indexrelid
          JOIN pg_am am ON am.oid = ic.relam
         WHERE i.indrelid = c.oid AND i.indisvalid) AS indexes
  FROM unnest($1::text[], $2::text[]) AS wanted (schema, name)
  JOIN pg_class c ON c.relname = wanted.name
  JOIN pg_namespace n ON n.oid = c.relnamespace
                     AND (n.nspname = wanted.schema OR (wanted.schema = '' AND pg_table_is_visible(c.oid)))
 WHERE c.relkind IN ('r', 'p', 'm', 'f', 't')
