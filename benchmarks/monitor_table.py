"""Streams of real rows for `bench_monitor.py`: what was, what comes, and where a change is put in.

Rows come in random order, so that without an injected change there is none. A change of a column is
a tilt by rejection: the rows taken have density 1 + a (2u - 1) over its ranks u, which is a
Kolmogorov-Smirnov distance of a / 4; columns that go with it move along. A change of the concept
turns over the truth of a share of the rows above the column's median.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

DATASETS = Path(
    os.environ.get("LOOPWRIGHT_DATASETS", Path(__file__).parents[2] / "shared" / "datasets")
)
# the column that is tilted, rows of the reference
TABLES = {"diamonds": ("carat", 15_000), "flights": ("distance", 15_000)}
_N_LEARNT = 12_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A scored table: reference rows, and the rows that windows are drawn from.

    Parameters
    ----------
    reference, rows
        Input columns, `score` (0 to 1) and `truth` (0 or 1).
    tilted
        The column that changes are put into.
    """

    name: str
    reference: pl.DataFrame
    rows: pl.DataFrame
    tilted: str

    @property
    def inputs(self) -> list[str]:
        """The columns that are watched beside the score."""
        return [column for column in self.rows.columns if column not in ("score", "truth")]

    def kinds(self) -> dict[str, str]:
        """The kind of each input, as the monitor calls it."""
        schema = self.rows.schema
        return {c: "number" if schema[c].is_numeric() else "category" for c in self.inputs}


def stream(name: str, seed: int) -> Stream:
    """Return a table with the score of a model that learnt from other rows of it."""
    import lightgbm

    tilted, n_reference = TABLES[name]
    frame = (_diamonds() if name == "diamonds" else _flights()).drop_nulls(["truth", tilted])
    frame = frame[np.random.default_rng(seed).permutation(frame.height)]
    numbers = frame.drop("truth").select(
        pl.col(pl.String).cast(pl.Categorical).to_physical(), pl.exclude(pl.String)
    )
    model = lightgbm.LGBMClassifier(n_estimators=100, verbosity=-1, n_jobs=1, random_state=0)
    x, y = numbers.to_numpy().astype(float), frame["truth"].to_numpy()
    model.fit(x[:_N_LEARNT], y[:_N_LEARNT])
    score = np.asarray(model.booster_.predict(x[_N_LEARNT:]), dtype=float)
    scored = frame[_N_LEARNT:].with_columns(score=score)
    return Stream(
        name=name, reference=scored[:n_reference], rows=scored[n_reference:], tilted=tilted
    )


def null_rows(table: Stream, n: int, rng: np.random.Generator) -> pl.DataFrame:
    """Return rows as they are, each pass over the table in another order."""
    order: list[npt.NDArray[np.int64]] = []
    while sum(len(part) for part in order) < n:
        order.append(rng.permutation(table.rows.height))
    return table.rows[np.concatenate(order)[:n]]


def tilted_rows(table: Stream, n: int, ks: float, rng: np.random.Generator) -> pl.DataFrame:
    """Return rows whose tilted column lies so far from what it was."""
    values = table.rows[table.tilted].to_numpy()
    ranks = np.empty(len(values))
    ranks[np.lexsort((rng.random(len(values)), values))] = np.arange(len(values)) / len(values)
    taken: list[npt.NDArray[np.int64]] = []
    while sum(len(part) for part in taken) < n:
        order = rng.permutation(len(values))
        keep = rng.random(len(values)) * (1 + 4 * ks) < 1 + 4 * ks * (2 * ranks[order] - 1)
        taken.append(order[keep])
    return table.rows[np.concatenate(taken)[:n]]


def turned_rows(table: Stream, n: int, share: float, rng: np.random.Generator) -> pl.DataFrame:
    """Return rows with the truth of a share of those above the median turned over."""
    rows = null_rows(table, n, rng)
    values = rows[table.tilted].to_numpy()
    turned = (values > np.median(values)) & (rng.random(n) < share)
    truth = rows["truth"].to_numpy()
    return rows.with_columns(truth=np.where(turned, 1 - truth, truth))


def flights_in_order() -> pl.DataFrame:
    """Return the flights as they flew, with `at`, for a year with its seasons."""
    frame = _flights(keep_time=True).drop_nulls(["truth"])
    return frame.sort("at", maintain_order=True)


def _diamonds() -> pl.DataFrame:
    frame = pl.read_parquet(DATASETS / "diamonds.parquet")
    truth = (frame["price"] > frame["price"].median()).cast(pl.Int64)
    return frame.drop("price").with_columns(truth=truth)


def _flights(*, keep_time: bool = False) -> pl.DataFrame:
    flights = pl.read_parquet(DATASETS / "nycflights13_flights.parquet")
    weather = pl.read_parquet(DATASETS / "nycflights13_weather.parquet").drop(
        "year", "month", "day", "hour"
    )
    planes = pl.read_parquet(DATASETS / "nycflights13_planes.parquet").rename({"year": "built"})
    joined = (
        flights.drop("arr_time", "year")
        .join(weather, on=["origin", "time_hour"], how="left")
        .join(planes, on="tailnum", how="left")
        .with_columns(truth=(pl.col("arr_delay") > 15).cast(pl.Int64))
        .drop("arr_delay", "speed")  # almost always missing, and Evidently fails on such windows
    )
    if keep_time:
        # the clock on the wall, which the season goes by
        joined = joined.with_columns(
            at=pl.datetime(2013, "month", "day", "hour", "minute", time_zone="UTC")
        )
    return joined.drop("time_hour")
