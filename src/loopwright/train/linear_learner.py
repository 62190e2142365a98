"""linear-learner: ridge, elastic-net and logistic regression with the regularisation chosen."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.problem import Task
from loopwright.train.algorithm import Features, FittedModel, Hyperparameter, OnMetric
from loopwright.train.linear_predictor import LinearPredictor
from loopwright.train.link import Link, linked
from loopwright.train.loss import log_loss, squared_loss
from loopwright.train.predictor import check_same_scores
from loopwright.train.training_data import TrainingData

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import sklearn
    import sklearn.linear_model as linear_model
else:
    np = LazyModule("numpy")
    sklearn = LazyModule("sklearn")
    linear_model = LazyModule("sklearn.linear_model")

_MAX_SWEEPS = 2_000
# a class without training rows: e to the -50 of the least likely other one
_ABSENT = -50.0

# alpha, the model, and its greatest difference from the library's
Candidate = tuple[float, LinearPredictor, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearLearner:
    """Fit a weighted sum of scaled features; strong on little data, and easy to explain.

    Minimises, with w the coefficients and the target of a regression scaled to deviation 1,

        mean loss + alpha * (l1_ratio * sum |w| + (1 - l1_ratio) / 2 * sum w^2),

    the loss being half the squared error or the logarithmic loss. Without `alpha`, values from
    strong to weak are tried, and the one with the least validation loss is kept. Ridge regression
    is solved for all of them by one eigendecomposition; the others are scikit-learn's.
    """

    name: str = "linear-learner"
    features: Features = "scaled"

    @property
    def hyperparameters(self) -> Mapping[str, Hyperparameter]:
        """What can be set."""
        return {
            "alpha": Hyperparameter(
                kind=float,
                default=None,
                low=1e-9,
                high=1e3,
                help="strength of the regularisation; chosen on the validation rows when not set",
            ),
            "l1_ratio": Hyperparameter(
                kind=float,
                default=0.0,
                low=0.0,
                high=1.0,
                help="share of the L1 penalty, which makes coefficients exactly 0; 0 is ridge",
            ),
        }

    def library(self, task: Task) -> str | None:
        """Return the module that `fit` imports; see `Algorithm.library`."""
        return "sklearn.linear_model" if task != "regression" else None

    def fit(
        self,
        data: TrainingData,
        *,
        task: Task,
        hyperparameters: Mapping[str, Any],
        seed: int,
        threads: int,
        on_metric: OnMetric,
    ) -> FittedModel:
        """Return the candidate with the least validation loss; see `Algorithm.fit`."""
        started = time.perf_counter()
        alpha, l1_ratio = hyperparameters["alpha"], hyperparameters["l1_ratio"]
        if task != "regression":
            candidates, name = _logistic(data, alpha, l1_ratio, seed), "validation:log_loss"
        else:
            candidates, name = _regression(data, alpha, l1_ratio), "validation:mse"
        judged: list[tuple[float, Candidate]] = []
        for step, candidate in enumerate(candidates, start=1):
            judged.append((_validation_loss(candidate[1], data, task), candidate))
            on_metric(step, name, judged[-1][0])
        # of equally good ones the first, most regularised one
        _, (tried, predictor, difference) = min(judged, key=lambda pair: pair[0])
        return FittedModel(
            predictor=predictor,
            hyperparameters={**hyperparameters, "alpha": tried},
            importance=_importance(predictor, data),
            native_difference=difference,
            fit_s=time.perf_counter() - started,
        )


def _validation_loss(predictor: LinearPredictor, data: TrainingData, task: Task) -> float:
    part = data.validation
    said = linked(predictor.score(part.X), predictor.link)
    loss = squared_loss if task == "regression" else log_loss
    return loss(said, data.class_columns(part), part.weights)


def _importance(predictor: LinearPredictor, data: TrainingData) -> npt.NDArray[np.float64]:
    effect = np.abs(predictor.coefficients).sum(axis=0) * data.train.X.std(axis=0)
    total = effect.sum()
    shares: npt.NDArray[np.float64] = effect / total if total > 0 else effect
    return shares


def _regression(data: TrainingData, alpha: float | None, l1_ratio: float) -> Iterator[Candidate]:
    """Yield a fit for each strength of the regularisation, strongest first."""
    X, y, weights = data.train.X, data.train.y, data.train.weights
    share = weights / weights.sum()
    x_mean, y_mean = share @ X, float(share @ y)
    y_scale = float(np.sqrt(share @ (y - y_mean) ** 2))
    centred, target = X - x_mean, (y - y_mean) / y_scale
    moments = centred.T @ (share * target)
    fits = (
        _ridge_path(centred, share, moments, alpha)
        if l1_ratio == 0
        else _elastic_net_path(centred, target, weights, moments, alpha, l1_ratio)
    )
    for tried, scaled in fits:
        coefficients = scaled * y_scale
        intercept = y_mean - float(x_mean @ coefficients)
        # there is no other model to compare with: these are the library's numbers, or our own
        yield tried, _predictor(coefficients[None, :], [intercept], "identity"), 0.0


def _ridge_path(
    centred: npt.NDArray[np.float64],
    share: npt.NDArray[np.float64],
    moments: npt.NDArray[np.float64],
    alpha: float | None,
) -> Iterator[tuple[float, npt.NDArray[np.float64]]]:
    # (G + alpha I) w = m for every alpha from one decomposition G = V diag(e) V'
    eigenvalues, vectors = np.linalg.eigh(centred.T @ (centred * share[:, None]))
    eigenvalues = np.maximum(eigenvalues, 0.0)  # rounding can leave -1e-17
    turned = vectors.T @ moments
    for tried in [alpha] if alpha is not None else np.logspace(1, -6, 15).tolist():
        yield tried, vectors @ (turned / (eigenvalues + tried))


def _elastic_net_path(
    centred: npt.NDArray[np.float64],
    target: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    moments: npt.NDArray[np.float64],
    alpha: float | None,
    l1_ratio: float,
) -> Iterator[tuple[float, npt.NDArray[np.float64]]]:
    # from the alpha that makes every coefficient 0 downwards (Friedman, Hastie, Tibshirani,
    # "Regularization Paths ...", Journal of Statistical Software 33, 2010)
    strongest = max(float(np.abs(moments).max()) / l1_ratio, 1e-9)
    model = linear_model.ElasticNet(
        l1_ratio=l1_ratio, fit_intercept=False, warm_start=True, max_iter=_MAX_SWEEPS, tol=1e-6
    )
    for tried in [alpha] if alpha is not None else (strongest * np.logspace(0, -4, 13)).tolist():
        model.set_params(alpha=tried)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a weak alpha may stop early; validation judges it
            model.fit(centred, target, sample_weight=weights)
        yield tried, np.array(model.coef_, dtype=np.float64)


def _logistic(
    data: TrainingData, alpha: float | None, l1_ratio: float, seed: int
) -> Iterator[Candidate]:
    X, y, weights = data.train.X, data.train.y, data.train.weights
    counted = weights > 0
    X, y, weights = X[counted], y[counted], weights[counted]
    model = linear_model.LogisticRegression(
        solver="saga" if l1_ratio else "lbfgs",
        warm_start=True,
        max_iter=_MAX_SWEEPS,
        tol=1e-5,
        random_state=seed,
        **_mixed_penalty(l1_ratio),
    )
    for tried in [alpha] if alpha is not None else np.logspace(-1, -5, 5).tolist():
        model.set_params(C=1.0 / (tried * weights.sum()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a weak alpha may stop early; validation judges it
            model.fit(X, y, sample_weight=weights)
        predictor = _exported(model, data.n_classes)
        yield tried, predictor, _difference(predictor, model, data)


def _mixed_penalty(l1_ratio: float) -> dict[str, Any]:
    if not l1_ratio:
        return {}
    major, minor = (int(part) for part in sklearn.__version__.split(".")[:2])
    # from 1.8 on, l1_ratio alone says which penalty it is
    old = {"penalty": "elasticnet"} if (major, minor) < (1, 8) else {}
    return {"l1_ratio": l1_ratio, **old}


def _exported(model: Any, n_classes: int) -> LinearPredictor:
    if n_classes == 2:
        return _predictor(model.coef_, model.intercept_, "sigmoid")
    present = model.classes_.astype(np.intp)
    coefficients, intercepts = np.zeros((n_classes, model.coef_.shape[1])), np.empty(n_classes)
    if len(present) == 2:  # scikit-learn then keeps one line: the second class against the first
        lines = np.stack([np.zeros_like(model.coef_[0]), model.coef_[0]])
        levels = np.array([0.0, model.intercept_[0]])
    else:
        lines, levels = model.coef_, model.intercept_
    intercepts[:] = levels.min() + _ABSENT
    coefficients[present], intercepts[present] = lines, levels
    return _predictor(coefficients, intercepts, "softmax")


def _predictor(coefficients: Any, intercepts: Any, link: Link) -> LinearPredictor:
    return LinearPredictor(
        coefficients=np.array(coefficients, dtype=np.float64, order="C"),
        intercepts=np.array(intercepts, dtype=np.float64),
        link=link,
    )


def _difference(predictor: LinearPredictor, model: Any, data: TrainingData) -> float:
    X, classes = data.validation.X, model.classes_.astype(np.intp)
    native = model.decision_function(X)
    if native.ndim == 2:
        return check_same_scores(predictor, X, native, library="scikit-learn", outputs=classes)
    if data.n_classes == 2:
        return check_same_scores(predictor, X, native, library="scikit-learn")
    both = np.stack([np.zeros_like(native), native], axis=1)
    return check_same_scores(predictor, X, both, library="scikit-learn", outputs=classes)
