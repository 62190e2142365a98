"""The formats of the built-in algorithms, and their hyperparameters."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.sagemaker.algorithm import checked_hyperparameters
from loopwright.sagemaker.algorithm_data import read_channel
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.record_io import read_records, write_labels


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def record(
    values: list[float], label: float | None = None, keys: list[int] | None = None, size: int = 0
) -> bytes:
    """Return a record as Amazon's documentation describes record.proto."""

    def value(numbers: list[float], places: list[int] | None = None) -> bytes:
        tensor = field(1, struct.pack(f"<{len(numbers)}f", *numbers))
        if places is not None:
            tensor += field(2, bytes(places)) + field(3, bytes([size]))
        return field(2, tensor)

    payload = field(1, field(1, b"values") + field(2, value(values, keys)))
    if label is not None:
        payload += field(2, field(1, b"values") + field(2, value([label])))
    return struct.pack("<II", 0xCED7230A, len(payload)) + payload + b"\0" * (-len(payload) % 4)


def test_dense_records() -> None:
    X, y = read_records(record([1.5, 2, 3], 0) + record([4, 5, 6.25], 1))

    np.testing.assert_array_equal(X, [[1.5, 2, 3], [4, 5, 6.25]])
    assert y is not None
    np.testing.assert_array_equal(y, [0, 1])


def test_sparse_records_are_filled_up_with_zeros() -> None:
    X, y = read_records(record([7], None, [3], 5) + record([8, 9], None, [0, 4], 5))

    np.testing.assert_array_equal(X, [[0, 0, 0, 7, 0], [8, 0, 0, 0, 9]])
    assert y is None


def test_answers_in_records_are_labels_by_name() -> None:
    data = write_labels([{"predicted_label": [1.0]}, {"score": [0.25] * 40}])

    first = field(2, field(1, b"predicted_label") + field(2, field(2, field(1, b"\0\0\x80?"))))
    assert data[:8] == struct.pack("<II", 0xCED7230A, len(first))
    assert data[8 : 8 + len(first)] == first
    assert len(data) % 4 == 0
    assert struct.pack("<40f", *[0.25] * 40) in data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"xxxxxxxxxxxx",
        record([1, 2])[:-1],
        record([1, 2]) + record([1]),
        record([7], None, [9], 5),
        record([1], 1) + record([1]),
        struct.pack("<II", 0xCED7230A, 1 << 27),
    ],
)
def test_torn_records_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInputError, match="recordio-protobuf"):
        read_records(data)


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("text/csv", "a.csv", b"1,2.5,\n0,-1,3\n"),
        ("text/libsvm", "a", b"1 0:2.5\n0 0:-1 1:3 # note\n"),
        ("", "a.csv", b"1,2.5,\n0,-1,3\n"),
        ("", "part-0", b"1 0:2.5\n0 0:-1 1:3\n"),
    ],
)
def test_files_of_rows(tmp_path: Path, kind: str, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    rows = read_channel(tmp_path, kind)

    np.testing.assert_array_equal(rows.X, [[2.5, np.nan], [-1, 3]])
    np.testing.assert_array_equal(rows.y, [1, 0])


def test_parquet_and_several_files(tmp_path: Path) -> None:
    for number in (1, 2):
        frame = pl.DataFrame({"y": [number], "a": [number * 2.0]})
        frame.write_parquet(tmp_path / f"{number}.parquet")

    rows = read_channel(tmp_path, "application/x-parquet")

    np.testing.assert_array_equal(rows.X, [[2], [4]])
    np.testing.assert_array_equal(rows.y, [1, 2])


def test_weights_in_the_second_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"1,0.5,7\n0,2,8\n")

    rows = read_channel(tmp_path, "text/csv", has_weights=True)

    assert rows.weight is not None
    np.testing.assert_array_equal(rows.weight, [0.5, 2])
    np.testing.assert_array_equal(rows.X, [[7], [8]])


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"label,a\n1,2\n", "no header"), (b"1\n2\n", "first is the target"), (b"", "no rows")],
)
def test_csv_that_cannot_be_learnt_from(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)

    with pytest.raises(InvalidInputError, match=said):
        read_channel(tmp_path, "text/csv")


def test_hyperparameters_mean_the_same_under_our_names() -> None:
    found = checked_hyperparameters(
        "xgboost",
        {"num_round": "50", "eta": "0.2", "lambda": "3", "objective": "reg:squarederror"},
    )

    assert found["rounds"] == 50
    assert found["learning_rate"] == 0.2
    assert found["reg_lambda"] == 3
    # SageMaker's defaults, where ours differ
    assert (found["subsample"], found["early_stopping_rounds"]) == (1.0, 0)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("xgboost", {"eta": "0.1"}, "num_round"),
        ("xgboost", {"num_round": "5", "booster": "dart"}, "booster"),
        ("xgboost", {"num_round": "5", "objective": "rank:pairwise"}, "rank:pairwise"),
        ("xgboost", {"num_round": "5", "objective": "multi:softmax"}, "num_class"),
        ("xgboost", {"num_round": "5", "colour": "red"}, "colour"),
        ("linear-learner", {"predictor_type": "oracle"}, "oracle"),
        ("knn", {"k": "3", "predictor_type": "regressor"}, "sample_size"),
    ],
)
def test_hyperparameters_that_cannot_be_used(name: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError) as caught:
        checked_hyperparameters(name, given)

    assert said in caught.value.message
