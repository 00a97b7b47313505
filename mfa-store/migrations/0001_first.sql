-- The schema, in PostgreSQL's words. For SQLite `migrate.rs` replaces the words that differ:
-- SERIAL_ID, BIGINT, BYTEA, BOOLEAN, and the table's ending STRICT_TABLE.
--
-- Times are BIGINT milliseconds since the Unix epoch. Digests and sealed values are BYTEA.

CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value BYTEA NOT NULL
) STRICT_TABLE;

-- People and groups.

CREATE TABLE user_account (
    id SERIAL_ID,
    login TEXT NOT NULL,
    -- The login in lower case: one person, one name, however it is typed.
    login_folded TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    email TEXT NOT NULL,
    phone TEXT NOT NULL,
    -- Argon2id in PHC format; NULL: no password.
    password_hash TEXT,
    active BOOLEAN NOT NULL,
    admin BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
) STRICT_TABLE;

CREATE TABLE user_group (
    id SERIAL_ID,
    name TEXT NOT NULL UNIQUE
) STRICT_TABLE;

CREATE TABLE user_group_member (
    user_id BIGINT NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    group_id BIGINT NOT NULL REFERENCES user_group (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, group_id)
) STRICT_TABLE;

CREATE INDEX user_group_member_by_group ON user_group_member (group_id);

-- Factors.

CREATE TABLE factor_totp (
    user_id BIGINT NOT NULL PRIMARY KEY REFERENCES user_account (id) ON DELETE CASCADE,
    -- Sealed; NULL until a first code has confirmed it.
    secret BYTEA,
    confirmed_at BIGINT,
    -- The last accepted step of RFC 6238, whatever the secret was then. It only grows.
    last_step BIGINT NOT NULL,
    -- Sealed; a secret that was shown and waits for its first code.
    pending_secret BYTEA,
    pending_at BIGINT
) STRICT_TABLE;

CREATE TABLE factor_email (
    user_id BIGINT NOT NULL PRIMARY KEY REFERENCES user_account (id) ON DELETE CASCADE,
    -- NULL: not enabled.
    confirmed_at BIGINT,
    -- The keyed digest of a code that was mailed to confirm the address.
    pending_code BYTEA,
    pending_until BIGINT
) STRICT_TABLE;

CREATE TABLE recovery_code (
    id SERIAL_ID,
    user_id BIGINT NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    digest BYTEA NOT NULL,
    used_at BIGINT,
    UNIQUE (user_id, digest)
) STRICT_TABLE;

-- Locations, devices and their addresses.

CREATE TABLE location (
    id SERIAL_ID,
    name TEXT NOT NULL UNIQUE,
    -- Sealed.
    private_key BYTEA NOT NULL,
    public_key BYTEA NOT NULL UNIQUE,
    endpoint TEXT NOT NULL,
    listen_port INTEGER NOT NULL,
    -- The gateways' own addresses with their networks: "10.1.0.1/24,fd00:1::1/64".
    addresses TEXT NOT NULL,
    -- What clients route into the tunnel.
    allowed_ips TEXT NOT NULL,
    dns TEXT NOT NULL,
    keepalive INTEGER NOT NULL,
    mtu INTEGER NOT NULL,
    -- "off" or "required".
    mfa TEXT NOT NULL,
    methods TEXT NOT NULL,
    idle_mode TEXT NOT NULL,
    idle_millis BIGINT NOT NULL,
    lifetime_millis BIGINT NOT NULL,
    -- 0: never.
    psk_rotation_millis BIGINT NOT NULL,
    -- Grows with each change that gateways must learn of.
    revision BIGINT NOT NULL,
    -- Changes up to and including this revision are no longer in location_change.
    pruned_revision BIGINT NOT NULL,
    -- Grows with each change that clients must learn of.
    config_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL
) STRICT_TABLE;

-- Groups whose users may use a location. None: every user.
CREATE TABLE location_group (
    location_id BIGINT NOT NULL REFERENCES location (id) ON DELETE CASCADE,
    group_id BIGINT NOT NULL REFERENCES user_group (id) ON DELETE CASCADE,
    PRIMARY KEY (location_id, group_id)
) STRICT_TABLE;

CREATE INDEX location_group_by_group ON location_group (group_id);

-- Which peer a revision touched; NULL: the interface, or too much to list.
CREATE TABLE location_change (
    id SERIAL_ID,
    location_id BIGINT NOT NULL REFERENCES location (id) ON DELETE CASCADE,
    revision BIGINT NOT NULL,
    public_key BYTEA
) STRICT_TABLE;

CREATE INDEX location_change_by_revision ON location_change (location_id, revision);

CREATE TABLE device (
    id SERIAL_ID,
    user_id BIGINT NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    public_key BYTEA NOT NULL UNIQUE,
    polling_token BYTEA UNIQUE,
    polled_at BIGINT,
    -- The address from which the polling token was last presented.
    polled_from TEXT,
    created_at BIGINT NOT NULL
) STRICT_TABLE;

CREATE INDEX device_by_user ON device (user_id);

CREATE TABLE device_address (
    id SERIAL_ID,
    location_id BIGINT NOT NULL REFERENCES location (id) ON DELETE CASCADE,
    -- NULL: given back, and at rest until rest_until.
    device_id BIGINT REFERENCES device (id) ON DELETE SET NULL,
    -- 4 or 16.
    family INTEGER NOT NULL,
    -- Network byte order, so that it sorts.
    ip BYTEA NOT NULL,
    rest_until BIGINT NOT NULL,
    UNIQUE (location_id, family, ip)
) STRICT_TABLE;

CREATE INDEX device_address_by_device ON device_address (device_id, location_id);

-- Gateways.

CREATE TABLE gateway (
    id SERIAL_ID,
    location_id BIGINT NOT NULL REFERENCES location (id) ON DELETE CASCADE,
    name TEXT NOT NULL UNIQUE,
    -- Of the certificate in force; NULL: not enrolled.
    cert_serial BYTEA UNIQUE,
    -- Of the certificate with which that one was asked for; it counts as well, since the answer
    -- may have been lost.
    previous_cert_serial BYTEA,
    -- Digest of the long-lived token of a gateway that has no certificate.
    legacy_token BYTEA UNIQUE,
    enrolled_at BIGINT,
    heard_at BIGINT,
    applied_revision BIGINT NOT NULL,
    version TEXT NOT NULL,
    backend TEXT NOT NULL,
    hostname TEXT NOT NULL,
    revoked_at BIGINT,
    created_at BIGINT NOT NULL
) STRICT_TABLE;

CREATE INDEX gateway_by_location ON gateway (location_id);

-- Tokens that are good once: for a gateway, or for the first set-up.
CREATE TABLE one_use_token (
    id SERIAL_ID,
    purpose TEXT NOT NULL,
    digest BYTEA NOT NULL UNIQUE,
    gateway_id BIGINT REFERENCES gateway (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
) STRICT_TABLE;

CREATE TABLE enrollment (
    id SERIAL_ID,
    user_id BIGINT NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    token BYTEA NOT NULL UNIQUE,
    -- Finds it once the token was redeemed.
    session BYTEA UNIQUE,
    deadline BIGINT NOT NULL,
    state TEXT NOT NULL,
    confirmed_at BIGINT
) STRICT_TABLE;

CREATE INDEX enrollment_by_user ON enrollment (user_id);

-- Budgets, challenges and sessions.

CREATE TABLE guess_budget (
    user_id BIGINT NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    method TEXT NOT NULL,
    lane TEXT NOT NULL,
    -- Times of the wrong codes of the last window, separated by commas.
    recent TEXT NOT NULL,
    charged BIGINT NOT NULL,
    cleared BIGINT NOT NULL,
    PRIMARY KEY (user_id, method, lane)
) STRICT_TABLE;

CREATE TABLE mail_budget (
    user_id BIGINT NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    lane TEXT NOT NULL,
    -- Times of the mails of the last day, separated by commas.
    recent TEXT NOT NULL,
    PRIMARY KEY (user_id, lane)
) STRICT_TABLE;

CREATE TABLE challenge (
    id SERIAL_ID,
    token BYTEA NOT NULL UNIQUE,
    user_id BIGINT NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    device_id BIGINT NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    location_id BIGINT NOT NULL REFERENCES location (id) ON DELETE CASCADE,
    lane TEXT NOT NULL,
    method TEXT NOT NULL,
    -- Of a mailed code: its keyed digest.
    code_digest BYTEA,
    started_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    tries INTEGER NOT NULL,
    state TEXT NOT NULL
) STRICT_TABLE;

CREATE INDEX challenge_by_device ON challenge (device_id, state);
CREATE INDEX challenge_by_expiry ON challenge (expires_at);

CREATE TABLE session (
    id SERIAL_ID,
    user_id BIGINT NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    device_id BIGINT NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    location_id BIGINT NOT NULL REFERENCES location (id) ON DELETE CASCADE,
    method TEXT NOT NULL,
    -- Sealed; NULL once the session has ended.
    psk BYTEA,
    generation BIGINT NOT NULL,
    authorized_at BIGINT NOT NULL,
    lifetime_ends_at BIGINT NOT NULL,
    -- When a gateway first heard the peer.
    connected_at BIGINT,
    -- The last sign of life.
    active_at BIGINT NOT NULL,
    ended_at BIGINT,
    end_reason TEXT,
    rx_bytes BIGINT NOT NULL,
    tx_bytes BIGINT NOT NULL
) STRICT_TABLE;

CREATE UNIQUE INDEX session_live ON session (device_id, location_id) WHERE ended_at IS NULL;
CREATE INDEX session_by_location ON session (location_id, ended_at);
CREATE INDEX session_by_user ON session (user_id, ended_at);

-- The audit log: append-only, each row chained to the one before it.

CREATE TABLE audit (
    seq BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    previous BYTEA NOT NULL,
    hash BYTEA NOT NULL
) STRICT_TABLE;

-- The one row that knows where the chain ends.
CREATE TABLE audit_head (
    id BIGINT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL
) STRICT_TABLE;
