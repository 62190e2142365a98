"""What a column's going wrong costs, and a model looked at from all sides."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from loopwright.evaluate import Examination, Subject, examine, robustness
from loopwright.evaluate.inspection import confusion
from loopwright.evaluate.worst_row import worst_rows
from loopwright.problem import class_answers, metric_named, value_answers
from loopwright.train import Calibration, Interval, Outcome


def table(n: int = 900) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "size": rng.uniform(10, 20, n),
            "rooms": rng.integers(1, 9, n),
            "town": rng.choice(["Aa", "Bee"], n),
            "mail": [f"person{i}@example.org" for i in range(n)],
        }
    )


def predicted(frame: pl.DataFrame) -> Any:
    return (frame["size"].fill_null(15) * 2 + frame["rooms"].fill_null(4)).to_numpy()


def stressed(frame: pl.DataFrame, **more: Any) -> Any:
    y = predicted(frame) + np.random.default_rng(1).normal(size=frame.height)
    readings, n = robustness(
        predicted,
        lambda raw, _: value_answers(raw),
        frame,
        y,
        metric=metric_named("mae"),
        columns=["size", "rooms", "town"],
        **more,
    )
    return {(each.column, each.kind): each for each in readings}, n


def test_a_column_that_counts_costs_and_one_that_does_not_costs_nothing() -> None:
    found, n = stressed(table())

    assert n == 900
    for kind in ("missing", "shifted", "shuffled"):
        assert found["size", kind].loss > found["rooms", kind].loss > 0
        assert found["size", kind].lower <= found["size", kind].loss <= found["size", kind].upper
    # one standard deviation of the size is 10 / sqrt(12), and it counts twice
    assert found["size", "shifted"].loss == pytest.approx(20 / np.sqrt(12) - 0.8, abs=0.2)
    assert found["town", "shuffled"].loss == 0
    assert ("town", "shifted") not in found


def test_what_an_endpoint_would_refuse_is_said_to_be_refused() -> None:
    found, _ = stressed(table(), refused=["size"])

    assert found["size", "missing"].refused
    assert found["size", "missing"].loss is None
    assert not found["rooms", "missing"].refused


def test_the_same_seed_gives_the_same_losses_on_a_bounded_number_of_rows() -> None:
    frame = table(6_000)

    assert stressed(frame, seed=3) == stressed(frame, seed=3)
    assert stressed(frame, seed=3)[1] == 2_000


def test_the_worst_rows_come_first_and_personal_data_are_masked() -> None:
    frame = table(200)
    y = np.zeros(200)
    said = np.zeros(200)
    said[17], said[3] = 9.0, -4.0

    found = worst_rows(
        frame,
        y,
        value_answers(said),
        Outcome(task="regression"),
        metric=metric_named("rmse"),
        hidden=frozenset({"mail"}),
    )

    assert [each.row for each in found[:2]] == [17, 3]
    assert (found[0].said, found[0].true, found[0].loss) == ("9", "0", 9.0)
    assert dict(found[0].cells)["mail"] == "p…@example.org"


def test_confusion_counts_truth_by_what_was_said() -> None:
    answers = class_answers(np.array([0.9, 0.2, 0.6, 0.1]))

    found = confusion(np.array([1.0, 1.0, 0.0, 0.0]), answers, ("no", "yes"))

    assert found.counts == ((1, 1), (1, 1))


def test_very_many_classes_are_shown_in_part_and_none_is_lost() -> None:
    rng = np.random.default_rng(2)
    names = tuple(f"c{k}" for k in range(50))
    y = rng.integers(0, 50, 1_000).astype(float)

    found = confusion(y, class_answers(rng.random((1_000, 50))), names)

    assert len(found.classes) == 30
    assert found.classes[-1] == "21 other classes"
    assert sum(map(sum, found.counts)) == 1_000


def binary(n: int = 600) -> Subject:
    rng = np.random.default_rng(3)
    frame = table(n)
    raw = rng.random(n)
    y = (rng.random(n) < raw).astype(float)
    calibration = Calibration(method="platt", parameters=(0.8, 0.1))
    outcome = Outcome(task="binary", classes=("no", "yes"), threshold=0.4, calibration=calibration)
    return Subject(
        target="left",
        outcome=outcome,
        frame=frame,
        y=y,
        answers=class_answers(calibration.applied(raw), threshold=0.4),
        uncalibrated=raw,
        main=metric_named("roc_auc"),
        payoff={"true_positive": 10, "false_positive": -1},
        hidden=frozenset({"mail"}),
        named={"Aa": ('town == "Aa"', (frame["town"] == "Aa").to_numpy())},
    )


def test_everything_about_a_binary_model_is_there_and_survives_json() -> None:
    found = examine(binary())

    assert Examination.from_json(msgspec.json.decode(msgspec.json.encode(found.to_json()))) == found
    assert [each.metric for each in found.figures[:2]] == ["roc_auc", "accuracy"]
    assert {"profit_per_case", "expected_profit_per_thousand"} <= {f.metric for f in found.figures}
    assert found.threshold is not None
    assert found.threshold.chosen == 0.4
    assert found.threshold.points[0].profit is not None
    assert found.calibration is not None
    assert found.calibration.method == "platt"
    assert found.calibration.before.log_loss < found.calibration.after.log_loss
    assert found.gains
    assert found.segments[0].named
    assert found.residuals is None
    assert found == examine(binary())


def test_everything_about_a_regression_is_there_and_survives_json() -> None:
    frame = table(400)
    y = predicted(frame)
    said = y * np.exp(np.random.default_rng(4).normal(0, 0.1, 400))

    found = examine(
        Subject(
            target="price",
            outcome=Outcome(
                task="regression", interval=Interval(confidence=0.9, reach=0.17, scale="logarithm")
            ),
            frame=frame,
            y=y,
            answers=value_answers(said),
            uncalibrated=said,
            main=metric_named("mape"),
        )
    )

    assert Examination.from_json(found.to_json()) == found
    assert found.interval is not None
    assert found.interval.coverage == pytest.approx(0.9, abs=0.05)
    assert found.residuals is not None
    assert (found.calibration, found.threshold, found.confusion) == (None, None, None)


def test_many_classes_are_looked_at_too() -> None:
    rng = np.random.default_rng(5)
    shares = rng.dirichlet(np.ones(4), 500)
    y = np.array([rng.choice(4, p=each) for each in shares], dtype=float)

    found = examine(
        Subject(
            target="kind",
            outcome=Outcome(task="multiclass", classes=("a", "b", "c", "d")),
            frame=table(500),
            y=y,
            answers=class_answers(shares),
            uncalibrated=shares,
            main=metric_named("macro_f1"),
        )
    )

    assert found.calibration is not None
    assert found.calibration.after.ece < 0.05
    assert found.confusion is not None
    assert {"top_3_accuracy"} & {f.metric for f in found.figures} == set()


def test_relative_errors_are_not_shown_where_a_truth_is_zero() -> None:
    y = np.arange(100.0)

    found = examine(
        Subject(
            target="n",
            outcome=Outcome(task="regression"),
            frame=table(100),
            y=y,
            answers=value_answers(y + 1),
            uncalibrated=y + 1,
            main=metric_named("mae"),
        )
    )

    assert "mape" not in {each.metric for each in found.figures}


def test_a_figure_that_hangs_on_a_row_is_remarked_upon() -> None:
    y = np.arange(1.0, 301.0)
    said = y + np.random.default_rng(6).normal(size=300)
    said[5] += 80

    def remarks(metric: str) -> str:
        subject = Subject(
            target="n",
            outcome=Outcome(task="regression"),
            frame=table(300),
            y=y,
            answers=value_answers(said),
            uncalibrated=said,
            main=metric_named(metric),
        )
        return " ".join(examine(subject).remarks)

    assert "A single row makes" in remarks("rmse")
    assert "A single row" not in remarks("share_within_5_percent")
