"""Tables and rows are answered alike, as they came and as training read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import loopwright as lw
from loopwright.core.errors import InvalidInputError
from loopwright.train import ServingModel


def _raw() -> pl.DataFrame:
    """Return rows as kc_house and telco have them: a date as text, a number with a blank."""
    rng = np.random.default_rng(3)
    month, size = rng.integers(1, 13, 600), rng.uniform(10, 99, 600).round(2)
    return pl.DataFrame(
        {
            "date": [f"2014{m:02}{1 + n % 28:02}T000000" for n, m in enumerate(month)],
            "TotalCharges": [" " if n % 40 == 7 else str(s) for n, s in enumerate(size)],
            "rooms": np.where(np.arange(600) % 50 == 3, np.nan, month % 5),
            "price": size * 3 + month * 10,
        }
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServingModel:
    home: Path = tmp_path_factory.mktemp("home")
    job = lw.train(_raw(), target="price", algorithm="decision-tree", home=home)
    return job.predictor()


def test_a_table_of_polars_or_pandas_is_answered_as_its_rows_are(model: ServingModel) -> None:
    table = _raw().head(60)
    rows = table.fill_nan(None).to_dicts()

    found = [model.predict(table), model.predict(table.to_pandas())]

    assert found == [model.predict(rows)] * 2
    assert len(found[0]) == 60


def test_a_table_without_rows_has_no_answers(model: ServingModel) -> None:
    assert model.predict(_raw().clear()) == []


def test_the_table_of_training_gives_the_same_numbers_as_its_rows(model: ServingModel) -> None:
    table = _raw()
    today = model.fitted.today

    numbers = model.predict_frame(table)

    answers = model.outcome.answers(numbers)
    assert answers == model.predict(table, today=today)
    assert np.array_equal(numbers, model.predict_frame(table.to_pandas()))
    assert len(np.unique(numbers)) > 3


def test_a_table_as_training_read_it_gives_the_same_numbers(model: ServingModel) -> None:
    table = _raw()
    read = table.with_columns(
        pl.col("date").str.to_datetime("%Y%m%dT%H%M%S"),
        pl.col("TotalCharges").str.strip_chars().cast(pl.Float64, strict=False),
    )

    assert np.array_equal(model.predict_frame(read), model.predict_frame(table))


def test_text_that_training_could_not_have_read_is_named(model: ServingModel) -> None:
    table = _raw().with_columns(TotalCharges=pl.lit("much"))

    with pytest.raises(InvalidInputError, match="'TotalCharges' are not a number, such as 'much'"):
        model.predict_frame(table)
