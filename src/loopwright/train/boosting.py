"""What the two boosting libraries share: settings, links and the rows an export is compared on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.problem import Task
from loopwright.train.class_weight import CLASS_WEIGHT
from loopwright.train.hyperparameter import Hyperparameter
from loopwright.train.link import Link
from loopwright.train.training_data import TrainingData

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

REGRESSIONS = ("squared", "absolute", "huber", "quantile", "poisson", "gamma", "tweedie")
# objectives whose score is the logarithm of the answer
POSITIVE = ("poisson", "gamma", "tweedie")
OBJECTIVE_SPELLINGS = {
    "reg:squarederror": "squared",
    "reg:linear": "squared",
    "reg:absoluteerror": "absolute",
    "reg:pseudohubererror": "huber",
    "reg:quantileerror": "quantile",
    "count:poisson": "poisson",
    "reg:gamma": "gamma",
    "reg:tweedie": "tweedie",
    "binary:logistic": "logistic",
    "multi:softprob": "softmax",
    "multi:softmax": "softmax",
    "regression": "squared",
    "regression_l2": "squared",
    "regression_l1": "absolute",
    "mse": "squared",
    "mae": "absolute",
    "binary": "logistic",
    "multiclass": "softmax",
}
METRICS = ("rmse", "mae", "mape", "log_loss", "error", "auc", "average_precision")
METRIC_SPELLINGS = {
    "l1": "mae",
    "logloss": "log_loss",
    "mlogloss": "log_loss",
    "binary_logloss": "log_loss",
    "multi_logloss": "log_loss",
    "merror": "error",
    "binary_error": "error",
    "multi_error": "error",
    "aucpr": "average_precision",
}
LINKS_OF_TASKS: Mapping[str, Link] = {
    "regression": "identity",
    "binary": "sigmoid",
    "multiclass": "softmax",
}
_METRICS_OF_TASKS = {
    "regression": ("rmse", "mae", "mape"),
    "binary": ("log_loss", "error", "auc", "average_precision"),
    "multiclass": ("log_loss", "error", "auc"),
}
_MAX_VALIDATION_ROWS = 20_000
_MAX_TRAINING_ROWS = 2_000


def shared_hyperparameters(aliases: Mapping[str, tuple[str, ...]]) -> dict[str, Hyperparameter]:
    """Return the hyperparameters that both libraries know, under one name each.

    Parameters
    ----------
    aliases
        What the library calls them, by loopwright's name.
    """
    return {name: replace(one, aliases=aliases.get(name, ())) for name, one in _SHARED.items()}


_SHARED: Mapping[str, Hyperparameter] = {
    "objective": Hyperparameter(
        kind=str,
        default=None,
        choices=(*REGRESSIONS, "logistic", "softmax"),
        spellings=OBJECTIVE_SPELLINGS,
        help="what is minimised: for regression squared (when not set; answers the mean), "
        "absolute (the median), huber, quantile, poisson, gamma or tweedie; for classes logistic "
        "or softmax",
    ),
    "quantile": Hyperparameter(
        kind=float,
        default=0.5,
        low=0.001,
        high=0.999,
        help="which quantile the objective quantile answers",
    ),
    "huber_delta": Hyperparameter(
        kind=float,
        default=1.0,
        low=1e-6,
        high=1e12,
        help="error from which the objective huber counts linearly, in units of the target",
    ),
    "tweedie_power": Hyperparameter(
        kind=float,
        default=1.5,
        low=1.01,
        high=1.99,
        help="power of the mean that the variance grows with, for the objective tweedie",
    ),
    "eval_metric": Hyperparameter(
        kind=str,
        default=None,
        choices=METRICS,
        spellings=METRIC_SPELLINGS,
        help="what is watched on the validation rows to stop; the objective's own when not set",
    ),
    "rounds": Hyperparameter(
        kind=int, default=2_000, low=1, high=20_000, help="trees (a class) at most"
    ),
    "early_stopping_rounds": Hyperparameter(
        kind=int,
        default=50,
        low=0,
        high=20_000,
        help="rounds without a better validation metric after which training stops; 0 keeps all",
    ),
    "learning_rate": Hyperparameter(
        kind=float, default=0.05, low=1e-4, high=1.0, help="share of each tree that is added"
    ),
    "subsample": Hyperparameter(
        kind=float, default=0.8, low=0.05, high=1.0, help="share of the rows a tree sees"
    ),
    "colsample": Hyperparameter(
        kind=float, default=0.8, low=0.05, high=1.0, help="share of the features a tree sees"
    ),
    "colsample_bynode": Hyperparameter(
        kind=float, default=1.0, low=0.05, high=1.0, help="share of those that a split looks at"
    ),
    "reg_alpha": Hyperparameter(
        kind=float, default=0.0, low=0.0, high=1e6, help="L1 penalty on leaves"
    ),
    "reg_lambda": Hyperparameter(
        kind=float, default=1.0, low=0.0, high=1e6, help="L2 penalty on leaves"
    ),
    "max_bin": Hyperparameter(
        kind=int, default=255, low=2, high=65_535, help="histogram bins of a feature"
    ),
    "max_delta_step": Hyperparameter(
        kind=float,
        default=None,
        low=0.0,
        high=1e6,
        help="greatest value of a leaf before the learning rate; the library's when not set",
    ),
    "scale_pos_weight": Hyperparameter(
        kind=float,
        default=1.0,
        low=1e-6,
        high=1e6,
        help="two classes only: how much more a row of the positive class counts",
    ),
    "monotone_constraints": Hyperparameter(
        kind=int,
        default=None,
        low=-1,
        high=1,
        shape="table",
        help="by feature: 1 lets the answer only rise with it, -1 only fall",
    ),
    "class_weight": CLASS_WEIGHT,
}


_USUAL: Mapping[Task, str] = {
    "regression": "squared",
    "binary": "logistic",
    "multiclass": "softmax",
}


def check_boosting(settings: Mapping[str, Any], *, task: Task) -> None:
    """Refuse an objective, or a weight of the positive class, that is not for the task.

    Raises
    ------
    InvalidInputError
        With what can be set.
    """
    usual = _USUAL[task]
    objective: str = settings["objective"] or usual
    if objective != usual and (task != "regression" or objective not in REGRESSIONS):
        fitting = ", ".join(REGRESSIONS) if task == "regression" else usual
        raise _refused("objective", objective, f"the task is {task}", f"It can be: {fitting}.")
    if settings["scale_pos_weight"] != 1 and task != "binary":
        raise _refused(
            "scale_pos_weight",
            settings["scale_pos_weight"],
            f"the task is {task}",
            "It is for two classes; use class_weight for more.",
        )


def resolved_objective(settings: Mapping[str, Any], data: TrainingData, task: Task) -> str:
    """Return the objective, the task's usual one when none is set.

    Raises
    ------
    InvalidInputError
        If it is not for the task or the targets.
    """
    check_boosting(settings, task=task)
    objective: str = settings["objective"] or _USUAL[task]
    lowest = float(min(data.train.y.min(), data.validation.y.min()))
    if objective in POSITIVE and (lowest < 0 or (objective == "gamma" and lowest == 0)):
        least = "above 0" if objective == "gamma" else "0 or more"
        raise _refused(
            "objective",
            objective,
            f"the smallest target is {lowest:g}",
            f"{objective} needs targets {least}.",
        )
    return objective


def monotone_directions(settings: Mapping[str, Any], data: TrainingData) -> list[int] | None:
    """Return 1, 0 or -1 for each feature, or None where nothing is constrained.

    Raises
    ------
    InvalidInputError
        If a name is no feature.
    """
    table = settings["monotone_constraints"]
    if table is None:
        return None
    names = data.names
    for name in table:
        if name not in names:
            raise InvalidInputError(
                f"monotone_constraints names {name[:80]!r}, which is no feature.",
                hint=did_you_mean(name[:80], names),
                field="monotone_constraints",
                value=name[:80],
            )
    return [table.get(name, 0) for name in names]


def check_eval_metric(settings: Mapping[str, Any], task: Task) -> None:
    """Check that the metric to stop by is one of the task.

    Raises
    ------
    InvalidInputError
        If it is not.
    """
    metric, known = settings["eval_metric"], _METRICS_OF_TASKS[task]
    if metric is not None and metric not in known:
        hint = f"It can be: {', '.join(known)}."
        raise _refused("eval_metric", metric, f"the task is {task}", hint)


def link_of(objective: str, task: Task) -> Link:
    """Return what makes the answer of a booster's score."""
    return "exp" if objective in POSITIVE else LINKS_OF_TASKS[task]


def _refused(field: str, value: object, reason: str, hint: str) -> InvalidInputError:
    return InvalidInputError(
        f"{field} is {value!r}, and {reason}.", hint=hint, field=field, value=value
    )


def comparison_rows(data: TrainingData) -> npt.NDArray[np.float64]:
    """Return the rows on which an export is compared with the library, `(n_rows, n_features)`.

    The validation rows, up to 20,000, and 2,000 training rows spread over the part.
    """
    step = max(1, len(data.train) // _MAX_TRAINING_ROWS)
    chosen = (data.validation.X[:_MAX_VALIDATION_ROWS], data.train.X[::step][:_MAX_TRAINING_ROWS])
    return np.concatenate(chosen)


def gain_shares(gains: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return each feature's share of what all splits gained, `(n_features,)`."""
    values = np.asarray(gains, dtype=np.float64)
    total = values.sum()
    shares: npt.NDArray[np.float64] = values / total if total > 0 else values
    return shares
