"""Tables to search on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.prepare import suggest
from loopwright.train import Outcome
from loopwright.tune.auto import families_of
from loopwright.tune.prepared import Table

MakeTable = Callable[..., Table]


def rows(n_rows: int, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Return columns with gaps and texts, and a signal that is neither linear nor smooth."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=n_rows), rng.uniform(-2, 2, n_rows)
    town = rng.choice(["Aa", "Bee", "Cod"], n_rows)
    signal = x + np.where(z > 0, 2 * z, 0) + (town == "Bee") + 0.2 * rng.normal(size=n_rows)
    frame = pl.DataFrame({"x": x, "z": z, "town": town, "noise": rng.normal(size=n_rows)})
    return frame.with_columns(
        pl.when(pl.col("noise") > 2).then(None).otherwise("x").alias("x")
    ), signal


@pytest.fixture
def make_table() -> MakeTable:
    """Return a function that makes a table to search on."""

    def make(task: str = "regression", n_rows: int = 240, **changes: Any) -> Table:
        frame, signal = rows(n_rows)
        y = {
            "regression": signal,
            "binary": (signal > 1).astype(np.float64),
            "multiclass": np.digitize(signal, [0.0, 1.5]).astype(np.float64),
        }[task]
        classes = {"regression": (), "binary": ("no", "yes"), "multiclass": ("a", "b", "c")}[task]
        labelled = frame.with_columns(
            pl.Series("y", [classes[int(i)] for i in y] if classes else y)
        )
        parts: dict[str, Any] = {
            "frame": frame,
            "y": y,
            "outcome": Outcome(task=task, classes=classes),  # type: ignore[arg-type]
            "recipes": {f: suggest(labelled, "y", task, family=f) for f in families_of()},  # type: ignore[arg-type]
        }
        return Table(**{**parts, **changes})

    return make
