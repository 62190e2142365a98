"""Algorithms: their names, what can be set, and what they make of training data."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from loopwright.core.errors import InvalidInputError, NotFoundError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.problem import Task
from loopwright.train.class_weight import check_class_weight, class_weighted
from loopwright.train.hyperparameter import Hyperparameter, Value, checked_hyperparameters
from loopwright.train.plugin import algorithm_plugins, loaded_algorithm
from loopwright.train.training_data import TrainingData, TrainingPart, check_training_data

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from loopwright.train.predictor import Predictor
else:
    np = LazyModule("numpy")

Features = Literal["linear", "scaled", "tree"]
TargetTransform = Literal["none", "log"]
# objectives of the boosters whose score is a logarithm
_LOGARITHMIC = ("poisson", "gamma", "tweedie")
# values; below it a product takes milliseconds
_SMALL_TABLE = 20_000_000
OnMetric = Callable[[int, str, float], bool | None]
"""Is told step, name and value of a learning curve; True asks to end with the best so far."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedModel:
    """What training leaves behind.

    Parameters
    ----------
    predictor
        What is served; equal to the native model on every row that was compared.
    native
        Files of the library's own format, by name; empty where the predictor is the model.
    hyperparameters
        What was used, with everything that was chosen on the validation rows.
    best_iteration
        Rounds kept (boosters), from 1.
    importance
        `(n_features,)`, adding to 1: how much each feature contributes. Nothing for an algorithm
        that cannot tell.
    native_difference
        Greatest relative difference of a score from the library's; 0 is the same bits.
    fit_s
        Seconds the algorithm itself took, without export and comparison.
    """

    predictor: Predictor
    native: Mapping[str, bytes] = field(default_factory=dict)
    hyperparameters: Mapping[str, Value]
    best_iteration: int | None = None
    importance: npt.NDArray[np.float64] | None = None
    native_difference: float = 0.0
    fit_s: float


class Algorithm(Protocol):
    """Learns from features and targets; a value without state.

    `fit` gets checked data (`check_training_data`) and a complete, checked table of
    hyperparameters. The same data, hyperparameters, seed and number of threads give the same
    bytes. It may run in any process; it prints nothing. One whose settings have to go together, or
    with the task, may bring a `check(hyperparameters, *, task)` that raises `InvalidInputError`; it
    is asked before a job is made, and need not be repeated in `fit`.
    """

    @property
    def name(self) -> str:
        """Name in the loop file."""
        ...

    @property
    def features(self) -> Features:
        """The recipe it wants: `scaled` and without missing values, or `tree`."""
        ...

    @property
    def hyperparameters(self) -> Mapping[str, Hyperparameter]:
        """What can be set, by name."""
        ...

    def library(self, task: Task) -> str | None:
        """Return the module that `fit` imports for a task, if it imports one."""
        ...

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
        """Return what was learned; calls `on_metric(step, name, value)` as it goes.

        An algorithm that learns step by step ends soon after `on_metric` answers True, and returns
        the best it has found.
        """
        ...


ALGORITHMS: Mapping[str, str] = {
    "linear-learner": "loopwright.train.linear_learner:LinearLearner",
    "knn": "loopwright.train.knn:NearestNeighbors",
    "xgboost": "loopwright.train.xgboost_learner:XgboostLearner",
    "lightgbm": "loopwright.train.lightgbm_learner:LightgbmLearner",
    "decision-tree": "loopwright.train.decision_tree:DecisionTree",
    "catboost": "loopwright.train.catboost_learner:CatboostLearner",
    "random-forest": "loopwright.train.random_forest:RandomForest",
    "neural-network": "loopwright.train.neural_network:NeuralNetwork",
}


# what a loop trains when it does not say; the first round stays quick
USUAL_ALGORITHMS = ("linear-learner", "knn", "xgboost", "lightgbm")


def algorithm_names() -> tuple[str, ...]:
    """Return the names of all algorithms: loopwright's, then those of installed packages."""
    return tuple(dict.fromkeys([*ALGORITHMS, *algorithm_plugins()]))


def get_algorithm(name: str) -> Algorithm:
    """Return the algorithm of that name, loopwright's own or one that a package brings.

    Raises
    ------
    NotFoundError
        If there is none.
    BackendError
        If the package that brings it is broken.
    """
    if name in ALGORITHMS:
        module, _, cls = ALGORITHMS[name].partition(":")
        algorithm: Algorithm = getattr(importlib.import_module(module), cls)()
        return algorithm
    plugins = algorithm_plugins()
    if name in plugins:
        brought: Algorithm = loaded_algorithm(plugins[name])
        return brought
    raise NotFoundError(
        f"No algorithm is named {name[:80]!r}.",
        hint=did_you_mean(name[:80], algorithm_names()),
        kind="algorithm",
        name=name[:80],
    )


def check_installed(algorithm: Algorithm, task: Task) -> None:
    """Check that the library of an algorithm is installed; it is not imported.

    Raises
    ------
    InvalidInputError
        If it is not, with what to install.
    """
    module = (algorithm.library(task) or "").partition(".")[0]
    if not module or module in sys.modules or importlib.util.find_spec(module) is not None:
        return
    extra = f"`loopwright[{module}]`" if algorithm.name in ALGORITHMS else repr(module)
    raise InvalidInputError(
        f"{algorithm.name} trains with the package {module!r}, which is not installed.",
        hint=f"Install {extra}, or leave {algorithm.name} out. Serving does not need it.",
        field="algorithm",
        value=algorithm.name,
    )


def check_settings(
    algorithm: Algorithm,
    settings: Mapping[str, Any],
    *,
    task: Task,
    classes: Sequence[str] = (),
) -> None:
    """Check that complete settings go together, and with the task.

    Parameters
    ----------
    settings
        What `checked_hyperparameters` returns.
    classes
        Their names, where they are known.

    Raises
    ------
    InvalidInputError
        Naming the setting, its value and what can be set.
    """
    _check_predictor_type(settings.get("predictor_type"), task)
    check_class_weight(settings.get("class_weight"), task=task, classes=classes)
    check: Callable[..., None] | None = getattr(algorithm, "check", None)
    if check is not None:
        check(settings, task=task)


def fit_algorithm(
    algorithm: Algorithm,
    data: TrainingData,
    *,
    task: Task,
    hyperparameters: Mapping[str, Any] | None = None,
    seed: int = 7,
    threads: int = 1,
    target_transform: TargetTransform = "none",
    on_metric: OnMetric | None = None,
) -> FittedModel:
    """Check the data and the settings, and return what the algorithm learns.

    Parameters
    ----------
    algorithm
        What to fit; see `get_algorithm`.
    data
        Training and validation rows.
    task
        `regression`, `binary` or `multiclass`.
    hyperparameters
        What to set; everything else has its default.
    seed
        Of everything that is drawn at random.
    threads
        How many threads the library may use. Linear algebra takes one alone on a table of under 20
        million values: a second one hardly helps there, and where the processors are busy it waits
        for them ten times as long as it works.
    target_transform
        `log` learns the logarithm of the target and answers its exponential: errors then count
        relative to the value. Answers are medians rather than means. Regression only, and only if
        every target is above 0. An objective that learns a logarithm already (poisson, gamma,
        tweedie) stays as it is.
    on_metric
        Is told the learning curve: step, name, value (on the scale that is learned). Answers True
        to end with the best so far.

    Raises
    ------
    InvalidInputError
        If the data or a setting cannot be used.
    BackendError
        If the exported model answers differently from the library.
    """
    settings = checked_hyperparameters(algorithm, hyperparameters or {})
    check_installed(algorithm, task)
    check_training_data(data, task=task, missing_allowed=algorithm.features == "tree")
    if settings.get("objective") in _LOGARITHMIC:
        target_transform = "none"
    if target_transform == "log":
        data = _with_logarithms(data, task)
    check_settings(algorithm, settings, task=task)
    if settings.get("class_weight") is not None:
        data = class_weighted(data, settings["class_weight"], task=task)
        check_training_data(data, task=task, missing_allowed=algorithm.features == "tree")
    if task == "multiclass":
        data = _without_unseen_classes(data)
    with _linear_algebra(data, threads, algorithm.library(task)):
        fitted = algorithm.fit(
            data,
            task=task,
            hyperparameters=settings,
            seed=seed,
            threads=threads,
            on_metric=on_metric or _forget,
        )
    if target_transform == "log":
        predictor: Any = fitted.predictor
        fitted = replace(fitted, predictor=replace(predictor, link="exp"))
    return fitted


def _linear_algebra(
    data: TrainingData, threads: int, library: str | None
) -> contextlib.AbstractContextManager[object]:
    """Return the limit on its threads while a table is learnt from."""
    from threadpoolctl import threadpool_limits

    if library:
        importlib.import_module(library)  # the limit holds for what is loaded
    small = data.train.X.size < _SMALL_TABLE
    limits: contextlib.AbstractContextManager[object] = threadpool_limits(
        1 if small else threads, user_api="blas"
    )
    return limits


_PREDICTOR_TYPES: Mapping[str, Task] = {
    "regressor": "regression",
    "binary_classifier": "binary",
    "multiclass_classifier": "multiclass",
}
PREDICTOR_TYPE = Hyperparameter(
    kind=str,
    default=None,
    choices=(*_PREDICTOR_TYPES, "classifier"),
    help="as in SageMaker; the task says it already, and the two have to agree",
)


def _check_predictor_type(given: str | None, task: Task) -> None:
    agrees = given is None or (
        task != "regression" if given == "classifier" else _PREDICTOR_TYPES[given] == task
    )
    if not agrees:
        raise InvalidInputError(
            f"predictor_type is {given!r}, and the task is {task}.",
            hint="Leave predictor_type out, or change the target.",
            field="predictor_type",
            value=given,
        )


def _without_unseen_classes(data: TrainingData) -> TrainingData:
    """Leave validation rows of classes that no training row has out of choosing and stopping."""
    seen = np.unique(data.train.y[data.train.weights > 0])
    part, known = data.validation, np.isin(data.validation.y, seen)
    if known.all() or not part.weights[known].sum() > 0:
        return data
    weight = None if part.weight is None else part.weight[known]
    return replace(data, validation=TrainingPart(X=part.X[known], y=part.y[known], weight=weight))


def _forget(step: int, name: str, value: float) -> None:
    """Do nothing with a metric that nobody asked for."""


def _with_logarithms(data: TrainingData, task: Task) -> TrainingData:
    lowest = min(data.train.y.min(), data.validation.y.min())
    if task != "regression" or lowest <= 0:
        found = f"the smallest is {lowest:g}" if task == "regression" else f"the task is {task}"
        raise InvalidInputError(
            f"target_transform 'log' needs a regression with every target above 0; {found}.",
            hint="Use target_transform 'none'.",
            field="target_transform",
            value="log",
        )

    def logarithms(part: TrainingPart) -> TrainingPart:
        return replace(part, y=np.log(part.y))

    return replace(data, train=logarithms(data.train), validation=logarithms(data.validation))
