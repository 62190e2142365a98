"""What the endpoint counts, in the text format that Prometheus reads."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
# seconds; from a single row answered at once to a large batch
_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip
_PREFIX = "loopwright_endpoint_"


class EndpointMetrics:
    """Counters of one endpoint process, from its start on."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._predictions: Counter[str] = Counter()
        self._bucket_counts = [0] * (len(_BUCKETS_S) + 1)
        self._latency_sum_s = 0.0
        self.n_model_errors = 0
        self.n_labels = 0
        self.n_reloads = 0
        self.n_failed_reloads = 0

    def count_request(self, route: str, status: int, latency_s: float | None) -> None:
        """Count an answer; the latency, in seconds, of a request for predictions."""
        self._requests[route, status] += 1
        if latency_s is not None:
            self._bucket_counts[bisect_left(_BUCKETS_S, latency_s)] += 1
            self._latency_sum_s += latency_s

    def count_predictions(self, version: int | str, n_rows: int) -> None:
        """Count answered rows of a model version."""
        self._predictions[str(version)] += n_rows

    def text(self, *, gauges: Mapping[str, float], model: Mapping[str, str]) -> bytes:
        """Return everything counted, with the gauges and the model as they are now."""
        lines = [
            *_family(
                "requests_total",
                "counter",
                "Answers, by route and status.",
                (
                    (_labels(route=route, code=str(code)), count)
                    for (route, code), count in sorted(self._requests.items())
                ),
            ),
            *_family(
                "predictions_total",
                "counter",
                "Answered rows, by model version.",
                ((_labels(version=name), count) for name, count in self._predictions.items()),
            ),
            *self._plain_counters(),
            *self._latency(),
        ]
        for name, value in gauges.items():
            lines += _family(
                name, "gauge", name.replace("_", " ").capitalize() + ".", [("", value)]
            )
        lines += _family("model_info", "gauge", "The model served now.", [(_labels(**model), 1)])
        return ("\n".join(lines) + "\n").encode()

    def _plain_counters(self) -> Iterable[str]:
        for name, value, text in (
            ("model_errors_total", self.n_model_errors, "Requests on which the model failed."),
            ("labels_total", self.n_labels, "Labels taken in."),
            ("reloads_total", self.n_reloads, "Changes of the model carried out."),
            ("failed_reloads_total", self.n_failed_reloads, "Changes of the model refused."),
        ):
            yield from _family(name, "counter", text, [("", value)])

    def _latency(self) -> Iterable[str]:
        samples: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*_BUCKETS_S, "+Inf"), self._bucket_counts, strict=True):
            total += count
            samples.append(("_bucket" + _labels(le=str(bound)), total))
        samples += [("_sum", self._latency_sum_s), ("_count", total)]
        return _family(
            "invocation_seconds",
            "histogram",
            "Time from the whole request to its answer, for /invocations.",
            samples,
        )


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> Iterable[str]:
    yield f"# HELP {_PREFIX}{name} {text}"
    yield f"# TYPE {_PREFIX}{name} {kind}"
    for suffix, value in samples:
        yield f"{_PREFIX}{name}{suffix} {value}"


def _labels(**labels: str) -> str:
    pairs = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
