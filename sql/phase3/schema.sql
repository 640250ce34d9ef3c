-- The tables of the Phase 3 API. Primary keys only: finding the indexes that are missing is dbperf's work.

CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE case_bank (
    case_id       varchar(255) PRIMARY KEY,
    query         text,
    response_text text,
    category_path text[],
    query_vector  vector(1536),
    quality_score real,
    usage_count   int DEFAULT 0,
    success_rate  real,
    status        varchar(50) NOT NULL DEFAULT 'active',
    version       int NOT NULL DEFAULT 1,
    updated_by    varchar(255),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    last_used_at  timestamptz,
    CONSTRAINT case_bank_status_check CHECK (status IN ('active', 'archived', 'deprecated')),
    CONSTRAINT case_bank_success_rate_check CHECK (success_rate BETWEEN 0 AND 100)
);

CREATE TABLE execution_log (
    log_id            bigserial PRIMARY KEY,
    case_id           varchar(255) NOT NULL,
    success           boolean NOT NULL,
    error_type        varchar(100),
    error_message     text,
    execution_time_ms int,
    context           jsonb,
    created_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT execution_log_case_id_fkey FOREIGN KEY (case_id) REFERENCES case_bank
);

CREATE TABLE case_bank_archive (
    archive_id      serial PRIMARY KEY,
    case_id         varchar(255),
    query           text,
    response_text   text,
    category_path   text[],
    query_vector    vector(1536),
    usage_count     int,
    success_rate    real,
    archived_at     timestamptz DEFAULT now(),
    archived_reason varchar(255),
    CONSTRAINT case_bank_archive_reason_check CHECK (archived_reason IN ('low_performance', 'duplicate', 'inactive'))
);

CREATE TABLE taxonomy_node (
    version varchar(50),
    path    text,
    parent  text,
    name    varchar(255) NOT NULL,
    PRIMARY KEY (version, path)
);

CREATE OR REPLACE FUNCTION case_bank_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE TRIGGER case_bank_touch BEFORE UPDATE ON case_bank FOR EACH ROW EXECUTE FUNCTION case_bank_touch();
