"""Small neural networks, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.train.link import Link, checked_link
from loopwright.train.predictor import MAX_FEATURE, Predictor, completed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

Activation = Literal["relu", "tanh"]
MAX_LAYERS = 9
# a feature is scaled: what lies beyond is far outside all that was seen, and sums stay finite
_MAX_SCALED = 1e6
_CHUNK_ROWS = 1 << 12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NetworkPredictor(Predictor):
    """Score a row by layers of weighted sums with an activation in between.

    Parameters
    ----------
    weights
        One array a layer, `(n_out, n_in)`; 1 to 9 layers.
    biases
        One array a layer, `(n_out,)`.
    activation
        `relu` or `tanh`; the last layer has none.
    link
        What makes the answer of the score.

    Raises
    ------
    InvalidInputError
        If the shapes do not fit, or a number is missing or beyond 1e100.
    """

    weights: tuple[npt.NDArray[np.float64], ...]
    biases: tuple[npt.NDArray[np.float64], ...]
    activation: Activation = "relu"
    link: Link = "identity"

    def __post_init__(self) -> None:
        checked_link(self.link)
        _check(self)

    @property
    def n_features(self) -> int:
        """How many features a row has."""
        return int(self.weights[0].shape[1])

    @property
    def n_outputs(self) -> int:
        """How many scores a row gets: 1, or one a class."""
        return len(self.biases[-1])

    def score(self, X: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return scores `(n_rows, n_outputs)` for features `(n_rows, n_features)`."""
        scores = np.empty((len(X), self.n_outputs))
        for start in range(0, len(X), _CHUNK_ROWS):
            scores[start : start + _CHUNK_ROWS] = self._scores(X[start : start + _CHUNK_ROWS])
        return scores

    def _scores(self, X: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        values = np.clip(completed(X), -_MAX_SCALED, _MAX_SCALED)
        last = len(self.weights) - 1
        for layer, (weights, biases) in enumerate(zip(self.weights, self.biases, strict=True)):
            # one dot product a row and unit: a matrix product adds in another order for one row
            # than for many
            values = np.vecdot(values[:, None, :], weights) + biases
            if layer < last:
                values = np.maximum(values, 0.0) if self.activation == "relu" else np.tanh(values)
        return values

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return what has to be stored."""
        pairs = enumerate(zip(self.weights, self.biases, strict=True))
        return {
            f"{name}_{layer}": array
            for layer, pair in pairs
            for name, array in zip(("weights", "biases"), pair, strict=True)
        }

    def meta(self) -> dict[str, Any]:
        """Return what has to be stored beside the arrays."""
        return {"n_layers": len(self.weights), "activation": self.activation}

    @classmethod
    def from_parts(
        cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any], link: Link
    ) -> NetworkPredictor:
        """Return the predictor that was stored."""
        n_layers = meta["n_layers"]
        if type(n_layers) is not int or not 1 <= n_layers <= MAX_LAYERS:
            raise _broken(f"it has {n_layers!r} layers (1 to {MAX_LAYERS})")
        return cls(
            weights=tuple(arrays[f"weights_{layer}"] for layer in range(n_layers)),
            biases=tuple(arrays[f"biases_{layer}"] for layer in range(n_layers)),
            activation=meta["activation"],
            link=link,
        )


def _check(network: NetworkPredictor) -> None:
    if not 1 <= len(network.weights) == len(network.biases) <= MAX_LAYERS:
        raise _broken(f"it has {len(network.weights)} layers (1 to {MAX_LAYERS})")
    if network.activation not in ("relu", "tanh"):
        raise _broken(f"its activation is {str(network.activation)[:40]!r}")
    width = None
    for weights, biases in zip(network.weights, network.biases, strict=True):
        fits = (
            weights.ndim == 2
            and min(weights.shape) >= 1
            and biases.shape == weights.shape[:1]
            and width in (None, weights.shape[1])
            and weights.dtype == biases.dtype == np.float64
        )
        if not fits:
            raise _broken("its layers do not fit together")
        if not all((np.abs(a) <= MAX_FEATURE**0.25).all() for a in (weights, biases)):
            raise _broken("a weight is missing or beyond 1e25")
        width = weights.shape[0]


def _broken(reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"The neural network cannot be used: {reason}.",
        hint="Train the model again (a lower learning_rate keeps weights finite), or fetch the "
        "file again.",
        field="network",
        value=reason,
    )
