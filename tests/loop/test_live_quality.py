"""Figures from the ledger: those of the rows themselves, for every task, with and without money."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from loopwright.loop.file import LoopFile, parse_loop_file
from loopwright.loop.gathering import ledger_about
from loopwright.loop.live_quality import criterion_figures, own_rows, row_losses
from loopwright.loop.sourcing import Target
from loopwright.loop.truth import ground_truth
from loopwright.monitor import (
    Ledger,
    Reference,
    build_reference,
    told_truth,
)
from loopwright.monitor.hourly import added, label_statistics, prediction_statistics

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)
CLASSES = Target(column="kind", task="multiclass", reason="", n_null=0, classes=("a", "b", "c"))
YES_NO = Target(column="churned", task="binary", reason="", n_null=0, classes=("no", "yes"))
VALUE = Target(column="price", task="regression", reason="", n_null=0)


def loop_of(problem: str) -> LoopFile:
    return parse_loop_file(
        f"name: a\nproblem: {problem}\ndata: {{source: {{kind: file, path: a.csv}}}}\n".encode()
        + b"deploy: {endpoint: a}\n"
    )


def captured(n: int, **columns: object) -> pl.DataFrame:
    plain = {
        "prediction": pl.Series([0.0] * n),
        "probability": pl.Series([None] * n, dtype=pl.Float64),
        "probabilities": pl.Series([None] * n, dtype=pl.String),
        "inputs": pl.Series(["{}"] * n),
    }
    return pl.DataFrame(
        {
            "inference_id": [f"i{k}" for k in range(n)],
            "at": [NOW - timedelta(days=9) + timedelta(minutes=k) for k in range(n)],
            "version": ["1"] * n,
            "variant": pl.Series([None] * n, dtype=pl.String),
            "shadow": [False] * n,
            **plain,
            **columns,
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


def labels(values: list[object], *, after: timedelta = timedelta(hours=1)) -> pl.DataFrame:
    n = len(values)
    return pl.DataFrame(
        {
            "inference_id": [f"i{k}" for k in range(n)],
            "label": pl.Series(values),
            "at": [NOW - timedelta(days=9) + timedelta(minutes=k) + after for k in range(n)],
            "source": ["app"] * n,
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


def kept(
    folder: Path, loop: LoopFile, target: Target, predictions: pl.DataFrame, truth: pl.DataFrame
) -> Ledger:
    ledger = Ledger(folder, ledger_about(loop, target))
    ledger.take_predictions(predictions)
    ledger.take_labels(truth)
    return ledger


def test_classes_are_judged_by_the_probabilities_that_were_logged(tmp_path: Path) -> None:
    loop = loop_of("{target: kind, criteria: [{metric: accuracy, at_least: 0.5}]}")
    shares = ['{"a":0.7,"b":0.2,"c":0.1}', '{"a":0.1,"b":0.2,"c":0.7}'] * 2
    said = pl.Series(["a", "c"] * 2)
    ledger = kept(
        tmp_path,
        loop,
        CLASSES,
        captured(4, prediction=said, probabilities=pl.Series(shares)),
        labels(["a", "c", "b", "c"]),
    )

    own = own_rows(ledger, loop, version="1")
    figures = criterion_figures(loop, CLASSES, own, 0.5, n_looks=1)
    losses = row_losses(loop, CLASSES, ledger.moves(), threshold=0.5)

    assert (figures[0].estimate, figures[0].n) == (0.75, 4)
    assert losses == pytest.approx(-np.log([0.7, 0.7, 0.2, 0.7]))


def test_money_is_counted_with_the_columns_that_requests_held(tmp_path: Path) -> None:
    loop = loop_of(
        "{target: churned, positive: 'yes', criteria: [{metric: profit_per_case, at_least: 1}], "
        "payoff: {true_positive: value / 10, false_positive: -5}}"
    )
    inputs = [f'{{"value": {value}, "town": "x"}}' for value in (100, 200, 300, 400)]
    ledger = kept(
        tmp_path,
        loop,
        YES_NO,
        captured(
            4,
            probability=pl.Series([0.9, 0.9, 0.1, 0.9]),
            prediction=pl.Series(["yes", "yes", "no", "yes"]),
            inputs=pl.Series(inputs),
        ),
        labels(["yes", "no", "yes", "yes"]),
    )

    own = own_rows(ledger, loop, version="1")
    figures = criterion_figures(loop, YES_NO, own, 0.5, n_looks=1)

    # 100/10 earned, 5 lost, nothing, 400/10 earned, over 4 rows
    assert figures[0].estimate == pytest.approx((10 - 5 + 0 + 40) / 4)


@pytest.fixture(scope="module")
def reference() -> Reference:
    rng = np.random.default_rng(0)
    rows = pl.DataFrame({"x": rng.normal(size=500)})
    errors = np.abs(rng.normal(size=500))
    return build_reference(rows, rng.normal(100, 10, size=500), errors, {"x": "number"})


def test_what_is_known_of_labels_is_told_and_only_mature_days_are_judged(
    tmp_path: Path, reference: Reference
) -> None:
    loop = loop_of("{target: price, criteria: [{metric: mae, at_most: 5}]}")
    values = np.random.default_rng(1).normal(100, 10, 600)
    predictions = captured(600, prediction=pl.Series(values))
    truth = labels(list(values + 1.0), after=timedelta(days=2))
    ledger = kept(tmp_path, loop, VALUE, predictions, truth.vstack(truth[:3])[3:])
    new = ledger.newly_labelled().with_columns(pl.lit(1.0).alias("loss"))
    statistics = added(
        prediction_statistics(reference, predictions, pl.DataFrame()),
        label_statistics(reference, new, pl.DataFrame()),
    )

    found = ground_truth(
        loop,
        VALUE,
        ledger,
        reference,
        own_rows(ledger, loop, version="1"),
        statistics,
        version="1",
        threshold=0.5,
        now=NOW,
    )

    assert found.mature_age_s == 3 * 86_400
    assert {each.period for each in found.windows} == {"7 days"}
    week = next(each for each in found.windows if each.period == "7 days")
    assert (week.estimate, week.n, week.verdict) == (pytest.approx(1.0), 600, "holds")
    assert week.to_at == NOW - timedelta(days=3)
    assert found.selective == ""
    told = told_truth(found)
    assert "Labels take up to 3 days; newer predictions are not judged." in told


def test_bounds_of_a_share_stay_within_what_a_share_can_be(tmp_path: Path) -> None:
    loop = loop_of(
        "{target: churned, positive: 'yes', criteria: [{metric: recall, at_least: 0.5}]}"
    )
    said = [0.9] * 99 + [0.1]
    ledger = kept(
        tmp_path,
        loop,
        YES_NO,
        captured(
            100,
            probability=pl.Series(said),
            prediction=pl.Series(["yes" if share > 0.5 else "no" for share in said]),
        ),
        labels(["yes"] * 100),
    )

    own = own_rows(ledger, loop, version="1")
    (figure,) = criterion_figures(loop, YES_NO, own, 0.5, n_looks=3)

    assert figure.estimate == pytest.approx(0.99)
    assert figure.lower is not None
    assert 0.9 < figure.lower < 0.99
    assert figure.upper == 1.0


def test_a_label_that_says_nothing_of_a_metric_gives_no_figure_that_looks_sure(
    tmp_path: Path,
) -> None:
    loop = loop_of(
        "{target: churned, positive: 'yes', criteria: [{metric: recall, at_least: 0.5}]}"
    )
    ledger = kept(
        tmp_path,
        loop,
        YES_NO,
        captured(1, probability=pl.Series([0.9]), prediction=pl.Series(["yes"])),
        labels(["no"]),
    )

    own = own_rows(ledger, loop, version="1")
    (figure,) = criterion_figures(loop, YES_NO, own, 0.5, n_looks=1)

    assert (figure.n, figure.verdict) == (1, "undecided")
    assert (figure.estimate, figure.lower, figure.upper) == (None, None, None)
