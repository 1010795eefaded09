"""Every metric of the door."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter(
    "flightline_ingest_events_total",
    "Events answered, by status (accepted, unbilled, rejected, retry) and reason.",
    ["status", "reason"],
)
REQUESTS = Counter("flightline_ingest_requests_total", "Requests answered.", ["route", "code"])
REFUSALS = Counter(
    "flightline_ingest_refusals_total",
    "Requests refused as a whole, by the name of the problem.",
    ["problem"],
)
ACCEPT_SECONDS = Histogram(
    "flightline_ingest_accept_seconds",
    "From a request's body to the confirmation that its events are durable.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
)
UNEXPECTED = Counter(
    "flightline_ingest_unexpected_errors_total",
    "Errors of the door itself; answered 503 and logged. Any is a bug.",
)
RECORDS = Counter(
    "flightline_ingest_records_total",
    "Records sent to the log, by outcome (delivered, failed).",
    ["outcome"],
)
PENDING_BYTES = Gauge("flightline_ingest_pending_bytes", "Bytes of events that wait for Kafka.")
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


@cache
def requests(route: str, code: int) -> Counter:
    """The counter of requests with this answer. Looked up once: that takes longer than to count."""
    return REQUESTS.labels(route, code)


@cache
def events(status: str, reason: str) -> Counter:
    """The counter of events with this answer; looked up once, as `requests`."""
    return EVENTS.labels(status, reason)
