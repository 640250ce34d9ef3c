SELECT
    c.num_timed AS timed,
    c.num_requested AS requested,
    c.write_time AS write_ms,
    c.sync_time AS sync_ms,
    c.buffers_written,
    b.buffers_clean,
    b.maxwritten_clean,
    b.buffers_alloc,
    greatest(c.stats_reset, b.stats_reset) AS stats_reset
FROM pg_stat_checkpointer AS c
    CROSS JOIN pg_stat_bgwriter AS b
