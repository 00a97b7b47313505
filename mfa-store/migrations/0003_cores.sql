-- Several cores on one database: who is there, and which gateway is connected to whom.

CREATE TABLE core_process (
    -- Random, of one process.
    id BYTEA NOT NULL PRIMARY KEY,
    -- Grows while it lives.
    beat BIGINT NOT NULL
) STRICT_TABLE;

CREATE TABLE gateway_seat (
    gateway_id BIGINT NOT NULL PRIMARY KEY REFERENCES gateway (id) ON DELETE CASCADE,
    location_id BIGINT NOT NULL REFERENCES location (id) ON DELETE CASCADE,
    core_id BYTEA NOT NULL REFERENCES core_process (id) ON DELETE CASCADE,
    -- Which stream of that core.
    stream BIGINT NOT NULL,
    -- How the gateway's process names itself; empty: it does not.
    process BYTEA NOT NULL,
    -- The process that this one has shut out.
    shut_out BYTEA,
    -- What it has applied; NULL: nothing on this stream yet.
    applied_revision BIGINT
) STRICT_TABLE;
