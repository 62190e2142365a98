"""Ridge, elastic net and logistic regression agree with scikit-learn and choose well."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge
from threadpoolctl import threadpool_info, threadpool_limits

from loopwright.core.errors import InvalidInputError
from loopwright.testing.algorithm import made_up_data
from loopwright.train import TrainingData, fit_algorithm, get_algorithm
from loopwright.train.linear_predictor import LinearPredictor

LINEAR = get_algorithm("linear-learner")


def weighted(task: str, seed: int = 1) -> TrainingData:
    data = made_up_data(task, seed=seed)
    weight = np.random.default_rng(seed).random(len(data.train)) + 0.2
    return replace(data, train=replace(data.train, weight=weight))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1_000), alpha=st.floats(1e-6, 10))
def test_ridge_agrees_with_scikit_learn(seed: int, alpha: float) -> None:
    data = weighted("regression", seed)
    part = data.train
    # scikit-learn's penalty is not divided by the weight of the rows
    trusted = Ridge(alpha=alpha * part.weights.sum()).fit(part.X, part.y, part.weights)

    fitted = fit_algorithm(LINEAR, data, task="regression", hyperparameters={"alpha": alpha})

    X = data.validation.X
    assert fitted.predictor.predict_raw(X) == pytest.approx(trusted.predict(X), rel=1e-9)


def test_elastic_net_agrees_with_scikit_learn() -> None:
    data = weighted("regression")
    part, share = data.train, data.train.weights / data.train.weights.sum()
    scale = np.sqrt(share @ (part.y - share @ part.y) ** 2)
    trusted = ElasticNet(alpha=0.05, l1_ratio=0.7, tol=1e-10, max_iter=100_000)
    trusted.fit(part.X, part.y / scale, sample_weight=part.weights)

    fitted = fit_algorithm(
        LINEAR, data, task="regression", hyperparameters={"alpha": 0.05, "l1_ratio": 0.7}
    )

    X = data.validation.X
    assert fitted.predictor.predict_raw(X) == pytest.approx(trusted.predict(X) * scale, rel=1e-4)


def test_logistic_probabilities_agree_with_scikit_learn() -> None:
    data = weighted("binary")
    part = data.train
    trusted = LogisticRegression(C=1 / (0.01 * part.weights.sum()), tol=1e-8, max_iter=10_000)
    trusted.fit(part.X, part.y, part.weights)

    fitted = fit_algorithm(LINEAR, data, task="binary", hyperparameters={"alpha": 0.01})

    X = data.validation.X
    assert fitted.predictor.predict_raw(X) == pytest.approx(
        trusted.predict_proba(X)[:, 1], abs=1e-4
    )


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_a_share_of_l1_makes_coefficients_zero(task: str) -> None:
    data = made_up_data(task)

    fitted = fit_algorithm(LINEAR, data, task=task, hyperparameters={"alpha": 0.1, "l1_ratio": 1.0})

    coefficients = fitted.predictor.arrays()["coefficients"]
    assert (coefficients == 0).tolist() == [[False, False, True, True, True]]


def test_noise_is_met_with_strong_regularisation() -> None:
    rng = np.random.default_rng(0)
    data = made_up_data("regression", n_train=60)
    noise = replace(
        data,
        train=replace(data.train, y=rng.normal(size=60)),
        validation=replace(data.validation, y=rng.normal(size=len(data.validation))),
    )

    calm = fit_algorithm(LINEAR, data, task="regression").hyperparameters["alpha"]
    strong = fit_algorithm(LINEAR, noise, task="regression").hyperparameters["alpha"]

    assert strong > 100 * calm


def test_a_small_table_is_learnt_from_by_one_thread_of_linear_algebra() -> None:
    seen: list[int] = []

    def note_threads(step: int, name: str, value: float) -> None:
        found = threadpool_info()
        seen.extend(each["num_threads"] for each in found if each["user_api"] == "blas")

    with threadpool_limits(2, user_api="blas"):
        data = made_up_data("binary", seed=3)
        fit_algorithm(
            get_algorithm("linear-learner"),
            data,
            task="binary",
            threads=2,
            on_metric=note_threads,
        )
        after = {e["num_threads"] for e in threadpool_info() if e["user_api"] == "blas"}
    assert set(seen) == {1}
    assert after == {2}


def test_more_features_than_rows_are_no_trouble() -> None:
    rng = np.random.default_rng(0)
    data = made_up_data("regression", n_train=40)

    def widened(X: np.ndarray) -> np.ndarray:
        return np.concatenate([X, rng.normal(size=(len(X), 100))], axis=1)

    wide = replace(
        data,
        train=replace(data.train, X=widened(data.train.X)),
        validation=replace(data.validation, X=widened(data.validation.X)),
    )

    fitted = fit_algorithm(LINEAR, wide, task="regression")

    errors = fitted.predictor.predict_raw(wide.validation.X) - wide.validation.y
    assert (errors**2).mean() < wide.validation.y.var()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    n_rows=st.integers(1, 50),
    n_features=st.integers(1, 300),
    n_outputs=st.integers(1, 4),
)
def test_rows_are_answered_alone_as_together(
    seed: int, n_rows: int, n_features: int, n_outputs: int
) -> None:
    rng = np.random.default_rng(seed)
    predictor = LinearPredictor(
        coefficients=rng.normal(size=(n_outputs, n_features)),
        intercepts=rng.normal(size=n_outputs),
        link="softmax" if n_outputs > 1 else "sigmoid",
    )
    X = np.asfortranarray(rng.normal(size=(n_rows, n_features)))

    together = predictor.predict_raw(X)

    alone = [predictor.predict_raw(X[i : i + 1])[0].tolist() for i in range(n_rows)]
    assert alone == together.tolist()


@pytest.mark.parametrize(
    ("coefficients", "intercepts"),
    [
        (np.zeros((1, 0)), np.zeros(1)),
        (np.zeros((2, 3)), np.zeros(1)),
        (np.zeros(3), np.zeros(3)),
        (np.full((1, 2), np.inf), np.zeros(1)),
        (np.zeros((1, 2)), np.full(1, np.nan)),
        (np.zeros((1, 2), np.float32), np.zeros(1)),
    ],
)
def test_coefficients_that_make_no_sense_are_refused(
    coefficients: np.ndarray, intercepts: np.ndarray
) -> None:
    with pytest.raises(InvalidInputError):
        LinearPredictor(coefficients=coefficients, intercepts=intercepts)
