-- How ends of sessions reached the gateways.

-- The revision of its location by which the session's peer must be gone; NULL while it lives, and
-- for sessions that ended before this column was there.
ALTER TABLE session ADD COLUMN end_revision BIGINT;
CREATE INDEX session_by_end ON session (location_id, end_revision);

-- One row for each time that a gateway was sent something and acknowledged it: it covers every
-- revision after the one before. Outlives its gateway, and goes with the sessions of its time.
CREATE TABLE gateway_trail (
    gateway_id BIGINT NOT NULL,
    location_id BIGINT NOT NULL REFERENCES location (id) ON DELETE CASCADE,
    revision BIGINT NOT NULL,
    -- When core's link learnt that it was committed.
    committed_at BIGINT NOT NULL,
    -- When it was given to the gateway's stream.
    sent_at BIGINT NOT NULL,
    -- When the gateway's kernel had taken it, and when a dump of the kernel showed it.
    applied_at BIGINT NOT NULL,
    verified_at BIGINT NOT NULL,
    PRIMARY KEY (gateway_id, revision)
) STRICT_TABLE;
CREATE INDEX gateway_trail_by_location ON gateway_trail (location_id, revision);

-- What a gateway's kernel had counted of a session's peer when it was cut.
CREATE TABLE session_cut (
    session_id BIGINT NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    gateway_id BIGINT NOT NULL,
    rx_bytes BIGINT NOT NULL,
    tx_bytes BIGINT NOT NULL,
    PRIMARY KEY (session_id, gateway_id)
) STRICT_TABLE;
