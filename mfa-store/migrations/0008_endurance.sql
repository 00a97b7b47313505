-- What a session endures: a lost link, and an outage of core.

-- How long nothing at all may come from a peer; 0: there is no limit.
ALTER TABLE location ADD COLUMN link_loss_millis BIGINT NOT NULL DEFAULT 0;
-- How long traffic may pass while core is away; 0: as long as the gateways' lease.
ALTER TABLE location ADD COLUMN outage_hold_millis BIGINT NOT NULL DEFAULT 0;
-- When the peer was last heard, be it a keepalive; only written where a lost link is limited.
ALTER TABLE session ADD COLUMN heard_at BIGINT;
