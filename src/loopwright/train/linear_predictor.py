"""A weighted sum of features, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.kernel import find_kernel
from loopwright.core.lazy import LazyModule
from loopwright.train.link import Link, checked_link
from loopwright.train.predictor import MAX_FEATURE, Predictor, completed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from loopwright.core import _kernel
else:
    np = LazyModule("numpy")

_CHUNK_VALUES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearPredictor(Predictor):
    """Score a row as intercept + coefficients times features.

    Parameters
    ----------
    coefficients
        `(n_outputs, n_features)`.
    intercepts
        `(n_outputs,)`.
    link
        What makes the answer of the score.

    Raises
    ------
    InvalidInputError
        If the shapes do not fit, or a number is missing or beyond 1e100.
    """

    coefficients: npt.NDArray[np.float64]
    intercepts: npt.NDArray[np.float64]
    link: Link = "identity"
    _compiled: _kernel.Linear | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checked_link(self.link)
        shapes_fit = (
            self.coefficients.ndim == 2
            and min(self.coefficients.shape) >= 1
            and self.intercepts.shape == self.coefficients.shape[:1]
        )
        if not shapes_fit or not _is_float64(self.coefficients, self.intercepts):
            raise InvalidInputError(
                f"Coefficients of shape {self.coefficients.shape} do not go with intercepts of "
                f"shape {self.intercepts.shape}.",
                hint="Give (n_outputs, n_features) and (n_outputs,) in 64-bit floats.",
                field="coefficients",
            )
        if not all((np.abs(a) <= MAX_FEATURE).all() for a in (self.coefficients, self.intercepts)):
            raise InvalidInputError(
                f"A coefficient or intercept of the linear model is missing or beyond {MAX_FEATURE:g}.",
                hint="Train it again; more regularisation (a larger alpha) keeps weights finite.",
                field="coefficients",
            )
        kernel = find_kernel()
        compiled = None
        if kernel is not None:
            compiled = kernel.Linear(
                coefficients=np.ascontiguousarray(self.coefficients),
                intercepts=np.ascontiguousarray(self.intercepts),
            )
        object.__setattr__(self, "_compiled", compiled)

    @property
    def n_features(self) -> int:
        """How many features a row has."""
        return int(self.coefficients.shape[1])

    @property
    def n_outputs(self) -> int:
        """How many scores a row gets: 1, or one a class."""
        return int(self.coefficients.shape[0])

    def compiled_score(self) -> Callable[[Any, Any], None] | None:
        """Return what writes the scores of features into an array, where the kernel does that."""
        return None if self._compiled is None else self._compiled.score

    def score(self, X: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return scores `(n_rows, n_outputs)` for features `(n_rows, n_features)`."""
        scores = np.empty((len(X), self.n_outputs))
        if self._compiled is not None:
            self._compiled.score(np.ascontiguousarray(X), scores)
            return scores
        step = max(1, _CHUNK_VALUES // self.n_features)
        for start in range(0, len(X), step):
            chunk = completed(X[start : start + step])
            for output in range(self.n_outputs):
                # not a matrix product: BLAS adds in another order for one row than for many
                total = (chunk * self.coefficients[output]).sum(axis=1)
                scores[start : start + step, output] = total + self.intercepts[output]
        return scores

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return what has to be stored."""
        return {"coefficients": self.coefficients, "intercepts": self.intercepts}

    def meta(self) -> dict[str, Any]:
        """Return what has to be stored beside the arrays."""
        return {}

    @classmethod
    def from_parts(
        cls,
        arrays: Mapping[str, npt.NDArray[Any]],
        meta: Mapping[str, Any],  # noqa: ARG003 the arrays say it all
        link: Link,
    ) -> LinearPredictor:
        """Return the predictor that was stored."""
        return cls(coefficients=arrays["coefficients"], intercepts=arrays["intercepts"], link=link)


def _is_float64(*arrays: npt.NDArray[Any]) -> bool:
    return all(array.dtype == np.float64 for array in arrays)
