"""What monitoring costs a prediction: at the endpoint, and afterwards in the look.

`PYTHONPATH=src python benchmarks/bench_monitor_cost.py [ROWS]`

Rows of 30 columns (24 numbers, 6 categories). At the endpoint monitoring is one thing: the line of
the capture log, made and handed to the system before the answer leaves; everything else is made
from that log by the look, in another process. Medians of CPU microseconds a prediction over several
rounds; the whole look is timed part by part, at `ROWS` predictions (200,000 by default), and the
statistics of an hour are measured in bytes.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from loopwright.deploy import CapturedPrediction, captured_inputs, read_capture_lines
from loopwright.deploy.capture import CaptureLog, utc_text
from loopwright.monitor import (
    Ledger,
    LedgerAbout,
    MonitorPlan,
    build_reference,
    start_watch,
    watch,
)
from loopwright.monitor.hourly import prediction_statistics

_ROUNDS = 5
_START = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = {f"n{k}": "number" for k in range(24)} | {f"c{k}": "category" for k in range(6)}


def table(n_rows: int, seed: int) -> pl.DataFrame:
    """Return rows of 24 numbers and 6 categories."""
    rng = np.random.default_rng(seed)
    columns = {f"n{k}": np.round(rng.lognormal(3, 1, n_rows), 3) for k in range(24)}
    texts = {f"c{k}": [f"value {v}" for v in rng.integers(0, 8 + 4 * k, n_rows)] for k in range(6)}
    return pl.DataFrame({**columns, **texts})


def lines(rows: pl.DataFrame) -> list[CapturedPrediction]:
    """Return the rows as answered predictions, a thousand a second."""
    return [
        CapturedPrediction(
            inference_id=f"{number:032d}",
            at=utc_text(_START + timedelta(milliseconds=number)),
            version="v1",
            inputs=row,
            prediction=row["n0"] * 1.5,
        )
        for number, row in enumerate(rows.iter_rows(named=True))
    ]


def cost(work: Callable[[], object], n: int) -> float:
    """Return the median CPU microseconds of one of `n`."""
    taken = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        work()
        taken.append((time.process_time() - began) / n * 1e6)
    return statistics.median(taken)


def at_the_endpoint(predictions: list[CapturedPrediction], folder: Path) -> None:
    """Print what the capture log takes of a request of one row, and of one of a hundred."""
    log = CaptureLog(folder / "bench")
    some = predictions[:20_000]

    def by_one() -> None:
        for each in some:
            log.write(log.encoded([each]))

    def by_hundred() -> None:
        for start in range(0, len(some), 100):
            log.write(log.encoded(some[start : start + 100]))

    def encoded_only() -> None:
        for each in some:
            log.encoded([each])

    print(f"{'at the endpoint, a request of one row':<48}{cost(by_one, len(some)):8.2f} us")
    print(f"{'   of it encoding':<48}{cost(encoded_only, len(some)):8.2f} us")
    print(
        f"{'at the endpoint, a request of 100 rows':<48}{cost(by_hundred, len(some)):8.2f} us a row"
    )
    log.close()


def in_the_look(predictions: list[CapturedPrediction], folder: Path, rows: pl.DataFrame) -> None:
    """Print what each part of a look takes of a prediction."""
    n = len(predictions)
    log = CaptureLog(folder / "capture")
    for start in range(0, n, 1_000):
        log.write(log.encoded(predictions[start : start + 1_000]))
    log.close()
    ledger = Ledger(folder / "truth", LedgerAbout())
    reference = build_reference(rows[:5_000], rows["n0"][:5_000].to_numpy() * 1.5, None, KINDS)
    state = start_watch(reference, MonitorPlan(), version="v1")
    parts = dict.fromkeys(("read the log", "ledger", "inputs", "detectors", "statistics"), 0.0)
    size = 0
    cursor = None
    while True:
        began = time.process_time()
        page = read_capture_lines(folder / "capture", after=cursor, max_bytes=48 << 20)
        parts["read the log"] += time.process_time() - began
        if not page.frame.height:
            break
        cursor = page.cursor
        began, above = time.process_time(), ledger.number
        ledger.take_predictions(page.frame)
        parts["ledger"] += time.process_time() - began
        for part in ledger.predictions(above=above):
            began = time.process_time()
            inputs = captured_inputs(part["inputs"].to_list())
            parts["inputs"] += time.process_time() - began
            began = time.process_time()
            state, _ = watch(reference, state, part, inputs=inputs)
            parts["detectors"] += time.process_time() - began
            began = time.process_time()
            found = prediction_statistics(reference, part, inputs)
            parts["statistics"] += time.process_time() - began
            size = max(size, *(len(msgspec.json.encode(each)) for each in found.values()))
    for name, seconds in parts.items():
        print(f"{'in the look: ' + name:<48}{seconds / n * 1e6:8.2f} us")
    total = sum(parts.values())
    print(
        f"{'in the look, together':<48}{total / n * 1e6:8.2f} us: {total / n * 1e6:.0f} s a million"
    )
    print(f"statistics of an hour of 30 columns: {size / 1e3:.1f} KB at most")


def main(n_rows: int) -> None:
    """Print both."""
    rows = table(n_rows, 0)
    predictions = lines(rows)
    with tempfile.TemporaryDirectory() as folder:
        at_the_endpoint(predictions, Path(folder))
        in_the_look(predictions, Path(folder), rows)


if __name__ == "__main__":
    main(int(sys.argv[1].replace("_", "")) if len(sys.argv) > 1 else 200_000)
