"""The analyses of Clarify, put together: what `analysis.json` says of a data set and a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.clarify.baseline import clustered
from loopwright.sagemaker.clarify.bias import POST_TRAINING, PRE_TRAINING, Rows, measured
from loopwright.sagemaker.clarify.config import AnalysisConfig, Measures, Shap
from loopwright.sagemaker.clarify.dataset import Dataset
from loopwright.sagemaker.clarify.dependence import dependence
from loopwright.sagemaker.clarify.facet import Choice, chosen, chosen_like, facets_of, is_continuous
from loopwright.sagemaker.clarify.predictor import Model, label_names, predicted_labels
from loopwright.sagemaker.clarify.shap import aggregated, kernel_values
from loopwright.sagemaker.clarify.table import found_at, read_table

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_VERSION = "1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributions:
    """What SHAP found.

    Parameters
    ----------
    features, labels
        Names of what is explained, and of the scores.
    values
        Of each row, `(n_rows, n_features, n_labels)`.
    scores
        `(n_features, n_labels)`: the global values.
    expected
        `(n_labels,)`.
    baseline
        Rows that were made up; None where the configuration gave some.
    """

    features: Sequence[str]
    labels: Sequence[str]
    values: np.ndarray
    scores: np.ndarray
    expected: np.ndarray
    baseline: list[list[Any]] | None = None

    def told(self) -> dict[str, Any]:
        """Return them as `analysis.json` has them."""
        return {
            label: {
                "global_shap_values": {
                    name: float(self.scores[at, number]) for at, name in enumerate(self.features)
                },
                "expected_value": float(self.expected[number]),
            }
            for number, label in enumerate(self.labels)
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """All that was found: the contents of `analysis.json`, and attributions row by row."""

    told: dict[str, Any]
    attributions: Attributions | None = None


def analysed(
    config: AnalysisConfig,
    data: Dataset,
    model: Model | None,
    fetched: Callable[[str], Path],
    *,
    predicted: pl.Series | None = None,
) -> Analysis:
    """Carry out an analysis.

    Parameters
    ----------
    model
        Needed unless only bias is asked for, and predicted labels are there.
    fetched
        Says where what lies at an S3 URI is to be found here.
    predicted
        Predicted labels, where they are known already.

    Raises
    ------
    InvalidInputError
        If it cannot be done.
    """
    methods = config.methods
    told: dict[str, Any] = {"version": _VERSION}
    attributions = None
    if methods.pre_training_bias:
        told["pre_training_bias_metrics"] = _bias(config, data, methods.pre_training_bias, None)
    if methods.post_training_bias:
        found = predicted if predicted is not None else _predictions(config, data, model)
        told["post_training_bias_metrics"] = _bias(config, data, methods.post_training_bias, found)
    if methods.shap:
        attributions = _attributions(methods.shap, data, _needed(model), fetched)
        told["explanations"] = {"kernel_shap": attributions.told()}
    if methods.pdp:
        names = _dependent(config, data, attributions)
        curves = dependence(
            data, names, _needed(model), grid_resolution=methods.pdp.grid_resolution
        )
        told.setdefault("explanations", {})["pdp"] = curves
    return Analysis(told=told, attributions=attributions)


def _needed(model: Model | None) -> Model:
    if model is None:
        raise InvalidInputError("predictor with a model_name or an endpoint_name is needed.")
    return model


def _predictions(config: AnalysisConfig, data: Dataset, model: Model | None) -> pl.Series:
    known = data.predicted_column()
    if known is not None:
        return known
    said = _needed(model).said(data.feature_rows())
    is_quantity = is_continuous(data.label_column(), config.label_values_or_threshold)
    return predicted_labels(config, said, is_quantity=is_quantity)


def _bias(
    config: AnalysisConfig, data: Dataset, wanted: Measures, predicted: pl.Series | None
) -> dict[str, Any]:
    """Return the section of bias before training, or after it where there are predictions."""
    column, values = data.label_column(), config.label_values_or_threshold
    if predicted is None:
        label, forecast = chosen(column, values), None
    else:
        label, forecast = chosen_like(column, values, other=predicted)
    measures = PRE_TRAINING if predicted is None else POST_TRAINING
    facets: dict[str, list[dict[str, Any]]] = {}
    for each in config.facet:
        facet = data.column(each.name_or_index)
        rest = _others(data, facet.name)
        group = None
        if config.group_variable is not None:
            group = data.column(config.group_variable).cast(pl.String).fill_null("").to_numpy()
        facets.setdefault(facet.name, []).extend(
            {
                "value_or_threshold": choice.shown,
                "metrics": measured(
                    _rows(choice, label, forecast, group, rest), measures, wanted.names()
                ),
            }
            for choice in facets_of(facet, each.value_or_threshold or ())
        )
    return {"label": column.name, "facets": facets, "label_value_or_threshold": label.shown}


def _rows(
    facet: Choice,
    label: Choice,
    forecast: Choice | None,
    group: np.ndarray | None,
    rest: np.ndarray | None,
) -> Rows:
    return Rows(
        disadvantaged=facet.rows,
        label=label.rows,
        predicted=None if forecast is None else forecast.rows,
        group=group,
        X=rest,
    )


def _others(data: Dataset, facet: str) -> np.ndarray | None:
    """Return the features beside a facet as numbers; None where they are not all numbers."""
    found = [data.table.column(at) for at in data.features if data.table.names[at] != facet]
    if not found or not all(each.dtype.is_numeric() and not each.null_count() for each in found):
        return None
    return np.column_stack([each.cast(pl.Float64).to_numpy() for each in found])


def _attributions(
    config: Shap, data: Dataset, model: Model, fetched: Callable[[str], Path]
) -> Attributions:
    X = _cells(data.feature_rows())
    made_up: list[list[Any]] | None = None
    rows = _given_baseline(config, data, fetched)
    if rows is None:
        made_up = clustered(data, n_clusters=config.num_clusters, seed=config.seed or 0)
        rows = made_up
    baseline = _cells(rows)
    if baseline.shape[1] != X.shape[1]:
        raise InvalidInputError(
            f"A row of the baseline has {baseline.shape[1]} values and the data set "
            f"{X.shape[1]} features: {', '.join(data.feature_names[:30])}."
        )
    expected, values = kernel_values(
        model.scores,
        X,
        baseline,
        n_samples=config.num_samples,
        seed=config.seed,
        use_logit=config.use_logit,
    )
    shown = list(range(X.shape[1]))
    if config.features_to_explain:
        shown = sorted({data.feature_at(each) for each in config.features_to_explain})
    values = values[:, shown]
    return Attributions(
        features=[data.feature_names[at] for at in shown],
        labels=label_names(model, values.shape[2]),
        values=values,
        scores=aggregated(values, config.agg_method),
        expected=expected,
        baseline=made_up,
    )


def _cells(rows: Sequence[Sequence[Any]]) -> np.ndarray:
    """Return rows as an array of objects, whatever the cells are."""
    width = len(rows[0]) if rows else 0
    found = np.empty((len(rows), width), dtype=object)
    for at, row in enumerate(rows):
        if len(row) != width:
            raise InvalidInputError(f"Row {at + 1} has {len(row)} values, the first has {width}.")
        for number, value in enumerate(row):
            found[at, number] = value
    return found


def _given_baseline(
    config: Shap, data: Dataset, fetched: Callable[[str], Path]
) -> list[list[Any]] | None:
    """Return the rows of the baseline that the configuration gives, in the cells of the data."""
    given = config.baseline
    if given is None:
        return None
    if isinstance(given, str):
        kind = "text/csv" if given.lower().rsplit(".", 1)[-1] == "csv" else data.kind
        return _like_data(data, _read_baseline(data, fetched(given), kind))
    rows: list[list[Any]] = []
    for each in given if isinstance(given, list) else [given]:
        row = found_at(data.path, each) if isinstance(each, dict) and data.path else each
        if not isinstance(row, list):
            raise InvalidInputError(f"The baseline row {str(each)[:100]} is no list of values.")
        rows += row if row and isinstance(row[0], list) else [row]
    return _like_data(data, rows)


def _read_baseline(data: Dataset, place: Path, kind: str) -> list[list[Any]]:
    features = data.path if kind in ("application/json", "application/jsonlines") else None
    table = read_table(place, kind, features=features)
    if table.has_header and set(data.feature_names) <= set(table.names):
        order = [table.names.index(name) for name in data.feature_names]
        return [[row[at] for at in order] for row in table.rows]
    return table.rows


def _like_data(data: Dataset, rows: list[list[Any]]) -> list[list[Any]]:
    """Return rows in cells of the kind of the data, so that what is equal is seen to be so."""
    columns = list(zip(*data.feature_rows(), strict=True))
    if rows and len(rows[0]) != len(columns):
        return rows
    return [
        [_like(value, columns[at]) for at, value in enumerate(row)]
        if len(row) == len(columns)
        else row
        for row in rows
    ]


def _like(value: Any, column: Sequence[Any]) -> Any:
    if not isinstance(next((each for each in column if each is not None), value), str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    text = repr(value)
    if isinstance(value, float) and value.is_integer():
        # 3.0 of a list means the 3 of the file
        is_whole = all("." not in str(each) for each in column[:100])
        return str(int(value)) if is_whole else text
    return text


def _dependent(
    config: AnalysisConfig, data: Dataset, attributions: Attributions | None
) -> list[str]:
    """Return the names of the features whose dependence is wanted."""
    about = config.methods.pdp
    if about is None:
        return []
    if about.features:
        return [data.feature_names[data.feature_at(each)] for each in about.features]
    if attributions is None:
        return []
    most = np.abs(attributions.scores).max(axis=1)
    order = np.argsort(-most, kind="stable")[: about.top_k_features]
    return [attributions.features[at] for at in order]
