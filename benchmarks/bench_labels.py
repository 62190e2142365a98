"""How long ground truth takes to find its predictions, and how much memory: `bench_labels.py [ROWS]`.

Predictions with 32-character ids go into a ledger as the looks of a year would bring them, then as
many labels, in an order that has nothing to do with that of the predictions; then one hour's labels
beside all of them. CPU seconds and the peak of the process's memory beside what Polars takes alone.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from loopwright.monitor import Ledger, LedgerAbout

_PREDICTIONS_AT_ONCE = 250_000
_LABELS_AT_ONCE = 500_000
_START = datetime(2026, 1, 1, tzinfo=UTC)


def ids(numbers: np.ndarray) -> pl.Series:
    """Return 32-character ids, the same for the same number."""
    mixed = pl.Series("n", numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    text = mixed.cast(pl.String).str.zfill(20)
    return ("prediction-" + text + "x").str.slice(0, 32).alias("inference_id")


def predictions(numbers: np.ndarray) -> pl.DataFrame:
    """Return captured lines with those numbers, one a second."""
    at = pl.Series("at", numbers.astype(np.int64) * 1_000_000 + int(_START.timestamp() * 1e6))
    n = len(numbers)
    return pl.DataFrame(
        [
            ids(numbers),
            at.cast(pl.Datetime("us", "UTC")),
            pl.Series("version", ["v1"]).new_from_index(0, n),
        ]
    ).with_columns(
        variant=pl.lit(None, dtype=pl.String),
        shadow=pl.lit(False),
        prediction=pl.Series(numbers % 1_000).cast(pl.Float64),
        probability=pl.lit(None, dtype=pl.Float64),
        probabilities=pl.lit(None, dtype=pl.String),
        inputs=pl.lit('{"rooms":3,"area":71.5,"city":"Bonn"}'),
    )


def labels(numbers: np.ndarray) -> pl.DataFrame:
    """Return labels for those predictions, a day after each."""
    at = pl.Series(
        "at", (numbers.astype(np.int64) + 86_400) * 1_000_000 + int(_START.timestamp() * 1e6)
    )
    return pl.DataFrame([ids(numbers), at.cast(pl.Datetime("us", "UTC"))]).with_columns(
        label=pl.Series(numbers % 997).cast(pl.Float64), source=pl.lit("bench")
    )


def chunks(numbers: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield some numbers at a time."""
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def peak_mib() -> float:
    """Return the largest memory this process ever had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(what: str, work: object) -> None:
    """Do some work and say what it took."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()  # type: ignore[operator]
    print(
        f"{what:<44} {time.process_time() - cpu:7.1f} CPU s {time.perf_counter() - wall:7.1f} s"
        f" {peak_mib():7.0f} MiB at most",
        flush=True,
    )


def main(n_rows: int) -> None:
    """Print what each part takes."""
    print(f"{n_rows:,} predictions and {n_rows:,} labels, Polars {pl.__version__}")
    print(f"{'at the start':<44} {'':>26} {peak_mib():7.0f} MiB")
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder), LedgerAbout())
        shuffled = np.random.default_rng(0).permutation(n_rows)

        def predicted() -> None:
            for part in chunks(np.arange(n_rows), _PREDICTIONS_AT_ONCE):
                ledger.take_predictions(predictions(part))

        def labelled() -> None:
            for part in chunks(shuffled, _LABELS_AT_ONCE):
                ledger.take_labels(labels(part))

        timed("predictions taken in", predicted)
        timed("labels taken in and joined, shuffled", labelled)
        assert ledger.counts.n_labelled == n_rows, ledger.counts
        timed(
            "all labelled predictions read for figures",
            lambda: ledger.labelled(version="v1", columns=("at", "label", "prediction")),
        )
        recent = np.arange(n_rows - 3_600, n_rows)
        timed("one hour of labels (3,600) joined", lambda: ledger.take_labels(labels(recent)))
        size = sum(path.stat().st_size for path in Path(folder).glob("*"))
        print(f"on the disk: {size / n_rows / 2:.0f} bytes a row, {size / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main(int(sys.argv[1].replace("_", "")) if len(sys.argv) > 1 else 1_000_000)
