-- The read-only user for dashboards, on a ClickHouse server (the embedded one makes it by itself).
-- Run once as an administrator, with a password of your own:
--   clickhouse-client --multiquery < sql/clickhouse/dashboards_user.sql
CREATE USER IF NOT EXISTS dashboards IDENTIFIED WITH sha256_password BY 'change-me'
    SETTINGS readonly = 2,                                   -- reads only; may choose formats and time-outs
             max_execution_time = 30 MAX 300,
             max_memory_usage = 2000000000 MAX 8000000000;

-- The events, and nothing else: neither the fence nor the tables of the system.
GRANT SELECT ON flightline.events TO dashboards;
