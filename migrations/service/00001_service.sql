-- +goose Up

-- Receivers of files. Heartbeats rewrite a row every 20 to 30 seconds, so pages
-- keep room for updates in place, and no index holds a column that heartbeats
-- change.
CREATE TABLE workspaces (
    id                      uuid        PRIMARY KEY,
    name                    text        NOT NULL,
    role                    text        NOT NULL DEFAULT '',
    tier                    integer     NOT NULL DEFAULT 1,
    kind                    text        NOT NULL DEFAULT 'workspace',
    status                  text        NOT NULL DEFAULT 'provisioning',
    runtime                 text        NOT NULL DEFAULT '',
    agent_card              jsonb,
    url                     text        NOT NULL DEFAULT '',
    parent_id               uuid,
    delivery_mode           text        NOT NULL DEFAULT 'push',
    platform_inbound_secret text,
    talk_to_user_enabled    boolean     NOT NULL DEFAULT true,
    generation              bigint      NOT NULL DEFAULT 0,
    last_heartbeat_at       timestamptz,
    active_tasks            integer     NOT NULL DEFAULT 0,
    current_task            text        NOT NULL DEFAULT '',
    error_rate              double precision,
    last_error              text,
    uptime_seconds          bigint,
    created_at              timestamptz NOT NULL DEFAULT now(),
    updated_at              timestamptz NOT NULL DEFAULT now(),
    removed_at              timestamptz,
    CONSTRAINT workspaces_parent_fkey FOREIGN KEY (parent_id) REFERENCES workspaces (id) ON DELETE SET NULL,
    CONSTRAINT workspaces_kind_check CHECK (kind IN ('workspace', 'platform')),
    CONSTRAINT workspaces_delivery_mode_check CHECK (delivery_mode IN ('push', 'poll')),
    CONSTRAINT workspaces_status_check CHECK (status IN (
        'provisioning', 'online', 'offline', 'degraded', 'failed', 'removed',
        'paused', 'hibernating', 'hibernated', 'awaiting_agent'))
) WITH (fillfactor = 70);

-- A name is unique among the live children of one parent; roots count as the
-- children of none.
CREATE UNIQUE INDEX workspaces_name_key
    ON workspaces (parent_id, name) NULLS NOT DISTINCT WHERE status <> 'removed';
CREATE INDEX idx_workspaces_parent
    ON workspaces (parent_id) WHERE parent_id IS NOT NULL;

-- Only the SHA-256 of a token is kept, and 8 characters to recognise it by.
CREATE TABLE workspace_auth_tokens (
    id           uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid        NOT NULL,
    token_hash   bytea       NOT NULL,
    prefix       text        NOT NULL,
    kind         text        NOT NULL DEFAULT 'instance',
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at   timestamptz,
    CONSTRAINT workspace_auth_tokens_hash_key UNIQUE (token_hash),
    CONSTRAINT workspace_auth_tokens_hash_check CHECK (octet_length(token_hash) = 32),
    CONSTRAINT workspace_auth_tokens_kind_check CHECK (kind IN ('instance', 'api')),
    CONSTRAINT workspace_auth_tokens_workspace_fkey
        FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE
);
CREATE INDEX idx_workspace_auth_tokens_workspace
    ON workspace_auth_tokens (workspace_id, created_at);

-- The head of each workspace's feed. Every transaction that writes to a feed
-- takes the lock on its row here before it allocates seq, so that seq order is
-- commit order and no reader's cursor can step over a row. It is a table of its
-- own so that heartbeats, which rewrite the workspace's row, never wait for a
-- feed writer nor hold one up.
CREATE TABLE activity_feeds (
    workspace_id uuid        PRIMARY KEY,
    last_seq     bigint      NOT NULL DEFAULT 0,
    last_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT activity_feeds_workspace_fkey
        FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE
) WITH (fillfactor = 50);

-- created_at follows seq, so both sort the same way. body_bytes is the length
-- of the three bodies as JSON text: it lets a page be cut by bytes without
-- reading the bodies.
CREATE TABLE activity_logs (
    workspace_id  uuid        NOT NULL,
    id            uuid        NOT NULL DEFAULT gen_random_uuid(),
    seq           bigint      NOT NULL,
    activity_type text        NOT NULL,
    source_id     uuid,
    target_id     uuid,
    method        text,
    summary       text,
    error_detail  text,
    request_body  jsonb,
    response_body jsonb,
    tool_trace    jsonb,
    body_bytes    bigint      NOT NULL DEFAULT 0,
    duration_ms   integer,
    status        text        NOT NULL DEFAULT 'ok',
    message_id    text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT activity_logs_pkey PRIMARY KEY (workspace_id, id),
    CONSTRAINT activity_logs_seq_key UNIQUE (workspace_id, seq),
    CONSTRAINT activity_logs_workspace_fkey
        FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE
);

-- A message that is sent again is stored once.
CREATE UNIQUE INDEX activity_logs_message_key
    ON activity_logs (workspace_id, message_id) WHERE message_id IS NOT NULL;

-- A poll with a cursor: rows of one type after a seq, oldest first.
CREATE INDEX idx_activity_logs_type
    ON activity_logs (workspace_id, activity_type, seq);

-- A poll with a time window, newest first, and the pruning of old rows.
CREATE INDEX idx_activity_logs_created
    ON activity_logs (workspace_id, created_at, seq);

-- What one peer sent or was sent.
CREATE INDEX idx_activity_logs_source
    ON activity_logs (workspace_id, source_id) WHERE source_id IS NOT NULL;
CREATE INDEX idx_activity_logs_target
    ON activity_logs (workspace_id, target_id) WHERE target_id IS NOT NULL;

-- How far each workspace says it has consumed its feed.
CREATE TABLE inbox_delivery_state (
    workspace_id   uuid        PRIMARY KEY,
    last_acked_seq bigint      NOT NULL DEFAULT 0,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT inbox_delivery_state_workspace_fkey
        FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE
);

-- +goose Down

-- Whoever waits for a table holds up everybody who comes after, so the wait is
-- short; Up and Down try again. A lock_timeout that the session brings stands.
SELECT set_config('lock_timeout', '3s', true) WHERE current_setting('lock_timeout') = '0';
DROP TABLE inbox_delivery_state;
DROP TABLE activity_logs;
DROP TABLE activity_feeds;
DROP TABLE workspace_auth_tokens;
DROP TABLE workspaces;
