-- The PSK of a live session is rotated: the next one stands beside the one in force.

-- Since when the PSK is in force; NULL: the client cannot take another one.
ALTER TABLE session ADD COLUMN psk_since BIGINT;
-- The next PSK, sealed as psk is; NULL: no rotation is under way.
ALTER TABLE session ADD COLUMN next_psk BYTEA;
ALTER TABLE session ADD COLUMN next_staged_at BIGINT;
-- When the client said that it has it; from then on gateways are to have it.
ALTER TABLE session ADD COLUMN next_set_at BIGINT;
-- When the client said that it saw a handshake with it.
ALTER TABLE session ADD COLUMN next_proven_at BIGINT;
-- The location's revision that gives it to gateways.
ALTER TABLE session ADD COLUMN next_revision BIGINT;
-- SHA-256 of the PSK before the one that gateways are to have: a gateway that has just started
-- knows by it that what its kernel has is of the same session.
ALTER TABLE session ADD COLUMN previous_psk_digest BYTEA;

CREATE INDEX session_by_psk_age ON session (location_id, psk_since)
    WHERE ended_at IS NULL AND next_psk IS NULL AND psk_since IS NOT NULL;
CREATE INDEX session_rotating ON session (id) WHERE next_psk IS NOT NULL;
