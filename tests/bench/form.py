"""How long a bench takes: the short form is `make bench`, the long one `make bench-full`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """Runs of each figure, seconds of each run, and how much there is of everything."""

    runs: int
    few_runs: int
    """Of what takes long."""
    seconds: float
    campaigns: int
    backlog: int
    """Events that an aggregator finds in the log."""
    sustained_seconds: float
    """How long the whole chain has to carry a rate."""
    probed_seconds: float
    """How long beacons are followed in a run, 20 a second."""
    stops: int
    """Campaigns whose budget is used up in a run."""
    stored_events: tuple[int, ...]
    """In ClickHouse, when its queries are timed."""
    seen_ids: int
    """Of a day; 144 million at the specification's rate."""
    asked_seconds: float
    """How long the control API is asked at each rate."""


SHORT = Form(
    runs=5,
    few_runs=1,
    seconds=4.0,
    campaigns=10_000,
    backlog=600_000,
    sustained_seconds=30.0,
    probed_seconds=20.0,
    stops=20,
    stored_events=(1_000_000,),
    seen_ids=10_000_000,
    asked_seconds=20.0,
)
FULL = Form(
    runs=5,
    few_runs=3,
    seconds=10.0,
    campaigns=10_000,
    backlog=1_000_000,
    sustained_seconds=300.0,
    probed_seconds=30.0,
    stops=30,
    stored_events=(1_000_000, 10_000_000, 100_000_000),
    seen_ids=144_000_000,
    asked_seconds=60.0,
)
