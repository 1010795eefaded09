"""Every metric of the control API, with its meaning."""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "control_api_requests_total", "Answers by route and status.", ["method", "route", "status"]
)
REQUEST_SECONDS = Histogram(
    "control_api_request_seconds",
    "Time from a request to its answer.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5),
)
PUBLISHED = Counter("control_api_published_total", "Records that Kafka has acked.", ["topic"])
PUBLISH_FAILURES = Counter("control_api_publish_failures_total", "Records to be sent again.", ["topic"])
PUBLISHED_AGAIN = Counter(
    "control_api_published_again_total", "Values of compacted topics that were below Postgres.", ["topic"]
)
OUTBOX_BACKLOG = Gauge("control_api_outbox_backlog", "Records committed to Postgres that wait for Kafka.")
PROPAGATION_PENDING = Counter(
    "control_api_propagation_pending_total", "Transitions answered before Kafka had their snapshot."
)
GATES = Counter("control_api_gates_total", "Budget gates read, by whether a status followed.", ["effect"])
UNREADABLE_GATES = Counter("control_api_unreadable_gates_total", "Records of budget-gates that were skipped.")
CROSSINGS_FOUND = Counter(
    "control_api_crossings_found_total", "Crossings found in the ledger that no gate had told of in time."
)
COMPLETED_BY_DATE = Counter("control_api_completed_by_date_total", "Campaigns looked at for their endDate.")
REPEATED = Counter(
    "control_api_repeated_total", "Requests with an Idempotency-Key that were answered as they were before."
)
LOGINS = Counter("control_api_logins_total", "Attempts to log in, by how they ended.", ["outcome"])
REFRESH_REFUSED = Counter(
    "control_api_refresh_refused_total", "Refresh tokens refused: used before, ended, or never given."
)
LIMITED = Counter("control_api_limited_total", "Requests above a rate limit, by whose.", ["policy"])
WEBHOOK_DELIVERIES_MADE = Counter("control_api_webhook_deliveries_total", "Deliveries that became due first.")
WEBHOOK_ATTEMPTS = Counter(
    "control_api_webhook_attempts_total",
    "Attempts at deliveries: delivered, retried, dead (the last one failed), gone (410).",
    ["outcome"],
)
WEBHOOK_SECONDS = Histogram(
    "control_api_webhook_seconds", "Time of an attempt.", buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)
)
WEBHOOK_BACKLOG = Gauge(
    "control_api_webhook_backlog", "Deliveries to active webhooks that wait, counted up to 100,000."
)
WEBHOOK_BACKLOG_SECONDS = Gauge(
    "control_api_webhook_backlog_seconds", "Age of the oldest of those that were counted."
)
UNREADABLE_DOMAIN_EVENTS = Counter(
    "control_api_unreadable_domain_events_total", "Records of campaign-events that were skipped."
)
TRACKED = Counter("control_api_tracked_total", "Events that a door has promised, by its result.", ["status"])
STREAMS = Gauge("control_api_streams", "Streams of metrics that are open.")
IMPORTS = Counter("control_api_imports_total", "Jobs that were ended, by their state.", ["state"])
ERRORS = Counter("control_api_errors_total", "Requests that failed by a mistake of ours (500).")


def count_published(topic: str, acked: bool) -> None:
    """Counts the outcome of a record that was sent."""
    (PUBLISHED if acked else PUBLISH_FAILURES).labels(topic).inc()


def count_published_again(topic: str, values: int) -> None:
    """Counts what the read-back has mended."""
    PUBLISHED_AGAIN.labels(topic).inc(values)
