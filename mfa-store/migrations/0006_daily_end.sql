-- The time of day at which a location's sessions end: "18:30 Europe/Warsaw"; empty: there is none.
ALTER TABLE location ADD COLUMN daily_end TEXT NOT NULL DEFAULT '';
