"""Installed packages bring algorithms, and the predictors that serve their models."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopwright.core.errors import BackendError, InvalidInputError, NotFoundError
from loopwright.testing.algorithm import AlgorithmContract, made_up_data
from loopwright.train import (
    Algorithm,
    TrainPlan,
    algorithm_names,
    checked_train,
    fit_algorithm,
    get_algorithm,
)
from loopwright.train.predictor_file import (
    ARRAYS_MEMBER,
    META_MEMBER,
    open_predictor,
    pack_predictor,
)

MODULE = '''
"""Answers by a line through least squares; shares of classes are cut to 0 and 1."""
import time
from dataclasses import dataclass, replace
import numpy as np
from loopwright.train import FittedModel, Hyperparameter, Predictor
from loopwright.train.predictor import completed

@dataclass(frozen=True, eq=False)
class LinePredictor(Predictor):
    lines: np.ndarray
    is_share: bool
    link: str = "identity"

    @property
    def n_features(self):
        return self.lines.shape[1] - 1

    @property
    def n_outputs(self):
        return self.lines.shape[0]

    def score(self, X):
        X = np.clip(completed(X), -1e6, 1e6)
        said = (X[:, None, :] * self.lines[:, :-1]).sum(axis=2) + self.lines[:, -1]
        if not self.is_share:
            return said
        said = np.clip(said, 0, 1) + 1e-9
        return np.minimum(said, 1) if self.n_outputs == 1 else said / np.cumsum(said, 1)[:, -1:]

    def arrays(self):
        return {"lines": self.lines}

    def meta(self):
        return {"is_share": self.is_share}

    @classmethod
    def from_parts(cls, arrays, meta, link):
        return cls(arrays["lines"], meta["is_share"], link)

@dataclass(frozen=True)
class Line:
    name: str = "line"
    features: str = "scaled"

    @property
    def hyperparameters(self):
        return {
            "ridge": Hyperparameter(
                kind=float, default=0.0, low=0.0, high=9.0, aliases=("alpha",), help="pulls lines to 0"
            )
        }

    def library(self, task):
        return None

    def fit(self, data, *, task, hyperparameters, seed, threads, on_metric):
        started = time.perf_counter()
        A = np.column_stack([data.train.X, np.ones(len(data.train))]) * data.train.weights[:, None]
        G = A.T @ (A / np.maximum(data.train.weights, 1e-9)[:, None])
        G += hyperparameters["ridge"] * np.eye(len(G))
        lines = np.linalg.solve(G, A.T @ data.class_columns(data.train)).T
        predictor = LinePredictor(np.ascontiguousarray(lines), task != "regression")
        for name, part in (("train", data.train), ("validation", data.validation)):
            error = predictor.score(part.X) - data.class_columns(part)
            on_metric(1, name + ":mse", float((error ** 2).mean()))
        return FittedModel(
            predictor=predictor, hyperparameters=hyperparameters,
            fit_s=time.perf_counter() - started)

class Misnamed(Line):
    def __init__(self):
        super().__init__(name="other")

class Hidden(Line):
    def fit(self, data, **more):
        fitted = super().fit(data, **more)
        class Secret(LinePredictor):
            pass
        return replace(fitted, predictor=Secret(fitted.predictor.lines, True))

    def __init__(self):
        super().__init__(name="hidden")

class Empty:
    name = "empty"
'''
ENTRY_POINTS = """[loopwright.algorithm]
line = lines_for_test:Line
misnamed = lines_for_test:Misnamed
hidden = lines_for_test:Hidden
empty = lines_for_test:Empty
absent = lines_for_test:nowhere
knn = lines_for_test:Empty

[loopwright.predictor]
line = lines_for_test:LinePredictor
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install a small package that brings an algorithm, as pip would."""
    site = tmp_path / "site"
    info = site / "lines_for_test-1.2.dist-info"
    info.mkdir(parents=True)
    (site / "lines_for_test.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lines-for-test\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(site))
    yield site
    sys.modules.pop("lines_for_test", None)


class TestBroughtAlgorithm(AlgorithmContract):
    @pytest.fixture
    def algorithm(self) -> Algorithm:
        self._usual.clear()  # the class is another one after each import
        return get_algorithm("line")


def test_it_stands_among_the_algorithms_of_a_loop_file() -> None:
    plan = TrainPlan(algorithms=("line",), hyperparameters={"line": {"alpha": 5}})

    assert "line" in algorithm_names()
    assert checked_train(plan).settings() == {"line": {"ridge": 5.0}}


def test_one_of_loopwrights_own_is_not_replaced() -> None:
    assert type(get_algorithm("knn")).__module__ == "loopwright.train.knn"


def test_a_bundle_names_the_package_that_serves_it(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fit_algorithm(get_algorithm("line"), made_up_data("binary"), task="binary")
    files = pack_predictor(model.predictor)
    assert b'"package":"lines-for-test==1.2"' in files[META_MEMBER]

    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(installed)])

    with pytest.raises(InvalidInputError, match=r"kind 'line'.*'lines-for-test==1\.2'"):
        open_predictor(files[ARRAYS_MEMBER], files[META_MEMBER])


def test_a_model_of_no_known_kind_is_refused_when_it_is_packed() -> None:
    model = fit_algorithm(get_algorithm("hidden"), made_up_data("binary"), task="binary")

    with pytest.raises(BackendError, match=r"Secret, which is no kind of predictor.*entry point"):
        pack_predictor(model.predictor)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("misnamed", "calls itself 'other'"),
        ("empty", "lacks features, hyperparameters, library, fit"),
        ("absent", "cannot be imported"),
    ],
)
def test_a_broken_plugin_is_told_with_its_package(name: str, words: str) -> None:
    with pytest.raises(BackendError, match=f"{name}.*lines-for-test==1.2.*{words}"):
        get_algorithm(name)


def test_a_mistyped_name_finds_the_brought_one() -> None:
    with pytest.raises(NotFoundError, match="'line'"):
        get_algorithm("lime")
