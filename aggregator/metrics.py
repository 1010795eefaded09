"""Every metric of the aggregator, with its meaning."""

from prometheus_client import Counter, Gauge, Histogram

events_billed = Counter("flightline_events_billed_total", "Events counted in the ledger", ["partition"])
duplicates = Counter("flightline_duplicates_total", "Events dropped because they were counted", ["partition"])
dead_letters = Counter("flightline_dead_letters_total", "Records and lines that are no events", ["partition"])
crossings = Counter("flightline_budget_crossings_total", "Budget thresholds crossed")
billed_offset = Gauge("flightline_billed_offset", "Next offset to bill", ["partition"])
stored_offset = Gauge("flightline_stored_offset", "Everything below is in ClickHouse", ["partition"])
pending_rows = Gauge("flightline_pending_rows", "Rows billed and kept in memory until they are stored")
bill_seconds = Histogram("flightline_bill_seconds", "Duration of billing a batch, with its retries")
store_seconds = Histogram("flightline_store_seconds", "Duration of storing a block, with its retries")
bill_retries = Counter("flightline_bill_retries_total", "Batches whose billing was tried again")
store_retries = Counter("flightline_store_retries_total", "Inserts into ClickHouse tried again")
blocks_stored = Counter("flightline_blocks_stored_total", "Blocks stored in ClickHouse")
blocks_recovered = Counter(
    "flightline_blocks_recovered_total", "Blocks billed by another owner and stored here from the log"
)
blocks_repaired = Counter("flightline_blocks_repaired_total", "Blocks that ClickHouse held wrongly, mended")
blocks_verified = Counter("flightline_blocks_verified_total", "Blocks found exact in ClickHouse")
incarnations = Counter(
    "flightline_incarnations_total", "Times the log was not the one that was billed, and billing went on anew"
)
records_lost = Counter(
    "flightline_records_lost_total", "Offsets that were billed and are in the log no more", ["partition"]
)
records_deleted = Counter(
    "flightline_log_records_deleted_total", "Records deleted, old and verified as stored", ["partition"]
)
ledger_days_dropped = Counter("flightline_ledger_days_dropped_total", "Days of batches and blocks dropped")
old_events_waiting = Gauge(
    "flightline_old_events_waiting",
    "Events older than the window of the seen ids whose billing waits for ClickHouse",
    ["partition"],
)
records_aside = Gauge(
    "flightline_records_aside",
    "Records set aside, from an event older than the window of the seen ids on, until ClickHouse answers",
    ["partition"],
)
rows_lost = Counter(
    "flightline_rows_lost_total", "Rows billed that ClickHouse lacks and the log can't give", ["partition"]
)
seen_segments_unwritten = Gauge(
    "flightline_seen_segments_unwritten",
    "Segments of seen ids kept in memory because the disk refuses them: make room before there are 32",
    ["partition"],
)
partitions_owned = Gauge("flightline_partitions_owned", "Partitions of tracking-events owned here")

# The live windows' own gauges are made in live_gauges.py, when they are asked for.
performance_alerts = Counter(
    "flightline_performance_alerts_total", "Campaigns that fell below their own past day", ["metric"]
)
activity_undecodable = Counter(
    "flightline_activity_undecodable_total", "Records of campaign-activity that are none"
)
