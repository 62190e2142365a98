"""Labels that come late, twice, changed, unreadable or for nobody."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loopwright.core.errors import InvalidInputError
from loopwright.monitor import join_labels, label_maturity

START = datetime(2026, 1, 1, tzinfo=UTC)


def hours(n: float) -> datetime:
    return START + timedelta(hours=n)


def predictions_of(*ids: str, at: list[float] | None = None) -> pl.DataFrame:
    times = [hours(n) for n in (at or range(len(ids)))]
    return pl.DataFrame(
        {
            "inference_id": list(ids),
            "at": times,
            "version": ["1"] * len(ids),
            "prediction": [float(k) for k in range(len(ids))],
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


def labels_of(*rows: tuple[str, object, float]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "inference_id": [row[0] for row in rows],
            "label": pl.Series([row[1] for row in rows]),
            "at": [hours(row[2]) for row in rows],
            "source": ["test"] * len(rows),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


def test_the_latest_label_wins_and_the_rest_is_counted() -> None:
    labels = labels_of(
        ("a", 1.0, 10), ("a", 2.0, 12), ("a", 2.0, 11), ("b", 7.0, 9), ("nobody", 5.0, 9)
    )

    joined = join_labels(predictions_of("a", "b", "c"), labels)

    assert joined.frame["label"].to_list() == [2.0, 7.0]
    assert joined.frame["label_at"].to_list() == [hours(12), hours(9)]
    assert joined.frame["first_label_at"].to_list() == [hours(10), hours(9)]
    assert (joined.n_unknown, joined.n_duplicate, joined.n_conflicting) == (1, 1, 1)
    assert joined.unknown["inference_id"].to_list() == ["nobody"]
    assert joined.coverage == pytest.approx(2 / 3)


def test_text_for_a_number_is_quarantined_with_its_reason_and_readable_text_is_read() -> None:
    labels = labels_of(("a", "450000", 10), ("b", "about 3", 10), ("c", None, 10), ("c", "inf", 11))

    joined = join_labels(predictions_of("a", "b", "c"), labels)

    assert joined.frame["label"].to_list() == [450_000.0]
    assert sorted(joined.quarantined.select("inference_id", "reason").rows()) == [
        ("b", "not a finite number"),
        ("c", "no label"),
        ("c", "not a finite number"),
    ]


def test_true_and_false_are_no_prices() -> None:
    joined = join_labels(predictions_of("a"), labels_of(("a", True, 10)))

    assert (joined.frame.height, joined.n_quarantined) == (0, 1)


def test_a_class_the_problem_does_not_know_is_quarantined() -> None:
    labels = labels_of(("a", "yes", 10), ("b", "maybe", 10))

    joined = join_labels(predictions_of("a", "b"), labels, task="binary", classes=("no", "yes"))

    assert joined.frame["label"].to_list() == ["yes"]
    assert joined.quarantined["reason"].to_list() == ["not one of no, yes"]


def test_the_first_of_two_predictions_with_one_id_counts() -> None:
    joined = join_labels(predictions_of("a", "b", "a"), labels_of(("a", 5.0, 10)))

    assert joined.frame["prediction"].to_list() == [0.0]
    assert (joined.n_predictions, joined.n_repeated_predictions) == (2, 1)


def test_a_label_older_than_its_prediction_is_used_but_counted() -> None:
    joined = join_labels(predictions_of("a", at=[5.0]), labels_of(("a", 1.0, 2)))

    assert (joined.frame.height, joined.n_early) == (1, 1)


def test_input_columns_travel_along() -> None:
    predictions = predictions_of("a").with_columns(pl.struct(sqft=pl.lit(900)).alias("inputs"))

    joined = join_labels(predictions, labels_of(("a", 1.0, 2)))

    assert joined.frame["inputs"].struct.field("sqft").to_list() == [900]


def test_a_column_called_label_is_refused() -> None:
    predictions = predictions_of("a").with_columns(pl.lit(1).alias("label"))

    with pytest.raises(InvalidInputError, match="already have a column 'label'"):
        join_labels(predictions, labels_of(("a", 1.0, 2)))


@pytest.mark.parametrize("column", ["inference_id", "at", "source"])
def test_a_missing_column_is_named(column: str) -> None:
    with pytest.raises(InvalidInputError, match=f"labels have no column '{column}'"):
        join_labels(predictions_of("a"), labels_of(("a", 1.0, 2)).drop(column))


def test_a_time_that_is_text_is_refused() -> None:
    labels = labels_of(("a", 1.0, 2)).with_columns(pl.lit("yesterday").alias("at"))

    with pytest.raises(InvalidInputError, match="not a time"):
        join_labels(predictions_of("a"), labels)


def test_no_labels_at_all_join_to_nothing() -> None:
    labels = labels_of(("a", 1.0, 2)).clear()

    joined = join_labels(predictions_of("a"), labels)

    assert (joined.frame.height, joined.coverage, joined.n_unknown) == (0, 0.0, 0)


label_rows = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "z"]),
        st.sampled_from(["1", "2", "2.0", "x"]),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(label_rows, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    rows: list[tuple[str, str, int]], random: object
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    predictions = predictions_of("a", "b", "c", "a")

    one = join_labels(predictions, labels_of(*rows))
    other = join_labels(predictions.reverse(), labels_of(*shuffled))

    assert_frame_equal(one.frame, other.frame)
    for count in ("n_unknown", "n_duplicate", "n_conflicting", "n_quarantined", "n_early"):
        assert getattr(one, count) == getattr(other, count)


@settings(max_examples=40, deadline=None)
@given(label_rows)
def test_every_label_row_is_accounted_for(rows: list[tuple[str, str, int]]) -> None:
    joined = join_labels(predictions_of("a", "b", "c"), labels_of(*rows))

    used = len(rows) - joined.n_unknown - joined.n_quarantined
    distinct = {(key, float(label)) for key, label, _ in rows if key != "z" and label != "x"}
    assert joined.n_duplicate == used - len(distinct)
    assert joined.frame.height == len({key for key, _ in distinct})


def test_the_join_is_that_of_pandas() -> None:
    rng = np.random.default_rng(0)
    ids = [f"id{k}" for k in rng.permutation(500)]
    predictions = predictions_of(*ids)
    label_ids = [f"id{k}" for k in rng.integers(0, 700, 900)]
    labels = labels_of(*[(key, float(k), float(k)) for k, key in enumerate(label_ids)])

    joined = join_labels(predictions, labels)

    latest = pd.DataFrame({"id": label_ids, "label": range(900)}).groupby("id").last()
    merged = pd.DataFrame({"id": ids}).merge(latest, left_on="id", right_index=True)
    assert dict(joined.frame.select("inference_id", "label").iter_rows()) == dict(
        zip(merged["id"], merged["label"].astype(float), strict=True)
    )
    assert joined.n_unknown == sum(int(key[2:]) >= 500 for key in label_ids)


def test_maturity_counts_only_predictions_old_enough() -> None:
    # predicted at hours 0, 0, 0, 9; labels after 1, 5 and 0.5 hours, one never; now is hour 10
    predictions = predictions_of("a", "b", "c", "d", at=[0, 0, 0, 9])
    joined = join_labels(predictions, labels_of(("a", 1.0, 1), ("b", 1.0, 5), ("d", 1.0, 9.5)))

    curve = label_maturity(predictions, joined, now=hours(10), ages_s=[3_600, 6 * 3_600, 86_400])

    assert [(each.n_predictions, each.share) for each in curve] == [
        (4, 0.5),
        (3, pytest.approx(2 / 3)),
        (0, None),
    ]
