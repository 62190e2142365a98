"""A rule as a model answers as the rule does: by table, by row and as Python."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from loopwright.evaluate.readable import readable_table
from loopwright.evaluate.rule import Rule, fitted_rule, rule_answers
from loopwright.evaluate.rule_model import rule_predictor, rule_recipe
from loopwright.prepare import Signature, fit_recipe
from loopwright.train import Outcome, open_bundle, pack_bundle
from loopwright.train.predictor_file import pack_predictor


def rows(n: int = 600) -> pl.DataFrame:
    rng = np.random.default_rng(2)
    words = ["free", "prize", "lunch", "meeting", "Call", "now"]
    return pl.DataFrame(
        {
            "amount": rng.gamma(2, 100, n),
            "items": rng.integers(1, 9, n),
            "country": rng.choice(["DE", "o'er", "N G"], n),
            "known": rng.random(n) < 0.4,
            "sold": [date(2024, 1, 1) + timedelta(days=int(d)) for d in rng.integers(0, 300, n)],
            "text": [" ".join(rng.choice(words, 4)) + f" {k}" for k in range(n)],
        }
    ).with_columns(
        pl.when(pl.col("items") == 8).then(None).otherwise("amount").alias("amount"),
        pl.when(pl.col("items") == 7).then(None).otherwise("country").alias("country"),
    )


TARGETS = {
    "number": pl.col("amount").fill_null(0) > 220,
    "whole": pl.col("items") > 4,
    "level": pl.col("country") == "o'er",
    "truth": pl.col("known"),
    "date": pl.col("sold") > date(2024, 5, 5),
    "word": pl.col("text").str.to_lowercase().str.contains("call"),
    "two": (pl.col("country") == "DE") & (pl.col("amount") > 150),
}


@pytest.mark.parametrize("name", TARGETS)
def test_the_bundle_answers_each_row_as_the_rule_does(name: str) -> None:
    frame = rows()
    y = frame.select(TARGETS[name].fill_null(False).cast(pl.Float64)).to_series().to_numpy()
    table = readable_table(frame)
    rule = fitted_rule(table, y, classes=("no", "yes"))
    fitted, _ = fit_recipe(rule_recipe(rule, frame), frame, None, seed=0)
    signature = Signature.from_frame(frame.select(list(fitted.inputs)), target="y")
    outcome = Outcome(task="binary", classes=("no", "yes"))
    predictor = rule_predictor(rule, fitted.feature_names)
    members = {
        **pack_predictor(predictor),
        "recipe.json": fitted.to_json().encode(),
        "signature.json": signature.to_json().encode(),
    }

    model = open_bundle(pack_bundle(members, name="r", algorithm="rule", outcome=outcome))

    expected = rule_answers(rule, table)[:, 1]
    inputs = frame.select(list(fitted.inputs))
    assert set(fitted.inputs) <= {*rule.columns, frame.columns[0]}
    assert (model.predict_frame(frame) == expected).all()
    by_row = [answer["probability"] for answer in model.predict(inputs.to_dicts())]
    assert by_row == expected.tolist()
    scope: dict[str, object] = {}
    exec(rule.to_python(), scope)  # noqa: S102 the promise is that it can be pasted
    said = [scope["answer"](row) for row in frame.iter_rows(named=True)]  # type: ignore[operator]
    assert said == ["yes" if p >= 0.5 else "no" for p in expected]


@pytest.mark.parametrize("classes", [(), ("a", "b", "c")])
def test_values_and_several_classes_are_answered_too(classes: tuple[str, ...]) -> None:
    frame = rows()
    y = frame["items"].to_numpy().astype(np.float64)
    y = np.digitize(y, [3, 6]).astype(np.float64) if classes else y
    table = readable_table(frame)
    rule = fitted_rule(table, y, classes=classes)
    fitted, _ = fit_recipe(rule_recipe(rule, frame), frame, None, seed=0)

    said = rule_predictor(rule, fitted.feature_names).predict_raw(fitted.transform(frame))

    np.testing.assert_array_equal(said, rule_answers(rule, table))


def test_one_answer_for_all_can_be_served_as_well() -> None:
    frame = rows(50)
    rule = Rule(root={"answer": [0.25, 0.75]}, classes=("no", "yes"))
    fitted, _ = fit_recipe(rule_recipe(rule, frame), frame, None, seed=0)

    said = rule_predictor(rule, fitted.feature_names).predict_raw(fitted.transform(frame))

    assert (said == 0.75).all()


def test_a_rule_reads_as_plain_english() -> None:
    frame = rows()
    y = frame.select(TARGETS["two"].fill_null(False).cast(pl.Float64)).to_series().to_numpy()

    words = fitted_rule(readable_table(frame), y, classes=("no", "yes"), n_conditions=2).to_words()

    assert "'country' is DE" in words.replace("'DE'", "DE")
    assert "'amount' is more than 1" in words
    assert "say yes (100.0% of" in words
    assert len(words.splitlines()) == 3


def test_a_rule_is_read_again_as_it_was_written() -> None:
    frame = rows()
    rule = fitted_rule(readable_table(frame), (frame["items"] > 3).to_numpy(), classes=("n", "y"))

    assert Rule.from_json(rule.to_json()) == rule


def test_the_class_said_goes_by_the_threshold() -> None:
    rule = Rule(root={"answer": [0.7, 0.3]}, classes=("no", "yes"), threshold=0.2)

    assert "return 'yes'" in rule.to_python()
    assert rule.to_sql() == "'yes'"
