"""What `/metrics` shows, and how often."""

from ingest import metrics
from ingest.exposition import Exposition


def shown(text: bytes) -> float:
    name = b"flightline_ingest_unexpected_errors_total "
    (line,) = (line for line in text.splitlines() if line.startswith(name))
    return float(line.removeprefix(name))


def test_who_asks_now_and_then_sees_what_is_true_now():
    exposition = Exposition(0.0)
    before = shown(exposition.text(0.0))
    metrics.UNEXPECTED.inc()
    assert shown(exposition.text(0.001)) == before + 1


def test_a_flood_of_questions_is_rendered_fifty_times_a_second():
    exposition = Exposition(0.0)
    rendered = set()
    for asked in range(3_000):
        metrics.UNEXPECTED.inc()
        rendered.add(shown(exposition.text(asked / 1_000)))
    assert len(rendered) <= 100 + 3 * 50 + 1
    metrics.UNEXPECTED.inc()
    assert shown(exposition.text(3.02)) > max(rendered)
