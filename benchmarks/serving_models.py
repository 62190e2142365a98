"""The models that the serving benchmark asks: a mixed table of 20 columns and four algorithms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from loopwright.prepare import Signature, fit_recipe, suggest
from loopwright.train import (
    TrainingData,
    TrainingPart,
    fit_algorithm,
    get_algorithm,
    named_outcome,
    pack_bundle,
)
from loopwright.train.predictor_file import pack_predictor
from loopwright.tune import families_of

DATASETS = Path(
    os.environ.get("LOOPWRIGHT_DATASETS", Path(__file__).parents[2] / "shared" / "datasets")
)
SETTINGS: dict[str, dict[str, Any]] = {
    "lightgbm": {"rounds": 300, "num_leaves": 31, "early_stopping_rounds": 0},
    "xgboost": {"rounds": 300, "max_depth": 6, "early_stopping_rounds": 0},
    "linear-learner": {},
    "knn": {},
}


def read_table() -> pl.DataFrame:
    """Return Lending Club: 15 numbers, some of them missing, and 5 columns of text."""
    table = pl.read_parquet(DATASETS / "lending_club.parquet")
    numbers = [n for n, kind in table.schema.items() if kind.is_numeric()][:15]
    texts = [n for n, kind in table.schema.items() if kind in (pl.String, pl.Categorical)]
    texts = [name for name in texts if name != "Class"][:8]
    table = table.select(
        *(pl.col(name).cast(pl.Float64) for name in numbers),
        *(pl.col(name).cast(pl.String) for name in texts),
        pl.col("Class").cast(pl.String),
    )
    holes = np.random.default_rng(0).random((table.height, len(numbers))) < 0.08
    return table.with_columns(
        pl.when(pl.lit(pl.Series(~holes[:, at]))).then(pl.col(name)).alias(name)
        for at, name in enumerate(numbers)
    )


def packed(algorithm: str, table: pl.DataFrame) -> bytes:
    """Return a model of the table as a bundle."""
    (family,) = families_of((algorithm,))
    y = (table["Class"] == "bad").cast(pl.Float64).to_numpy()
    inputs = table.drop("Class")
    recipe = suggest(table, "Class", "binary", family=family)
    fitted, X = fit_recipe(recipe, inputs, y, seed=0)
    part = TrainingPart(X=X, y=y)
    model = fit_algorithm(
        get_algorithm(algorithm),
        TrainingData(train=part, validation=part, n_classes=2),
        task="binary",
        hyperparameters=SETTINGS[algorithm],
        seed=0,
        threads=2,
    )
    return pack_bundle(
        {
            **pack_predictor(model.predictor),
            "recipe.json": fitted.to_json().encode(),
            "signature.json": Signature.from_frame(inputs).to_json().encode(),
        },
        name="lending",
        algorithm=algorithm,
        outcome=named_outcome("binary", ("good", "bad"), positive="bad"),
        golden_rows=inputs.head(20).to_dicts(),
    )
