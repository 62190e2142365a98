"""Real tables in the order of time for `bench_year.py`: rows, truth, when each was and was known.

Nothing is drawn, shuffled or injected: what moves is what moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from monitor_table import DATASETS

from loopwright.problem import Answers, class_answers, metric_named, value_answers

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Year:
    """A table with `at` and `truth`, by time; the first `first` of it is there from the beginning.

    Parameters
    ----------
    metric
        Its loss, smaller is better, a mean over rows.
    late
        How long after its prediction a truth is known.
    """

    name: str
    frame: pl.DataFrame
    metric: str
    first: timedelta
    late: timedelta

    @property
    def inputs(self) -> list[str]:
        """The columns that the model sees."""
        return [name for name in self.frame.columns if name not in ("at", "truth")]

    def kinds(self) -> dict[str, str]:
        """The kind of each input, as the monitor calls it."""
        schema = self.frame.schema
        return {c: "number" if schema[c].is_numeric() else "category" for c in self.inputs}


def electricity() -> Year:
    """Return the demand of Victoria every half hour, 2012 to 2014: a year to learn from, then two."""
    raw = pl.read_parquet(DATASETS / "vic_elec.parquet")
    # the file gives UTC; people go by their own clock
    local = (
        pl.col("Time").str.to_datetime(time_zone="UTC").dt.convert_time_zone("Australia/Melbourne")
    )
    frame = raw.select(
        at=pl.col("Time").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", time_zone="UTC"),
        hour=local.dt.hour().cast(pl.Int64),
        weekday=local.dt.weekday().cast(pl.Int64),
        holiday=pl.col("Holiday").cast(pl.Int64),
        temperature="Temperature",
        temperature_before=pl.col("Temperature").shift(48),
        truth="Demand",
    )
    return _year("electricity", frame, "mape", first=90, late=1)


def houses() -> Year:
    """Return the sales of houses in King County, May 2014 to May 2015."""
    raw = pl.read_parquet(DATASETS / "kc_house.parquet")
    frame = raw.select(
        "bedrooms", "bathrooms", "sqft_living", "sqft_lot", "floors", "view", "condition", "grade",
        "yr_built", "lat", "long", "sqft_living15",
        at=pl.col("date").str.to_datetime("%m/%d/%Y", time_unit="us", time_zone="UTC"),
        truth="price",
    )  # fmt: skip
    return _year("house sales", frame, "mape", first=90, late=14)


def flights() -> Year:
    """Return every fourth flight from New York in 2013; the truth is a delay of over 15 minutes."""
    raw = pl.read_parquet(DATASETS / "nycflights13_flights.parquet").drop_nulls("arr_delay")
    weather = pl.read_parquet(DATASETS / "nycflights13_weather.parquet").unique(
        ["origin", "time_hour"]
    )
    joined = raw.gather_every(4).join(
        weather.select("origin", "time_hour", "temp", "humid", "wind_speed", "precip", "visib"),
        on=["origin", "time_hour"],
        how="left",
    )
    frame = joined.select(
        "carrier", "origin", "dest", "distance", "hour", "temp", "humid", "wind_speed", "precip",
        "visib",
        at=pl.datetime("year", "month", "day", "hour", "minute", time_zone="UTC"),
        truth=(pl.col("arr_delay") > 15).cast(pl.Float64),
    )  # fmt: skip
    return _year("flights", frame, "log_loss", first=60, late=1)


TABLES = {"electricity": electricity, "houses": houses, "flights": flights}


def _year(name: str, frame: pl.DataFrame, metric: str, *, first: int, late: int) -> Year:
    frame = frame.with_columns(pl.col(pl.Int64).cast(pl.Float64)).sort("at", maintain_order=True)
    start = frame["at"][0]
    ended = frame["at"] >= start + timedelta(days=first + 365)
    return Year(
        name=name,
        frame=frame.filter(~ended),
        metric=metric,
        first=timedelta(days=first),
        late=timedelta(days=late),
    )


@dataclass(frozen=True, slots=True)
class Model:
    """LightGBM with the same settings for everybody, and the codes of the texts it learnt."""

    year: Year
    booster: Any
    codes: dict[str, dict[str, int]]

    def says(self, rows: pl.DataFrame) -> Array:
        """Return its values or probabilities, `(n_rows,)`."""
        found = np.asarray(self.booster.predict(_matrix(self.year, rows, self.codes)))
        return np.exp(found) if self.year.metric == "mape" else found

    def importances(self) -> dict[str, float]:
        """Return how much it goes by each column, 1 together."""
        gain = np.asarray(self.booster.feature_importance("gain"), dtype=float)
        return dict(zip(self.year.inputs, (gain / gain.sum()).tolist(), strict=True))


def fitted(year: Year, rows: pl.DataFrame) -> Model:
    """Return a model that learnt from some rows."""
    import lightgbm

    texts = [c for c, kind in year.kinds().items() if kind == "category"]
    codes = {c: {v: n for n, v in enumerate(rows[c].unique().sort())} for c in texts}
    y = rows["truth"].to_numpy()
    relative = year.metric == "mape"
    settings = {
        "objective": "l2" if relative else "binary", "learning_rate": 0.06, "num_leaves": 15,
        "min_data_in_leaf": 20, "seed": 0, "num_threads": 1, "verbosity": -1,
        "deterministic": True, "force_row_wise": True,
    }  # fmt: skip
    data = lightgbm.Dataset(
        _matrix(year, rows, codes),
        np.log(y) if relative else y,
        categorical_feature=[year.inputs.index(c) for c in texts],
    )
    return Model(year, lightgbm.train(settings, data, 150), codes)


def answers_of(year: Year, said: Array) -> Answers:
    """Return what a model said as the metrics want it."""
    return value_answers(said) if year.metric == "mape" else class_answers(said)


def losses_of(year: Year, rows: pl.DataFrame, said: Array) -> Array:
    """Return the loss of each row."""
    found = metric_named(year.metric).per_row(rows["truth"].to_numpy(), answers_of(year, said))
    return np.asarray(found, dtype=np.float64)


def _matrix(year: Year, rows: pl.DataFrame, codes: dict[str, dict[str, int]]) -> Array:
    columns = [
        pl.col(c).replace_strict(codes[c], default=None, return_dtype=pl.Float64)
        if c in codes
        else pl.col(c).cast(pl.Float64)
        for c in year.inputs
    ]
    return rows.select(columns).to_numpy()
