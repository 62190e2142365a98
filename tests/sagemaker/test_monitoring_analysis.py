"""What Model Monitor's analysis finds in data sets and in captured requests."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from sklearn import metrics as sk

from loopwright.core.errors import InvalidInputError
from loopwright.sagemaker.monitoring.analysis import Question, data_quality, model_quality
from loopwright.sagemaker.monitoring.captured import payload, value_at
from loopwright.sagemaker.monitoring.column import Column, column_of, statistics_of
from loopwright.sagemaker.monitoring.constraint import suggested, violations
from loopwright.sagemaker.monitoring.kll import K, distance, n_values, sketch
from loopwright.sagemaker.monitoring.quality import (
    quality_of,
    quality_violations,
    suggested_quality,
)

CSV: Mapping[str, Any] = {"csv": {"header": True, "output_columns_position": "START"}}
CAPTURED: Mapping[str, Any] = {"sagemakerCaptureJson": {}}


def column(*values: Any, name: str = "x") -> Column:
    texts = [None if value is None else str(value) for value in values]
    return column_of(pl.Series(name, texts, dtype=pl.String))


def compared(before: list[Column], after: list[Column], **config: Any) -> list[dict[str, str]]:
    rules = suggested(before)
    rules["monitoring_config"] = {**rules["monitoring_config"], **config}
    found, _ = violations(
        after, rules, statistics_of(before, n_rows=0), statistics_of(after, n_rows=0)
    )
    return found


def kinds(found: list[dict[str, str]]) -> list[str]:
    return [each["constraint_check_type"] for each in found]


# the probability, which is not looked at here, overflows for the smallest samples
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60),
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60),
)
@settings(max_examples=40, deadline=None)
def test_the_distance_of_small_samples_is_that_of_kolmogorov_and_smirnov(
    one: list[float], other: list[float]
) -> None:
    found = distance(*(sketch(np.array(each))["sketch"]["data"] for each in (one, other)))

    assert found == pytest.approx(ks_2samp(one, other, method="asymp").statistic, abs=1e-12)


def test_a_sketch_of_many_values_keeps_their_number_and_nearly_their_distribution() -> None:
    values = np.random.default_rng(0).normal(size=100_001)

    found = sketch(values)

    data = found["sketch"]["data"]
    assert n_values(data) == 100_001
    assert sum(map(len, data)) < 2 * K
    assert distance(data, [values.tolist()]) < 0.002
    assert sum(each["count"] for each in found["buckets"]) == 100_001
    assert found["buckets"][0]["lower_bound"] == values.min()
    assert found["buckets"][-1]["upper_bound"] == values.max()


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((1, 2, 3), "Integral"),
        ((1, "2.0", 3), "Fractional"),
        (("1e5", "-.5"), "Fractional"),
        ((1, "x"), "String"),
        ((None, "", "nan"), "Unknown"),
        (("true", "false"), "String"),
    ],
)
def test_a_column_is_what_all_of_its_values_are(values: tuple[Any, ...], kind: str) -> None:
    assert column(*values).inferred_type == kind


def test_statistics_are_those_of_the_present_values() -> None:
    found = statistics_of([column(1, 2, None, 6), column("a", "b", "a", name="y")], n_rows=4)

    numbers = found["features"][0]["numerical_statistics"]
    assert numbers["common"] == {"num_present": 3, "num_missing": 1}
    assert (numbers["mean"], numbers["sum"], numbers["min"], numbers["max"]) == (3.0, 9.0, 1.0, 6.0)
    # of 1, 2 and 6, whose squared distances from 3 are 4, 1 and 9
    assert numbers["std_dev"] == pytest.approx(math.sqrt(14 / 3))
    texts = found["features"][1]["string_statistics"]
    assert texts["distinct_count"] == 2
    assert texts["distribution"]["categorical"]["buckets"] == [
        {"value": "a", "count": 2},
        {"value": "b", "count": 1},
    ]


def test_the_same_data_violate_nothing() -> None:
    before = [column(*range(50)), column(*"ab" * 25, name="y")]

    assert compared(before, before) == []


def test_each_way_of_being_different_is_told() -> None:
    before = [column(*range(40)), column(*"ab" * 20, name="y"), column(*range(40), name="z")]

    assert kinds(compared(before, [*before[:2], column(*["x"] * 4, *range(36), name="z")])) == [
        "data_type_check"
    ]
    assert kinds(compared(before, [*before[:2], column(None, *range(39), name="z")])) == [
        "completeness_check"
    ]
    assert kinds(compared(before, [before[0], column(*"abc" * 13, name="y"), before[2]])) == [
        "categorical_values_check"
    ]
    assert kinds(compared(before, before[:2])) == ["missing_column_check"]
    assert kinds(compared(before, [*before, column(1, name="w")])) == ["extra_column_check"]
    moved = column(*(value + 100 for value in range(40)))
    [found] = compared(before, [moved, *before[1:]])
    assert found["constraint_check_type"] == "baseline_drift_check"
    # all of it lies above, less 1.8 * sqrt(80 / 1600)
    expected = 1 - 1.8 * math.sqrt(80 / 1600)
    assert found["description"] == f"Baseline drift distance: {expected} exceeds threshold: 0.1"


def test_data_type_and_domain_thresholds_allow_what_they_say() -> None:
    before = [column(*range(40)), column(*"ab" * 20, name="y")]
    after = [column("x", *range(39)), column("c", *"ab" * 20, name="y")]

    strict = compared(before, after)
    loose = compared(before, after, datatype_check_threshold=0.9, domain_content_threshold=0.9)

    assert kinds(strict) == ["data_type_check", "categorical_values_check"]
    assert loose == []


def test_no_constraint_is_evaluated_where_a_person_has_switched_it_off() -> None:
    before = [column(*range(40))]

    assert compared(before, [column(*["x"] * 40)], evaluate_constraints="Disabled") == []


def test_two_classes_have_the_figures_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    score = rng.uniform(size=500).round(2)
    y = (rng.uniform(size=500) < score).astype(int)
    p = (score >= 0.5).astype(int)

    found = quality_of("BinaryClassification", y, p, score)

    expected = {
        "recall": sk.recall_score(y, p),
        "precision": sk.precision_score(y, p),
        "accuracy": sk.accuracy_score(y, p),
        "f0_5": sk.fbeta_score(y, p, beta=0.5),
        "f1": sk.f1_score(y, p),
        "f2": sk.fbeta_score(y, p, beta=2),
        "auc": sk.roc_auc_score(y, score),
        "au_prc": sk.average_precision_score(y, score),
        "false_positive_rate": 1 - sk.recall_score(1 - y, 1 - p),
        "accuracy_best_constant_classifier": y.mean(),
        "recall_best_constant_classifier": 1.0,
    }
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value), name
        assert 0 <= found[name]["standard_deviation"] < 0.1
    table = sk.confusion_matrix(y, p)
    assert found["confusion_matrix"] == {
        str(i): {str(j): table[i, j] for j in range(2)} for i in range(2)
    }


def test_several_classes_have_the_figures_of_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    y = rng.choice(["a", "b", "c"], size=300, p=[0.5, 0.3, 0.2])
    p = np.where(rng.uniform(size=300) < 0.7, y, "a")

    found = quality_of("MulticlassClassification", y, p, None)

    for name, value in {
        "accuracy": sk.accuracy_score(y, p),
        "weighted_recall": sk.recall_score(y, p, average="weighted"),
        "weighted_precision": sk.precision_score(y, p, average="weighted"),
        "weighted_f0_5": sk.fbeta_score(y, p, beta=0.5, average="weighted"),
        "weighted_f1": sk.f1_score(y, p, average="weighted"),
        "accuracy_best_constant_classifier": (y == "a").mean(),
    }.items():
        assert found[name]["value"] == pytest.approx(value), name


def test_numbers_have_the_figures_of_scikit_learn_and_few_rows_no_spread() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(size=50)
    p = y + rng.normal(size=50)

    found = quality_of("Regression", y, p, None)

    for name, value in {
        "mae": sk.mean_absolute_error(y, p),
        "mse": sk.mean_squared_error(y, p),
        "rmse": sk.root_mean_squared_error(y, p),
        "r2": sk.r2_score(y, p),
    }.items():
        assert found[name] == {"value": pytest.approx(value), "standard_deviation": "NaN"}


def test_figures_that_are_worse_than_the_baseline_are_violations() -> None:
    y = np.array([1.0, 2.0, 3.0, 4.0])
    rules = suggested_quality("Regression", quality_of("Regression", y, y + 0.1, None))

    same = quality_violations("Regression", quality_of("Regression", y, y + 0.1, None), rules)
    worse = quality_violations("Regression", quality_of("Regression", y, y + 1.0, None), rules)

    assert same == []
    assert {each["metric_name"]: each["constraint_check_type"] for each in worse} == {
        "mae": "GreaterThanThreshold",
        "mse": "GreaterThanThreshold",
        "rmse": "GreaterThanThreshold",
        "r2": "LessThanThreshold",
    }


def event(
    output: str, asked: str, *, id_: str = "1", kind: str = "CSV", at: str = "2026-01-01T10:00:00Z"
) -> dict[str, Any]:
    parts = {
        "endpointInput": {"data": asked, "encoding": kind, "mode": "INPUT"},
        "endpointOutput": {"data": output, "encoding": kind, "mode": "OUTPUT"},
    }
    return {
        "captureData": parts,
        "eventMetadata": {"eventId": f"event-{id_}", "inferenceId": id_, "inferenceTime": at},
        "eventVersion": "0",
    }


def written(folder: Path, *lines: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


def test_a_captured_row_has_its_answer_first_and_the_names_of_the_baseline(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("y,a,b\n1,2,3\n4,5,6\n")
    base = data_quality(Question(source=tmp_path, layout=CSV))
    seen = written(tmp_path / "seen", event("1\n4", "2,3\n5,6"), event("1,4", "2,3\n5,6", id_="2"))

    found = data_quality(
        Question(
            source=seen, layout=CAPTURED, constraints=base.constraints, baseline=base.statistics
        )
    )

    assert [each["name"] for each in found.statistics["features"]] == ["y", "a", "b"]
    assert found.n_rows == 4
    assert found.violations == []
    assert base.violations is None


def test_json_is_told_by_the_names_of_its_members(tmp_path: Path) -> None:
    asked, said = json.dumps({"in": {"a": 1, "b": "x"}}), json.dumps({"p": [0.5, 0.25]})
    seen = written(tmp_path, event(said, asked, kind="JSON"))

    found = data_quality(Question(source=seen, layout=CAPTURED))

    assert [each["name"] for each in found.statistics["features"]] == [
        "p_0",
        "p_1",
        "in_a",
        "in_b",
    ]


def test_requests_outside_of_the_window_do_not_count(tmp_path: Path) -> None:
    hours = ("09:59:59", "10:00:00", "10:59:59", "11:00:00")
    lines = [event("1", "2", id_=hour, at=f"2026-01-01T{hour}Z") for hour in hours]

    found = data_quality(
        Question(
            source=written(tmp_path, *lines),
            layout=CAPTURED,
            start=datetime.fromisoformat("2026-01-01T10:00:00Z"),
            end=datetime.fromisoformat("2026-01-01T11:00:00Z"),
        )
    )

    assert found.n_rows == 2


def test_answers_and_questions_of_two_kinds_are_refused_in_sagemaker_s_words(
    tmp_path: Path,
) -> None:
    mixed = event('{"p": 1}', "1,2")
    mixed["captureData"]["endpointOutput"]["encoding"] = "JSON"

    with pytest.raises(InvalidInputError, match="Encoding mismatch: Encoding is CSV for"):
        data_quality(Question(source=written(tmp_path, mixed), layout=CAPTURED))


def test_a_preprocessor_makes_the_records(tmp_path: Path) -> None:
    mixed = event('{"p": 1}', "1,2")
    mixed["captureData"]["endpointOutput"]["encoding"] = "JSON"

    def preprocess_handler(record: Any) -> Any:
        a, b = record.endpoint_input.data.split(",")
        return [{"a": a, "b": b, "p": json.loads(record.endpoint_output.data)["p"]}]

    found = data_quality(
        Question(source=written(tmp_path, mixed), layout=CAPTURED, preprocess=preprocess_handler)
    )

    assert [each["name"] for each in found.statistics["features"]] == ["a", "b", "p"]


def test_true_values_are_joined_by_the_id_of_the_inference_and_the_last_one_counts(
    tmp_path: Path,
) -> None:
    seen = written(tmp_path / "seen", *(event("1.0", "0", id_=str(n)) for n in range(4)))

    def true(id_: str, value: str) -> dict[str, Any]:
        return {
            "groundTruthData": {"data": value, "encoding": "CSV"},
            "eventMetadata": {"eventId": id_},
        }

    truth = written(
        tmp_path / "truth", true("0", "9"), true("1", "2"), true("0", "1"), true("x", "5")
    )

    found = model_quality(
        Question(source=seen, layout=CAPTURED, truth=truth, problem="Regression", prediction_at="0")
    )

    assert found.n_rows == 2
    # 1 for 1, and 1 for 2
    assert found.statistics["regression_metrics"]["mae"]["value"] == 0.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"problem": "Ranking"}, "is none of Regression"),
        ({"truth_at": ""}, "needs a ground_truth_attribute"),
        ({"prediction_at": "nobody"}, "There is no column 'nobody'"),
        ({"prediction_at": "", "score_at": ""}, "Neither an inference_attribute nor"),
        ({"prediction_at": "word"}, "is no number"),
    ],
)
def test_a_quality_question_that_has_no_answer_is_refused(
    tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    (tmp_path / "a.csv").write_text("p,y,word\n1,1,x\n0,1,y\n")
    wanted: dict[str, Any] = {
        "problem": "BinaryClassification",
        "prediction_at": "p",
        "truth_at": "y",
        **changes,
    }

    with pytest.raises(InvalidInputError, match=said):
        model_quality(Question(source=tmp_path, layout=CSV, **wanted))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{not json", "is no JSON"),
        ('{"a": 1}', "is no captured request"),
        ("[1, 2]", "is no captured request"),
        ("", "Job inputs had no data"),
    ],
)
def test_files_that_are_no_capture_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)

    with pytest.raises(InvalidInputError, match=said):
        data_quality(Question(source=tmp_path, layout=CAPTURED))


def test_base64_is_read_where_its_type_says_what_it_is_and_refused_elsewhere() -> None:
    data = base64.b64encode(b'1,"a,b"\n').decode()
    part = {"data": data, "encoding": "BASE64", "observedContentType": "text/csv; charset=utf-8"}

    assert payload(part) == [["1", "a,b"]]
    with pytest.raises(InvalidInputError, match="CaptureContentTypeHeader"):
        payload({**part, "observedContentType": "application/x-npy"})


def test_a_place_is_an_index_or_a_path() -> None:
    assert value_at(["a", "b"], "1") == "b"
    assert value_at({"predictions": [{"score": 0.5}]}, "predictions[0].score") == 0.5
    for record, where in ((["a"], "1"), ({}, "a.b"), ({}, "a[")):
        with pytest.raises(InvalidInputError):
            value_at(record, where)
