"""Settings of gradient descent, and targets on the scale they are learned on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.problem import Task
from loopwright.train.algorithm import OnMetric
from loopwright.train.gradient_descent import LOSS_NAMES, Loss, Rows
from loopwright.train.hyperparameter import Hyperparameter
from loopwright.train.link import Link
from loopwright.train.training_data import TrainingData, TrainingPart

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_CLASSES: Mapping[str, tuple[Loss, Link]] = {
    "binary": ("logistic", "sigmoid"),
    "multiclass": ("softmax", "softmax"),
}


def descent_hyperparameters(
    *, learning_rate: float | None, batch_size: int | None, epochs: int | None
) -> dict[str, Hyperparameter]:
    """Return what can be set about gradient descent, under the names of SageMaker and others."""
    return {
        "loss": Hyperparameter(
            kind=str,
            default=None,
            choices=("squared", "absolute", "huber"),
            spellings={
                "squared_loss": "squared",
                "absolute_loss": "absolute",
                "huber_loss": "huber",
            },
            help="regression only: squared (when not set) answers the mean, absolute the median; "
            "huber counts errors beyond one deviation of the target linearly",
        ),
        "optimizer": Hyperparameter(
            kind=str,
            default="adam",
            choices=("adam", "sgd"),
            spellings={"auto": "adam"},
            help="how a step follows the gradient",
        ),
        "learning_rate": Hyperparameter(
            kind=float,
            default=learning_rate,
            low=1e-7,
            high=10.0,
            aliases=("learning_rate_init", "eta0"),
            help="length of a step",
        ),
        "momentum": Hyperparameter(
            kind=float,
            default=0.9,
            low=0.0,
            high=0.9999,
            help="share of the step before that a step of sgd keeps",
        ),
        "batch_size": Hyperparameter(
            kind=int,
            default=batch_size,
            low=1,
            high=10_000_000,
            aliases=("mini_batch_size",),
            help="rows of a step",
        ),
        "epochs": Hyperparameter(
            kind=int,
            default=epochs,
            low=1,
            high=100_000,
            aliases=("max_iter", "num_epochs"),
            help="passes over the rows at most",
        ),
        "early_stopping_epochs": Hyperparameter(
            kind=int,
            default=15,
            low=0,
            high=100_000,
            aliases=("early_stopping_patience", "n_iter_no_change", "patience"),
            help="epochs without a better validation loss after which training stops; 0 keeps all",
        ),
        "early_stopping_tolerance": Hyperparameter(
            kind=float,
            default=1e-4,
            low=0.0,
            high=1.0,
            aliases=("tol",),
            help="how much better, as a share of the loss, counts as better",
        ),
    }


def descent_settings(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of `descent_hyperparameters` as those of a `Descent`."""
    names = ("optimizer", "learning_rate", "momentum", "batch_size", "epochs")
    return {
        **{name: hyperparameters[name] for name in names},
        "patience": hyperparameters["early_stopping_epochs"],
        "tolerance": hyperparameters["early_stopping_tolerance"],
    }


def task_loss(given: str | None, task: Task) -> tuple[Loss, Link]:
    """Return the loss to go down by, and the link of the score.

    Raises
    ------
    InvalidInputError
        If a loss is set for classes, which have one.
    """
    if given is not None and task != "regression":
        raise InvalidInputError(
            f"loss is {given!r}, and the task is {task}.",
            hint="Classes are learned by the logarithmic loss; leave loss out.",
            field="loss",
            value=given,
        )
    if task == "regression":
        loss: Any = given or "squared"
        return loss, "identity"
    return _CLASSES[task]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """How targets are scaled while they are learned: `(y - mean) / scale`."""

    data: TrainingData
    mean: float = 0.0
    scale: float = 1.0

    def rows(self, part: TrainingPart) -> Rows:
        """Return the rows of a part that count, with scaled targets and weights of mean 1."""
        counted = part.weights > 0
        weights = part.weights[counted]
        Y = (self.data.class_columns(part)[counted] - self.mean) / self.scale
        return Rows(X=part.X[counted], Y=Y, weights=weights / weights.mean())


def scaled_target(data: TrainingData, task: Task) -> Target:
    """Return the scale of the training targets; that of classes stays as it is."""
    if task != "regression":
        return Target(data=data)
    share = data.train.weights / data.train.weights.sum()
    mean = float(share @ data.train.y)
    scale = float(np.sqrt(share @ (data.train.y - mean) ** 2))
    return Target(data=data, mean=mean, scale=scale)


def told(on_metric: OnMetric, loss: Loss, scale: float) -> Callable[[int, float, float], bool]:
    """Return a function that tells the losses of an epoch in units of the target.

    It answers whether to end.
    """
    name = LOSS_NAMES[loss]
    unit = {"squared": 2.0 * scale**2, "absolute": scale, "huber": scale**2}.get(loss, 1.0)

    def tell(epoch: int, train: float, validation: float) -> bool:
        of_train = on_metric(epoch, f"train:{name}", train * unit)
        of_validation = on_metric(epoch, f"validation:{name}", validation * unit)
        return True in (of_train, of_validation)

    return tell
