-- +goose Up

-- As in the first migration: a short wait for the table, tried again.
SELECT set_config('lock_timeout', '3s', true) WHERE current_setting('lock_timeout') = '0';

-- When content was first read that is not what was staged; NULL for all that is
-- well. There are nearly never any, and only an administrator asks, so no index.
ALTER TABLE pending_uploads ADD COLUMN IF NOT EXISTS corrupt_at timestamptz;

-- +goose Down

SELECT set_config('lock_timeout', '3s', true) WHERE current_setting('lock_timeout') = '0';

ALTER TABLE pending_uploads DROP COLUMN corrupt_at;
