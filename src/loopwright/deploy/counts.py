"""What an endpoint's processes have counted, as values that can be kept, read and added up."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

_log = logging.getLogger(__name__)

# seconds; from a single row answered at once to a large batch
BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip

# what a process that has ended still counts for
_LASTING = ("captured_predictions", "dropped_captures")


class VariantCounts(msgspec.Struct, kw_only=True):
    """Requests of one variant.

    Parameters
    ----------
    n_requests, n_errors, n_refused
        All answers; those of status 500 and above; those of status 400 to 499.
    buckets, seconds
        How many took how long, by `BUCKETS_S` and one bucket for all above; their sum.
    """

    n_requests: int = 0
    n_errors: int = 0
    n_refused: int = 0
    buckets: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    seconds: float = 0.0

    def plus(self, other: VariantCounts) -> VariantCounts:
        """Return both together."""
        return VariantCounts(
            n_requests=self.n_requests + other.n_requests,
            n_errors=self.n_errors + other.n_errors,
            n_refused=self.n_refused + other.n_refused,
            buckets=[a + b for a, b in zip(self.buckets, other.buckets, strict=True)],
            seconds=self.seconds + other.seconds,
        )

    def since(self, before: VariantCounts) -> VariantCounts:
        """Return what was counted after `before`; all, where counting has begun anew meanwhile."""
        if self.n_requests < before.n_requests:
            return self
        return VariantCounts(
            n_requests=self.n_requests - before.n_requests,
            n_errors=max(0, self.n_errors - before.n_errors),
            n_refused=max(0, self.n_refused - before.n_refused),
            buckets=[max(0, a - b) for a, b in zip(self.buckets, before.buckets, strict=True)],
            seconds=self.seconds - before.seconds,
        )

    def n_slower(self, limit_s: float) -> int:
        """Return how many requests certainly took longer, going by the buckets."""
        return sum(
            count
            for count, begin in zip(self.buckets, (0.0, *BUCKETS_S), strict=True)
            if begin >= limit_s
        )


class ShadowCounts(msgspec.Struct, kw_only=True):
    """Requests of one shadow variant: answered, failed or refused by it, dropped while it was busy."""

    n_answered: int = 0
    n_failed: int = 0
    n_dropped: int = 0

    def plus(self, other: ShadowCounts) -> ShadowCounts:
        """Return both together."""
        return ShadowCounts(
            n_answered=self.n_answered + other.n_answered,
            n_failed=self.n_failed + other.n_failed,
            n_dropped=self.n_dropped + other.n_dropped,
        )


class Counts(msgspec.Struct, kw_only=True):
    """All that one process has counted since it started; `totals` and `gauges` by their names."""

    requests: list[tuple[str, int, int]] = []
    predictions: list[tuple[str, str, int]] = []
    invocations: VariantCounts = msgspec.field(default_factory=VariantCounts)
    totals: dict[str, int] = {}
    variants: dict[str, VariantCounts] = {}
    shadows: dict[str, ShadowCounts] = {}
    gauges: dict[str, float] = {}


def added_up(parts: Iterable[Counts]) -> Counts:
    """Return what several processes have counted together; `start_time_seconds` is the earliest."""
    requests: Counter[tuple[str, int]] = Counter()
    predictions: Counter[tuple[str, str]] = Counter()
    totals: Counter[str] = Counter()
    gauges: dict[str, float] = {}
    whole = Counts()
    for part in parts:
        requests.update({(route, code): count for route, code, count in part.requests})
        predictions.update({(version, name): n for version, name, n in part.predictions})
        totals.update(part.totals)
        whole.invocations = whole.invocations.plus(part.invocations)
        for name, variant in part.variants.items():
            known = whole.variants.get(name)
            whole.variants[name] = known.plus(variant) if known else variant
        for name, shadow in part.shadows.items():
            seen = whole.shadows.get(name)
            whole.shadows[name] = seen.plus(shadow) if seen else shadow
        for name, value in part.gauges.items():
            is_start = name == "start_time_seconds" and name in gauges
            gauges[name] = min(gauges[name], value) if is_start else gauges.get(name, 0.0) + value
    whole.requests = [(route, code, count) for (route, code), count in sorted(requests.items())]
    whole.predictions = [(version, name, n) for (version, name), n in predictions.items()]
    whole.totals, whole.gauges = dict(totals), gauges
    return whole


def keep_counts(folder: Path, counts: Counts) -> None:
    """Keep what this process has counted so far for others to read; a full disk only delays it."""
    path = folder / f"{os.getpid()}.json"
    temporary = path.with_suffix(".new")
    try:
        folder.mkdir(exist_ok=True)
        # no fsync: after a power cut counting begins anew
        temporary.write_bytes(msgspec.json.encode(counts))
        temporary.replace(path)
    except OSError as error:
        _log.debug("Counts were not kept: %s", error)


def forget_counts(folder: Path) -> None:
    """Remove what earlier processes have counted."""
    for path in folder.glob("*.json"):
        path.unlink(missing_ok=True)


def retire_counts(folder: Path, pid: int) -> None:
    """Keep what a process that has ended counted, beside what its successor will count."""
    path = folder / f"{pid}.json"
    try:
        ended = msgspec.json.decode(path.read_bytes(), type=Counts)
        retired = folder / "retired.json"
        parts = [ended]
        if retired.exists():
            parts.append(msgspec.json.decode(retired.read_bytes(), type=Counts))
        whole = added_up(parts)
        whole.gauges = {name: whole.gauges.get(name, 0.0) for name in _LASTING}
        temporary = retired.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(whole))
        temporary.replace(retired)
        path.unlink()
    except (OSError, msgspec.DecodeError) as error:
        _log.debug("Counts were not retired: %s", error)


def kept_counts(folder: Path, *, but: int | None = None) -> list[Counts]:
    """Return what each process has counted, of those that left too, except the process `but`."""
    found = []
    for path in sorted(folder.glob("*.json")):
        if path.stem == str(but):
            continue
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Counts))
        except (OSError, msgspec.DecodeError) as error:
            _log.debug("Counts could not be read: %s", error)
    return found


def variant_counts(folder: Path) -> Mapping[str, VariantCounts]:
    """Return what all processes of an endpoint have counted for each variant."""
    return added_up(kept_counts(folder)).variants
