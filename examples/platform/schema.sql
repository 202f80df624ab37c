-- The platform's own tables, made at every start where they are not there yet.
-- The lock lets several processes start at once.
SELECT pg_advisory_xact_lock(hashtext('platform schema'));

-- Staged uploads, bytes and all: the table that the platform has had from its
-- first day. pendinguploads.NewPostgres works on it as it is.
CREATE TABLE IF NOT EXISTS pending_uploads (
    file_id      uuid        NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
    workspace_id uuid        NOT NULL,
    content      bytea       NOT NULL,
    size_bytes   bigint      NOT NULL CHECK (size_bytes > 0 AND size_bytes <= 26214400),
    filename     text        NOT NULL CHECK (length(filename) BETWEEN 1 AND 100),
    mimetype     text        NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    fetched_at   timestamptz,
    acked_at     timestamptz,
    expires_at   timestamptz NOT NULL DEFAULT now() + interval '24 hours'
);
CREATE INDEX IF NOT EXISTS idx_pending_uploads_workspace_unacked
    ON pending_uploads (workspace_id, created_at) WHERE acked_at IS NULL;
CREATE INDEX IF NOT EXISTS idx_pending_uploads_expires
    ON pending_uploads (expires_at) WHERE acked_at IS NULL;

-- The feed that workspaces poll, a column for each key of an entry. seq orders it;
-- created_at cannot, because the rows of one transaction share it.
CREATE TABLE IF NOT EXISTS activity_logs (
    id            uuid        NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
    workspace_id  uuid        NOT NULL,
    seq           bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    activity_type text        NOT NULL,
    source_id     uuid,
    target_id     uuid,
    method        text,
    summary       text,
    error_detail  text,
    request_body  jsonb       NOT NULL,
    duration_ms   int,
    status        text        NOT NULL DEFAULT 'ok',
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS idx_activity_logs_workspace_seq ON activity_logs (workspace_id, seq);
