-- How far a build is: $1 the process. Its parts are blocks, then tuples, then transactions to wait for.
SELECT p.phase, p.lockers_total, p.lockers_done, p.current_locker_pid, p.blocks_total, p.blocks_done,
       p.tuples_total, p.tuples_done
FROM pg_stat_progress_create_index p WHERE p.pid = $1
