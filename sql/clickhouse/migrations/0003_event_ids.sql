-- Finds an event by its id among those of its campaign. Parts of before have no index, and are read.
ALTER TABLE events ADD INDEX IF NOT EXISTS event_ids event_id TYPE bloom_filter(0.01) GRANULARITY 4
