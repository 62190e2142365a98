"""Configurations, data sets and answers of models as Clarify takes them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.sagemaker.clarify.config import Predictor, checked, read_config
from loopwright.sagemaker.clarify.dataset import read_dataset
from loopwright.sagemaker.clarify.predictor import (
    Model,
    Said,
    label_names,
    predicted_labels,
    read_answer,
)
from loopwright.sagemaker.clarify.table import read_table

SHAP = {"methods": {"shap": {}}, "predictor": {"model_name": "m"}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": {}}, "No method is configured"),
        ({"methods": {"pre_training_bias": {}}}, "label_values_or_threshold is needed"),
        ({"methods": {"shap": {"num_samples": "many"}}}, "num_samples"),
        ({"methods": {"shap": {"num_samples": 0}}}, "at least 1"),
        ({"methods": {"shap": {"baseline": [[1]], "num_clusters": 2}}}, "cannot both"),
        ({"methods": {"shap": {"baseline": []}}}, "at least one row"),
        ({"methods": {"shap": {"agg_method": "sum"}}}, "agg_method"),
        ({"methods": {"shap": {"text_config": {"granularity": "token"}}}}, "not supported yet"),
        ({"methods": {"pdp": {}}}, "pdp needs features"),
        ({"dataset_type": "application/x-image"}, "not supported yet"),
        ({"dataset_type": "text/xml"}, "is none of"),
        ({"dataset_type": "application/json"}, "JMESPath features"),
        ({"predictor": None}, "model_name or an endpoint_name"),
        ({"colour": 1}, "colour"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        checked({**SHAP, **change})


def test_a_configuration_that_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no JSON"):
        read_config(b"{")
    with pytest.raises(InvalidInputError, match="invalid"):
        read_config(b"[]")


def test_a_header_is_seen_by_the_names_that_are_given_or_by_numbers_below(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("age,sex\n30,f\n40,m\n")

    told = read_table(tmp_path, "text/csv", headers=["age", "sex"])
    seen = read_table(tmp_path, "text/csv")
    (tmp_path / "a.csv").write_text("30,f\n40,m\n")
    bare = read_table(tmp_path, "text/csv")

    assert told.rows == seen.rows == bare.rows == [["30", "f"], ["40", "m"]]
    assert told.names == seen.names == ("age", "sex")
    assert (seen.has_header, bare.has_header) == (True, False)
    assert bare.names == ("column_0", "column_1")


def test_files_of_a_prefix_are_one_table_and_may_be_packed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2\n")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"3,4\n"))

    assert read_table(tmp_path, "text/csv").rows == [["1", "2"], ["3", "4"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no rows"),
        ("1,2\n3\n", "Row 2 has 1 values"),
        ("1,2\n", "3 headers"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.csv").write_text(text)

    with pytest.raises(InvalidInputError, match=said):
        read_table(tmp_path, "text/csv", headers=["a", "b", "c"])


def test_json_lines_and_json_have_features_label_and_prediction_in_this_order(
    tmp_path: Path,
) -> None:
    about = {
        "methods": {"pre_training_bias": {}},
        "facet": [{"name_or_index": "sex"}],
        "label_values_or_threshold": [1],
        "headers": ["age", "sex", "Target", "Guess"],
        "predicted_label": "guess",
    }
    lines, whole = tmp_path / "lines", tmp_path / "whole"
    lines.mkdir()
    whole.mkdir()
    (lines / "a.jsonl").write_text(
        '{"in": [30, "f"], "out": 1, "guess": 0}\n{"in": [40, "m"], "out": 0, "guess": 1}\n'
    )
    value = {"rows": [[30, "f"], [40, "m"]], "out": [1, 0], "guess": [0, 1]}
    (whole / "a.json").write_text(json.dumps(value))
    of_lines = checked(
        {**about, "dataset_type": "application/jsonlines", "features": "in", "label": "out"}
    )
    of_whole = checked(
        {**about, "dataset_type": "application/json", "features": "rows", "label": "out"}
    )

    for config, place in ((of_lines, lines), (of_whole, whole)):
        data = read_dataset(config, place, Path)

        assert data.feature_names == ["age", "sex"]
        assert data.label_column().to_list() == [1, 0]
        predicted = data.predicted_column()
        assert predicted is not None
        assert predicted.to_list() == [0, 1]


def test_facets_of_a_data_set_of_their_own_are_joined_by_the_identifier(tmp_path: Path) -> None:
    data, facets = tmp_path / "data", tmp_path / "facets"
    data.mkdir()
    facets.mkdir()
    (data / "a.csv").write_text("7,10,1\n8,20,0\n")
    (facets / "a.csv").write_text("8,f\n7,m\n")
    config = checked(
        {
            "methods": {"pre_training_bias": {}},
            "headers": ["id", "x", "y"],
            "label": "y",
            "label_values_or_threshold": [1],
            "facet": [{"name_or_index": "sex"}],
            "facet_dataset_uri": "s3://b/f",
            "facet_headers": ["id", "sex"],
            "joinsource_name_or_index": "id",
        }
    )

    found = read_dataset(config, data, lambda _: facets)

    assert found.column("sex").to_list() == ["m", "f"]
    assert found.feature_names == ["x"]


def asked(about: dict[str, Any], rows: list[list[Any]], *, kind: str = "text/csv") -> list[str]:
    """Return the bodies that a model is asked with."""
    bodies = []

    def ask(body: bytes, content_type: str, accept: str) -> bytes:
        bodies.append(body.decode())
        return b"\n".join([b"0.5"] * max(1, body.count(b"\n")))

    config = Predictor(**{"accept_type": "text/csv", **about})
    Model(about=config, names=["A", "B"], ask=ask, dataset_type=kind).said(rows)
    return bodies


def test_rows_of_csv_are_asked_as_they_stand() -> None:
    assert asked({}, [["1", "a,b"], ["2.50", 'say "x"']]) == ['1,"a,b"\n2.50,"say ""x"""\n']


def test_records_are_made_by_templates() -> None:
    lines = {"content_type": "application/jsonlines", "content_template": '{"in": $features}'}
    whole = {"content_type": "application/json", "content_template": '{"all": $records}'}
    single = {"content_type": "application/json", "content_template": "$record"}

    assert asked(lines, [["1", "x"]]) == ['{"in": [1, "x"]}\n']
    assert asked({**whole, "record_template": "$features"}, [["1", ""]]) == ['{"all": [[1, null]]}']
    assert asked({**single, "record_template": "$features_kvp"}, [["1", "2.5"], ["3", "x"]]) == [
        '{"A": 1, "B": 2.5}',
        '{"A": 3, "B": "x"}',
    ]
    named = {**single, "record_template": '{"a": "${A}", "names": $feature_names}'}
    assert asked(named, [["1", "2"]]) == ['{"a": 1, "names": ["A", "B"]}']


def test_a_template_that_is_missing_is_asked_for() -> None:
    with pytest.raises(InvalidInputError, match="content_template"):
        asked({"content_type": "application/jsonlines"}, [["1", "2"]])
    with pytest.raises(InvalidInputError, match="record_template"):
        asked({"content_type": "application/json", "content_template": "$records"}, [["1", "2"]])


@pytest.mark.parametrize(
    ("body", "kind", "about", "labels", "scores"),
    [
        ("0.1\n0.9\n", "text/csv", {}, ["0.1", "0.9"], None),
        ("0.1,0.9", "text/csv", {}, ["0.1", "0.9"], None),
        ("yes,0.9\nno,0.2", "text/csv", {"label": 0, "probability": 1}, ["yes", "no"], "0.9"),
        ('{"s": 0.1}\n{"s": 0.9}', "application/jsonlines", {"label": "s"}, [0.1, 0.9], None),
        (
            '{"predictions": [{"score": 0.1}, {"score": 0.9}]}',
            "application/json",
            {"label": "predictions[*].score"},
            [0.1, 0.9],
            None,
        ),
        ("[0.1, 0.9]", "application/json", {}, [0.1, 0.9], None),
    ],
)
def test_answers_are_read_where_the_configuration_says(
    body: str, kind: str, about: dict[str, Any], labels: list[Any], scores: Any
) -> None:
    found = read_answer(body.encode(), kind, Predictor(**about), 2)

    assert [each.label for each in found] == labels
    assert found[0].probability == scores


@pytest.mark.parametrize(
    ("body", "kind", "about"),
    [
        ("0.1", "text/csv", {"label": 3}),
        ("<html>", "application/json", {}),
        ('{"x": 1}', "application/jsonlines", {"label": "score"}),
        ('{"predictions": [1]}', "application/json", {"label": "predictions"}),
    ],
)
def test_an_answer_without_what_is_looked_for_is_told(
    body: str, kind: str, about: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        read_answer(body.encode(), kind, Predictor(**about), 2)


@pytest.mark.parametrize(
    ("said", "about", "threshold", "labels"),
    [
        ([Said(label="0.3"), Said(label="0.7")], {}, None, [0, 1]),
        ([Said(label="0.3"), Said(label="0.7")], {}, 0.2, [1, 1]),
        ([Said(label="1"), Said(label="0")], {}, None, [1, 0]),
        ([Said(label=None, probability=1), Said(label=None, probability=0)], {}, None, [1, 0]),
        ([Said(label=["0.2", "0.8"])], {"label_headers": ["no", "yes"]}, None, ["yes"]),
        ([Said(label=["cat", "dog"], probability=[0.7, 0.3])], {}, None, ["cat"]),
        ([Said(label="yes", probability="0.3")], {}, None, ["yes"]),
        ([Said(label="0.9"), Said(label="0.1")], {"label_headers": "yes"}, 0.5, ["yes", "not yes"]),
    ],
)
def test_predicted_labels_are_what_the_documentation_says(
    said: list[Said], about: dict[str, Any], threshold: float | None, labels: list[Any]
) -> None:
    config = checked(
        {
            "methods": {"shap": {}},
            "predictor": {"model_name": "m", **about},
            "probability_threshold": threshold,
        }
    )

    assert predicted_labels(config, said, is_quantity=False).to_list() == labels


def test_scores_are_named_by_their_headers_or_counted() -> None:
    def of(**about: Any) -> Model:
        return Model(
            about=Predictor(**about), names=[], ask=lambda *_: b"", dataset_type="text/csv"
        )

    assert label_names(of(), 2) == ["label0", "label1"]
    assert label_names(of(label_headers=["no", "yes"]), 2) == ["no", "yes"]
    with pytest.raises(InvalidInputError, match="2 label headers and 1 scores"):
        label_names(of(label_headers=["no", "yes"]), 1)
