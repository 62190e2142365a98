"""Partial dependence: what a model answers on average when one feature is set to a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.clarify.dataset import Dataset
from loopwright.sagemaker.clarify.predictor import Model, label_names

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")


def dependence(
    data: Dataset, names: Sequence[str], model: Model, *, grid_resolution: int
) -> list[dict[str, Any]]:
    """Return the partial dependence on features as `analysis.json` has it.

    Friedman, "Greedy Function Approximation", Annals of Statistics 29 (2001), section 8.2. A
    number is tried at the middles of `grid_resolution` buckets of equal width, a category, and a
    whole number of no more than so many values, at each of its values; `data_distribution` is the
    share of rows in each.
    """
    return [_of_feature(data, name, model, grid_resolution) for name in names]


def _of_feature(data: Dataset, name: str, model: Model, n: int) -> dict[str, Any]:
    column = data.table.column(name)
    is_number = column.dtype.is_numeric()
    about: dict[str, Any] = {
        "feature_name": name,
        "data_type": "numerical" if is_number else "categorical",
    }
    known = column.drop_nulls()
    if not len(known):
        return {**about, "error": f"The feature {name} has no values."}
    # between the whole numbers of a short list there is nothing to ask about
    is_short = column.dtype.is_integer() and known.n_unique() <= n
    values, shares = _buckets(known, n) if is_number and not is_short else _categories(known)
    at = data.feature_at(name)
    rows = data.feature_rows()
    predictions: list[list[float]] = []
    try:
        for value in values:
            for row in rows:
                row[at] = _as_cell(value, column)
            predictions.append(model.scores(rows).mean(axis=0).tolist())
    except InvalidInputError as error:
        return {**about, "error": str(error)}
    return {
        **about,
        "feature_values": values,
        "data_distribution": shares,
        # one list for each score of the model
        "model_predictions": [list(each) for each in zip(*predictions, strict=True)],
        "label_headers": label_names(model, len(predictions[0])),
    }


def _buckets(known: pl.Series, n: int) -> tuple[list[Any], list[float]]:
    numbers = known.cast(pl.Float64).to_numpy()
    low, high = float(numbers.min()), float(numbers.max())
    if low == high:
        return [low], [1.0]
    counts, edges = np.histogram(numbers, bins=n, range=(low, high))
    middles = (edges[:-1] + edges[1:]) / 2
    return middles.tolist(), (counts / len(numbers)).tolist()


def _categories(known: pl.Series) -> tuple[list[Any], list[float]]:
    counts = known.value_counts().sort(known.name)
    values = counts.get_column(known.name).to_list()
    return values, (counts["count"] / len(known)).to_list()


def _as_cell(value: Any, column: pl.Series) -> Any:
    if column.dtype == pl.String or column.dtype == pl.Boolean:
        return value
    return float(value)
