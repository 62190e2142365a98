"""Trees of scikit-learn as a predictor, and what its two tree algorithms share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.problem import Task
from loopwright.train.hyperparameter import Hyperparameter
from loopwright.train.training_data import TrainingData, TrainingPart
from loopwright.train.trees_predictor import TreesPredictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

CRITERIA = ("squared", "poisson", "friedman", "gini", "entropy")
_LIBRARY_CRITERIA = {"squared": "squared_error", "friedman": "friedman_mse"}


def shared_tree_hyperparameters() -> dict[str, Hyperparameter]:
    """Return the hyperparameters of one tree, alone or in a forest, as scikit-learn names them."""
    return {
        "criterion": Hyperparameter(
            kind=str,
            default=None,
            choices=CRITERIA,
            spellings={
                "squared_error": "squared",
                "mse": "squared",
                "friedman_mse": "friedman",
                "log_loss": "entropy",
            },
            help="what a split lowers: squared (the default), poisson or friedman for regression, "
            "gini (the default) or entropy for classes",
        ),
        "min_samples_split": Hyperparameter(
            kind=int, default=2, low=2, high=1_000_000, help="least rows of a node that is split"
        ),
        "max_leaves": Hyperparameter(
            kind=int,
            default=None,
            low=2,
            high=1_000_000,
            aliases=("max_leaf_nodes", "num_leaves"),
            help="leaves of a tree at most, the best splits first; not bounded when not set",
        ),
        "min_impurity_decrease": Hyperparameter(
            kind=float,
            default=0.0,
            low=0.0,
            high=1e12,
            help="least impurity, weighted by the node's share of the rows, that a split takes away",
        ),
        "min_weight_fraction_leaf": Hyperparameter(
            kind=float,
            default=0.0,
            low=0.0,
            high=0.5,
            help="least share of the weight of all rows that a leaf holds",
        ),
    }


def library_criterion(given: str | None, task: Task) -> str:
    """Return scikit-learn's name of a criterion, for a task it fits.

    Raises
    ------
    InvalidInputError
        If it is for the other kind of task.
    """
    fitting = CRITERIA[:3] if task == "regression" else CRITERIA[3:]
    if given is None:
        given = fitting[0]
    if given not in fitting:
        raise InvalidInputError(
            f"criterion is {given!r}, and the task is {task}.",
            hint=f"For {task}, choose {', '.join(fitting[:-1])} or {fitting[-1]}.",
            field="criterion",
            value=given,
        )
    return _LIBRARY_CRITERIA.get(given, given)


def counted_rows(part: TrainingPart) -> tuple[npt.NDArray[np.float32], Any, Any]:
    """Return features in 32 bits, targets and weights of the rows that count at all.

    Weights that are all the same are None: scikit-learn draws other rows where some are given.
    """
    counted = part.weights > 0
    weights = part.weights[counted]
    given = None if (weights == weights[0]).all() else weights
    return in_32_bits(part.X[counted]), part.y[counted], given


def in_32_bits(X: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return features as scikit-learn compares them; what is too large becomes the largest."""
    bound = float(np.finfo(np.float32).max)
    return np.clip(X, -bound, bound).astype(np.float32)


def exported_trees(
    estimators: Sequence[Any], data: TrainingData, *, classes: Any, averaged: bool
) -> TreesPredictor:
    """Return scikit-learn's trees as a predictor.

    Parameters
    ----------
    estimators
        Fitted trees.
    data
        What they were fitted on.
    classes
        The classes they know, as indices; None for regression.
    averaged
        Whether the answer is the mean of the trees.
    """
    trees = [estimator.tree_ for estimator in estimators]
    sizes = [tree.node_count for tree in trees]
    roots = np.cumsum([0, *sizes])[:-1]

    def column(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(tree, name) for tree in trees])

    left, right = column("children_left"), column("children_right")
    is_leaf = left < 0
    here, first = np.arange(len(left)), np.repeat(roots, sizes)
    n_outputs = data.n_classes if data.n_classes > 2 else 1
    return TreesPredictor(
        feature=np.where(is_leaf, 0, column("feature")).astype(np.int32),
        left=np.where(is_leaf, here, first + left).astype(np.int32),
        right=np.where(is_leaf, here, first + right).astype(np.int32),
        threshold=np.where(is_leaf, np.float32(0), just_above(column("threshold"))),
        missing_left=np.where(is_leaf, 0, column("missing_go_to_left")).astype(np.uint8),
        zero_missing=np.zeros(len(left), dtype=np.uint8),
        value=_values(column("value")[:, 0, :], is_leaf, classes, data.n_classes),
        roots=roots.astype(np.int32),
        outputs=np.zeros(len(trees), dtype=np.int32),
        base=np.zeros(n_outputs),
        comparison="<",
        n_features=data.n_features,
        averaged=averaged,
    )


def just_above(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return the least 32-bit number above each threshold.

    scikit-learn asks x <= t with x in 32 and t in 64 bits; x < the result asks the same.
    """
    with np.errstate(over="ignore"):  # above the largest lies infinity
        rounded = threshold.astype(np.float32)
        following = np.nextafter(rounded, np.float32(np.inf))
    above: npt.NDArray[np.float32] = np.where(
        rounded.astype(np.float64) > threshold, rounded, following
    )
    return above


def _values(
    value: npt.NDArray[np.float64],
    is_leaf: npt.NDArray[np.bool_],
    classes: Any,
    n_classes: int,
) -> npt.NDArray[np.float64]:
    if classes is None:
        return np.where(is_leaf, value[:, 0], 0.0)
    # from scikit-learn 1.3 on, these are shares of the classes; classes not seen have none
    shares = np.zeros((len(value), n_classes))
    shares[:, classes.astype(np.intp)] = np.where(is_leaf[:, None], value, 0.0)
    return np.ascontiguousarray(shares[:, 1]) if n_classes == 2 else shares


def native_scores(
    model: Any, X: npt.NDArray[np.float64], n_classes: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp] | None]:
    """Return scikit-learn's own answers, and which outputs they are."""
    if not n_classes:
        return model.predict(in_32_bits(X)), None
    shares = model.predict_proba(in_32_bits(X))
    classes = model.classes_.astype(np.intp)
    if n_classes == 2:
        return shares[:, list(classes).index(1)], None
    return shares, classes
