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
ERRORS = Counter("control_api_errors_total", "Requests that failed by a mistake of ours (500).")


def count_published(topic: str, acked: bool) -> None:
    """Counts the outcome of a record that was sent."""
    (PUBLISHED if acked else PUBLISH_FAILURES).labels(topic).inc()


def count_published_again(topic: str, values: int) -> None:
    """Counts what the read-back has mended."""
    PUBLISHED_AGAIN.labels(topic).inc(values)
