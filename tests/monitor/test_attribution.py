"""What is behind an alarm: the columns, the rows, and the parts of the loss, on cases known by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.monitor import Reference, build_reference, measured_effect
from loopwright.monitor.attribution import (
    MovedColumn,
    advised,
    column_effects,
    leading_segment,
    moved_columns,
    shapley_value,
    told_attribution,
)
from loopwright.monitor.likeness import likeness
from loopwright.monitor.loss_split import LossSplit, loss_split
from loopwright.monitor.reference import bin_counts
from loopwright.monitor.reference_rows import (
    ReferenceRows,
    coded_streams,
    ordered_streams,
    row_codes,
)
from loopwright.monitor.report import StreamDrift

KINDS = {"size": "number", "age": "number", "town": "category"}
SINCE = datetime(2026, 3, 1, tzinfo=UTC)


def made_frame(n: int, seed: int, *, grown: float = 0.0, in_town: str = "") -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    town = rng.choice(["north", "south", "east"], n, p=[0.5, 0.3, 0.2])
    size = rng.normal(size=n)
    size = size + grown * (town == in_town if in_town else 1.0)
    return pl.DataFrame({"size": size, "age": rng.normal(size=n), "town": town})


def predict(frame: pl.DataFrame) -> np.ndarray:
    """The model: three times the size, and nothing of the age."""
    return 3 * frame["size"].to_numpy()


def losses_of(frame: pl.DataFrame, seed: int) -> np.ndarray:
    """Answers of large sizes are worse; the age does not matter."""
    noise = np.random.default_rng(seed).random(frame.height)
    return 0.5 + np.clip(frame["size"].to_numpy(), -1, 3) * 0.4 + 0.1 * noise


@pytest.fixture(scope="module")
def reference() -> Reference:
    frame = made_frame(3_000, 1)
    return build_reference(frame, predict(frame), losses_of(frame, 2), KINDS)


@pytest.fixture(scope="module")
def rows(reference: Reference) -> tuple[ReferenceRows, np.ndarray]:
    frame = made_frame(2_000, 3)
    kept = ReferenceRows(
        codes=row_codes(reference, frame, pl.Series(predict(frame))),
        raw=predict(frame),
        y=predict(frame),
        influence=np.zeros((0, 0)),
        features=np.zeros((4, 0)),
    )
    return kept, losses_of(frame, 4)


def drifts(reference: Reference, frame: pl.DataFrame) -> list[StreamDrift]:
    found = []
    for stream in reference.inputs:
        counts = bin_counts(stream, frame[stream.name])
        effect = measured_effect(stream, counts)
        found.append(
            StreamDrift(
                stream=stream.key,
                role="input",
                state="drifted" if effect.floor_ratio > 3 else "quiet",
                effect=effect,
                floor_ratio=effect.floor_ratio,
                evidence=10.0,
                share=0.5,
                since_at=SINCE,
                bins=stream.bin_names,
                live_shares=(0.0,) * stream.n_bins,
                reference_shares=(0.0,) * stream.n_bins,
            )
        )
    return found


def codes_of(reference: Reference, frame: pl.DataFrame) -> np.ndarray:
    return row_codes(reference, frame, pl.Series(predict(frame)))


def test_a_column_is_charged_with_what_it_does_to_predictions_and_loss(
    reference: Reference, rows: tuple[ReferenceRows, np.ndarray]
) -> None:
    live = made_frame(1_500, 5, grown=1.0).with_columns(pl.col("age") + 2.0)
    moved = moved_columns(drifts(reference, live), reference)

    columns = column_effects(moved, reference, *rows, live, predict)

    by_name = {each.stream: each for each in columns}
    assert set(by_name) == {"size", "age"}
    # the model is three times the size, which grew by 1; 300 rows of it are looked at
    assert by_name["size"].prediction_shift == pytest.approx(3.0, abs=0.4)
    assert by_name["age"].prediction_shift == 0.0
    assert by_name["size"].loss_shift is not None
    assert by_name["age"].loss_shift is not None
    assert by_name["size"].loss_shift > 0.2
    assert abs(by_name["age"].loss_shift) < 0.05
    assert columns[0].stream == "size"
    assert columns[0].since_at == SINCE


def test_columns_that_rested_are_not_charged(
    reference: Reference, rows: tuple[ReferenceRows, np.ndarray]
) -> None:
    live = made_frame(1_500, 6)

    moved = moved_columns(drifts(reference, live), reference)

    assert moved == []
    assert column_effects(moved, reference, *rows, live, predict) == []


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=16, max_size=16))
def test_shapley_values_share_out_exactly_what_there_is(values: list[float]) -> None:
    sets = [frozenset(each) for size in range(5) for each in combinations(range(4), size)]
    worth = dict(zip(sets, values, strict=True))

    parts = [shapley_value(worth, player, 4) for player in range(4)]

    assert sum(parts) == pytest.approx(worth[frozenset(range(4))] - worth[frozenset()], abs=1e-9)


def test_rows_are_named_in_which_most_of_the_change_lies(
    reference: Reference, rows: tuple[ReferenceRows, np.ndarray]
) -> None:
    live = made_frame(2_000, 7, grown=1.5, in_town="south")

    found = leading_segment(reference, rows[0], codes_of(reference, live), stream="size")

    assert found is not None
    assert found.condition == "town = south"
    assert found.inside > 0.25 > 0.05 > abs(found.outside)
    assert found.share == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("grown", [0.0, 1.0])
def test_no_rows_are_named_where_all_moved_alike(
    reference: Reference, rows: tuple[ReferenceRows, np.ndarray], grown: float
) -> None:
    named = [
        leading_segment(
            reference,
            rows[0],
            codes_of(reference, made_frame(1_000, seed, grown=grown)),
            stream="size",
        )
        for seed in range(20, 30)
    ]

    # a prediction that is three times the size moves where the size does
    conditions = [each.condition for each in named if each is not None]
    assert len([each for each in conditions if not each.startswith("prediction")]) <= 1


def split_of(
    reference: Reference, rows: tuple[ReferenceRows, np.ndarray], live: pl.DataFrame, extra: float
) -> LossSplit:
    codes, ordered = codes_of(reference, live), ordered_streams(reference)
    return loss_split(
        "mae",
        (rows[0].codes, rows[1]),
        (codes, losses_of(live, 99) + extra),
        alike=likeness(rows[0].codes, codes, ordered=ordered),
        ordered=ordered,
    )


def test_a_loss_that_grew_by_harder_rows_is_told_from_one_by_another_truth(
    reference: Reference, rows: tuple[ReferenceRows, np.ndarray]
) -> None:
    harder = split_of(reference, rows, made_frame(1_500, 8, grown=0.8), 0.0)
    other = split_of(reference, rows, made_frame(1_500, 9), 0.3)

    assert harder.cause == "covariate"
    assert harder.covariate == pytest.approx(0.8 * 0.4, abs=0.06)
    assert abs(harder.concept) < 4 * harder.concept_error
    assert other.cause == "concept"
    assert other.concept == pytest.approx(0.3, abs=0.05)
    assert "another truth" in other.message


def test_both_parts_add_up_to_the_change_and_rest_is_neither(
    reference: Reference, rows: tuple[ReferenceRows, np.ndarray]
) -> None:
    split = split_of(reference, rows, made_frame(1_500, 10, grown=0.5), 0.2)
    rest = split_of(reference, rows, made_frame(1_500, 11), 0.0)

    assert split.covariate + split.concept == pytest.approx(split.now - split.before)
    assert rest.cause == "none"


def test_advice_follows_from_the_cause() -> None:
    column = MovedColumn(
        stream="size",
        state="drifted",
        floor_ratio=5.0,
        since_at=None,
        prediction_shift=3.0,
        prediction_error=0.1,
    )
    still = MovedColumn(stream="age", state="drifted", floor_ratio=5.0, since_at=None)

    faulty = advised([column], None, is_faulty=True)
    moved = advised([column], None, is_faulty=False)
    harmless = advised([still], None, is_faulty=False)

    assert "Repair the source" in faulty
    assert "size" in moved
    assert "acknowledge" in harmless


def test_an_attribution_is_told_in_sentences(
    reference: Reference, rows: tuple[ReferenceRows, np.ndarray]
) -> None:
    live = made_frame(1_500, 12, grown=1.0, in_town="south")
    columns = column_effects(
        moved_columns(drifts(reference, live), reference), reference, *rows, live, predict
    )
    segment = leading_segment(reference, rows[0], codes_of(reference, live), stream="size")

    told = told_attribution(
        columns, segment, None, of="prediction", segment_of="size", before=0.0, now=0.9
    )

    assert told[0] == "The mean prediction went from 0 to 0.9."
    assert told[1].startswith("Had size not moved, the mean prediction would be")
    assert told[2].startswith("Most of the change of size lies where town = south")


def test_every_stream_that_is_coded_can_be_followed(reference: Reference) -> None:
    keys = [stream.key for stream in coded_streams(reference)]

    assert keys == ["size", "age", "town", "prediction"]
