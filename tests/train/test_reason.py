"""Reasons come with an answer when they are asked for, from the bundle alone, and add up to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import Signature, fit_recipe
from loopwright.prepare.imputation import Impute
from loopwright.prepare.one_hot import OneHot
from loopwright.prepare.recipe import Recipe
from loopwright.train import Outcome, Predictor, ServingModel, open_bundle, pack_bundle
from loopwright.train.calibration import Calibration
from loopwright.train.lightgbm_learner import exported_text
from loopwright.train.linear_predictor import LinearPredictor
from loopwright.train.predictor_file import ARRAYS_MEMBER, pack_predictor
from loopwright.train.reason import (
    EXPLANATION_MEMBER,
    attributor_of,
    explanation_member,
    told_cell,
    told_number,
    told_reason,
)
from loopwright.train.serving_model import assembled_model

TARGETS = {"regression": "price", "binary": "sold", "multiclass": "band"}


def houses(n_rows: int = 400) -> pl.DataFrame:
    rng = np.random.default_rng(4)
    area = rng.uniform(40, 300, n_rows).round(1)
    town = rng.choice(["Aa", "Bee", "Cod"], n_rows)
    price = 1_000 * area * np.where(town == "Aa", 3, 1.5) * np.exp(0.1 * rng.normal(size=n_rows))
    return pl.DataFrame(
        {
            "area": area,
            "rooms": pl.Series((area / 25).astype(int)).set(pl.Series(area > 280), None),
            "town": town,
            "price": price.round(0),
            "sold": np.where(price > np.median(price), "yes", "no"),
            "band": np.select([price < 1e5, price > 4e5], ["low", "high"], "middle"),
        }
    )


def bundle(task: str, *, calibration: Any = None) -> bytes:
    """Return a model of the task in a bundle: trees by LightGBM, a weighted sum for many classes."""
    frame = houses()
    inputs = frame.select("area", "rooms", "town")
    fitted, _ = fit_recipe(
        Recipe((Impute(columns=("rooms",)), OneHot(columns=("town",)))), inputs, None, seed=0
    )
    X = fitted.transform(inputs)
    classes = {"regression": (), "binary": ("no", "yes"), "multiclass": ("high", "low", "middle")}
    predictor: Predictor
    if task == "multiclass":
        weights = np.random.default_rng(0).normal(size=(3, X.shape[1])) / X.std(axis=0).clip(0.1)
        predictor = LinearPredictor(
            coefficients=weights, intercepts=-weights @ X.mean(axis=0), link="softmax"
        )
    else:
        y = frame[TARGETS[task]]
        truth = (y == "yes").to_numpy() if task == "binary" else y.to_numpy()
        settings = {"objective": task, "verbosity": -1, "num_threads": 1}
        booster = lightgbm.train(settings, lightgbm.Dataset(X, truth), 30)
        link: Any = "sigmoid" if task == "binary" else "identity"
        predictor = exported_text(booster.model_to_string(), link=link)
    members = {
        **pack_predictor(predictor),
        "recipe.json": fitted.to_json().encode(),
        "signature.json": Signature.from_frame(inputs).to_json().encode(),
    }
    known: Any = task
    outcome = Outcome(task=known, classes=classes[task], calibration=calibration)
    model = assembled_model(
        members, name="houses", algorithm="lightgbm", outcome=outcome, version="1"
    )
    members[EXPLANATION_MEMBER] = explanation_member(model, inputs)
    return pack_bundle(members, name="houses", algorithm="lightgbm", outcome=outcome)


def all_members(model: ServingModel) -> dict[str, bytes]:
    return {name: model.read_member(name) for name in (*model.members, ARRAYS_MEMBER)}


@pytest.fixture(scope="module")
def bundles() -> dict[str, bytes]:
    platt = Calibration(method="platt", parameters=(0.8, 0.1))
    return {
        "regression": bundle("regression"),
        "binary": bundle("binary", calibration=platt),
        "multiclass": bundle("multiclass"),
    }


def rows(n: int = 6) -> list[dict[str, Any]]:
    return houses().select("area", "rooms", "town").head(n).to_dicts()


@pytest.mark.parametrize("task", TARGETS)
def test_reasons_add_up_to_the_answer(bundles: dict[str, bytes], task: str) -> None:
    model = open_bundle(bundles[task])

    answers = model.predict(rows(), extras=("reasons",))

    for answer in answers:
        told = answer["reasons"]
        total = told["base"] + sum(each["adds"] for each in told["columns"]) + told["others"]
        said = {
            "regression": answer["prediction"],
            "binary": answer.get("probability"),
            "multiclass": answer.get("probabilities", {}).get(answer["prediction"]),
        }[task]
        assert total == pytest.approx(said, abs=1e-9)
        # what is left to the other columns is small where all of them are shown
        assert abs(told["others"]) <= 0.02 * sum(abs(each["adds"]) for each in told["columns"])


def test_a_probability_is_explained_in_points_of_the_class(bundles: dict[str, bytes]) -> None:
    told = open_bundle(bundles["binary"]).predict(rows(1), extras=("reasons",))[0]["reasons"]

    assert told["of"] == "probability of yes"
    assert told["error"] == 0.0
    assert all(line.endswith(("points", "points off")) for line in told["told"])


def test_rows_have_the_reasons_that_a_table_of_them_has(bundles: dict[str, bytes]) -> None:
    model = open_bundle(bundles["regression"])
    frame = houses().head(50)

    answers = model.predict(frame.select("area", "rooms", "town").to_dicts(), extras=("reasons",))

    found = attributor_of(model).attributions(model.fitted.transform(frame))
    columns = attributor_of(model).columns
    for at, answer in enumerate(answers):
        for each in answer["reasons"]["columns"]:
            value = found.values[at, columns.index(each["column"]), 0]
            assert each["adds"] == pytest.approx(value, rel=1e-9)
            assert each["value"] == frame[each["column"]][at]


def test_answers_without_reasons_stay_as_they_are(bundles: dict[str, bytes]) -> None:
    model = open_bundle(bundles["regression"])

    plain, asked = model.predict(rows()), model.predict(rows(), extras=("reasons",))

    assert plain == [{k: v for k, v in each.items() if k != "reasons"} for each in asked]


def test_a_bundle_without_an_explanation_offers_no_reasons(bundles: dict[str, bytes]) -> None:
    model = open_bundle(bundles["regression"])
    members = {name: data for name, data in all_members(model).items() if name not in _NOT_PACKED}
    bare = open_bundle(
        pack_bundle(members, name="houses", algorithm="lightgbm", outcome=model.outcome)
    )

    assert "reasons" not in bare.extras
    with pytest.raises(InvalidInputError, match="adds no 'reasons'"):
        bare.predict(rows(), extras=("reasons",))


_NOT_PACKED = (EXPLANATION_MEMBER, "manifest.json")


def test_an_explanation_of_another_model_is_refused(bundles: dict[str, bytes]) -> None:
    model, other = open_bundle(bundles["regression"]), open_bundle(bundles["binary"])
    members = {name: data for name, data in all_members(model).items() if name != "manifest.json"}
    members[EXPLANATION_MEMBER] = other.members[EXPLANATION_MEMBER]
    mixed = open_bundle(
        pack_bundle(members, name="houses", algorithm="lightgbm", outcome=model.outcome)
    )

    with pytest.raises(InvalidInputError, match="does not go with it"):
        attributor_of(mixed)


def test_reasons_need_neither_polars_nor_a_training_library(
    bundles: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "model.tar.gz"
    path.write_bytes(bundles["regression"])
    code = f"""
import sys
from pathlib import Path
from loopwright.train import open_bundle
model = open_bundle(Path({str(path)!r}))
answer = model.predict([{{"area": 100.0, "rooms": 4, "town": "Aa"}}], extras=("reasons",))
assert answer[0]["reasons"]["columns"]
print([name for name in ("polars", "lightgbm", "sklearn", "scipy", "pandas") if name in sys.modules])
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_reasons_are_told_in_words() -> None:
    assert told_reason("grade", 9.0, 84_312.7, is_share=False) == "grade 9 adds 84,300"
    assert told_reason("contract", None, -0.1234, is_share=True) == (
        "contract missing takes 12.3 points off"
    )
    assert told_cell("x" * 60).endswith("…")
    assert told_number(float("nan")) == "nan"


def test_models_keep_their_own_explanations(bundles: dict[str, bytes]) -> None:
    one: ServingModel = open_bundle(bundles["regression"])
    other: ServingModel = open_bundle(bundles["regression"])

    assert attributor_of(one) is attributor_of(one)
    assert attributor_of(one) is not attributor_of(other)
