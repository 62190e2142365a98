"""Whether serving does what training did: the same answers for the same rows, the same features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.prepare.lineage import feature_origins

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from loopwright.train import ServingModel

    Numbers = NDArray[np.float64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

MOST_REPLAYED = 200
LEAST_ROWS = 50
_SAME = 1e-9
_MOST_FEATURES = 4_096
_SIGMAS = 6.0
_LEAST_SHIFT = 0.5
_LEAST_MISSING = 0.05
_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSkew:
    """A feature whose live values lie apart from those of training.

    Parameters
    ----------
    shift
        Difference of the means in standard deviations of training.
    missing, reference_missing
        Shares of missing values, 0 to 1.
    """

    feature: str
    shift: float
    missing: float
    reference_missing: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSkew:
    """What serving does otherwise than training.

    Parameters
    ----------
    n_replayed
        Captured rows that went through the table path again.
    n_different
        How many of their answers differ by more than 1e-9, relatively.
    worst
        The greatest relative difference.
    features
        Features apart from training, furthest first, at most ten.
    n_features
        How many features were compared.
    """

    n_replayed: int
    n_different: int
    worst: float
    features: tuple[FeatureSkew, ...]
    n_features: int
    n_rows: int
    message: str


def feature_statistics(features: Numbers) -> Numbers:
    """Return mean, standard deviation, share of missing values and rows of each feature.

    An array (4, n_features); (4, 0) where there are more than 4,096 of them.
    """
    if features.shape[1] > _MOST_FEATURES:
        return np.zeros((4, 0))
    known = np.isfinite(features)
    n = np.maximum(known.sum(axis=0), 1)
    values = np.where(known, features, 0.0)
    mean = values.sum(axis=0) / n
    spread = np.sqrt((np.where(known, features - mean, 0.0) ** 2).sum(axis=0) / n)
    rows = np.full(features.shape[1], float(len(features)))
    statistics: Numbers = np.stack([mean, spread, 1 - known.mean(axis=0), rows])
    return statistics


def serving_skew(
    model: ServingModel, captured: pl.DataFrame, reference: Numbers
) -> ServingSkew | None:
    """Return what the endpoint does otherwise than training would.

    Parameters
    ----------
    model
        What answered, opened from its bundle.
    captured
        Captured predictions of this version, newest last: `inputs`, `prediction`, `probability`,
        `probabilities`, `at`.
    reference
        `feature_statistics` of training rows.

    Returns
    -------
    ServingSkew or None
        None without captured rows.
    """
    if not captured.height:
        return None
    rows = captured.tail(MOST_REPLAYED)
    frame = input_frame(model, rows["inputs"].struct.unnest())
    days = rows["at"].dt.date().to_list() if model.fitted.uses_today else []
    today = days[-1] if days else None
    same_day = [at for at, day in enumerate(days) if day == today] if days else None
    if same_day is not None:
        rows, frame = rows[same_day], frame[same_day]
    features = model.fitted.transform(frame, today=today)
    raw = model.outcome.calibrated(model.predictor.predict_raw(features))
    gaps = [
        _gap(given, wanted)
        for given, wanted in zip(rows.to_dicts(), model.outcome.answers(raw), strict=True)
    ]
    n_different = sum(gap > _SAME for gap in gaps)
    dates = {field.name for field in model.signature.fields if field.kind == "date"}
    # the dates of live rows are later than those of training, and so is what is made of them
    lasting = [not dates & set(names) for names in feature_origins(model.fitted)]
    apart = _apart(model.fitted.feature_names, reference, features, np.array(lasting))
    return ServingSkew(
        n_replayed=len(gaps),
        n_different=n_different,
        worst=min(max(gaps, default=0.0), 1e300),
        features=apart,
        n_features=reference.shape[1],
        n_rows=rows.height,
        message=_told(len(gaps), n_different, max(gaps, default=0.0), apart, reference.shape[1]),
    )


def input_frame(model: ServingModel, inputs: pl.DataFrame) -> pl.DataFrame:
    """Return captured inputs as a table with every column that the model reads."""
    height = inputs.height
    columns = []
    for field in model.signature.fields:
        if field.name in inputs.columns:
            columns.append(inputs[field.name])
        else:
            columns.append(pl.Series(field.name, [None] * height))
    checked = [
        model.signature.check_row(row, index=at)
        for at, row in enumerate(pl.DataFrame(columns).to_dicts())
    ]
    return pl.DataFrame(checked, infer_schema_length=None)


def _apart(
    names: Sequence[str], reference: Numbers, features: Numbers, lasting: NDArray[np.bool_]
) -> tuple[FeatureSkew, ...]:
    n = len(features)
    if n < LEAST_ROWS or reference.shape[1] != features.shape[1]:
        return ()
    mean, spread, missing, _ = feature_statistics(features)
    gap = mean - reference[0]
    scale = np.where(reference[1] > 0, reference[1], np.maximum(np.abs(reference[0]), 1e-9))
    shift = gap / scale
    noise = np.sqrt((spread**2 + scale**2) / n + scale**2 / np.maximum(reference[3], 1)) / scale
    more = missing - reference[2]
    sure = _SIGMAS * np.sqrt(np.maximum(missing * (1 - missing), 1 / n) / n)
    is_apart = (np.abs(shift) > np.maximum(_LEAST_SHIFT, _SIGMAS * noise)) | (
        np.abs(more) > np.maximum(_LEAST_MISSING, sure)
    )
    order = np.argsort(-np.maximum(np.abs(shift), np.abs(more) * 4), kind="stable")
    return tuple(
        FeatureSkew(
            feature=names[at],
            shift=float(shift[at]),
            missing=float(missing[at]),
            reference_missing=float(reference[2][at]),
        )
        for at in order.tolist()
        if is_apart[at] and lasting[at]
    )[:_SHOWN]


def _gap(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> float:
    """Return the greatest relative difference of two answers; infinite where a class differs."""
    gap = 0.0
    for name, value in wanted.items():
        found = given.get(name)
        if isinstance(value, Mapping):
            gap = max(gap, _gap(found or {}, value))
        elif isinstance(value, float) and isinstance(found, int | float):
            apart = abs(found - value) / max(1.0, abs(value))
            gap = max(gap, apart if math.isfinite(apart) else math.inf)
        elif str(found) != str(value):
            gap = math.inf
    return gap


def _told(
    n_replayed: int,
    n_different: int,
    worst: float,
    apart: Sequence[FeatureSkew],
    n_features: int,
) -> str:
    same = (
        f"{n_replayed:,} captured rows give the same answers in a table as at the endpoint"
        if not n_different
        else f"{n_different:,} of {n_replayed:,} captured rows give another answer in a table than "
        f"at the endpoint (relative difference up to {worst:.2g})"
    )
    if not n_features:
        return f"{same}."
    if not apart:
        return f"{same}; all {n_features:,} features lie where training had them."
    names = ", ".join(each.feature for each in apart[:3])
    return f"{same}; features apart from training: {names}."
