-- Second factors of the pages that are bound to a browser, and how mail leaves.

CREATE TABLE passkey (
    id SERIAL_ID,
    user_id BIGINT NOT NULL REFERENCES user_account (id) ON DELETE CASCADE,
    -- What the authenticator calls it (WebAuthn: the credential's id).
    credential BYTEA NOT NULL UNIQUE,
    -- COSE: -7 is ES256, -8 is EdDSA with Ed25519.
    algorithm BIGINT NOT NULL,
    -- ES256: the uncompressed point; EdDSA: the key.
    public_key BYTEA NOT NULL,
    -- The authenticator's counter at the last signature; 0 for one that does not count.
    sign_count BIGINT NOT NULL,
    -- What its owner calls it.
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT
) STRICT_TABLE;
CREATE INDEX passkey_by_user ON passkey (user_id);

-- What the next signature or the next new passkey of this browser has to answer, once.
ALTER TABLE web_session ADD COLUMN challenge BYTEA;
ALTER TABLE web_session ADD COLUMN challenge_until BIGINT;

-- At most one row, of id 1: how mail leaves, as it was set in the console.
CREATE TABLE mail_settings (
    id BIGINT PRIMARY KEY,
    host TEXT NOT NULL,
    port BIGINT NOT NULL,
    -- 'implicit', 'starttls' or 'none'.
    tls TEXT NOT NULL,
    -- Empty: the server asks for none.
    login TEXT NOT NULL,
    -- Sealed.
    password BYTEA,
    sender TEXT NOT NULL,
    changed_at BIGINT NOT NULL
) STRICT_TABLE;
