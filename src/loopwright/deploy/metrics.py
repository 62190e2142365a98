"""What the endpoint counts, in the text format that Prometheus reads."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from loopwright.core.prometheus import CONTENT_TYPE, family, labels
from loopwright.deploy.counts import BUCKETS_S, Counts, ShadowCounts, VariantCounts, added_up

__all__ = ["CONTENT_TYPE", "EndpointMetrics", "loop_gauges"]

_PREFIX = "loopwright_endpoint_"
_MOST_LOOP_BYTES = 256 << 10


def loop_gauges(path: Path | None) -> bytes:
    """Return what the loop behind an endpoint last wrote for `/metrics`; nothing if it is too long."""
    if path is None:
        return b""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_LOOP_BYTES + 1)
    except OSError:
        return b""
    return text if len(text) <= _MOST_LOOP_BYTES and text.endswith(b"\n") else b""


class EndpointMetrics:
    """Counters of one endpoint process, from its start on."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._predictions: Counter[tuple[str, str]] = Counter()
        self._bucket_counts = [0] * (len(BUCKETS_S) + 1)
        self._latency_sum_s = 0.0
        self._variants: dict[str, VariantCounts] = {}
        self.shadows: dict[str, ShadowCounts] = {}
        self.n_model_errors = 0
        self.n_labels = 0
        self.n_reloads = 0
        self.n_failed_reloads = 0

    def count_request(self, route: str, status: int, latency_s: float | None) -> None:
        """Count an answer; the latency, in seconds, of a request for predictions."""
        self._requests[route, status] += 1
        if latency_s is not None:
            self._bucket_counts[bisect_left(BUCKETS_S, latency_s)] += 1
            self._latency_sum_s += latency_s

    def count_variant(self, variant: str, status: int, latency_s: float) -> None:
        """Count an answer of one of several variants once more, under its name."""
        counts = self._variants.get(variant)
        if counts is None:
            counts = self._variants[variant] = VariantCounts()
        counts.n_requests += 1
        counts.n_errors += status >= 500
        counts.n_refused += 400 <= status < 500
        counts.buckets[bisect_left(BUCKETS_S, latency_s)] += 1
        counts.seconds += latency_s

    def count_predictions(
        self, version: int | str, n_rows: int, variant: str | None = None
    ) -> None:
        """Count answered rows of a model version."""
        self._predictions[str(version), variant or ""] += n_rows

    def counts(self, gauges: Mapping[str, float]) -> Counts:
        """Return everything counted so far, with the gauges as they are now."""
        return Counts(
            requests=[(*key, count) for key, count in sorted(self._requests.items())],
            predictions=[(*key, count) for key, count in self._predictions.items()],
            invocations=VariantCounts(buckets=self._bucket_counts, seconds=self._latency_sum_s),
            totals={
                "model_errors_total": self.n_model_errors,
                "labels_total": self.n_labels,
                "reloads_total": self.n_reloads,
                "failed_reloads_total": self.n_failed_reloads,
            },
            variants=self._variants,
            shadows=self.shadows,
            gauges=dict(gauges),
        )

    def text(
        self,
        *,
        gauges: Mapping[str, float],
        model: Mapping[str, str],
        others: Sequence[Counts] = (),
    ) -> bytes:
        """Return everything counted, with the gauges and the model as they are now.

        `others` is what the other processes of the endpoint have counted; all are added up.
        """
        whole = added_up([self.counts(gauges), *others])
        lines = [*_answered(whole), *_plain_counters(whole)]
        lines += _histogram(
            "invocation_seconds",
            "Time from the whole request to its answer, for /invocations.",
            {"": whole.invocations},
        )
        lines += [*_by_variant(whole), *_by_shadow(whole)]
        for name, value in whole.gauges.items():
            lines += _family(
                name, "gauge", name.replace("_", " ").capitalize() + ".", [("", value)]
            )
        lines += _family("model_info", "gauge", "The model served now.", [(_labels(**model), 1)])
        return ("\n".join(lines) + "\n").encode()


def _answered(whole: Counts) -> Iterable[str]:
    yield from _family(
        "requests_total",
        "counter",
        "Answers, by route and status.",
        ((_labels(route=route, code=str(code)), count) for route, code, count in whole.requests),
    )
    yield from _family(
        "predictions_total",
        "counter",
        "Answered rows, by model version and, where there are several, by variant.",
        (
            (_labels(version=version, **({"variant": variant} if variant else {})), count)
            for version, variant, count in whole.predictions
        ),
    )


def _plain_counters(whole: Counts) -> Iterable[str]:
    for name, text in (
        ("model_errors_total", "Requests on which the model failed."),
        ("labels_total", "Labels taken in."),
        ("reloads_total", "Changes of the model carried out."),
        ("failed_reloads_total", "Changes of the model refused."),
    ):
        yield from _family(name, "counter", text, [("", whole.totals.get(name, 0))])


def _by_variant(whole: Counts) -> Iterable[str]:
    if not whole.variants:
        return
    yield from _family(
        "variant_requests_total",
        "counter",
        "Answers of each variant, by how they ended.",
        (
            (_labels(variant=name, outcome=outcome), count)
            for name, counts in whole.variants.items()
            for outcome, count in (
                ("answered", counts.n_requests - counts.n_errors - counts.n_refused),
                ("refused", counts.n_refused),
                ("failed", counts.n_errors),
            )
        ),
    )
    yield from _histogram(
        "variant_invocation_seconds",
        "The same time as invocation_seconds, by variant.",
        whole.variants,
    )


def _by_shadow(whole: Counts) -> Iterable[str]:
    if not whole.shadows:
        return
    yield from _family(
        "shadow_requests_total",
        "counter",
        "Requests of each shadow variant, by how they ended.",
        (
            (_labels(variant=name, outcome=outcome), count)
            for name, counts in whole.shadows.items()
            for outcome, count in (
                ("answered", counts.n_answered),
                ("failed", counts.n_failed),
                ("dropped", counts.n_dropped),
            )
        ),
    )


def _histogram(name: str, text: str, kinds: Mapping[str, VariantCounts]) -> Iterable[str]:
    samples: list[tuple[str, float]] = []
    for variant, counts in kinds.items():
        own = {"variant": variant} if variant else {}
        total = 0
        for bound, count in zip((*BUCKETS_S, "+Inf"), counts.buckets, strict=True):
            total += count
            samples.append(("_bucket" + _labels(**own, le=str(bound)), total))
        suffix = _labels(**own) if own else ""
        samples += [("_sum" + suffix, counts.seconds), ("_count" + suffix, total)]
    return _family(name, "histogram", text, samples)


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> Iterable[str]:
    return family(_PREFIX + name, kind, text, samples)


def _labels(**values: str) -> str:
    return labels(values)
