-- The history of figures (`dbperf history`), version 1. PRAGMA user_version holds the version.
CREATE TABLE run (
    run_id text PRIMARY KEY,         -- a hash of what was measured, so that nothing is added twice
    source text NOT NULL,            -- path as it was given
    kind text NOT NULL,              -- run, pytest-benchmark
    measured_at text NOT NULL,       -- ISO 8601, UTC
    git_revision text,
    added_at text NOT NULL
);
CREATE TABLE figure (
    run_id text NOT NULL REFERENCES run ON DELETE CASCADE,
    subject text NOT NULL,           -- "POST /orders", or a benchmark's name
    stage text NOT NULL,             -- '' where there is none
    metric text NOT NULL,
    unit text NOT NULL,
    direction text NOT NULL,         -- which way is better
    value real NOT NULL,
    ci_low real,
    ci_high real,
    conditions text NOT NULL,        -- JSON: users, rate, target, machine ...: what must agree to be comparable
    PRIMARY KEY (run_id, subject, stage, metric)
);
