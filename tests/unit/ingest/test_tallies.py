"""The door's own counters show what prometheus-client's would."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from ingest.tallies import Durations, Tally

BOUNDS = (0.002, 0.005, 1, 2)


def without_times(shown: bytes) -> set[str]:
    """The lines, without those that say when a counter was made."""
    return {line for line in shown.decode().splitlines() if "_created" not in line}


def test_a_tally_is_a_counter():
    mine, its = CollectorRegistry(), CollectorRegistry()
    tally = Tally("things", "Things seen.", ("kind", "code"), mine)
    counter = Counter("things", "Things seen.", ["kind", "code"], registry=its)
    for kind, code in (("a", 200), ("a", 200), ("b", 404), ('with "quotes"', 200)):
        tally.add(kind, code)
        counter.labels(kind, code).inc()
    assert without_times(generate_latest(mine)) == without_times(generate_latest(its))


def test_durations_are_a_histogram():
    mine, its = CollectorRegistry(), CollectorRegistry()
    durations = Durations("wait_seconds", "Waits.", BOUNDS, mine)
    histogram = Histogram("wait_seconds", "Waits.", buckets=BOUNDS, registry=its)
    for seconds in (0.0, 0.002, 0.0020001, 0.7, 2.0, 99.0):
        durations.observe(seconds)
        histogram.observe(seconds)
    assert without_times(generate_latest(mine)) == without_times(generate_latest(its))
