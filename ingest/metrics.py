"""Every metric of the door."""

from prometheus_client import Counter, Gauge, Histogram

from ingest.tallies import Durations, Tally

EVENTS = Tally(
    "flightline_ingest_events",
    "Events answered, by status (accepted, unbilled, rejected, retry) and reason.",
    ("status", "reason"),
)
REQUESTS = Tally("flightline_ingest_requests", "Requests answered.", ("route", "code"))
REFUSALS = Counter(
    "flightline_ingest_refusals_total",
    "Requests refused as a whole, by the name of the problem.",
    ["problem"],
)
ACCEPT_SECONDS = Durations(
    "flightline_ingest_accept_seconds",
    "From a request's body to the confirmation that its events are durable.",
    (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
)
UNEXPECTED = Counter(
    "flightline_ingest_unexpected_errors_total",
    "Errors of the door itself; answered 503 and logged. Any is a bug.",
)
RECORDS = Counter(
    "flightline_ingest_records_total",
    "Records of requests, by outcome (delivered to the log, spooled, failed: refused with 503).",
    ["outcome"],
)
PENDING_BYTES = Gauge(
    "flightline_ingest_pending_bytes", "Bytes of events that wait for Kafka or the spool: not promised yet."
)
LOAD_BYTES = Gauge(
    "flightline_ingest_load_bytes",
    "Bytes of requests that have not been answered, 16 KiB each at least: bounded by a setting.",
)
CIRCUIT_OPEN = Gauge(
    "flightline_ingest_circuit_open", "1 while events go to the spool because Kafka did not confirm."
)
SPOOL_BYTES = Gauge("flightline_ingest_spool_bytes", "What this door's spool takes of its limit.")
SPOOL_EVENTS = Gauge("flightline_ingest_spool_events", "Promised events that Kafka does not have yet.")
SPOOL_OLDEST_SECONDS = Gauge(
    "flightline_ingest_spool_oldest_seconds", "Age of the oldest event in the spool; 0 when it is empty."
)
SPOOL_USABLE = Gauge("flightline_ingest_spool_usable", "1 while the spool would take an event.")
SPOOL_COMMIT_SECONDS = Histogram(
    "flightline_ingest_spool_commit_seconds",
    "From the beginning of a commit to the spool until it is on the disk.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
)
SPOOLED_EVENTS = Counter("flightline_ingest_spooled_events_total", "Events promised by the spool.")
SPOOL_REFUSED = Counter(
    "flightline_ingest_spool_refused_total",
    "Records that the spool refused, by reason (full, unwritable, slow).",
    ["reason"],
)
SPOOL_CORRUPT = Counter(
    "flightline_ingest_spool_corrupt_total",
    "Spool files and records that could not be read and were put aside: look at them, they hold promises.",
)
SPOOLS_ADOPTED = Counter(
    "flightline_ingest_spools_adopted_total", "Spools of doors that were gone, drained by this one."
)
DRAINED_EVENTS = Counter(
    "flightline_ingest_drained_events_total", "Spooled events that Kafka has now, of adopted spools too."
)
PRODUCER_CONNECTED = Gauge("flightline_ingest_producer_connected", "1 while the log can be written to.")
PRODUCER_REBUILDS = Counter(
    "flightline_ingest_producer_rebuilds_total",
    "Producers given up because a record was not confirmed in time or failed.",
)
FEED_COMPLETE = Gauge(
    "flightline_ingest_feed_complete", "1 once campaigns, budgets and keys were read to their ends."
)
FEED_RECORDS = Counter(
    "flightline_ingest_feed_records_total",
    "Values read from the compacted topics, by outcome (taken, older, tombstone, undecodable).",
    ["topic", "outcome"],
)
FEED_RESTARTS = Counter(
    "flightline_ingest_feed_restarts_total", "Times that the compacted topics had to be read anew."
)
KNOWN = Gauge("flightline_ingest_known", "Entries that the door decides by.", ["table"])
SNAPSHOT_SAVED = Gauge("flightline_ingest_snapshot_saved_seconds", "Unix time of the newest snapshot.")
