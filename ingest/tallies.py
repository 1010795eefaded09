"""Metrics of what every request does: numbers in a dict or a list, presentable when they are asked for.

A counter of prometheus-client takes a lock and looks for exemplars: with two counters and a histogram a tenth
of a request went into that. The door counts in one thread.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector


class Tally(Collector):
    """A counter with labels; its name is shown with `_total`."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._counts: dict[tuple[str | int, ...], int] = {}
        registry.register(self)

    def add(self, *values: str | int) -> None:
        """One more with these values of the labels."""
        counts = self._counts
        counts[values] = counts.get(values, 0) + 1

    def add_all(self, many: Iterable[tuple[str | int, ...]]) -> None:
        """One more for each."""
        counts = self._counts
        for values, count in Counter(many).items():
            counts[values] = counts.get(values, 0) + count

    def collect(self) -> Iterator[CounterMetricFamily]:
        """What Prometheus is shown."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, count in self._counts.items():
            family.add_metric([str(value) for value in values], count)
        yield family


class Durations(Collector):
    """A histogram; `bounds` in seconds, ascending."""

    def __init__(
        self,
        name: str,
        documentation: str,
        bounds: Sequence[float],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: float) -> None:
        """One that took so long."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What Prometheus is shown."""
        total, buckets = 0, []
        for bound, count in zip((*map(float, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((str(bound), total))
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum)
