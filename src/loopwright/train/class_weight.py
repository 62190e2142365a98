"""Class weights: how much the rows of each class count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.problem import Task
from loopwright.train.hyperparameter import Hyperparameter
from loopwright.train.training_data import TrainingData, TrainingPart

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

CLASS_WEIGHT = Hyperparameter(
    kind=float,
    default=None,
    low=0.0,
    high=1e9,
    choices=("balanced",),
    shape="table",
    aliases=("class_weights",),
    help="classes only: balanced lets every class count the same in all; or a weight a class, "
    "1 where none is given; multiplies the weights of rows",
)


def class_weighted(
    data: TrainingData, class_weight: str | Mapping[str, float], *, task: Task
) -> TrainingData:
    """Return the data with the weights of its rows multiplied by those of their classes.

    `balanced` gives class k the weight n / (K n_k) of King and Zeng ("Logistic Regression in Rare
    Events Data", Political Analysis 9, 2001), n being the weight of all training rows, n_k that
    of the class and K the number of classes that have any. Validation rows count by the same
    weights, so that training stops where it is best for what it minimises.

    Raises
    ------
    InvalidInputError
        If there are no classes, or one of that name is not among them.
    """
    check_class_weight(class_weight, task=task)
    factors = (
        _balanced(data)
        if class_weight == "balanced" or isinstance(class_weight, str)
        else _given(data, class_weight)
    )

    def weighted(part: TrainingPart) -> TrainingPart:
        return replace(part, weight=part.weights * factors[part.y.astype(np.intp)])

    validation = weighted(data.validation)
    if not validation.weights.max() > 0:  # only classes of weight zero: nothing to judge by
        validation = data.validation
    return replace(data, train=weighted(data.train), validation=validation)


def check_class_weight(
    class_weight: str | Mapping[str, float] | None, *, task: Task, classes: Sequence[str] = ()
) -> None:
    """Refuse weights of classes where there are none, or of one that is not among `classes`.

    Raises
    ------
    InvalidInputError
        With the nearest name.
    """
    if class_weight is None:
        return
    if task == "regression":
        raise InvalidInputError(
            "class_weight is set, and the task is regression, which has no classes.",
            hint="Leave class_weight out, or give rows weights by a weight column.",
            field="class_weight",
        )
    for name in class_weight if classes and isinstance(class_weight, Mapping) else ():
        if name not in classes:
            raise _no_class(name, classes)


def _no_class(name: str, classes: Sequence[str]) -> InvalidInputError:
    return InvalidInputError(
        f"class_weight names {name[:80]!r}, which is no class.",
        hint=did_you_mean(name[:80], classes),
        field="class_weight",
        value=name[:80],
    )


def _balanced(data: TrainingData) -> npt.NDArray[np.float64]:
    part = data.train
    totals = np.bincount(part.y.astype(np.intp), weights=part.weights, minlength=data.n_classes)
    present = totals > 0
    factors = np.ones(data.n_classes)
    factors[present] = totals.sum() / (present.sum() * totals[present])
    return factors


def _given(data: TrainingData, table: Mapping[str, float]) -> npt.NDArray[np.float64]:
    names = data.class_names or tuple(str(k) for k in range(data.n_classes))
    factors = np.ones(data.n_classes)
    for name, weight in table.items():
        if name not in names:
            raise _no_class(name, names)
        factors[names.index(name)] = weight
    return factors
