"""neural-network: a small network of layers for tables."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.problem import Task
from loopwright.train.algorithm import PREDICTOR_TYPE, Features, FittedModel, OnMetric
from loopwright.train.class_weight import CLASS_WEIGHT
from loopwright.train.descent_setting import (
    Target,
    descent_hyperparameters,
    descent_settings,
    scaled_target,
    task_loss,
    told,
)
from loopwright.train.gradient_descent import (
    Descent,
    Rows,
    descended,
    initial_layers,
    mean_loss,
)
from loopwright.train.hyperparameter import Hyperparameter
from loopwright.train.link import Link
from loopwright.train.network_predictor import NetworkPredictor
from loopwright.train.training_data import TrainingData

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from loopwright.train.gradient_descent import Layers
else:
    np = LazyModule("numpy")

_MAX_IMPORTANCE_ROWS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NeuralNetwork:
    """Fit layers of units by gradient descent; smooth answers, for many rows and few texts.

    Takes scaled features without missing values; a target of a regression is scaled while it
    learns. Training stops when the validation loss has not improved for `early_stopping_epochs`,
    and the best epoch is kept. It is NumPy's own arithmetic: neither training nor serving needs
    another library.
    """

    name: str = "neural-network"
    features: Features = "scaled"

    @property
    def hyperparameters(self) -> Mapping[str, Hyperparameter]:
        """What can be set."""
        return {
            "hidden_layers": Hyperparameter(
                kind=int,
                default=[64, 32],
                low=1,
                high=1_024,
                shape="list",
                aliases=("hidden_layer_sizes", "layers"),
                help="units of each hidden layer, from the features to the answer",
            ),
            "activation": Hyperparameter(
                kind=str,
                default="relu",
                choices=("relu", "tanh"),
                help="what a unit does with its sum",
            ),
            **descent_hyperparameters(learning_rate=2e-3, batch_size=256, epochs=200),
            "weight_decay": Hyperparameter(
                kind=float,
                default=1e-4,
                low=0.0,
                high=1e3,
                aliases=("alpha", "l2", "wd"),
                help="L2 penalty: half of it times the sum of squared weights is added to the loss",
            ),
            "dropout": Hyperparameter(
                kind=float,
                default=0.0,
                low=0.0,
                high=0.9,
                help="share of the hidden units left out of each step",
            ),
            "class_weight": CLASS_WEIGHT,
            "predictor_type": PREDICTOR_TYPE,
        }

    def library(self, task: Task) -> str | None:
        """Return the module that `fit` imports; see `Algorithm.library`."""
        return None

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
        """Return the network after its best epoch; see `Algorithm.fit`."""
        started = time.perf_counter()
        loss, link = task_loss(hyperparameters["loss"], task)
        target = scaled_target(data, task)
        train, validation = target.rows(data.train), target.rows(data.validation)
        descent = Descent(
            loss=loss,
            activation=hyperparameters["activation"],
            l2=hyperparameters["weight_decay"],
            dropout=hyperparameters["dropout"],
            **descent_settings(hyperparameters),
        )
        sizes = [data.n_features, *hyperparameters["hidden_layers"], train.Y.shape[1]]
        layers, best_epoch = descended(
            initial_layers(sizes, seed=seed),
            train,
            validation,
            descent,
            seed=seed,
            on_epoch=told(on_metric, loss, target.scale),
        )
        importance = permutation_importance(layers, validation, descent, seed=seed)
        return FittedModel(
            predictor=exported_layers(layers, target, descent.activation, link),
            hyperparameters=hyperparameters,
            best_iteration=best_epoch,
            importance=importance,
            fit_s=time.perf_counter() - started,
        )


def permutation_importance(
    layers: Layers, rows: Rows, descent: Descent, *, seed: int
) -> npt.NDArray[np.float64]:
    """Return shares of what the loss grows by when one feature is shuffled, `(n_features,)`.

    Breiman, "Random Forests", Machine Learning 45, 2001, on up to 2,000 validation rows.
    """
    rng = np.random.default_rng(seed)
    step = max(1, len(rows.X) // _MAX_IMPORTANCE_ROWS)
    rows = Rows(X=rows.X[::step], Y=rows.Y[::step], weights=rows.weights[::step])
    usual = mean_loss(layers, rows, descent)
    growth = np.zeros(rows.X.shape[1])
    for feature in range(len(growth)):
        X = rows.X.copy()
        X[:, feature] = X[rng.permutation(len(X)), feature]
        shuffled = Rows(X=X, Y=rows.Y, weights=rows.weights)
        growth[feature] = max(0.0, mean_loss(layers, shuffled, descent) - usual)
    total = growth.sum()
    shares: npt.NDArray[np.float64] = growth / total if total > 0 else growth
    return shares


def exported_layers(
    layers: Layers, target: Target, activation: Any, link: Link
) -> NetworkPredictor:
    """Return layers as a predictor that answers in units of the target."""
    weights, biases = (list(arrays) for arrays in zip(*layers, strict=True))
    weights[-1] = weights[-1] * target.scale
    biases[-1] = biases[-1] * target.scale + target.mean
    return NetworkPredictor(
        weights=tuple(weights), biases=tuple(biases), activation=activation, link=link
    )
