"""Measures of bias, against Clarify's own open library and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.sagemaker.clarify.analysis import analysed
from loopwright.sagemaker.clarify.bias import POST_TRAINING, PRE_TRAINING
from loopwright.sagemaker.clarify.config import checked
from loopwright.sagemaker.clarify.dataset import assigned
from loopwright.sagemaker.clarify.facet import chosen, facets_of, is_continuous
from loopwright.sagemaker.clarify.table import Table

# made by smclarify 0.5, the library of aws/amazon-sagemaker-clarify
NUMBERS = json.loads((Path(__file__).parent / "clarify_numbers.json").read_text())
CASES = [(each, facet) for each in NUMBERS["bias"] for facet in each["facets"]]


def found(columns: dict[str, list[Any]], names: list[str], **config: Any) -> dict[str, Any]:
    rows = [list(row) for row in zip(*(map(str, columns[name]) for name in names), strict=True)]
    about = checked(
        {
            "methods": {
                "pre_training_bias": {"methods": "all"},
                "post_training_bias": {"methods": "all"},
            },
            "label": "label",
            "predicted_label": "pred",
            **config,
        }
    )
    data = assigned(about, Table(names=tuple(names), rows=rows), Path)
    return analysed(about, data, None, Path).told


@pytest.mark.parametrize(("case", "facet"), CASES)
def test_every_measure_is_that_of_the_open_library(
    case: dict[str, Any], facet: dict[str, Any]
) -> None:
    about = {"name_or_index": facet["facet"]}
    if facet["values"]:
        about["value_or_threshold"] = facet["values"]

    told = found(
        case["columns"],
        [*facet["features"], "label", "pred", "group"],
        label_values_or_threshold=case["label"],
        group_variable="group",
        excluded_columns=["group"],
        facet=[about],
    )

    for section in ("pre_training_bias_metrics", "post_training_bias_metrics"):
        assert told[section]["label_value_or_threshold"] == case["shown"]
        groups = told[section]["facets"][facet["facet"]]
        for group, expected in zip(groups, facet["groups"], strict=True):
            assert group["value_or_threshold"] == expected["value"]
            for each in group["metrics"]:
                assert each["value"] == pytest.approx(expected[each["name"]], abs=1e-12), each


def test_all_measures_of_the_documentation_are_there() -> None:
    assert set(PRE_TRAINING) == {"CI", "DPL", "KL", "JS", "LP", "TVD", "KS", "CDDL"}
    assert set(POST_TRAINING) == {
        *("DPPL", "DI", "DCA", "DCR", "RD", "DAR", "DRR", "AD", "CDDPL", "TE", "FT", "GE", "SD")
    }


SMALL = {"sex": [0, 0, 1, 1], "label": [1, 0, 1, 1], "pred": [0, 0, 1, 1], "word": list("abcd")}


def test_a_measure_that_cannot_be_had_says_why() -> None:
    told = found(
        SMALL,
        ["sex", "word", "label", "pred"],
        label_values_or_threshold=[1],
        facet=[{"name_or_index": "sex", "value_or_threshold": [0]}],
    )

    groups = told["post_training_bias_metrics"]["facets"]["sex"]
    measures = {each["name"]: each for each in groups[0]["metrics"]}
    assert measures["FT"]["value"] is None
    assert "non-numeric" in measures["FT"]["error"]
    assert "Group variable" in measures["CDDPL"]["error"]
    assert measures["DI"]["value"] == 0.0


def test_something_by_nothing_is_infinite() -> None:
    told = found(
        {"sex": [0, 0, 1, 1], "label": [1, 1, 0, 1], "pred": [1, 1, 0, 0]},
        ["sex", "label", "pred"],
        label_values_or_threshold=[1],
        facet=[{"name_or_index": "sex", "value_or_threshold": [0]}],
    )

    groups = told["post_training_bias_metrics"]["facets"]["sex"]
    measures = {each["name"]: each["value"] for each in groups[0]["metrics"]}
    assert measures["DI"] == "Infinity"
    assert json.dumps(told, allow_nan=False)


def test_a_measure_that_is_not_known_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="Invalid metric_name: XX"):
        found(
            SMALL,
            ["sex", "label", "pred"],
            label_values_or_threshold=[1],
            facet=[{"name_or_index": "sex"}],
            methods={"pre_training_bias": {"methods": ["CI", "XX"]}},
        )


def test_two_whole_numbers_are_categories_even_in_a_few_rows() -> None:
    assert not is_continuous(pl.Series([0, 1, 1]))
    assert is_continuous(pl.Series([1, 2, 3]))
    assert not is_continuous(pl.Series([1, 2, 3]), [1, 2])
    assert [each.shown for each in facets_of(pl.Series("sex", [1, 0, 1]), ())] == ["1", "0"]


def test_a_quantity_needs_a_threshold_and_the_threshold_is_outside() -> None:
    column = pl.Series("age", [20, 40, 41, 90])

    with pytest.raises(InvalidInputError, match="Threshold values must be provided"):
        facets_of(column, ())
    with pytest.raises(InvalidInputError, match="single numeric threshold"):
        chosen(column, ["old"])
    above = chosen(column, [40])

    assert above.shown == "(40, 90]"
    assert above.rows.tolist() == [False, False, True, True]


def test_values_are_the_same_however_they_are_written() -> None:
    assert chosen(pl.Series("sex", ["1.0", "0.0"]), [1]).rows.tolist() == [True, False]
    assert chosen(pl.Series("flag", [True, False]), ["true"]).rows.tolist() == [True, False]
