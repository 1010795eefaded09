-- name: create_records#
-- What the door has promised and Kafka does not have yet, in the order in which it came. `check_sum` is the
-- CRC-32 of `lines`: SQLite has none of its own, and a bit that fell over in a cost would be billed.
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    spooled_at INTEGER NOT NULL,
    events INTEGER NOT NULL,
    check_sum INTEGER NOT NULL,
    lines BLOB NOT NULL
);

-- name: create_damaged#
-- Records that no longer have their check sum: kept for whoever can mend them, sent by nobody.
CREATE TABLE IF NOT EXISTS damaged (
    id INTEGER PRIMARY KEY,
    spooled_at INTEGER NOT NULL,
    events INTEGER NOT NULL,
    check_sum INTEGER NOT NULL,
    lines BLOB NOT NULL
);

-- name: append*!
INSERT INTO records (spooled_at, events, check_sum, lines) VALUES (:spooled_at, :events, :check_sum, :lines);

-- name: oldest
SELECT id, events, check_sum, lines FROM records WHERE id > :after ORDER BY id;

-- name: delete_up_to!
DELETE FROM records WHERE id <= :id;

-- name: put_aside!
INSERT INTO damaged SELECT id, spooled_at, events, check_sum, lines FROM records WHERE id = :id;

-- name: delete_one!
DELETE FROM records WHERE id = :id;

-- name: totals^
SELECT count(*), coalesce(sum(events), 0) FROM records WHERE id > :after;

-- name: oldest_time$
SELECT spooled_at FROM records WHERE id > :after ORDER BY id LIMIT 1;

-- name: damaged_records$
SELECT count(*) FROM damaged;

-- name: quick_check$
SELECT quick_check FROM pragma_quick_check(1);

-- name: used_bytes$
-- What the records take of the file: pages that deletions have freed are used again.
SELECT (pages.page_count - free.freelist_count) * size.page_size
FROM pragma_page_count() AS pages, pragma_freelist_count() AS free, pragma_page_size() AS size;
