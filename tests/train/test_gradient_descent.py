"""Gradients are right, steps are those of scikit-learn, and training stops where it should."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import ElasticNet
from sklearn.neural_network import MLPRegressor

from loopwright.core.errors import InvalidInputError
from loopwright.testing.algorithm import made_up_data
from loopwright.train import fit_algorithm, get_algorithm
from loopwright.train.gradient_descent import (
    Descent,
    Rows,
    descended,
    initial_layers,
    loss_and_gradients,
    mean_loss,
    scores_of,
)
from loopwright.train.network_predictor import NetworkPredictor


def rows(loss: str, seed: int = 0, n_rows: int = 30) -> Rows:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 4))
    Y = {
        "logistic": (X[:, :1] > 0) * 1.0,
        "softmax": np.eye(3)[rng.integers(0, 3, n_rows)],
    }.get(loss, X[:, :1] * 2 + rng.normal(size=(n_rows, 1)))
    weights = rng.random(n_rows) + 0.5
    return Rows(X=X, Y=Y, weights=weights / weights.mean())


def random_layers(sizes: list[int], seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    pairs = pairwise(sizes)
    return [(rng.normal(size=(b, a)), rng.normal(size=b)) for a, b in pairs]


@settings(max_examples=20, deadline=None)
@given(
    loss=st.sampled_from(["squared", "absolute", "huber", "logistic", "softmax"]),
    activation=st.sampled_from(["relu", "tanh"]),
    hidden=st.lists(st.integers(1, 5), max_size=2),
    seed=st.integers(0, 1_000),
)
def test_gradients_are_those_of_finite_differences(
    loss: Any, activation: str, hidden: list[int], seed: int
) -> None:
    batch = rows(loss, seed)
    layers = random_layers([4, *hidden, batch.Y.shape[1]], seed)
    descent = Descent(loss=loss, activation=activation, l2=0.3)

    gradients = loss_and_gradients(layers, batch, descent)[1]

    def penalised() -> float:
        penalty = sum(float((weights**2).sum()) for weights, _ in layers)
        return mean_loss(layers, batch, descent) + 0.15 * penalty

    rng, step = np.random.default_rng(seed), 1e-6
    for layer, pair in enumerate(layers):
        for array, gradient in zip(pair, gradients[layer], strict=True):
            place = tuple(rng.integers(0, size) for size in array.shape)
            before = array[place]
            array[place] = before + step
            above = penalised()
            array[place] = before - step
            below = penalised()
            array[place] = before
            # kinks of the rectifier and of the absolute error lie between the two now and then
            assert gradient[place] == pytest.approx(
                (above - below) / (2 * step), abs=2e-2, rel=1e-3
            )


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_whole_batches_go_the_way_of_scikit_learn(optimizer: Any) -> None:
    train = replace(rows("squared", n_rows=64), weights=np.ones(64))
    trusted = MLPRegressor(
        hidden_layer_sizes=(6,),
        solver=optimizer,
        alpha=0.0,
        batch_size=64,
        learning_rate_init=0.01,
        nesterovs_momentum=False,
        shuffle=False,
        random_state=1,
        max_iter=1,
        tol=1e-12,
        n_iter_no_change=1_000,
        warm_start=True,
    ).fit(train.X, train.Y[:, 0])
    start = [
        (weights.T.copy(), biases.copy())
        for weights, biases in zip(trusted.coefs_, trusted.intercepts_, strict=True)
    ]
    trusted.set_params(max_iter=40).fit(train.X, train.Y[:, 0])  # from there, with a new optimizer
    descent = Descent(
        loss="squared",
        optimizer=optimizer,
        learning_rate=0.01,
        batch_size=64,
        epochs=40,
        patience=0,
    )

    layers, _ = descended(start, train, train, descent, seed=1, on_epoch=lambda *_: False)

    said = scores_of(layers, train.X, "relu")[:, 0]
    assert said == pytest.approx(trusted.predict(train.X), rel=1e-9)


def test_training_stops_when_the_validation_loss_does_not_improve() -> None:
    rng = np.random.default_rng(0)
    data = made_up_data("regression")
    noise = replace(
        data,
        train=replace(data.train, y=rng.normal(size=len(data.train))),
        validation=replace(data.validation, y=rng.normal(size=len(data.validation))),
    )
    curve: list[tuple[int, str, float]] = []

    fitted = fit_algorithm(
        get_algorithm("neural-network"),
        noise,
        task="regression",
        hyperparameters={"early_stopping_epochs": 5, "epochs": 500},
        on_metric=lambda *point: curve.append(point),
    )

    losses = [value for _, name, value in curve if name == "validation:mse"]
    assert len(losses) < 100
    assert fitted.best_iteration == int(np.argmin(losses)) + 1


def test_a_step_too_long_is_told() -> None:
    with pytest.raises(InvalidInputError, match=r"left the range of numbers.*learning_rate"):
        fit_algorithm(
            get_algorithm("linear-learner"),
            made_up_data("regression"),
            task="regression",
            hyperparameters={
                "learning_rate": 10,
                "optimizer": "sgd",
                "epochs": 500,
                "early_stopping_epochs": 0,
            },
        )


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.01), ("adam", 0.003)])
def test_gradient_descent_finds_the_elastic_net(optimizer: Any, rate: float) -> None:
    train = replace(rows("squared", n_rows=200), weights=np.ones(200))
    trusted = ElasticNet(alpha=0.3, l1_ratio=0.8, tol=1e-10).fit(train.X, train.Y[:, 0])
    descent = Descent(
        loss="squared",
        optimizer=optimizer,
        learning_rate=rate,
        l1=0.3 * 0.8,
        l2=0.3 * 0.2,
        epochs=3_000,
        patience=0,
    )

    start = initial_layers([4, 1], seed=1)
    layers, _ = descended(start, train, train, descent, seed=1, on_epoch=lambda *_: False)

    assert layers[0][0][0] == pytest.approx(trusted.coef_, abs=2e-3)
    assert ((layers[0][0][0] == 0) == (trusted.coef_ == 0)).all()
    assert (trusted.coef_ == 0).any()


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    n_rows=st.integers(1, 40),
    sizes=st.lists(st.integers(1, 70), min_size=2, max_size=4),
)
def test_rows_are_answered_alone_as_together(seed: int, n_rows: int, sizes: list[int]) -> None:
    layers = random_layers(sizes, seed)
    predictor = NetworkPredictor(
        weights=tuple(weights for weights, _ in layers),
        biases=tuple(biases for _, biases in layers),
        link="softmax" if sizes[-1] > 1 else "sigmoid",
    )
    X = np.random.default_rng(seed).normal(size=(n_rows, sizes[0]))

    together = predictor.predict_raw(X)

    alone = [predictor.predict_raw(X[i : i + 1])[0].tolist() for i in range(n_rows)]
    assert alone == together.tolist()


HOSTILE: dict[str, dict[str, Any]] = {
    "layers that do not fit": {"weights": (np.zeros((3, 2)), np.zeros((1, 4)))},
    "a bias too few": {"biases": (np.zeros(3),)},
    "no layers": {"weights": (), "biases": ()},
    "a weight that is not a number": {"weights": (np.full((3, 2), np.nan), np.zeros((1, 3)))},
    "32 bits": {"weights": (np.zeros((3, 2), np.float32), np.zeros((1, 3)))},
    "another activation": {"activation": "exec"},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_networks_that_make_no_sense_are_refused(case: str) -> None:
    good: dict[str, Any] = {
        "weights": (np.zeros((3, 2)), np.zeros((1, 3))),
        "biases": (np.zeros(3), np.zeros(1)),
    }

    with pytest.raises(InvalidInputError, match="neural network cannot be used"):
        NetworkPredictor(**{**good, **HOSTILE[case]})
