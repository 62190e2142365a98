"""linear-learner: ridge, elastic-net and logistic regression, exactly or by gradient descent."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.problem import Task
from loopwright.train.algorithm import PREDICTOR_TYPE, Features, FittedModel, OnMetric
from loopwright.train.class_weight import CLASS_WEIGHT
from loopwright.train.descent_setting import (
    descent_hyperparameters,
    descent_settings,
    scaled_target,
    task_loss,
    told,
)
from loopwright.train.gradient_descent import Descent, descended, initial_layers
from loopwright.train.hyperparameter import Hyperparameter
from loopwright.train.linear_predictor import LinearPredictor
from loopwright.train.link import Link, linked
from loopwright.train.loss import log_loss, squared_loss
from loopwright.train.predictor import check_same_scores
from loopwright.train.training_data import TrainingData, TrainingPart

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
# scikit-learn's solvers want some penalty
_WEAKEST = 1e-9
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
    is solved for all of them by one eigendecomposition; the others are scikit-learn's. Gradient
    descent goes by `learning_rate`, `batch_size` and `epochs`, and tells its loss every epoch.
    """

    name: str = "linear-learner"
    features: Features = "linear"

    @property
    def hyperparameters(self) -> Mapping[str, Hyperparameter]:
        """What can be set."""
        descent = descent_hyperparameters(learning_rate=None, batch_size=None, epochs=None)
        return {
            "alpha": Hyperparameter(
                kind=float,
                default=None,
                low=0.0,
                high=1e3,
                help="strength of the regularisation; chosen on the validation rows when not set "
                "(0 by gradient descent)",
            ),
            "l1_ratio": Hyperparameter(
                kind=float,
                default=0.0,
                low=0.0,
                high=1.0,
                help="share of the L1 penalty, which makes coefficients exactly 0; 0 is ridge",
            ),
            "l1": Hyperparameter(
                kind=float,
                default=None,
                low=0.0,
                high=1e3,
                help="L1 penalty; l1 and l2 say the same as alpha and l1_ratio",
            ),
            "l2": Hyperparameter(
                kind=float,
                default=None,
                low=0.0,
                high=1e3,
                aliases=("wd", "weight_decay"),
                help="L2 penalty: half of it times the sum of squared coefficients",
            ),
            "solver": Hyperparameter(
                kind=str,
                default="auto",
                choices=("auto", "exact", "gradient-descent"),
                spellings={
                    **dict.fromkeys(("closed-form", "lbfgs", "coordinate-descent"), "exact"),
                    "sgd": "gradient-descent",
                },
                help="exact solves ridge in closed form, elastic net by coordinates and classes by "
                "L-BFGS; gradient-descent goes step by step. auto is exact unless learning_rate, "
                "batch_size, epochs or loss is set",
            ),
            **descent,
            "learning_rate": replace(
                descent["learning_rate"], help="length of a step; 0.01 when not set"
            ),
            "batch_size": replace(descent["batch_size"], help="rows of a step; 256 when not set"),
            "epochs": replace(
                descent["epochs"], help="passes over the rows at most; 100 when not set"
            ),
            "class_weight": CLASS_WEIGHT,
            "predictor_type": PREDICTOR_TYPE,
        }

    def check(self, hyperparameters: Mapping[str, Any], *, task: Task) -> None:
        """See `Algorithm`."""
        task_loss(hyperparameters["loss"], task)
        _descends(_penalties(hyperparameters))

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
        hyperparameters = _penalties(hyperparameters)
        if _descends(hyperparameters):
            return _descended(data, task, hyperparameters, seed=seed, on_metric=on_metric)
        alpha, l1_ratio = hyperparameters["alpha"], hyperparameters["l1_ratio"]
        if task != "regression":
            candidates, name = _logistic(data, alpha, l1_ratio, seed), "log_loss"
        else:
            candidates, name = _regression(data, alpha, l1_ratio), "mse"
        judged: list[tuple[float, Candidate]] = []
        for step, candidate in enumerate(candidates, start=1):
            on_metric(step, f"train:{name}", _loss(candidate[1], data, data.train, task))
            judged.append((_loss(candidate[1], data, data.validation, task), candidate))
            on_metric(step, f"validation:{name}", judged[-1][0])
        # of equally good ones the first, most regularised one
        _, (tried, predictor, difference) = min(judged, key=lambda pair: pair[0])
        return FittedModel(
            predictor=predictor,
            hyperparameters={**hyperparameters, "alpha": tried, "solver": "exact"},
            importance=_importance(predictor, data),
            native_difference=difference,
            fit_s=time.perf_counter() - started,
        )


def _loss(predictor: LinearPredictor, data: TrainingData, part: TrainingPart, task: Task) -> float:
    said = linked(predictor.score(part.X), predictor.link)
    loss = squared_loss if task == "regression" else log_loss
    return loss(said, data.class_columns(part), part.weights)


def _penalties(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with l1 and l2 said as alpha and l1_ratio."""
    l1, l2 = settings["l1"], settings["l2"]
    if l1 is None and l2 is None:
        return dict(settings)
    if settings["alpha"] is not None:
        raise InvalidInputError(
            "linear-learner is given alpha and l1 or l2, which say the same.",
            hint="Keep alpha and l1_ratio, or l1 and l2: alpha is l1 + l2.",
            field="alpha",
            value=settings["alpha"],
        )
    total = (l1 or 0.0) + (l2 or 0.0)
    share = (l1 or 0.0) / total if total else 0.0
    return {**settings, "alpha": total, "l1_ratio": share, "l1": None, "l2": None}


def _descends(settings: Mapping[str, Any]) -> bool:
    """Tell whether to fit by gradient descent."""
    asking = ("learning_rate", "batch_size", "epochs", "loss")
    if settings["solver"] == "auto":
        return any(settings[name] is not None for name in asking)
    if settings["solver"] == "exact" and settings["loss"] not in (None, "squared"):
        raise InvalidInputError(
            f"The solver exact does not know the loss {settings['loss']!r}.",
            hint="Set solver: gradient-descent, or leave loss out.",
            field="loss",
            value=settings["loss"],
        )
    return bool(settings["solver"] == "gradient-descent")


def _descended(
    data: TrainingData,
    task: Task,
    settings: Mapping[str, Any],
    *,
    seed: int,
    on_metric: OnMetric,
) -> FittedModel:
    """Return the model after the best epoch; its loss is told epoch by epoch."""
    started = time.perf_counter()
    usual = {"learning_rate": 0.01, "batch_size": 256, "epochs": 100, "alpha": 0.0}
    used = {**settings, "solver": "gradient-descent"}
    used |= {name: value for name, value in usual.items() if settings[name] is None}
    loss, link = task_loss(settings["loss"], task)
    target = scaled_target(data, task)
    descent = Descent(
        loss=loss,
        l1=used["alpha"] * used["l1_ratio"],
        l2=used["alpha"] * (1.0 - used["l1_ratio"]),
        **descent_settings(used),
    )
    train = target.rows(data.train)
    layers, best_epoch = descended(
        initial_layers([data.n_features, train.Y.shape[1]], seed=seed),
        train,
        target.rows(data.validation),
        descent,
        seed=seed,
        on_epoch=told(on_metric, loss, target.scale),
    )
    coefficients, intercepts = layers[0]
    predictor = _predictor(
        coefficients * target.scale, intercepts * target.scale + target.mean, link
    )
    return FittedModel(
        predictor=predictor,
        hyperparameters=used,
        best_iteration=best_epoch,
        importance=_importance(predictor, data),
        fit_s=time.perf_counter() - started,
    )


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
        # without a penalty, directions that the rows do not reach are left at 0
        denominators = eigenvalues + tried
        reached = denominators > len(turned) * np.finfo(np.float64).eps * eigenvalues.max()
        yield tried, vectors @ (np.where(reached, turned, 0.0) / np.where(reached, denominators, 1))


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
        model.set_params(alpha=max(tried, _WEAKEST))
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
        model.set_params(C=1.0 / (max(tried, _WEAKEST) * weights.sum()))
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
