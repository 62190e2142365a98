"""The measures of bias of SageMaker Clarify, over rows of two groups.

The formulas are those of AWS's documentation ("Pre-training Bias Metrics", "Post-training Data and
Model Bias Metrics") with the limits of Clarify's own open library, `aws/amazon-sagemaker-clarify`:
nothing by nothing is 0, something by nothing is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Flags: TypeAlias = npt.NDArray[np.bool_]
    Numbers: TypeAlias = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

_NEIGHBOURS, _FEW_ROWS = 5, 9
_ALPHA = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What is known of each row; every array has the shape `(n_rows,)`.

    Parameters
    ----------
    disadvantaged
        Whether it belongs to the sensitive group, d; the others are group a.
    label, predicted
        Whether its label, and what was predicted, is the favourable one.
    group
        Its subgroup, for the conditional measures.
    X
        `(n_rows, n_features)`: its other features for the flip test; None where not all of them
        are numbers.
    """

    disadvantaged: Flags
    label: Flags
    predicted: Flags | None = None
    group: np.ndarray | None = None
    X: Numbers | None = None

    @property
    def forecast(self) -> Flags:
        """Return what was predicted; `InvalidInputError` if nothing was."""
        if self.predicted is None:
            raise InvalidInputError("Predicted labels are needed.")
        return self.predicted


Measure: TypeAlias = Callable[[Rows], float]


def divided(part: float, whole: float) -> float:
    """Return a ratio as Clarify does."""
    if whole == 0:
        return 0.0 if part == 0 else math.copysign(math.inf, part)
    return part / whole


def _less(one: float, other: float) -> float:
    """Return a difference; of two infinite values that are the same, nothing."""
    return 0.0 if one == other else one - other


def _parts(rows: Rows, values: Flags) -> tuple[Flags, Flags]:
    """Return the values of group a and of group d.

    Raises
    ------
    InvalidInputError
        If one of them has no rows.
    """
    a, d = values[~rows.disadvantaged], values[rows.disadvantaged]
    if not len(d):
        raise InvalidInputError("Facet set is empty")
    if not len(a):
        raise InvalidInputError("Negated Facet set is empty")
    return a, d


def _imbalance(rows: Rows) -> float:
    a, d = _parts(rows, rows.disadvantaged)
    return (len(a) - len(d)) / (len(a) + len(d))


def _proportions(rows: Rows, values: Flags) -> float:
    a, d = _parts(rows, values)
    return float(a.mean() - d.mean())


def _shares(rows: Rows) -> tuple[Numbers, Numbers]:
    """Return how often each outcome that both groups have is in a and in d."""
    a, d = (float(each.mean()) for each in _parts(rows, rows.label))
    pairs = [pair for pair in ((1 - a, 1 - d), (a, d)) if min(pair) > 0]
    if not pairs:
        raise InvalidInputError("No instance of common facet found, dataset may be too small")
    p, q = zip(*pairs, strict=True)
    return np.array(p), np.array(q)


def _kullback_leibler(rows: Rows) -> float:
    p, q = _shares(rows)
    return float((p * np.log(p / q)).sum())


def _jensen_shannon(rows: Rows) -> float:
    p, q = _shares(rows)
    m = (p + q) / 2
    return float(((p * np.log(p / m)).sum() + (q * np.log(q / m)).sum()) / 2)


def _norm(rows: Rows, order: float) -> float:
    p, q = _shares(rows)
    return float(np.linalg.norm(p - q, order))


def _conditional_disparity(rows: Rows, values: Flags) -> float:
    """Return the disparity of each subgroup, weighted by its rows.

    Wachter, Mittelstadt and Russell, "Why Fairness Cannot Be Automated", 2020.
    """
    if rows.group is None:
        raise InvalidInputError("Group variable is empty or not provided")
    if not values.any():
        raise InvalidInputError("No positive labels in set")
    if values.all():
        raise InvalidInputError("No negative labels in set")
    total = 0.0
    for each in np.unique(rows.group):
        inside = rows.group == each
        d, good = rows.disadvantaged[inside], values[inside]
        accepted = divided(float((d & good).sum()), float(good.sum()))
        rejected = divided(float((d & ~good).sum()), float((~good).sum()))
        total += int(inside.sum()) * (rejected - accepted)
    return total / len(rows.group)


def _impact(rows: Rows) -> float:
    a, d = _parts(rows, rows.forecast)
    return divided(float(d.mean()), float(a.mean()))


@dataclass(frozen=True, slots=True)
class _Confusion:
    """How labels and predictions of one group meet."""

    tp: int
    fp: int
    fn: int
    tn: int


def _confusion(label: Flags, predicted: Flags) -> _Confusion:
    return _Confusion(
        tp=int((label & predicted).sum()),
        fp=int((~label & predicted).sum()),
        fn=int((label & ~predicted).sum()),
        tn=int((~label & ~predicted).sum()),
    )


def _compared(rows: Rows, ratio: Callable[[_Confusion], float], *, from_a: bool = True) -> float:
    """Return a ratio of group a less that of group d, or the other way round."""
    labels, predictions = _parts(rows, rows.label), _parts(rows, rows.forecast)
    a, d = (ratio(_confusion(*each)) for each in zip(labels, predictions, strict=True))
    return _less(a, d) if from_a else _less(d, a)


def _flip_test(rows: Rows) -> float:
    """Return how rows of d would be predicted as the nearest rows of a are.

    Clarify's approximation of Black, Yeom and Fredrikson, "FlipTest: Fairness Testing via Optimal
    Transport", 2020: five neighbours by Euclidean distance, one where group a has fewer than ten rows.
    """
    from sklearn.neighbors import KNeighborsClassifier

    if rows.X is None:
        raise InvalidInputError("FlipTest does not support non-numeric columns")
    predicted, d = rows.forecast, rows.disadvantaged
    _parts(rows, predicted)
    n_neighbours = _NEIGHBOURS if int((~d).sum()) > _FEW_ROWS else 1
    near = KNeighborsClassifier(n_neighbors=n_neighbours).fit(rows.X[~d], predicted[~d])
    as_a = near.predict(rows.X[d])
    gained, lost = predicted[d] & ~as_a, ~predicted[d] & as_a
    return (int(gained.sum()) - int(lost.sum())) / int(d.sum())


def _entropy(rows: Rows) -> float:
    """Return the generalized entropy of benefits, alpha 2; Speicher et al., KDD 2018."""
    benefit = rows.forecast.astype(float) - rows.label.astype(float) + 1
    mean = float(benefit.mean())
    if mean == 0:
        raise InvalidInputError(
            "All predicted labels are false negatives. There should be at least one prediction that "
            "is not false negative."
        )
    terms = (benefit / mean) ** _ALPHA - 1
    return float(terms.sum()) / (len(benefit) * _ALPHA * (_ALPHA - 1))


PRE_TRAINING: Mapping[str, tuple[str, Measure]] = {
    "CDDL": (
        "Conditional Demographic Disparity in Labels (CDDL)",
        lambda rows: _conditional_disparity(rows, rows.label),
    ),
    "CI": ("Class Imbalance (CI)", _imbalance),
    "DPL": (
        "Difference in Positive Proportions in Labels (DPL)",
        lambda rows: _proportions(rows, rows.label),
    ),
    "JS": ("Jensen-Shannon Divergence (JS)", _jensen_shannon),
    "KL": ("Kullback-Liebler Divergence (KL)", _kullback_leibler),
    "KS": ("Kolmogorov-Smirnov Distance (KS)", lambda rows: _norm(rows, math.inf)),
    "LP": ("L-p Norm (LP)", lambda rows: _norm(rows, 2)),
    "TVD": ("Total Variation Distance (TVD)", lambda rows: _norm(rows, 1) / 2),
}
"""The measures before training, by name, each with its description."""

POST_TRAINING: Mapping[str, tuple[str, Measure]] = {
    "AD": (
        "Accuracy Difference (AD)",
        lambda rows: _compared(rows, lambda c: divided(c.tp + c.tn, c.tp + c.tn + c.fp + c.fn)),
    ),
    "CDDPL": (
        "Conditional Demographic Disparity in Predicted Labels (CDDPL)",
        lambda rows: _conditional_disparity(rows, rows.forecast),
    ),
    "DAR": (
        "Difference in Acceptance Rates (DAR)",
        lambda rows: _compared(rows, lambda c: divided(c.tp, c.tp + c.fp)),
    ),
    "DCA": (
        "Difference in Conditional Acceptance (DCA)",
        lambda rows: _compared(rows, lambda c: divided(c.tp + c.fn, c.tp + c.fp)),
    ),
    "DCR": (
        "Difference in Conditional Rejection (DCR)",
        lambda rows: _compared(rows, lambda c: divided(c.tn + c.fp, c.tn + c.fn), from_a=False),
    ),
    "DI": ("Disparate Impact (DI)", _impact),
    "DPPL": (
        "Difference in Positive Proportions in Predicted Labels (DPPL)",
        lambda rows: _proportions(rows, rows.forecast),
    ),
    "DRR": (
        "Difference in Rejection Rates (DRR)",
        lambda rows: _compared(rows, lambda c: divided(c.tn, c.tn + c.fn), from_a=False),
    ),
    "FT": ("Flip Test (FT)", _flip_test),
    "GE": ("Generalized Entropy (GE)", _entropy),
    "RD": (
        "Recall Difference (RD)",
        lambda rows: _compared(rows, lambda c: divided(c.tp, c.tp + c.fn)),
    ),
    "SD": (
        "Specificity Difference (SD)",
        lambda rows: _compared(rows, lambda c: divided(c.tn, c.tn + c.fp), from_a=False),
    ),
    "TE": (
        "Treatment Equality (TE)",
        lambda rows: _compared(rows, lambda c: divided(c.fn, c.fp), from_a=False),
    ),
}
"""The measures after training, by name, each with its description."""


def measured(
    rows: Rows, measures: Mapping[str, tuple[str, Measure]], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return measures as `analysis.json` has them; one that cannot be had says why.

    Parameters
    ----------
    names
        Of the measures, or `all` alone.

    Raises
    ------
    InvalidInputError
        If a name is not known.
    """
    unknown = sorted(set(names) - {*measures, "all"})
    if unknown:
        raise InvalidInputError(
            f"Invalid metric_name: {', '.join(unknown)}. Metrics should be among "
            f"{', '.join(measures)}."
        )
    wanted = list(measures) if "all" in names else [each for each in measures if each in names]
    return [_told(rows, name, *measures[name]) for name in wanted]


def _told(rows: Rows, name: str, description: str, measure: Measure) -> dict[str, Any]:
    about: dict[str, Any] = {"name": name, "description": description}
    try:
        value = measure(rows)
    except InvalidInputError as error:
        return {**about, "value": None, "error": str(error)}
    return {**about, "value": _plain(value)}


def _plain(value: float) -> float | str:
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(value)
