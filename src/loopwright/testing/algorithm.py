"""What every algorithm must do."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.problem import TASKS, Task
from loopwright.train import (
    Algorithm,
    FittedModel,
    Hyperparameter,
    TrainingData,
    TrainingPart,
    canonical_hyperparameters,
    checked_hyperparameters,
    fit_algorithm,
)
from loopwright.train.predictor_file import (
    ARRAYS_MEMBER,
    META_MEMBER,
    open_predictor,
    pack_predictor,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

_N_TRAIN, _N_VALIDATION, _N_FEATURES = 400, 150, 5


def made_up_data(
    task: Task, *, seed: int = 3, n_train: int = _N_TRAIN, missing_share: float = 0.0
) -> TrainingData:
    """Return rows whose target hangs on the first two of five features, with a little noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_train + _N_VALIDATION, _N_FEATURES))
    signal = 2 * X[:, 0] - X[:, 1] + 0.3 * rng.normal(size=len(X))
    X[rng.random(X.shape) < missing_share] = np.nan
    y = {
        "regression": 100 + 10 * signal,
        "binary": (signal > 0).astype(np.float64),
        "multiclass": np.digitize(signal, [-1.0, 1.0]).astype(np.float64),
    }[task]
    return TrainingData(
        train=TrainingPart(X=X[:n_train], y=y[:n_train]),
        validation=TrainingPart(X=X[n_train:], y=y[n_train:]),
        n_classes={"regression": 0, "binary": 2, "multiclass": 3}[task],
    )


def share_of_error_left(answers: npt.NDArray[np.float64], data: TrainingData, task: Task) -> float:
    """Return the validation error as a share of that of the constant answer: 0 is perfect."""
    y, known = data.validation.y, data.train.y
    if task == "regression":
        return float(((answers - y) ** 2).mean() / ((known.mean() - y) ** 2).mean())
    said = answers > 0.5 if task == "binary" else answers.argmax(axis=1)
    constant = np.bincount(known.astype(np.intp)).argmax()
    return float((said != y).mean() / (constant != y).mean())


_SERVING = f"""
import json, sys
import numpy as np
from pathlib import Path
from loopwright.train.predictor_file import open_predictor
files = [Path(name).read_bytes() for name in ("{ARRAYS_MEMBER}", "{META_MEMBER}")]
answers = open_predictor(*files).predict_raw(np.array(json.loads(Path("row.json").read_text())))
loaded = [name for name in sys.argv[1:] if name in sys.modules]
assert not loaded, loaded
print(json.dumps(answers.tolist()))
"""


def _some_value(one: Hyperparameter) -> Any:
    """Return a value that is allowed."""
    value: Any = one.choices[0] if one.choices else one.kind(one.high or one.low or 1)
    return {"x0": value} if one.shape == "table" and not one.choices else value


def _with_a_rare_class() -> TrainingData:
    """Return rows of which about a tenth are of class 1, and the classes overlap."""
    data = made_up_data("regression", seed=8)

    def rare(part: TrainingPart) -> TrainingPart:
        noise = np.random.default_rng(len(part)).normal(size=len(part))
        return replace(part, y=((part.y - 100) / 10 + 1.5 * noise > 3.2).astype(np.float64))

    return replace(data, train=rare(data.train), validation=rare(data.validation), n_classes=2)


class AlgorithmContract:
    """Tests of an `Algorithm`. Derive from it and give a fixture `algorithm`."""

    # for what has them: fewer trees, so that the tests are quick
    settings: ClassVar[dict[str, Any]] = {"rounds": 60}
    _usual: ClassVar[dict[tuple[Algorithm, Task], FittedModel]] = {}

    @pytest.fixture(params=TASKS)
    def task(self, request: pytest.FixtureRequest) -> Task:
        """Return each task in turn."""
        task: Task = request.param
        return task

    def fit(self, algorithm: Algorithm, data: TrainingData, task: Task, **more: Any) -> FittedModel:
        """Return the algorithm fitted with one thread."""
        usual = {k: v for k, v in self.settings.items() if k in algorithm.hyperparameters}
        if "rounds" in usual and "learning_rate" in algorithm.hyperparameters:
            usual["learning_rate"] = 0.2
        given = {**usual, **more.pop("hyperparameters", {})}
        return fit_algorithm(algorithm, data, task=task, threads=1, hyperparameters=given, **more)

    def usual(self, algorithm: Algorithm, task: Task) -> FittedModel:
        """Return what the algorithm makes of the usual data; fitted once for all tests."""
        if (algorithm, task) not in self._usual:
            self._usual[algorithm, task] = self.fit(algorithm, made_up_data(task), task)
        return self._usual[algorithm, task]

    def test_it_ends_with_the_best_so_far_when_it_is_asked_to(
        self, algorithm: Algorithm, task: Task
    ) -> None:
        data, steps = made_up_data(task), [0]

        def ends_at_once(*told: Any) -> bool:
            steps.append(told[0])
            return True

        fitted = self.fit(algorithm, data, task, on_metric=ends_at_once)

        assert np.isfinite(fitted.predictor.predict_raw(data.validation.X)).all()
        if {"early_stopping_rounds", "early_stopping_epochs"} & set(algorithm.hyperparameters):
            assert max(steps) <= 20 or algorithm.name == "linear-learner"

    def test_it_learns_what_a_constant_cannot(self, algorithm: Algorithm, task: Task) -> None:
        data = made_up_data(task)

        answers = self.usual(algorithm, task).predictor.predict_raw(data.validation.X)

        assert share_of_error_left(answers, data, task) < 0.5

    def test_answers_have_the_shape_of_the_task(self, algorithm: Algorithm, task: Task) -> None:
        data = made_up_data(task)

        answers = self.usual(algorithm, task).predictor.predict_raw(data.validation.X)

        n_rows = len(data.validation)
        assert answers.shape == ((n_rows, 3) if task == "multiclass" else (n_rows,))
        if task != "regression":
            assert answers.min() >= 0
            assert answers.max() <= 1
        if task == "multiclass":
            assert answers.sum(axis=1) == pytest.approx(1.0)

    def test_the_same_data_and_seed_give_the_same_bytes(
        self, algorithm: Algorithm, task: Task
    ) -> None:
        first = self.fit(algorithm, made_up_data(task), task, seed=11)

        second = self.fit(algorithm, made_up_data(task), task, seed=11)

        assert pack_predictor(first.predictor) == pack_predictor(second.predictor)
        assert first.native == second.native
        assert first.hyperparameters == second.hyperparameters

    def test_a_stored_predictor_answers_as_the_fitted_one(
        self, algorithm: Algorithm, task: Task
    ) -> None:
        data = made_up_data(task)
        predictor = self.usual(algorithm, task).predictor

        files = pack_predictor(predictor)
        opened = open_predictor(files[ARRAYS_MEMBER], files[META_MEMBER])

        X = data.validation.X
        assert (opened.predict_raw(X) == predictor.predict_raw(X)).all()

    def test_a_row_alone_is_answered_as_among_others(
        self, algorithm: Algorithm, task: Task
    ) -> None:
        data = made_up_data(task)
        predictor = self.usual(algorithm, task).predictor

        together = predictor.predict_raw(data.validation.X)
        alone = [predictor.predict_raw(data.validation.X[i : i + 1])[0] for i in range(60)]

        assert (np.array(alone) == together[:60]).all()

    def test_wild_rows_get_finite_answers(self, algorithm: Algorithm, task: Task) -> None:
        wild = np.array([[np.nan] * _N_FEATURES, [1e300] * _N_FEATURES, [-1e-300] * _N_FEATURES])

        answers = self.usual(algorithm, task).predictor.predict_raw(wild)

        assert np.isfinite(answers).all()

    def test_missing_values_are_taken_or_refused_as_declared(
        self, algorithm: Algorithm, task: Task
    ) -> None:
        data = made_up_data(task, missing_share=0.1)

        if algorithm.features != "tree":
            with pytest.raises(InvalidInputError, match=r"is nan\. .*impute missing values"):
                self.fit(algorithm, data, task)
        else:
            answers = self.fit(algorithm, data, task).predictor.predict_raw(data.validation.X)

            assert share_of_error_left(answers, data, task) < 0.7

    def test_heavy_rows_overrule_light_ones(self, algorithm: Algorithm, task: Task) -> None:
        data = made_up_data(task)
        y = data.train.y
        contrary = 200 - y if task == "regression" else (y + 1) % data.n_classes
        weight = np.repeat([1.0, 0.01], len(data.train))
        both = TrainingPart(
            X=np.concatenate([data.train.X] * 2),
            y=np.concatenate([y, contrary]),
            weight=weight,
        )

        fitted = self.fit(algorithm, replace(data, train=both), task)

        answers = fitted.predictor.predict_raw(data.validation.X)
        assert share_of_error_left(answers, data, task) < 0.6

    def test_rows_of_weight_zero_alone_teach_nothing(
        self, algorithm: Algorithm, task: Task
    ) -> None:
        data = made_up_data(task)
        weight = (data.train.y == data.train.y[0]).astype(np.float64)

        with pytest.raises(InvalidInputError, match="nothing can be learned"):
            self.fit(algorithm, replace(data, train=replace(data.train, weight=weight)), task)

    def test_the_learning_curve_is_told(self, algorithm: Algorithm, task: Task) -> None:
        curve: list[tuple[int, str, float]] = []

        self.fit(algorithm, made_up_data(task), task, on_metric=lambda *point: curve.append(point))

        assert curve
        assert all(step >= 0 and np.isfinite(value) for step, _, value in curve)
        told = {name.partition(":")[0] for _, name, _ in curve}
        assert told == {"train", "validation"}

    def test_it_tells_what_was_used(self, algorithm: Algorithm, task: Task) -> None:
        fitted = self.usual(algorithm, task)

        assert fitted.hyperparameters.keys() == algorithm.hyperparameters.keys()
        assert checked_hyperparameters(algorithm, fitted.hyperparameters) == dict(
            fitted.hyperparameters
        )
        assert fitted.native_difference <= 1e-9
        if fitted.importance is not None:
            assert fitted.importance.shape == (_N_FEATURES,)
            assert fitted.importance.sum() == pytest.approx(1.0)
            assert set(np.argsort(fitted.importance)[-2:]) == {0, 1}

    def test_it_prints_nothing(
        self, algorithm: Algorithm, task: Task, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.fit(algorithm, made_up_data(task), task)

        assert capfd.readouterr() == ("", "")

    def test_a_target_of_one_value_is_refused(self, algorithm: Algorithm, task: Task) -> None:
        data = made_up_data(task)
        constant = replace(data.train, y=np.ones(len(data.train)))

        with pytest.raises(InvalidInputError, match="All 400 training rows have"):
            self.fit(algorithm, replace(data, train=constant), task)

    def test_a_missing_target_is_refused(self, algorithm: Algorithm, task: Task) -> None:
        data = made_up_data(task)
        y = data.train.y.copy()
        y[[7, 9]] = np.nan

        with pytest.raises(InvalidInputError, match=r"2 of 400 training rows .*first: row 7"):
            self.fit(algorithm, replace(data, train=replace(data.train, y=y)), task)

    def test_an_infinite_feature_is_refused(self, algorithm: Algorithm, task: Task) -> None:
        data = made_up_data(task)
        X = data.validation.X.copy()
        X[3, 2] = np.inf

        with pytest.raises(InvalidInputError, match="Feature 2 of validation row 3 is inf"):
            self.fit(algorithm, replace(data, validation=replace(data.validation, X=X)), task)

    def test_an_unknown_hyperparameter_is_refused_with_the_nearest_name(
        self, algorithm: Algorithm
    ) -> None:
        name = next(iter(algorithm.hyperparameters))

        with pytest.raises(InvalidInputError, match=f"Did you mean '{name}'"):
            checked_hyperparameters(algorithm, {f"{name}x": 1})

    def test_values_out_of_range_or_of_a_wrong_type_are_refused(self, algorithm: Algorithm) -> None:
        for name, one in algorithm.hyperparameters.items():
            wrong: list[Any] = [True, [None], "no such thing", float("nan"), {}]
            wrong += [[1]] if one.shape == "one" else []
            wrong += [{"x0": "heavy"}, {"x0": True}] if one.shape == "table" else []
            wrong += [[], [1] * 9] if one.shape == "list" else []
            wrong += [one.low - 1] if one.low is not None else []
            wrong += [one.high + 1] if one.high is not None else []
            for value in wrong:
                with pytest.raises(InvalidInputError, match=f"Hyperparameter {name} of"):
                    checked_hyperparameters(algorithm, {name: value})

    def test_an_alias_is_the_same_as_the_name(self, algorithm: Algorithm) -> None:
        for name, one in algorithm.hyperparameters.items():
            value = one.default if one.default is not None else _some_value(one)
            for alias in one.aliases:
                assert alias not in algorithm.hyperparameters
                assert canonical_hyperparameters(algorithm, {alias: value}) == {
                    name: one.typed(value)
                }
                with pytest.raises(InvalidInputError, match="which are the same"):
                    checked_hyperparameters(algorithm, {name: value, alias: value})

    def test_another_spelling_is_the_same_as_the_choice(self, algorithm: Algorithm) -> None:
        for name, one in algorithm.hyperparameters.items():
            assert set(one.spellings.values()) <= set(one.choices)
            for spelling, choice in one.spellings.items():
                assert checked_hyperparameters(algorithm, {name: spelling})[name] == choice

    def test_class_weights_are_weights_of_rows(self, algorithm: Algorithm, task: Task) -> None:
        if "class_weight" not in algorithm.hyperparameters:
            pytest.skip("it has no class weights of its own")
        data = replace(
            made_up_data(task), class_names=("no", "yes", "perhaps")[: 3 if task != "binary" else 2]
        )
        table = {"class_weight": {"yes": 5.0}}

        if task == "regression":
            with pytest.raises(InvalidInputError, match="task is regression, which has no classes"):
                self.fit(algorithm, data, task, hyperparameters=table)
            return
        by_class = self.fit(algorithm, data, task, hyperparameters=table)
        train, validation = (
            replace(part, weight=np.where(part.y == 1, 5.0, 1.0))
            for part in (data.train, data.validation)
        )
        by_row = self.fit(algorithm, replace(data, train=train, validation=validation), task)

        assert pack_predictor(by_class.predictor) == pack_predictor(by_row.predictor)

    def test_balanced_classes_are_told_more_often_where_they_are_rare(
        self, algorithm: Algorithm
    ) -> None:
        if "class_weight" not in algorithm.hyperparameters:
            pytest.skip("it has no class weights of its own")
        data = _with_a_rare_class()

        said = {
            weight: self.fit(
                algorithm, data, "binary", hyperparameters={"class_weight": weight}
            ).predictor.predict_raw(data.validation.X)
            for weight in (None, "balanced")
        }

        assert said["balanced"].mean() > 1.5 * said[None].mean()

    def test_a_class_weight_of_no_class_is_refused(self, algorithm: Algorithm) -> None:
        if "class_weight" not in algorithm.hyperparameters:
            pytest.skip("it has no class weights of its own")
        data = replace(made_up_data("binary"), class_names=("no", "yes"))

        with pytest.raises(InvalidInputError, match=r"'yess', which is no class.*'yes'"):
            self.fit(algorithm, data, "binary", hyperparameters={"class_weight": {"yess": 2}})

    def test_a_library_has_to_be_there(
        self, algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library = algorithm.library("binary")
        if library is None:
            pytest.skip("it imports no library")
        module = library.partition(".")[0]
        monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

        with pytest.raises(InvalidInputError, match=f"'{module}', which is not installed"):
            self.fit(algorithm, made_up_data("binary"), "binary")

    def test_serving_imports_no_library(self, algorithm: Algorithm, tmp_path: Path) -> None:
        data = made_up_data("binary")
        predictor = self.usual(algorithm, "binary").predictor
        for name, content in pack_predictor(predictor).items():
            (tmp_path / name).write_bytes(content)
        (tmp_path / "row.json").write_text(json.dumps(data.validation.X[:1].tolist()))
        libraries = sorted({algorithm.library(task) or "polars" for task in TASKS} | {"polars"})

        done = subprocess.run(
            [sys.executable, "-c", _SERVING, *(name.partition(".")[0] for name in libraries)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.stderr == ""
        assert json.loads(done.stdout) == predictor.predict_raw(data.validation.X[:1]).tolist()

    def test_defaults_are_allowed_and_explained(self, algorithm: Algorithm) -> None:
        defaults = {name: one.default for name, one in algorithm.hyperparameters.items()}

        assert checked_hyperparameters(algorithm, defaults) == defaults
        assert all(len(one.help) > 10 for one in algorithm.hyperparameters.values())

    def test_a_class_without_training_rows_gets_almost_no_probability(
        self, algorithm: Algorithm
    ) -> None:
        data = replace(made_up_data("multiclass"), n_classes=4)

        answers = self.fit(algorithm, data, "multiclass").predictor.predict_raw(data.validation.X)

        assert answers.shape == (len(data.validation), 4)
        assert answers[:, 3].max() < 0.05

    def test_two_classes_of_three_seen_in_training_are_told_apart(
        self, algorithm: Algorithm
    ) -> None:
        data = made_up_data("multiclass")
        seen = data.train.y != 1
        part = TrainingPart(X=data.train.X[seen], y=data.train.y[seen])

        fitted = self.fit(algorithm, replace(data, train=part), "multiclass")

        answers = fitted.predictor.predict_raw(data.validation.X)
        outer = data.validation.y != 1
        assert (answers.argmax(axis=1)[outer] == data.validation.y[outer]).mean() > 0.9

    def test_a_logarithmic_target_gives_positive_answers(self, algorithm: Algorithm) -> None:
        data = made_up_data("regression")

        def grown(part: TrainingPart) -> TrainingPart:
            return replace(part, y=np.exp(part.y / 20))

        data = replace(data, train=grown(data.train), validation=grown(data.validation))

        fitted = self.fit(algorithm, data, "regression", target_transform="log")

        answers = fitted.predictor.predict_raw(data.validation.X)
        assert answers.min() > 0
        assert np.median(np.abs(answers / data.validation.y - 1)) < 0.3

    def test_a_logarithm_of_what_is_not_positive_is_refused(self, algorithm: Algorithm) -> None:
        data = made_up_data("regression")
        data = replace(data, train=replace(data.train, y=data.train.y - 200))

        with pytest.raises(InvalidInputError, match="every target above 0; the smallest is -"):
            self.fit(algorithm, data, "regression", target_transform="log")
