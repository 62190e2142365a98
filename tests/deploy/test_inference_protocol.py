"""The endpoint speaks the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest

from loopwright.deploy import read_capture

Run = Callable[..., Any]
INFER = "/v2/models/slope/infer"


def tensor(name: str, datatype: str, *data: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": list(data)} | more


AREA = tensor("area", "FP64", 1, 2.5)


def test_server_health_and_model_are_described(run_endpoint: Run) -> None:
    site = run_endpoint()
    paths = {
        "/v2": {"name": "loopwright", "version": version("loopwright"), "extensions": []},
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        "/v2/models/slope/ready": {"name": "slope", "ready": True},
        "/v2/models/slope/versions/v1": {
            "name": "slope",
            "versions": ["v1"],
            "platform": "loopwright",
            "inputs": [
                {"name": "area", "datatype": "FP64", "shape": [-1]},
                {"name": "city", "datatype": "BYTES", "shape": [-1]},
            ],
            "outputs": [
                {"name": "prediction", "datatype": "FP64", "shape": [-1]},
                {"name": "inference_id", "datatype": "BYTES", "shape": [-1]},
            ],
        },
    }

    with site.dial() as line:
        found = {path: line.get(path).hear() for path in paths}

    assert {path: answer for path, (_, _, answer) in found.items()} == paths
    assert {status for status, _, _ in found.values()} == {200}


def test_tensors_by_column_are_answered_and_captured(run_endpoint: Run) -> None:
    site = run_endpoint()
    asked = {"id": "q7", "inputs": [AREA, tensor("city", "BYTES", "Bonn", None)]}

    with site.dial() as line:
        status, _, answer = line.post(asked, path=INFER).hear()

    assert status == 200
    assert answer == {
        "model_name": "slope",
        "model_version": "v1",
        "id": "q7",
        "outputs": [
            {"name": "prediction", "datatype": "FP64", "shape": [2], "data": [2.0, 5.0]},
            {"name": "inference_id", "datatype": "BYTES", "shape": [2], "data": ["q7:0", "q7:1"]},
        ],
    }
    captured = read_capture(site.folder / "capture").frame
    assert captured["inference_id"].to_list() == ["q7:0", "q7:1"]


def test_columns_of_width_one_and_wanted_outputs_and_extras(run_endpoint: Run) -> None:
    site = run_endpoint()
    asked = {
        "inputs": [tensor("area", "INT32", [3], [4], shape=[2, 1])],
        "parameters": {"with": "double"},
        "outputs": [{"name": "double"}],
    }

    with site.dial() as line:
        _, _, answer = line.post(asked, path=INFER.replace("/infer", "/versions/v1/infer")).hear()

    assert answer["outputs"] == [
        {"name": "double", "datatype": "BYTES", "shape": [2], "data": ["12.0", "16.0"]}
    ]


def test_a_matrix_is_read_in_the_order_of_the_signature(run_endpoint: Run) -> None:
    site = run_endpoint()
    matrix = tensor("any", "FP64", [1, None], [2, None], shape=[2, 2])

    with site.dial() as line:
        _, _, nested = line.post({"inputs": [matrix]}, path=INFER).hear()
        flat = {**matrix, "data": [1, None, 2, None]}
        _, _, same = line.post({"inputs": [flat]}, path=INFER).hear()

    assert nested["outputs"][0]["data"] == same["outputs"][0]["data"] == [2.0, 4.0]


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([tensor("area", "FP64", "1")], "which is no FP64"),
        ([tensor("area", "BOOL", 1)], "which is no BOOL"),
        ([tensor("area", "INT8", 128)], "which is no INT8"),
        ([tensor("area", "UINT8", -1)], "which is no UINT8"),
        ([tensor("area", "FP128", 1)], "datatype 'FP128'"),
        ([tensor("area", "BYTES", "x")], "expected a number"),
        ([tensor("area", "FP64", 1, shape=[2])], "has 1 values"),
        ([tensor("area", "FP64", 1, shape=[-1])], "shape"),
        ([tensor("area", "FP64", 1, shape=[1, 1, 1])], "shape"),
        ([tensor("area", "FP64", [1, 2], [3], shape=[2, 2])], "2 values each"),
        ([tensor("area", "FP64", [1, 2, 3], shape=[1, 3])], "shape"),
        ([AREA, AREA], "comes twice"),
        ([AREA, tensor("city", "BYTES", "x")], "1 rows"),
        ([tensor("area", "FP64")], "no rows"),
        ([tensor("area", "FP64", 1, shape=[2**31, 2**31])], "values"),
        ([tensor("city", "BYTES", "x")], "'area'"),
        ([7], "no object"),
        ({}, "inputs"),
    ],
)
def test_tensors_that_cannot_be_used_are_refused_in_the_protocols_way(
    run_endpoint: Run, inputs: Any, says: str
) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, _, answer = line.post({"inputs": inputs}, path=INFER).hear()

    assert status == 400
    assert set(answer) == {"error"}
    assert says in answer["error"]


@pytest.mark.parametrize(
    "path",
    ["/v2/models/other", "/v2/models/slope/versions/v9/ready", "/v2/models/slope/versions/2/infer"],
)
def test_other_models_and_versions_are_not_there(run_endpoint: Run, path: str) -> None:
    site = run_endpoint()

    with site.dial() as line:
        is_infer = path.endswith("infer")
        said = line.post({"inputs": [AREA]}, path=path) if is_infer else line.get(path)
        status, _, answer = said.hear()

    assert status == 404
    assert isinstance(answer["error"], str)


def test_an_unforeseen_failure_is_told_in_the_protocols_way(run_endpoint: Run) -> None:
    site = run_endpoint()
    asked = {"inputs": [AREA, tensor("city", "BYTES", "Boom", "Boom")]}

    with site.dial() as line:
        status, _, answer = line.post(asked, path=INFER).hear()

    assert status == 500
    assert isinstance(answer["error"], str)


def test_binary_tensors_and_other_bodies_are_refused(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        header = "Inference-Header-Content-Length: 10\r\n"
        binary, _, _ = line.post({"inputs": [AREA]}, path=INFER, headers=header).hear()
        extra = {"inputs": [AREA], "parameters": {"with": "nonsense"}}
        unknown, _, answer = line.post(extra, path=INFER).hear()

    assert (binary, unknown) == (400, 400)
    assert "nonsense" in answer["error"]


def test_explain_asks_the_model_for_reasons(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, _, answer = line.post({"area": 1}, path="/explain").hear()

    assert status == 400  # this model cannot give any
    assert "'reasons'" in answer["error"]["message"]
