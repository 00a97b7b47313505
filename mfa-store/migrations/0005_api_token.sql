-- Keys of programs that use the REST API.
CREATE TABLE api_token (
    id SERIAL_ID,
    name TEXT NOT NULL UNIQUE,
    digest BYTEA NOT NULL UNIQUE,
    -- On whose behalf; NULL: the installation's own.
    user_id BIGINT REFERENCES user_account (id) ON DELETE CASCADE,
    -- "users:read,sessions:write"
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- To the minute.
    used_at BIGINT
) STRICT_TABLE;
