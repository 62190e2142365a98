from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.data import PARTS, Split, SplitLeak, assign_parts, check_split, split_leaks
from loopwright.data.split import _mixed

splits = st.builds(
    lambda a, b, c, seed: Split(
        train=a / (a + b + c), validation=b / (a + b + c), test=c / (a + b + c), seed=seed
    ),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 2**63 - 1),
)


def counts_of(parts: pl.Series) -> dict[str, int]:
    return {part: int((parts == part).sum()) for part in PARTS}


def frame_of(n_rows: int, **columns: object) -> pl.DataFrame:
    return pl.DataFrame({"n": range(n_rows), **columns})


@settings(max_examples=40, deadline=None)
@given(splits, st.integers(60, 3_000))
def test_a_random_split_gives_every_part_its_share(split: Split, n_rows: int):
    parts = assign_parts(frame_of(n_rows), split)

    counts = counts_of(parts)
    assert sum(counts.values()) == n_rows
    for part, share in zip(PARTS, split.shares, strict=True):
        # the pattern of a thousand places rounds each share once a thousand
        assert abs(counts[part] - share * n_rows) <= 2 + n_rows / 1_000


@settings(max_examples=25, deadline=None)
@given(splits, st.integers(0, 1_000))
def test_a_class_is_shared_out_as_the_whole_is(split: Split, seed: int):
    classes = np.random.default_rng(seed).geometric(0.4, 500).clip(max=5).tolist()
    frame = frame_of(len(classes), y=[f"class {c}" for c in classes])

    parts = assign_parts(frame, split, "y")

    for label, rows in frame.with_columns(part=parts).group_by("y"):
        counts = counts_of(rows["part"])
        assert counts["train"] > 0, label
        for part, share in zip(PARTS, split.shares, strict=True):
            assert abs(counts[part] - share * rows.height) <= 3


def test_a_rare_class_is_taught_before_it_is_tested():
    frame = frame_of(200, y=["common"] * 195 + ["a", "b", "c", "d", "e"])

    for seed in range(20):
        parts = assign_parts(frame, Split(seed=seed), "y")

        assert set(parts[195:]) == {"train"}


def test_a_random_split_depends_on_seed_and_row_number_alone():
    once = assign_parts(frame_of(500), Split(seed=1))
    again = assign_parts(frame_of(500, other=["x"] * 500), Split(seed=1))
    other = assign_parts(frame_of(500), Split(seed=2))

    assert once.equals(again)
    assert not once.equals(other)


def test_parts_do_not_follow_the_order_of_rows():
    parts = assign_parts(frame_of(20_000), Split())

    held_out = (parts != "train").cast(pl.Int8).to_numpy().astype(float)
    assert abs(np.corrcoef(held_out[:-1], held_out[1:])[0, 1]) < 0.03
    assert abs(np.corrcoef(held_out, np.arange(20_000))[0, 1]) < 0.03


def test_the_mixing_function_is_the_published_one():
    # SplitMix64 with seed 0 as its state gives 0xE220A8397B1DCDAF first (Vigna's splitmix64.c)
    from loopwright.data.split import _finished

    state = np.array([0x9E3779B97F4A7C15], dtype=np.uint64)
    with np.errstate(over="ignore"):
        assert _finished(state)[0] == 0xE220A8397B1DCDAF
    assert len(set(_mixed(np.arange(10_000, dtype=np.uint64), 7).tolist())) == 10_000


@settings(max_examples=30, deadline=None)
@given(splits, st.integers(0, 1_000))
def test_time_runs_from_train_to_test_and_no_moment_is_cut(split: Split, seed: int):
    days = np.random.default_rng(seed).integers(0, 200, 600).tolist()
    by_time = Split(
        train=split.train, validation=split.validation, test=split.test, by="time", column="at"
    )
    frame = frame_of(len(days), at=[date(2026, 1, 1) + timedelta(days=day) for day in days])

    parts = assign_parts(frame, by_time)

    rows = frame.with_columns(part=parts)
    first, last = (
        {part: rows.filter(pl.col("part") == part)["at"].sort()[at] for part in PARTS}
        for at in (0, -1)
    )
    assert last["train"] < first["validation"]
    assert last["validation"] < first["test"]


def test_a_split_by_time_comes_near_the_shares():
    frame = frame_of(1_000, at=[n // 5 for n in range(1_000)])

    parts = assign_parts(frame, Split(by="time", column="at"))

    assert counts_of(parts) == {"train": 700, "validation": 200, "test": 100}


@settings(max_examples=25, deadline=None)
@given(splits, st.integers(0, 1_000))
def test_a_group_stays_in_one_part(split: Split, seed: int):
    groups = np.random.default_rng(seed).integers(0, 81, 600).tolist()
    by_group = Split(
        train=split.train,
        validation=split.validation,
        test=split.test,
        by="group",
        column="who",
        seed=split.seed,
    )
    frame = frame_of(len(groups), who=[None if g == 80 else f"g{g}" for g in groups])

    parts = assign_parts(frame, by_group)

    per_group = frame.with_columns(part=parts).group_by("who").agg(pl.col("part").n_unique())
    assert per_group["part"].to_list() == [1] * per_group.height
    largest = frame["who"].value_counts()["count"].max()
    for part, share in zip(PARTS, split.shares, strict=True):
        assert abs(counts_of(parts)[part] - share * frame.height) <= 2 * largest


def test_a_group_keeps_its_place_whatever_order_the_rows_come_in():
    frame = frame_of(300, who=[n % 60 for n in range(300)])
    split = Split(by="group", column="who")

    forward = frame.with_columns(part=assign_parts(frame, split))
    turned = frame.reverse()
    backward = turned.with_columns(part=assign_parts(turned, split))

    assert forward.sort("n").equals(backward.sort("n"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"train": 0.8}, r"add up to 1\.1"),
        ({"train": 1.2, "validation": -0.3}, r"train is 1\.2"),
        ({"train": 0.9, "test": 0.1, "validation": 0.0}, "validation part would have no rows"),
        ({"by": "time"}, "needs the column"),
        ({"by": "time", "column": "whenn"}, r"'whenn', is not in the data.*'when'"),
        ({"column": "when"}, "does not go by a column"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_a_split_that_cannot_be_made_is_refused(keys: dict[str, object], message: str):
    with pytest.raises(InvalidInputError, match=message) as caught:
        check_split(Split(**keys), ["when", "price"])

    assert caught.value.facts["field"].startswith("data.split.")


@pytest.mark.parametrize(
    ("frame", "split", "message"),
    [
        (frame_of(2), Split(), "only 2 rows"),
        (frame_of(50, at=[1, 2] * 25), Split(by="time", column="at"), "only 2 moments"),
        (frame_of(50, at=[1] * 50), Split(by="group", column="at"), "only 1 groups"),
        (frame_of(50, at=[1, None] * 25), Split(by="time", column="at"), "25 of 50 rows have no"),
        (frame_of(50, at=["a", "b"] * 25), Split(by="time", column="at"), "holds String, not"),
    ],
)
def test_rows_that_cannot_be_shared_out_are_refused(
    frame: pl.DataFrame, split: Split, message: str
):
    with pytest.raises(InvalidInputError, match=message):
        assign_parts(frame, split)


def test_identical_rows_in_two_parts_are_counted():
    frame = pl.DataFrame({"a": [1, 1, 2, 3, 3, 4], "b": ["x", "x", None, "y", "z", None]})
    parts = pl.Series(["train", "test", "train", "train", "test", "validation"])

    assert split_leaks(frame, parts) == [
        SplitLeak(part="test", earlier="train", n_rows=1, share=0.5)
    ]
