from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.deploy.labels import (
    Label,
    LabelLog,
    add_labels,
    checked_inference_id,
    checked_label,
    read_labels,
)

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def add(folder: Path, *labels: tuple[Any, Any], task: str = "regression") -> int:
    return add_labels(folder, labels, task=task, at=AT, source="table")


def test_labels_come_back_in_their_order_with_time_and_source(tmp_path: Path) -> None:
    n_added = add(tmp_path, ("a", 1), ("b", 2.5), ("a", np.float64(3.0)))

    frame = read_labels(tmp_path / "labels").frame

    assert n_added == 3
    assert frame["inference_id"].to_list() == ["a", "b", "a"]
    assert frame["label"].to_list() == [1.0, 2.5, 3.0]
    assert frame["at"].to_list() == [AT] * 3
    assert frame["source"].unique().to_list() == ["table"]


def test_classes_come_back_as_text(tmp_path: Path) -> None:
    add(tmp_path, ("a", "yes"), ("b", True), ("c", 3), task="multiclass")

    frame = read_labels(tmp_path / "labels").frame

    assert frame["label"].to_list() == ["yes", "true", "3"]


def test_a_cursor_reads_only_new_labels(tmp_path: Path) -> None:
    add(tmp_path, ("a", 1))
    page = read_labels(tmp_path / "labels")
    add(tmp_path, ("b", 2))

    later = read_labels(tmp_path / "labels", after=page.cursor)

    assert later.frame["inference_id"].to_list() == ["b"]


def test_one_bad_label_keeps_all_of_them_out(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="Label 1 is 'dear'") as caught:
        add(tmp_path, ("a", 1), ("b", "dear"))

    assert caught.value.facts["row"] == 1
    assert caught.value.facts["field"] == "label"
    assert not (tmp_path / "labels").exists()


@pytest.mark.parametrize(
    ("label", "task"),
    [
        (None, "regression"),
        (float("nan"), "regression"),
        (float("inf"), "regression"),
        (True, "regression"),
        ("1.5", "regression"),
        (None, "binary"),
        ("", "binary"),
        (float("nan"), "multiclass"),
        (float("inf"), "binary"),
    ],
)
def test_what_cannot_be_a_label_of_the_task_is_refused(label: Any, task: str) -> None:
    value = {"inference_id": "a", "label": label}

    with pytest.raises(InvalidInputError, match="expected a"):
        checked_label(value, index=0, task=task, at="", source="x")


@pytest.mark.parametrize("label", [1.5, 2.0, 3, True, "Yes"])
def test_a_class_may_be_a_number_a_truth_value_or_a_text(label: Any) -> None:
    value = {"inference_id": "a", "label": label}

    taken = checked_label(value, index=0, task="multiclass", at="", source="x")

    assert taken.label == label


@pytest.mark.parametrize("value", ["", "a" * 257, "a\n", "ä", None, 5, "a\x00"])
def test_what_is_not_an_inference_id_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInputError, match="is not an inference id"):
        checked_inference_id(value)


def test_a_broken_disk_is_told_and_may_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("in the way")

    with pytest.raises(BackendError, match="1 labels could not be written") as caught:
        add(tmp_path, ("a", 1))

    assert caught.value.retryable


def test_several_threads_may_write_at_once(tmp_path: Path) -> None:
    log = LabelLog(tmp_path)

    def write(number: int) -> None:
        log.append([Label(inference_id=str(number), label=number, at="", source="x")] * 3)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))

    counts = read_labels(tmp_path).frame.group_by("inference_id").len()
    assert counts.height == 40
    assert counts["len"].unique().to_list() == [3]
    assert counts.schema["inference_id"] == pl.String


def test_a_business_key_stands_in_place_of_an_id(tmp_path: Path) -> None:
    pairs = [("c-7", 5.0), (8, 6.0), (9.0, 7.0)]

    add_labels(
        tmp_path,
        pairs,
        task="regression",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        source="t",
        by_key=True,
    )

    frame = read_labels(tmp_path / "labels").frame
    assert frame.select("inference_id", "key", "label").rows() == [
        ("", "c-7", 5.0), ("", "8", 6.0), ("", "9", 7.0),
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["", None, 1.5, True, "x" * 300])
def test_what_is_no_business_key_is_refused(tmp_path: Path, key: object) -> None:
    with pytest.raises(InvalidInputError, match="is not a business key"):
        add_labels(
            tmp_path, [(key, 5.0)], task="regression", at=datetime(2026, 1, 1, tzinfo=UTC), source="t", by_key=True
        )  # fmt: skip
