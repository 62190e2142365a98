"""CloudWatch metrics of endpoints: requests, errors and latency of each variant, minute by minute.

The processes of an endpoint count from their start on. What was added is written down now and then, one
line of JSON at a time, so that the figures of an hour ago are still known after a restart.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopwright.deploy.counts import BUCKETS_S, VariantCounts, variant_counts
from loopwright.deploy.endpoint import Endpoint
from loopwright.sagemaker.chore import chore
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.endpoint_record import ENDPOINTS
from loopwright.sagemaker.metric import Point, Series, keeps_metrics
from loopwright.sagemaker.metric_alarm import NAMESPACE
from loopwright.sagemaker.serving_plan import own_name
from loopwright.store import Record

_FILE, _LAST = "lines.jsonl", "last.json"
# SageMaker keeps figures of a minute for 15 days; this is as much at one line a minute and variant
_MOST_BYTES = 16 << 20
_lock = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Added:
    """What a variant has counted more, up to a time in seconds since 1970."""

    at: float
    variant: str
    config: str
    instances: int
    requests: int
    errors: int
    refused: int
    seconds: float
    least_s: float
    most_s: float


@chore(10.0)
def note_counts(desk: Desk) -> None:
    """Write down what endpoints have counted since the last time; forget those that are gone."""
    known = set()
    for record in ENDPOINTS.all(desk):
        known.add(own_name(record.body["arn"]))
        _noted(desk, record)
    root = _root(desk)
    for folder in root.iterdir() if root.is_dir() else ():
        if folder.name not in known:
            shutil.rmtree(folder, ignore_errors=True)


@keeps_metrics
def endpoint_metrics(
    desk: Desk, caller: Caller, namespace: str, dimensions: Mapping[str, str]
) -> Iterator[Series]:
    """Yield the metrics of endpoints, as of now."""
    if namespace not in ("", NAMESPACE):
        return
    name = dimensions.get("EndpointName")
    one = ENDPOINTS.find(desk, caller, name) if name else None
    for record in [one] if one else ([] if name else list(ENDPOINTS.all(desk, caller))):
        _noted(desk, record)
        lines = _lines(_root(desk) / own_name(record.body["arn"]))
        yield from _series(record.body["name"], lines)


def _series(endpoint: str, lines: list[_Added]) -> Iterator[Series]:
    groups: dict[tuple[tuple[str, str], ...], list[_Added]] = {}
    for each in lines:
        plain = {"EndpointName": endpoint, "VariantName": each.variant}
        for named in (plain, {**plain, "EndpointConfigName": each.config}):
            groups.setdefault(tuple(named.items()), []).append(each)
    for pairs, added in sorted(groups.items()):
        for metric, points in _points(added).items():
            yield Series(
                namespace=NAMESPACE, name=metric, dimensions=dict(pairs), points=points.copy
            )


def _points(lines: list[_Added]) -> dict[str, list[Point]]:
    """Return the points of each metric; a request without an error is a 0 among its errors."""
    found: dict[str, list[Point]] = {}
    for each in lines:
        n = float(each.requests)
        shares = {
            "Invocations": (n, n, 1.0, 1.0),
            "InvocationsPerInstance": (n, n / max(each.instances, 1), 1.0, 1.0),
            "Invocation4XXErrors": _share(n, each.refused),
            "Invocation5XXErrors": _share(n, each.errors),
            "ModelLatency": (n, each.seconds * 1e6, each.least_s * 1e6, each.most_s * 1e6),
        }
        for metric, (count, total, least, most) in shares.items():
            found.setdefault(metric, []).append(
                Point(at=each.at, count=count, total=total, least=least, most=most)
            )
    return found


def _share(n: float, some: int) -> tuple[float, float, float, float]:
    return n, float(some), float(some == n), float(some > 0)


def _root(desk: Desk) -> Path:
    return desk.workspace.home / "sagemaker" / "endpoint-metrics"


def _noted(desk: Desk, record: Record) -> None:
    """Write down what an endpoint has counted more since it was last looked at."""
    live = record.body.get("live")
    if not live:
        return
    own = own_name(record.body["arn"])
    folder = _root(desk) / own
    with _lock:
        counts = variant_counts(Endpoint(own, desk.workspace.endpoint_folder(own)).counts_folder)
        last = _read(folder / _LAST)
        lines = []
        for variant in live["variants"]:
            seen = counts.get(variant["own"], VariantCounts())
            added = seen.since(VariantCounts(**last.get(variant["own"], {})))
            if added.n_requests and not variant["shadow"]:
                lines.append(_line(desk.now().timestamp(), record, variant, added))
        if not lines:
            return
        folder.mkdir(parents=True, exist_ok=True)
        _make_room(folder / _FILE)
        with (folder / _FILE).open("a") as file:
            file.write("".join(f"{json.dumps(each)}\n" for each in lines))
        kept = {name: _plain(each) for name, each in counts.items()}
        temporary = folder / f".{_LAST}"
        temporary.write_text(json.dumps(kept))
        temporary.replace(folder / _LAST)


def _line(
    at: float, record: Record, variant: Mapping[str, Any], added: VariantCounts
) -> dict[str, Any]:
    ends = (*BUCKETS_S, BUCKETS_S[-1])
    used = [place for place, count in enumerate(added.buckets) if count]
    return {
        "at": at,
        "variant": variant["name"],
        "config": record.body["live"].get("config", ""),
        "instances": variant.get("count", 1),
        "requests": added.n_requests,
        "errors": added.n_errors,
        "refused": added.n_refused,
        "seconds": added.seconds,
        "least_s": (0.0, *BUCKETS_S)[used[0]] if used else 0.0,
        "most_s": ends[used[-1]] if used else 0.0,
    }


def _plain(counts: VariantCounts) -> dict[str, Any]:
    return {
        "n_requests": counts.n_requests,
        "n_errors": counts.n_errors,
        "n_refused": counts.n_refused,
        "buckets": counts.buckets,
        "seconds": counts.seconds,
    }


def _make_room(path: Path) -> None:
    """Drop the older half of the lines once there are too many."""
    if not path.exists() or path.stat().st_size < _MOST_BYTES:
        return
    lines = path.read_text().splitlines(keepends=True)
    temporary = path.with_name(f".{path.name}")
    temporary.write_text("".join(lines[len(lines) // 2 :]))
    temporary.replace(path)


def _lines(folder: Path) -> list[_Added]:
    try:
        text = (folder / _FILE).read_text()
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        try:
            found.append(_Added(**json.loads(line)))
        except (ValueError, TypeError):
            continue  # the last line of a server that was killed
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
