-- The master key is changed while cores serve.

-- The newest key that this core can open secrets with; 0: not told yet.
ALTER TABLE core_process ADD COLUMN key_id BIGINT NOT NULL DEFAULT 0;
