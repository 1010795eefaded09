-- How far behind is what is stored? One row: the newest event, and its age in milliseconds.
-- The age grows while no events come, too. Reads no rows: parts know their newest received_at.
-- Parameters: none.
SELECT max(received_at) AS newest, dateDiff('millisecond', newest, now64(3)) AS age_ms
FROM events
