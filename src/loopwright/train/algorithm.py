"""Algorithms: their names, what can be set, and what they make of training data."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from loopwright.core.errors import InvalidInputError, NotFoundError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.problem import Task
from loopwright.train.training_data import TrainingData, TrainingPart, check_training_data

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from loopwright.train.predictor import Predictor
else:
    np = LazyModule("numpy")

Features = Literal["scaled", "tree"]
TargetTransform = Literal["none", "log"]
OnMetric = Callable[[int, str, float], None]
Value = int | float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameter:
    """One thing about an algorithm that can be set.

    Parameters
    ----------
    kind
        `int`, `float` or `str`.
    default
        What it is when it is not set. None: the algorithm chooses on the validation rows.
    low, high
        The range, ends included.
    choices
        The texts it may be, for `str`.
    help
        What it does, in one line.
    """

    kind: type[int] | type[float] | type[str]
    default: Value
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    help: str

    def problem(self, value: object) -> str:
        """Return what is wrong with a value, or nothing."""
        if value is None and self.default is None:
            return ""
        if self.kind is str:
            return "" if value in self.choices else f"one of {', '.join(self.choices)} is expected"
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (self.kind is int and not whole):
            return f"a {'whole ' if self.kind is int else ''}number is expected"
        assert isinstance(value, int | float)  # noqa: S101 told to the type checker
        if value != value or (self.low is not None and value < self.low):
            return f"at least {self.low:g} is expected"
        if self.high is not None and value > self.high:
            return f"at most {self.high:g} is expected"
        return ""


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
    bytes. It may run in any process; it prints nothing.
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
        """Return what was learned; calls `on_metric(step, name, value)` as it goes."""
        ...


ALGORITHMS: Mapping[str, str] = {
    "linear-learner": "loopwright.train.linear_learner:LinearLearner",
    "knn": "loopwright.train.knn:NearestNeighbors",
    "xgboost": "loopwright.train.xgboost_learner:XgboostLearner",
    "lightgbm": "loopwright.train.lightgbm_learner:LightgbmLearner",
}


def get_algorithm(name: str) -> Algorithm:
    """Return the algorithm of that name.

    Raises
    ------
    NotFoundError
        If there is none.
    """
    if name not in ALGORITHMS:
        raise NotFoundError(
            f"No algorithm is named {name[:80]!r}.",
            hint=did_you_mean(name[:80], ALGORITHMS),
            kind="algorithm",
            name=name[:80],
        )
    module, _, cls = ALGORITHMS[name].partition(":")
    algorithm: Algorithm = getattr(importlib.import_module(module), cls)()
    return algorithm


def checked_hyperparameters(algorithm: Algorithm, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all hyperparameters of an algorithm: the given ones checked, the others by default.

    Raises
    ------
    InvalidInputError
        If a name is unknown (with the nearest one), or a value is of a wrong type or out of range.
    """
    known = algorithm.hyperparameters
    for name, value in given.items():
        if name not in known:
            raise InvalidInputError(
                f"{algorithm.name} has no hyperparameter {name[:80]!r}.",
                hint=did_you_mean(name[:80], known),
                field=name[:80],
                value=None,
            )
        if problem := known[name].problem(value):
            raise InvalidInputError(
                f"Hyperparameter {name} of {algorithm.name} is {value!r}; {problem}.",
                hint=f"{name}: {known[name].help}",
                field=name,
                value=value,
            )
    return {
        name: _typed(given[name], one.kind) if name in given else one.default
        for name, one in known.items()
    }


def _typed(value: Any, kind: type) -> Any:
    return None if value is None else kind(value)


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
        How many threads the library may use; linear algebra takes its own from the environment.
    target_transform
        `log` learns the logarithm of the target and answers its exponential: errors then count
        relative to the value. Answers are medians rather than means. Regression only, and only if
        every target is above 0.
    on_metric
        Is told the learning curve: step, name, value (on the scale that is learned).

    Raises
    ------
    InvalidInputError
        If the data or a setting cannot be used.
    BackendError
        If the exported model answers differently from the library.
    """
    settings = checked_hyperparameters(algorithm, hyperparameters or {})
    check_training_data(data, task=task, missing_allowed=algorithm.features == "tree")
    if target_transform == "log":
        data = _with_logarithms(data, task)
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
