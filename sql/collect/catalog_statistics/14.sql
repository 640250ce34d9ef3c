-- Column statistics that the role may see, of tables and of expression indexes. pg_stats hides columns without SELECT.
SELECT schemaname AS schema, tablename AS relation, attname AS name, inherited, null_frac::float8 AS null_frac,
       avg_width AS avg_width_bytes, n_distinct::float8 AS n_distinct,
       most_common_vals::text AS most_common_vals, most_common_freqs::float8[] AS most_common_freqs,
       histogram_bounds::text AS histogram_bounds, correlation::float8 AS correlation,
       most_common_elems::text AS most_common_elems, most_common_elem_freqs::float8[] AS most_common_elem_freqs,
       elem_count_histogram::float8[] AS elem_count_histogram
       , range_length_histogram::text AS range_length_histogram -- >= 17
       , range_empty_frac::float8 AS range_empty_frac -- >= 17
       , range_bounds_histogram::text AS range_bounds_histogram -- >= 17
FROM pg_stats
WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND schemaname !~ '^pg_(toast_)?temp_'
