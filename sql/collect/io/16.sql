SELECT
    i.backend_type,
    i.object,
    i.context,
    i.reads,
    i.reads * i.op_bytes AS read_bytes,               -- < 18
    i.read_bytes::bigint AS read_bytes,               -- >= 18
    i.read_time AS read_ms,
    i.writes,
    i.writes * i.op_bytes AS write_bytes,             -- < 18
    i.write_bytes::bigint AS write_bytes,             -- >= 18
    i.write_time AS write_ms,
    i.extends,
    i.hits,
    i.evictions,
    i.reuses,
    i.fsyncs,
    i.fsync_time AS fsync_ms,
    i.stats_reset
FROM pg_stat_io AS i
WHERE i.reads > 0 OR i.writes > 0 OR i.extends > 0 OR i.hits > 0 OR i.fsyncs > 0
