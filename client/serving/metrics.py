"""Counts for Prometheus. No label holds an id of a shopper, an item, a list or a key."""

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MOST_SURFACES = 32  # labels that a client chooses; what comes later is counted as "other"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.04, 0.1, 0.25, 1.0, 5.0)


class Metrics:
    """The service's counters, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._recommendations = Counter(
            "fedtail_recommendations",
            "Items that were recommended.",
            ["surface", "variant", "bucket"],
            registry=self.registry,
        )
        self._events = Counter(
            "fedtail_events", "Events that came.", ["outcome"], registry=self.registry
        )
        self._seconds = Histogram(
            "fedtail_request_seconds",
            "From the first byte in to the last byte out.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._answers = Counter(
            "fedtail_answers", "Answers by status.", ["route", "status"], registry=self.registry
        )
        self._release = Gauge(
            "fedtail_release_info", "What is serving: 1.", ["release"], registry=self.registry
        )
        self._epsilon = Gauge(
            "fedtail_ledger_epsilon",
            "What training has spent, as /v1/budget last said.",
            registry=self.registry,
        )
        self._lost = Gauge(
            "fedtail_lists_lost", "Lists that never reached the disk.", registry=self.registry
        )
        self._drift = Gauge(
            "fedtail_drift",
            "Whether a figure of the shop's lists drifted in the last seven days: 1 or 0.",
            ["figure"],
            registry=self.registry,
        )
        self._surfaces: set[str] = set()

    def recommended(self, surface: str, variant: str, buckets: Iterable[str]) -> None:
        """Count the items of a list."""
        if surface not in self._surfaces:
            if len(self._surfaces) >= _MOST_SURFACES:
                surface = "other"
            self._surfaces.add(surface)
        for bucket in buckets:
            self._recommendations.labels(surface, variant, bucket).inc()

    def came(self, *, accepted: int, duplicates: int, rejected: int) -> None:
        """Count events by what became of them."""
        for outcome, count in (
            ("accepted", accepted),
            ("duplicate", duplicates),
            ("rejected", rejected),
        ):
            self._events.labels(outcome).inc(count)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._seconds.labels(route).observe(seconds)
        self._answers.labels(route, str(status)).inc()

    def spent(self, epsilon: float) -> None:
        """Say what the ledger has spent."""
        self._epsilon.set(epsilon)

    def drifted(self, figures: Mapping[str, bool]) -> None:
        """Say which figures of lists have drifted lately."""
        for figure, there in figures.items():
            self._drift.labels(figure).set(there)

    def page(self, release: str, lost: int) -> bytes:
        """Return all of it as Prometheus reads it."""
        self._release.clear()
        self._release.labels(release).set(1)
        self._lost.set(lost)
        return generate_latest(self.registry)
