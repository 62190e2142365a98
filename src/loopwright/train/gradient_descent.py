"""Gradient descent in small batches, for networks of layers; without hidden ones, linear models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.train.link import linked

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Layers = list[tuple[Array, Array]]
else:
    np = LazyModule("numpy")

Loss = Literal["squared", "absolute", "huber", "logistic", "softmax"]
Optimizer = Literal["adam", "sgd"]
LOSS_NAMES = {
    "squared": "mse",
    "absolute": "mae",
    "huber": "huber",
    "logistic": "log_loss",
    "softmax": "log_loss",
}
_LEAST_PROBABILITY = 1e-15
_CHUNK_ROWS = 1 << 14
# Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015
_ADAM_FIRST, _ADAM_SECOND, _ADAM_ROOM = 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """How to go down.

    Parameters
    ----------
    loss
        What is minimised, in the mean over the rows by their weights.
    activation
        Between layers: `relu` or `tanh`.
    optimizer, learning_rate, momentum, batch_size, epochs
        The usual; `momentum` is that of `sgd`.
    l1, l2
        Added to the mean loss: l1 sum |w| + l2 / 2 sum w^2, without the biases.
    dropout
        Share of hidden units left out of each step.
    patience, tolerance
        Epochs without a validation loss better by more than `tolerance` (relative) after which
        training stops; 0 never stops.
    huber_delta
        Error from which the loss `huber` counts linearly.
    """

    loss: Loss
    activation: str = "relu"
    optimizer: Optimizer = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    batch_size: int = 256
    epochs: int = 100
    l1: float = 0.0
    l2: float = 0.0
    dropout: float = 0.0
    patience: int = 10
    tolerance: float = 0.0
    huber_delta: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Features `(n_rows, n_features)`, targets `(n_rows, n_outputs)` and weights with mean 1."""

    X: Array
    Y: Array
    weights: Array


def descended(
    layers: Layers,
    train: Rows,
    validation: Rows,
    descent: Descent,
    *,
    seed: int,
    on_epoch: Callable[[int, float, float], bool],
) -> tuple[Layers, int]:
    """Return the layers after the epoch with the least validation loss, and its number from 1.

    Parameters
    ----------
    layers
        Where to start: weights `(n_out, n_in)` and biases of each layer.
    train, validation
        The rows to learn from, and those to stop by.
    descent
        How.
    seed
        Of the order of the rows and of what is left out.
    on_epoch
        Is told the epoch, the mean loss of its batches and the validation loss; answers whether to
        end.

    Raises
    ------
    InvalidInputError
        If the loss leaves the range of numbers.
    """
    rng = np.random.default_rng(seed)
    layers = [(weights.copy(), biases.copy()) for weights, biases in layers]
    optimizer = _Optimizer(layers, descent)
    best, best_loss, best_epoch, waiting_since = layers, float("inf"), 0, 0
    for epoch in range(1, descent.epochs + 1):
        with np.errstate(over="ignore", invalid="ignore"):  # told below
            train_loss = _epoch(layers, train, descent, optimizer, rng)
            loss = mean_loss(layers, validation, descent)
        if not (np.isfinite(loss) and np.isfinite(train_loss)):
            raise InvalidInputError(
                f"Training left the range of numbers in epoch {epoch}.",
                hint=f"Lower the learning_rate (it is {descent.learning_rate:g}).",
                field="learning_rate",
                value=descent.learning_rate,
            )
        is_ended = on_epoch(epoch, train_loss, loss)
        if not best_epoch or loss < best_loss - descent.tolerance * abs(best_loss):
            waiting_since = epoch
        if not best_epoch or loss < best_loss:
            best = [(weights.copy(), biases.copy()) for weights, biases in layers]
            best_loss, best_epoch = loss, epoch
        is_ended |= bool(descent.patience) and epoch - waiting_since >= descent.patience
        if is_ended:
            break
    return (best, best_epoch) if descent.patience else (layers, epoch)


def initial_layers(sizes: list[int], *, seed: int) -> Layers:
    """Return layers between sizes, from the features to the outputs, to start from.

    Weights are normal with variance 2 / n_in (He et al., "Delving Deep into Rectifiers", 2015);
    those of the last layer, and all biases, are 0, so that the first answer is the constant.
    """
    rng = np.random.default_rng(seed)
    layers = [
        (rng.normal(scale=(2.0 / n_in) ** 0.5, size=(n_out, n_in)), np.zeros(n_out))
        for n_in, n_out in pairwise(sizes)
    ]
    layers[-1] = (np.zeros_like(layers[-1][0]), layers[-1][1])
    return layers


def _epoch(
    layers: Layers,
    rows: Rows,
    descent: Descent,
    optimizer: _Optimizer,
    rng: np.random.Generator,
) -> float:
    order, total = rng.permutation(len(rows.X)), 0.0
    for start in range(0, len(order), descent.batch_size):
        chosen = order[start : start + descent.batch_size]
        batch = Rows(X=rows.X[chosen], Y=rows.Y[chosen], weights=rows.weights[chosen])
        loss, gradients = loss_and_gradients(layers, batch, descent, rng=rng)
        optimizer.step(gradients)
        total += loss * len(chosen)
    return total / len(order)


def loss_and_gradients(
    layers: Layers, batch: Rows, descent: Descent, *, rng: np.random.Generator | None = None
) -> tuple[float, Layers]:
    """Return the mean loss of a batch (without penalties) and the gradients (with that of l2)."""
    inputs, masks = [batch.X], []
    scores = batch.X
    for layer, (weights, biases) in enumerate(layers):
        scores = scores @ weights.T + biases
        if layer == len(layers) - 1:
            break
        scores = np.maximum(scores, 0.0) if descent.activation == "relu" else np.tanh(scores)
        slope = (scores > 0) * 1.0 if descent.activation == "relu" else 1.0 - scores**2
        if descent.dropout and rng is not None:
            kept = (rng.random(scores.shape) >= descent.dropout) / (1.0 - descent.dropout)
            scores, slope = scores * kept, slope * kept
        masks.append(slope)
        inputs.append(scores)
    losses, error = _losses_and_slopes(scores, batch.Y, descent)
    share = batch.weights / len(batch.X)
    error = error * share[:, None]
    gradients: Layers = []
    for layer in range(len(layers) - 1, -1, -1):
        weights = layers[layer][0]
        gradients.append((error.T @ inputs[layer] + descent.l2 * weights, error.sum(axis=0)))
        if layer:
            error = (error @ weights) * masks[layer - 1]
    return float(share @ losses), gradients[::-1]


def mean_loss(layers: Layers, rows: Rows, descent: Descent) -> float:
    """Return the mean loss of rows by their weights, without penalties."""
    total = 0.0
    for start in range(0, len(rows.X), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        scores = scores_of(layers, rows.X[part], descent.activation)
        total += float(rows.weights[part] @ _losses_and_slopes(scores, rows.Y[part], descent)[0])
    return total / float(rows.weights.sum())


def scores_of(layers: Layers, X: Array, activation: str) -> Array:
    """Return scores `(n_rows, n_outputs)`, quickly; a row's last bits depend on the others."""
    scores = X
    for layer, (weights, biases) in enumerate(layers):
        scores = scores @ weights.T + biases
        if layer < len(layers) - 1:
            scores = np.maximum(scores, 0.0) if activation == "relu" else np.tanh(scores)
    return scores


def _losses_and_slopes(scores: Array, Y: Array, descent: Descent) -> tuple[Array, Array]:
    """Return each row's loss, `(n_rows,)`, and its derivative by the scores."""
    if descent.loss in ("logistic", "softmax"):
        p = linked(scores, "sigmoid" if descent.loss == "logistic" else "softmax")
        likely = np.clip(p, _LEAST_PROBABILITY, 1.0 - _LEAST_PROBABILITY)
        terms = Y * np.log(likely)
        if descent.loss == "logistic":
            terms = terms + (1.0 - Y) * np.log1p(-likely)
        return -terms.sum(axis=1), p - Y
    error = scores - Y
    if descent.loss == "absolute":
        return np.abs(error)[:, 0], np.sign(error)
    if descent.loss == "huber":
        delta = descent.huber_delta
        size = np.abs(error)
        losses = np.where(size <= delta, 0.5 * error**2, delta * (size - 0.5 * delta))
        return losses[:, 0], np.clip(error, -delta, delta)
    return 0.5 * (error**2)[:, 0], error


class _Optimizer:
    """Changes layers in place, step by step."""

    def __init__(self, layers: Layers, descent: Descent) -> None:
        self._arrays = [array for layer in layers for array in layer]
        self._descent = descent
        self._first = [np.zeros_like(array) for array in self._arrays]
        self._second = [np.zeros_like(array) for array in self._arrays]
        self._steps = 0

    def step(self, gradients: Layers) -> None:
        self._steps += 1
        flat = [array for layer in gradients for array in layer]
        for place, gradient in enumerate(flat):
            array, (direction, rate) = self._arrays[place], self._direction(place, gradient)
            array -= direction * rate
            if self._descent.l1 and place % 2 == 0:  # weights, not biases
                # the proximal step makes weights exactly 0; it is as long as the gradient's
                room = rate * self._descent.l1
                if self._descent.optimizer == "sgd":
                    room = room / (1.0 - self._descent.momentum)
                array[:] = np.sign(array) * np.maximum(np.abs(array) - room, 0.0)

    def _direction(self, place: int, gradient: Array) -> tuple[Array, Array | float]:
        """Return where to go, and how far for each weight."""
        rate, first = self._descent.learning_rate, self._first[place]
        if self._descent.optimizer == "sgd":
            first *= self._descent.momentum
            first += gradient
            return first, rate
        second = self._second[place]
        first += (1.0 - _ADAM_FIRST) * (gradient - first)
        second += (1.0 - _ADAM_SECOND) * (gradient**2 - second)
        length = rate * (1.0 - _ADAM_SECOND**self._steps) ** 0.5 / (np.sqrt(second) + _ADAM_ROOM)
        return first / (1.0 - _ADAM_FIRST**self._steps), length
