"""What the two boosting libraries share: settings, links and the rows an export is compared on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.train.algorithm import Hyperparameter
from loopwright.train.link import Link
from loopwright.train.training_data import TrainingData

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

LINKS_OF_TASKS: Mapping[str, Link] = {
    "regression": "identity",
    "binary": "sigmoid",
    "multiclass": "softmax",
}
_MAX_VALIDATION_ROWS = 20_000
_MAX_TRAINING_ROWS = 2_000


def shared_hyperparameters() -> dict[str, Hyperparameter]:
    """Return the hyperparameters that both libraries know, under one name each."""
    return {
        "objective": Hyperparameter(
            kind=str,
            default="squared",
            choices=("squared", "absolute"),
            help="regression only: squared answers the mean, absolute the median",
        ),
        "rounds": Hyperparameter(
            kind=int, default=2_000, low=1, high=20_000, help="trees (a class) at most"
        ),
        "early_stopping_rounds": Hyperparameter(
            kind=int,
            default=50,
            low=1,
            high=20_000,
            help="rounds without a better validation loss after which training stops",
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
        "reg_alpha": Hyperparameter(
            kind=float, default=0.0, low=0.0, high=1e6, help="L1 penalty on leaves"
        ),
        "reg_lambda": Hyperparameter(
            kind=float, default=1.0, low=0.0, high=1e6, help="L2 penalty on leaves"
        ),
        "max_bin": Hyperparameter(
            kind=int, default=255, low=2, high=65_535, help="histogram bins of a feature"
        ),
    }


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
