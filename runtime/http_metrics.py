"""What the server counts and times, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters and histograms of one server, in a registry of their own."""

    def __init__(self, model: dict[str, str], waiting: Callable[[], int]) -> None:
        """Name what runs, and say how many images wait."""
        import prometheus_client as prometheus

        self._registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        prometheus.Info("quillrt_model", "What runs.", registry=registry).info(model)
        prometheus.Gauge(
            "quillrt_images_waiting", "Images accepted and not yet answered.", registry=registry
        ).set_function(waiting)
        self._requests = prometheus.Counter(
            "quillrt_requests", "Answered requests.", ("route", "code"), registry=registry
        )
        self._seconds = prometheus.Histogram(
            "quillrt_predict_seconds",
            "From a request's head to its answer, of those that were predicted.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._sizes = prometheus.Histogram(
            "quillrt_batch_images", "Images in a batch.", buckets=_SIZES, registry=registry
        )
        self._engine = prometheus.Histogram(
            "quillrt_batch_seconds", "Time of the engine for a batch.", buckets=_SECONDS, registry=registry
        )
        self._predictions = prometheus.Counter(
            "quillrt_predictions", "Images by the doubt about them, empty for none.", ("doubt",), registry=registry
        )

    def batch(self, images: int, seconds: float) -> None:
        """Count a batch."""
        self._sizes.observe(images)
        self._engine.observe(seconds)

    def predictions(self, doubts: Iterable[str]) -> None:
        """Count images by the doubt about each, such as ``Prediction.doubt`` tells it."""
        for doubt in doubts:
            self._predictions.labels(doubt).inc()

    def request(self, route: str, code: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(route, str(code)).inc()
        if route == "/predict" and code == 200:
            self._seconds.observe(seconds)

    def text(self) -> tuple[bytes, str]:
        """Return all of it as Prometheus reads it, and the content type of that."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST
