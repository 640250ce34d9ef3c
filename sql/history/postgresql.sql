-- The history of figures for a team (`dbperf history --store postgresql://...`), version 1.
CREATE SCHEMA IF NOT EXISTS dbperf_history;
CREATE TABLE IF NOT EXISTS dbperf_history.schema_version (version int PRIMARY KEY);
INSERT INTO dbperf_history.schema_version VALUES (1) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS dbperf_history.run (
    run_id text PRIMARY KEY,         -- a hash of what was measured, so that nothing is added twice
    source text NOT NULL,            -- path as it was given
    kind text NOT NULL,              -- run, pytest-benchmark
    measured_at timestamptz NOT NULL,
    git_revision text,
    added_at timestamptz NOT NULL DEFAULT now(),
    added_by text NOT NULL DEFAULT session_user
);
CREATE TABLE IF NOT EXISTS dbperf_history.figure (
    run_id text NOT NULL REFERENCES dbperf_history.run ON DELETE CASCADE,
    subject text NOT NULL,           -- "POST /orders", or a benchmark's name
    stage text NOT NULL,             -- '' where there is none
    metric text NOT NULL,
    unit text NOT NULL,
    direction text NOT NULL,         -- which way is better
    value double precision NOT NULL,
    ci_low double precision,
    ci_high double precision,
    conditions jsonb NOT NULL,       -- users, rate, target, machine ...: what must agree to be comparable
    PRIMARY KEY (run_id, subject, stage, metric)
);
