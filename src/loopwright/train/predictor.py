"""Predictors: what a model computes, as arrays and plain NumPy, for every process that serves."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.train.link import Link, linked

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

MAX_FEATURE = 1e100
# Relative difference up to which two ways to compute a score are the same.
SAME_SCORE = 1e-9


class Predictor(Protocol):
    """Answers rows of features; a frozen value that checks itself when it is made.

    The answer for a row does not depend on the rows that come with it, to the last bit. Any
    thread may call it.
    """

    @property
    @abstractmethod
    def link(self) -> Link:
        """What makes the answer of the score."""

    @property
    @abstractmethod
    def n_features(self) -> int:
        """How many features a row has."""

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """How many scores a row gets: 1, or one a class."""

    @abstractmethod
    def score(self, X: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return scores `(n_rows, n_outputs)` for features `(n_rows, n_features)`."""

    def compiled_score(self) -> Callable[[Any, Any], None] | None:
        """Return what writes the scores of features into an array, where the kernel does that."""
        return None

    @abstractmethod
    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return what has to be stored."""

    @abstractmethod
    def meta(self) -> dict[str, Any]:
        """Return what has to be stored beside the arrays, as JSON types."""

    def predict_raw(self, X: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return answers for features `(n_rows, n_features)` in 64-bit floats.

        Returns
        -------
        numpy.ndarray
            `(n_rows,)`: the predicted value (regression), or the probability of the positive
            class (binary). `(n_rows, n_classes)`: the probability of every class (multiclass).

        Raises
        ------
        InvalidInputError
            If `X` has another shape or type.
        """
        if X.ndim != 2 or X.shape[1] != self.n_features or X.dtype != np.float64:
            raise InvalidInputError(
                f"The features have shape {X.shape} and type {X.dtype}.",
                hint=f"Give (n_rows, {self.n_features}) in float64, as the model's recipe does.",
                field="X",
                value=list(X.shape),
            )
        answers = linked(self.score(X), self.link)
        return answers[:, 0] if self.n_outputs == 1 else answers


def completed(X: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return scaled features with every number usable in sums and products.

    A missing one becomes 0, the mean of a scaled feature; one beyond 1e100 becomes 1e100. The
    recipe leaves neither in ordinary rows, so that ordinary rows come back as they are.
    """
    X = np.ascontiguousarray(X)
    if (np.abs(X) <= MAX_FEATURE).all():
        return X
    limited: npt.NDArray[np.float64] = np.clip(
        np.nan_to_num(X, nan=0.0, posinf=MAX_FEATURE, neginf=-MAX_FEATURE),
        -MAX_FEATURE,
        MAX_FEATURE,
    )
    return limited


def check_same_scores(
    predictor: Predictor,
    X: npt.NDArray[np.float64],
    native: npt.NDArray[np.floating[Any]],
    *,
    library: str,
    outputs: npt.NDArray[np.intp] | None = None,
) -> float:
    """Compare a predictor with the library that trained it, row by row, before it is kept.

    Parameters
    ----------
    predictor
        The predictor made from the library's model.
    X
        Rows `(n_rows, n_features)` to compare on.
    native
        The library's own scores, `(n_rows,)` or `(n_rows, n_outputs)`, before any link.
    library
        Name of the library, for the message.
    outputs
        Which outputs the library knows; nothing means all.

    Returns
    -------
    float
        The greatest difference, relative to the score or to 1 where that is smaller.

    Raises
    ------
    BackendError
        If a row differs by more than 1e-9.
    """
    ours = predictor.score(X)
    ours = ours if outputs is None else ours[:, outputs]
    theirs = np.asarray(native, dtype=np.float64).reshape(ours.shape)
    difference = np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))
    greatest = float(difference.max(initial=0.0))
    if not greatest <= SAME_SCORE:
        row = int(np.nan_to_num(difference, nan=np.inf).max(axis=1).argmax())
        raise BackendError(
            f"The exported model answers row {row} with {ours[row].tolist()}, "
            f"{library} with {theirs[row].tolist()}.",
            hint=f"The export was refused. Please report it with the version of {library}.",
            row=row,
            difference=greatest,
        )
    return greatest
