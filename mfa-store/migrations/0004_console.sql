-- What browsers hold, and what the console draws.

CREATE TABLE web_session (
    id SERIAL_ID,
    -- SHA-256 of the token in the cookie or in the mailed link.
    digest BYTEA NOT NULL UNIQUE,
    user_id BIGINT NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    -- 'reset': a mailed link; 'password': waits for a factor; 'open': signed in.
    stage TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- The last request, to the minute.
    seen_at BIGINT NOT NULL,
    -- When a factor was last proved.
    proved_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- The keyed digest of a code that was mailed to finish the sign-in.
    mailed_code BYTEA
) STRICT_TABLE;

CREATE INDEX web_session_by_user ON web_session (user_id);

-- What a location's sessions carried, by the minute.
CREATE TABLE traffic (
    location_id BIGINT NOT NULL REFERENCES location (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    rx_bytes BIGINT NOT NULL,
    tx_bytes BIGINT NOT NULL,
    PRIMARY KEY (location_id, at)
) STRICT_TABLE;

CREATE INDEX audit_by_action ON audit (action, at);
CREATE INDEX session_by_begin ON session (location_id, authorized_at);
