"""What a model goes by: the columns that count, rows with their reasons, and how answers change."""

from __future__ import annotations

import lightgbm
import numpy as np
import polars as pl
import pytest

from loopwright.evaluate.dependence import dependence
from loopwright.evaluate.explanation import MASKED, ExplanationReading, explanation
from loopwright.prepare import Signature, fit_recipe
from loopwright.prepare.lineage import feature_origins
from loopwright.prepare.one_hot import OneHot
from loopwright.prepare.recipe import Recipe
from loopwright.train import Outcome, ServingModel
from loopwright.train.attribution import Attributor, learned_background
from loopwright.train.lightgbm_learner import exported_text
from loopwright.train.predictor_file import pack_predictor
from loopwright.train.serving_model import assembled_model


def houses(n_rows: int = 500) -> pl.DataFrame:
    rng = np.random.default_rng(2)
    area = rng.uniform(40, 300, n_rows)
    age = rng.uniform(0, 90, n_rows)
    town = rng.choice(["Aa", "Bee"], n_rows)
    price = 1_000 * area - 500 * age + np.where(town == "Aa", 50_000, 0)
    return pl.DataFrame(
        {"area": area, "age": age, "town": town, "noise": rng.normal(size=n_rows), "price": price}
    )


@pytest.fixture(scope="module")
def model() -> ServingModel:
    frame = houses().drop("price")
    fitted, _ = fit_recipe(Recipe((OneHot(columns=("town",)),)), frame, None, seed=0)
    settings = {"objective": "regression", "verbosity": -1, "num_threads": 1}
    rows = lightgbm.Dataset(fitted.transform(frame), houses()["price"].to_numpy())
    booster = lightgbm.train(settings, rows, 60)
    members = {
        **pack_predictor(exported_text(booster.model_to_string(), link="identity")),
        "recipe.json": fitted.to_json().encode(),
        "signature.json": Signature.from_frame(frame).to_json().encode(),
    }
    return assembled_model(
        members,
        name="houses",
        algorithm="lightgbm",
        outcome=Outcome(task="regression"),
        version="1",
    )


@pytest.fixture(scope="module")
def found(model: ServingModel) -> ExplanationReading:
    frame = houses()
    X = model.fitted.transform(frame)
    attributor = Attributor(
        predictor=model.predictor,
        background=learned_background(model.predictor, X),
        origins=feature_origins(model.fitted),
    )
    return explanation(model, attributor, frame, masked=("town",))


def test_columns_come_by_their_influence_and_their_direction(found: ExplanationReading) -> None:
    assert found.columns[0].column == "area"
    told = {each.column: each for each in found.columns}
    assert (told["area"].direction, told["age"].direction) == ("up", "down")
    assert told["town"].direction == ""
    assert sum(each.share for each in found.columns) == pytest.approx(1.0)


def test_rows_are_explained_to_their_answers(found: ExplanationReading) -> None:
    assert found.is_exact
    assert found.largest_gap < 1e-6 * found.base
    assert [row.title for row in found.examples] == [
        "a high answer",
        "an answer in the middle",
        "a low answer",
    ]
    for row in found.examples:
        total = found.base + sum(reason.adds for reason in row.reasons) + row.others
        assert total == pytest.approx(row.answer, rel=1e-6)


def test_personal_data_is_not_shown(found: ExplanationReading) -> None:
    shown = [each for row in found.examples for each in row.reasons if each.column == "town"]

    assert shown
    assert all(each.value == MASKED and "Aa" not in each.told for each in shown)
    assert "town" not in [each.column for each in found.dependence]


def test_a_reading_survives_being_stored(found: ExplanationReading) -> None:
    assert ExplanationReading.from_json(found.to_json()) == found


def test_answers_rise_and_fall_with_what_they_depend_on(model: ServingModel) -> None:
    area, age, town = dependence(model, houses(), ["area", "age", "town"])

    means = [point.mean for point in area.points]
    assert means[-1] - means[0] == pytest.approx(254_000, rel=0.15)
    assert age.points[0].mean > age.points[-1].mean
    assert {point.value: point.mean for point in town.points}["Aa"] - {
        point.value: point.mean for point in town.points
    }["Bee"] == pytest.approx(50_000, rel=0.2)
    assert (town.course, len(town.points)) == ("none", 2)
    assert all(len(curve) == len(area.points) for curve in area.curves)


def test_a_mean_is_the_answer_with_the_value_in_every_row(model: ServingModel) -> None:
    frame = houses().head(40)

    (reading,) = dependence(model, frame, ["area"], n_rows=40)

    point = reading.points[3]
    assert point.at is not None
    expected = model.predict_frame(frame.with_columns(area=pl.lit(point.at))).mean()
    assert point.mean == pytest.approx(expected)


def test_a_column_that_nothing_depends_on_is_flat_and_a_constant_is_left_out(
    model: ServingModel,
) -> None:
    frame = houses().with_columns(age=pl.lit(5.0))

    assert dependence(model, frame, ["age"]) == ()
    (noise,) = dependence(model, houses(), ["noise"])
    spread = max(p.mean for p in noise.points) - min(p.mean for p in noise.points)
    assert spread < 5_000


@pytest.mark.parametrize(("sign", "course"), [(1.0, "rises"), (-1.0, "falls"), (0.0, "flat")])
def test_a_course_is_said_only_when_every_row_takes_it(sign: float, course: str) -> None:
    class Straight:
        """Answers a multiple of the column."""

        def predict_frame(self, frame: pl.DataFrame) -> np.ndarray:
            return sign * frame["x"].to_numpy() + frame["start"].to_numpy()

    frame = pl.DataFrame({"x": np.arange(50.0), "start": np.arange(50.0) % 7})

    (reading,) = dependence(Straight(), frame, ["x"])  # type: ignore[arg-type]

    assert (reading.course, reading.share_against) == (course, 0.0)


def test_rows_that_turn_are_counted() -> None:
    class Bent:
        """Rises for most rows, and falls for every fifth."""

        def predict_frame(self, frame: pl.DataFrame) -> np.ndarray:
            return np.where(frame["turns"], -1.0, 1.0) * frame["x"].to_numpy()

    frame = pl.DataFrame({"x": np.arange(100.0), "turns": np.arange(100) % 5 == 0})

    (reading,) = dependence(Bent(), frame, ["x"], n_rows=100)  # type: ignore[arg-type]

    assert (reading.course, reading.share_against) == ("mixed", 0.2)
