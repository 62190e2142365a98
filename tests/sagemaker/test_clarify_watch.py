"""Captured records judged against a baseline: bias and attributions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from loopwright.core.errors import InvalidInputError
from loopwright.sagemaker.clarify.config import checked
from loopwright.sagemaker.clarify.violation import (
    attribution_violations,
    bias_violations,
    ndcg,
)
from loopwright.sagemaker.clarify.watched import Watch, figures, watch_of, watched_analysis

BIAS = {
    "headers": ["Target", "Age", "Sex"],
    "label": "Target",
    "label_values_or_threshold": [1],
    "facet": [{"name_or_index": "Sex", "value_or_threshold": [0]}],
}


def captured(folder: Path, records: list[tuple[str, str, str]]) -> None:
    """Write captured requests: each with its id, its body and its answer."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {
            "captureData": {
                "endpointInput": {
                    "observedContentType": "text/csv",
                    "data": body,
                    "encoding": "CSV",
                },
                "endpointOutput": {
                    "observedContentType": "text/csv",
                    "data": answer,
                    "encoding": "CSV",
                },
            },
            "eventMetadata": {
                "eventId": name,
                "inferenceId": name,
                "inferenceTime": "2026-11-23T10:00:00Z",
            },
        }
        for name, body, answer in records
    ]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))


def true(folder: Path, labels: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {"groundTruthData": {"data": label, "encoding": "CSV"}, "eventMetadata": {"eventId": name}}
        for name, label in labels.items()
    ]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))


def watch(tmp_path: Path, told: dict[str, Any], **variables: str) -> Watch:
    found = watch_of(
        {
            "analysis_type": "MODEL_BIAS",
            "dataset_source": str(tmp_path / "captured"),
            "ground_truth_source": str(tmp_path / "truth"),
            **variables,
        },
        told,
    )
    assert found is not None
    return found


def test_captured_records_are_merged_with_their_truth(tmp_path: Path) -> None:
    captured(
        tmp_path / "captured",
        [("a", "30,0\n40,1", "0.2\n0.9"), ("b", "50,1", "0.8"), ("c", "60,0", "0.1")],
    )
    true(tmp_path / "truth", {"a": "0\n1", "b": "1"})

    found = watch(tmp_path, BIAS, probability_attribute="0")
    data = found.read()

    assert data.table.names == ("Age", "Sex", "Target")
    assert data.table.rows == [["30", "0", "0"], ["40", "1", "1"], ["50", "1", "1"]]
    predicted = data.predicted_column()
    assert predicted is not None
    assert predicted.to_list() == [0, 1, 1]
    told = watched_analysis(found, data, None, Path).analysis.told
    measures = told["pre_training_bias_metrics"]["facets"]["Sex"][0]["metrics"]
    assert {each["name"]: each["value"] for each in measures}["DPL"] == 1.0


def test_a_record_and_its_truth_must_fit(tmp_path: Path) -> None:
    captured(tmp_path / "captured", [("a", "30,0\n40,1", "0.2\n0.9")])
    true(tmp_path / "truth", {"a": "0"})

    with pytest.raises(InvalidInputError, match="2 records, 2 predictions and 1 true values"):
        watch(tmp_path, BIAS).read()


def test_features_that_the_configuration_does_not_name_are_told(tmp_path: Path) -> None:
    captured(tmp_path / "captured", [("a", "30,0,7", "0.2")])
    true(tmp_path / "truth", {"a": "0"})

    with pytest.raises(InvalidInputError, match="3 features, and the configuration names 2"):
        watch(tmp_path, BIAS).read()


def test_nothing_captured_is_said_as_model_monitor_does(tmp_path: Path) -> None:
    (tmp_path / "captured").mkdir()

    with pytest.raises(InvalidInputError, match="Job inputs had no data"):
        watch(tmp_path, BIAS).read()


def test_any_other_job_is_no_watch() -> None:
    assert watch_of({}, BIAS) is None


def analysis(**values: float | str | None) -> dict[str, Any]:
    metrics = [
        {"name": name, "description": name, "value": value} for name, value in values.items()
    ]
    group = {"value_or_threshold": "0", "metrics": metrics}
    return {
        "post_training_bias_metrics": {
            "label": "Target",
            "label_value_or_threshold": "1",
            "facets": {"Sex": [group]},
        }
    }


@pytest.mark.parametrize(
    ("name", "before", "now", "is_worse"),
    [
        # the first two are the documentation's own
        ("DPPL", 0.2, 0.1, False),
        ("DPPL", 0.2, -0.3, True),
        ("DI", 0.8, 0.9, False),
        ("DI", 0.8, 1.1, False),
        ("DI", 0.8, 0.5, True),
        ("DI", 0.8, "Infinity", True),
        ("TE", None, 3.0, False),
        ("TE", 3.0, None, False),
    ],
)
def test_a_measure_further_from_even_is_a_violation(
    name: str, before: Any, now: Any, is_worse: bool
) -> None:
    config = checked({**BIAS, "methods": {"post_training_bias": {}}})

    found = bias_violations(config, analysis(**{name: now}), analysis(**{name: before}))

    assert [each["metric_name"] for each in found] == ([name] if is_worse else [])
    if is_worse:
        assert found[0]["constraint_check_type"] == "bias_drift_check"
        assert found[0]["facet_value"] == "0"
        assert found[0]["description"] == f"Value {now} does not meet the constraint requirement"


def attributions(**values: float) -> dict[str, Any]:
    about = {"global_shap_values": values, "expected_value": 0.5}
    return {"explanations": {"kernel_shap": {"label0": about}}}


def test_another_order_of_features_is_a_violation() -> None:
    before = attributions(SAT=0.70, GPA=0.50, rank=0.05)

    found = attribution_violations(attributions(SAT=0.10, GPA=0.20, rank=0.70), before)

    assert [each["label"] for each in found] == ["label0"]
    assert found[0]["description"].startswith("Feature attribution drift 0.68")
    assert not attribution_violations(attributions(SAT=0.5, GPA=0.4, rank=0.1), before)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=2, max_size=8))
def test_the_order_is_scored_as_scikit_learn_does(pairs: list[tuple[float, float]]) -> None:
    before = {str(at): value for at, (value, _) in enumerate(pairs)}
    now = {str(at): value + at * 1e-6 for at, (_, value) in enumerate(pairs)}

    expected = ndcg_score([list(before.values())], [list(now.values())])

    assert ndcg(before, now) == pytest.approx(expected)


def test_figures_have_the_names_that_cloudwatch_has() -> None:
    told = {**analysis(DI="Infinity", TE=None), **attributions(age=0.25)}

    found = {name: (value, about) for name, value, about in figures(told)}

    assert set(found) == {"bias_metric_DI", "feature_age", "ExpectedValue"}
    assert found["bias_metric_DI"][0] == 2.348543e108
    assert found["bias_metric_DI"][1]["BiasStage"] == "Post-Training"
    assert found["feature_age"][1]["ValueType"] == "GlobalShapValues"
