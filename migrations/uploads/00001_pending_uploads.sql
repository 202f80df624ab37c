-- +goose Up

-- Whoever waits for a table holds up everybody who comes after, so the wait is
-- short; Up and Down try again. A lock_timeout that the session brings stands.
SELECT set_config('lock_timeout', '3s', true) WHERE current_setting('lock_timeout') = '0';

-- A fresh database gets the table in its final form. The key starts with the
-- workspace, because every statement of the hot path names it and so the table
-- can be distributed by it. There is no foreign key: rows outlive their
-- workspace until they are swept.
CREATE TABLE IF NOT EXISTS pending_uploads (
    workspace_id uuid        NOT NULL,
    file_id      uuid        NOT NULL DEFAULT gen_random_uuid(),
    content      bytea,
    object_key   text,
    sha256       bytea,
    size_bytes   bigint      NOT NULL,
    filename     text        NOT NULL,
    mimetype     text        NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL DEFAULT now(),
    fetched_at   timestamptz,
    acked_at     timestamptz,
    expires_at   timestamptz NOT NULL DEFAULT now() + interval '24 hours',
    sweeping_at  timestamptz,
    PRIMARY KEY (workspace_id, file_id)
);

-- A database that already has the table keeps its rows (as inline content) and
-- its primary key on file_id; the steps below bring the rest to the same form.
-- sha256 stays NULL for rows that were stored without one.
ALTER TABLE pending_uploads
    ADD COLUMN IF NOT EXISTS object_key  text,
    ADD COLUMN IF NOT EXISTS sha256      bytea,
    ADD COLUMN IF NOT EXISTS sweeping_at timestamptz;

-- External storage leaves content uncompressed, so that a range of it is read
-- without reading the rest. It applies to rows written from now on.
ALTER TABLE pending_uploads
    ALTER COLUMN content DROP NOT NULL,
    ALTER COLUMN content SET STORAGE EXTERNAL;

-- Older forms of the table cap size_bytes lower, under whatever name the check
-- was given or PostgreSQL chose. Every check on size_bytes or filename goes, and
-- the two below take their place.
-- +goose StatementBegin
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT DISTINCT c.conname
        FROM pg_constraint c
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
        WHERE c.conrelid = 'pending_uploads'::regclass
          AND c.contype = 'c'
          AND (a.attname = 'size_bytes' OR (a.attname = 'filename' AND cardinality(c.conkey) = 1))
    LOOP
        EXECUTE format('ALTER TABLE pending_uploads DROP CONSTRAINT %I', name);
    END LOOP;
END
$$;
-- +goose StatementEnd

ALTER TABLE pending_uploads
    DROP CONSTRAINT IF EXISTS pending_uploads_placement_check,
    DROP CONSTRAINT IF EXISTS pending_uploads_sha256_check;

-- 104857600 is the ceiling of any configured per-file cap (100 MiB). Content
-- lies in the row or in an object, never in both or neither.
ALTER TABLE pending_uploads
    ADD CONSTRAINT pending_uploads_size_bytes_check CHECK (size_bytes > 0 AND size_bytes <= 104857600),
    ADD CONSTRAINT pending_uploads_filename_check CHECK (length(filename) BETWEEN 1 AND 100),
    ADD CONSTRAINT pending_uploads_sha256_check CHECK (octet_length(sha256) = 32),
    ADD CONSTRAINT pending_uploads_placement_check CHECK (num_nonnulls(content, object_key) = 1);

CREATE INDEX IF NOT EXISTS idx_pending_uploads_workspace_unacked
    ON pending_uploads (workspace_id, created_at) WHERE acked_at IS NULL;

-- What is due to be swept is found by these two.
CREATE INDEX IF NOT EXISTS idx_pending_uploads_expires
    ON pending_uploads (expires_at) WHERE acked_at IS NULL;
CREATE INDEX IF NOT EXISTS idx_pending_uploads_acked
    ON pending_uploads (acked_at) WHERE acked_at IS NOT NULL;

-- Rows that a sweep has claimed and not yet deleted; nearly always few.
CREATE INDEX IF NOT EXISTS idx_pending_uploads_sweeping
    ON pending_uploads (sweeping_at) WHERE sweeping_at IS NOT NULL;

-- Whose file is it? Asked only to log that a workspace used another's file id.
CREATE INDEX IF NOT EXISTS idx_pending_uploads_file
    ON pending_uploads (file_id);

-- +goose Down

-- Whoever waits for a table holds up everybody who comes after, so the wait is
-- short; Up and Down try again. A lock_timeout that the session brings stands.
SELECT set_config('lock_timeout', '3s', true) WHERE current_setting('lock_timeout') = '0';

-- A table made by this migration is dropped. One that was adopted, told by its
-- key on file_id alone, goes back to the form it came in, with the 100 MiB cap
-- that its rows may need. Neither while rows refer to objects: their bytes would
-- be lost or left behind. The lock comes before the count, which else would miss
-- the rows of uploads that are about to commit.
-- +goose StatementBegin
DO $$
DECLARE
    objects bigint;
    adopted boolean;
BEGIN
    LOCK TABLE pending_uploads IN ACCESS EXCLUSIVE MODE;
    SELECT count(*) INTO objects FROM pending_uploads WHERE object_key IS NOT NULL;
    IF objects > 0 THEN
        RAISE EXCEPTION 'pending_uploads has % rows whose content lies in objects: sweep them or move them inline before migrating down', objects
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;

    SELECT cardinality(conkey) = 1 INTO adopted
    FROM pg_constraint
    WHERE conrelid = 'pending_uploads'::regclass AND contype = 'p';

    IF NOT coalesce(adopted, true) THEN
        DROP TABLE pending_uploads;
        RETURN;
    END IF;

    DROP INDEX IF EXISTS idx_pending_uploads_file;
    DROP INDEX IF EXISTS idx_pending_uploads_sweeping;
    ALTER TABLE pending_uploads
        DROP CONSTRAINT IF EXISTS pending_uploads_placement_check,
        DROP CONSTRAINT IF EXISTS pending_uploads_sha256_check;
    ALTER TABLE pending_uploads
        DROP COLUMN object_key,
        DROP COLUMN sha256,
        DROP COLUMN sweeping_at,
        ALTER COLUMN content SET NOT NULL,
        ALTER COLUMN content SET STORAGE EXTENDED;
END
$$;
-- +goose StatementEnd
