"""Kernel SHAP against the shap package, and partial dependence and baselines by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.sagemaker.clarify.baseline import clustered
from loopwright.sagemaker.clarify.config import Predictor
from loopwright.sagemaker.clarify.dataset import Dataset
from loopwright.sagemaker.clarify.dependence import dependence
from loopwright.sagemaker.clarify.predictor import Model
from loopwright.sagemaker.clarify.shap import aggregated, kernel_values
from loopwright.sagemaker.clarify.table import Table

# made by shap 0.51's KernelExplainer with l1_reg=0
NUMBERS = json.loads((Path(__file__).parent / "clarify_numbers.json").read_text())["shap"]


def odds(X: Any) -> np.ndarray:
    X = np.asarray(X, dtype=float)
    a = X[:, 0] * X[:, 1] + np.sin(X[:, 2]) + (X[:, 3] > 0) * X[:, 4]
    p = 1 / (1 + np.exp(-a))
    return np.column_stack([p, 1 - p])


@pytest.mark.parametrize("link", ["identity", "logit"])
def test_values_are_those_of_the_shap_package(link: str) -> None:
    X, baseline = np.array(NUMBERS["X"]), np.array(NUMBERS["baseline"])

    expected, values = kernel_values(odds, X, baseline, use_logit=link == "logit")

    assert expected == pytest.approx(np.array(NUMBERS[link]["expected"]))
    assert values == pytest.approx(np.array(NUMBERS[link]["values"]), abs=1e-10)


def test_few_samples_are_exact_for_a_model_that_adds_up() -> None:
    random = np.random.default_rng(1)
    weights = random.normal(size=20)
    X, baseline = random.normal(size=(4, 20)), random.normal(size=(3, 20))

    _, values = kernel_values(lambda Z: (Z @ weights)[:, None], X, baseline, n_samples=60, seed=3)

    assert values[:, :, 0] == pytest.approx((X - baseline.mean(axis=0)) * weights, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 16), st.integers(1, 80))
def test_values_add_up_to_the_answer(seed: int, m: int, n_samples: int) -> None:
    random = np.random.default_rng(seed)
    weights = random.normal(size=(m, m))
    X, baseline = random.normal(size=(2, m)), random.normal(size=(2, m))

    def answers(Z: np.ndarray) -> np.ndarray:
        return np.einsum("ij,jk,ik->i", Z, weights, Z)[:, None]

    expected, values = kernel_values(answers, X, baseline, n_samples=n_samples, seed=seed)

    assert values.sum(axis=1) + expected == pytest.approx(answers(X), rel=1e-6, abs=1e-6)


def test_a_feature_like_the_baseline_adds_nothing() -> None:
    X = np.array([[1.0, 5.0, 2.0]])

    _, values = kernel_values(lambda Z: Z.prod(axis=1)[:, None], X, np.array([[0.5, 5.0, 1.0]]))

    assert values[0, 1, 0] == 0.0
    assert values.sum() == pytest.approx(10.0 - 2.5)


def test_the_same_seed_draws_the_same_sets() -> None:
    random = np.random.default_rng(1)
    X, baseline = random.normal(size=(2, 16)), random.normal(size=(1, 16))

    def answers(Z: np.ndarray) -> np.ndarray:
        return (Z**2).prod(axis=1, keepdims=True)

    one, other, third = (
        kernel_values(answers, X, baseline, n_samples=100, seed=seed)[1] for seed in (1, 1, 2)
    )

    assert np.array_equal(one, other)
    assert not np.array_equal(one, third)


def test_global_values_are_taken_together_as_asked() -> None:
    values = np.array([[[1.0]], [[-3.0]], [[2.0]]])

    assert aggregated(values, "mean_abs")[0, 0] == 2.0
    assert aggregated(values, "median")[0, 0] == 1.0
    assert aggregated(values, "mean_sq")[0, 0] == pytest.approx(14 / 3)


def model(answer: Callable[[list[str]], str], names: list[str]) -> Model:
    def ask(body: bytes, content_type: str, accept: str) -> bytes:
        return "\n".join(answer(row.split(",")) for row in body.decode().splitlines()).encode()

    return Model(about=Predictor(), names=names, ask=ask, dataset_type="text/csv")


def data_of(names: list[str], rows: list[list[str]]) -> Dataset:
    return Dataset(table=Table(names=tuple(names), rows=rows), features=tuple(range(len(names))))


def test_partial_dependence_is_the_mean_answer_at_each_value() -> None:
    rows = [[str(n), "ab"[n % 2]] for n in range(10)]
    data = data_of(["n", "letter"], rows)
    asked = model(
        lambda row: str(float(row[0]) + (10.0 if row[1] == "b" else 0.0)), ["n", "letter"]
    )

    number, letter = dependence(data, ["n", "letter"], asked, grid_resolution=3)

    assert number["data_type"] == "numerical"
    assert number["feature_values"] == pytest.approx([1.5, 4.5, 7.5])
    assert number["data_distribution"] == pytest.approx([0.3, 0.3, 0.4])
    assert number["model_predictions"][0] == pytest.approx([6.5, 9.5, 12.5])
    assert letter["feature_values"] == ["a", "b"]
    assert letter["model_predictions"][0] == pytest.approx([4.5, 14.5])
    assert letter["label_headers"] == ["label0"]


def test_a_whole_number_of_few_values_is_tried_at_these() -> None:
    asked = model(lambda row: "1.0" if float(row[0]) >= 1 else "0.0", ["sex"])

    (found,) = dependence(
        data_of(["sex"], [["0"], ["1"], ["1"]]), ["sex"], asked, grid_resolution=9
    )

    assert found["feature_values"] == [0, 1]
    assert found["model_predictions"] == [[0.0, 1.0]]


def test_a_baseline_is_the_middles_of_the_clusters_that_are_there() -> None:
    random = np.random.default_rng(0)
    ends = [(0.0, "low"), (50.0, "high"), (100.0, "top")]
    rows = [[f"{at + random.normal():.3f}", word] for at, word in ends for _ in range(30)]
    data = data_of(["x", "word"], rows)

    found = clustered(data, n_clusters=None, seed=0)
    one = clustered(data, n_clusters=1, seed=0)

    assert sorted(word for _, word in found) == ["high", "low", "top"]
    assert sorted(round(float(x), -1) for x, _ in found) == [0.0, 50.0, 100.0]
    assert len(one) == 1


def test_a_baseline_that_is_made_up_has_at_most_twelve_rows() -> None:
    random = np.random.default_rng(0)
    rows = [[f"{x:.4f}", f"{y:.4f}"] for x, y in random.normal(size=(200, 2))]

    found = clustered(data_of(["x", "y"], rows), n_clusters=None, seed=0)

    assert 1 <= len(found) <= 12
