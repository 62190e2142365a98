"""ClarifyCheck steps of pipelines: bias against a baseline, with and without a model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from .conftest import ROLE, image
from .test_pipelines import create, definition, get, run, step, steps_of, training

__all__ = ["create", "run"]

_CLARIFY = "205585389593.dkr.ecr.us-east-1.amazonaws.com/sagemaker-clarify-processing:1.0"
_CONFIG = {
    "dataset_type": "text/csv",
    "headers": ["label", "group", "x"],
    "label": "label",
    "label_values_or_threshold": [1],
    "facet": [{"name_or_index": "group", "value_or_threshold": [1]}],
    "methods": {
        "pre_training_bias": {"methods": ["DPL", "CI"]},
        "report": {"name": "report", "title": "Analysis Report"},
    },
}


def _rows(share: float) -> bytes:
    """Return rows whose second group has the label 1 less often than the first, by a share."""
    rows = [(int(n % 10 < 10 * (0.8 - share * (n % 2))), n % 2, n % 7) for n in range(200)]
    return "".join(f"{label},{group},{x}\n" for label, group, x in rows).encode()


def _given(name: str, uri: Any) -> dict[str, Any]:
    return {
        "InputName": name,
        "AppManaged": False,
        "S3Input": {
            "S3Uri": uri,
            "LocalPath": f"/opt/ml/processing/input/{'config' if name != 'dataset' else 'data'}",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
            "S3CompressionType": "None",
        },
    }


def check(name: str, config: str, data: str, out: str, **about: Any) -> dict[str, Any]:
    """Return a step as the SDKs write it."""
    output = {"S3Uri": out, "LocalPath": "/opt/ml/processing/output", "S3UploadMode": "EndOfJob"}
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 30}
    arguments = {
        "ProcessingResources": {"ClusterConfig": cluster},
        "AppSpecification": {"ImageUri": _CLARIFY},
        "RoleArn": ROLE,
        "ProcessingInputs": [_given("analysis_config", config), _given("dataset", data)],
        "ProcessingOutputConfig": {
            "Outputs": [{"OutputName": "analysis_result", "S3Output": output}]
        },
    }
    given = {
        "CheckType": "DATA_BIAS",
        "ModelPackageGroupName": None,
        "SkipCheck": False,
        "FailOnViolation": True,
        "RegisterNewBaseline": False,
        "SuppliedBaselineConstraints": None,
        **about,
    }
    return step(name, "ClarifyCheck", arguments, **given)


def test_more_bias_than_in_the_baseline_fails_the_step(
    sagemaker: Any, s3: Any, bucket: str, create: Callable[..., str], run: Callable[..., Any]
) -> None:
    place = f"s3://{bucket}/cl"
    for key, data in (
        ("config/analysis_config.json", json.dumps(_CONFIG).encode()),
        ("even/rows.csv", _rows(0.1)),
        ("biased/rows.csv", _rows(0.6)),
    ):
        s3.put_object(Bucket=bucket, Key=f"cl/{key}", Body=data)
    config = f"{place}/config/analysis_config.json"
    first = {"SkipCheck": True, "RegisterNewBaseline": True}
    against = {"SuppliedBaselineConstraints": get("Steps.First.CalculatedBaselineConstraints")}

    ended = run(
        create(
            definition(
                check("First", config, f"{place}/even", f"{place}/first", **first),
                check("Same", config, f"{place}/even", f"{place}/same", **against),
                check(
                    "Worse",
                    config,
                    f"{place}/biased",
                    f"{place}/worse",
                    DependsOn=["Same"],
                    **against,
                ),
            )
        )
    )

    seen = steps_of(sagemaker, ended)
    assert {name: each["StepStatus"] for name, each in seen.items()} == {
        "First": "Succeeded",
        "Same": "Succeeded",
        "Worse": "Failed",
    }, seen
    told = seen["Same"]["Metadata"]["ClarifyCheck"]
    assert told["BaselineUsedForDriftCheckConstraints"] == f"{place}/first/analysis.json"
    assert told["CalculatedBaselineConstraints"] == f"{place}/same/analysis.json"
    told = seen["Worse"]["Metadata"]["ClarifyCheck"]
    assert told["ViolationReport"] == f"{place}/worse/constraint_violations.json"
    report = s3.get_object(Bucket=bucket, Key="cl/worse/constraint_violations.json")["Body"]
    violations = json.loads(report.read())["violations"]
    assert [each["metric_name"] for each in violations] == ["DPL"]
    assert seen["Worse"]["FailureReason"].startswith("ClientError: ClarifyCheck failed. ")


def test_the_model_of_a_step_comes_into_the_configuration(
    sagemaker: Any, s3: Any, bucket: str, create: Callable[..., str], run: Callable[..., Any]
) -> None:
    config = {**_CONFIG, "predictor": {"label": 0}, "methods": {"post_training_bias": {}}}
    text = json.dumps(config)
    s3.put_object(Bucket=bucket, Key="cl/model/analysis_config.json", Body=text.encode())
    s3.put_object(Bucket=bucket, Key="cl/model-rows/rows.csv", Body=_rows(0.1))
    model = f"cl-{time.time_ns()}"
    step_of_model = step(
        "Make",
        "Model",
        {
            "ModelName": model,
            "ExecutionRoleArn": ROLE,
            "PrimaryContainer": {
                "Image": image("sagemaker-xgboost:1.7-1")["TrainingImage"],
                "ModelDataUrl": get("Steps.Train.ModelArtifacts.S3ModelArtifacts"),
            },
        },
    )
    about = {
        "CheckType": "MODEL_BIAS",
        "ModelName": get("Steps.Make.ModelName"),
        "SkipCheck": True,
        "RegisterNewBaseline": True,
    }
    rows = f"s3://{bucket}/cl/model-rows"
    uri = f"s3://{bucket}/cl/model/analysis_config.json"

    ended = run(
        create(
            definition(
                step("Train", "Training", training(bucket, "echo 1 > /opt/ml/model/nothing")),
                step_of_model,
                check("Bias", uri, rows, f"s3://{bucket}/cl/model-out", **about),
            )
        )
    )

    seen = steps_of(sagemaker, ended)["Bias"]
    job = seen["Metadata"]["ClarifyCheck"]["CheckJobArn"].rpartition("/")[2]
    inputs = sagemaker.describe_processing_job(ProcessingJobName=job)["ProcessingInputs"]
    place = inputs[0]["S3Input"]["S3Uri"]
    assert place == f"s3://{bucket}/cl/model/{job}/analysis_config.json"
    key = place.removeprefix(f"s3://{bucket}/")
    told = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    assert told["predictor"]["label"] == 0
    assert told["predictor"]["model_name"].startswith(model)
    # a model of nothing: the job itself says so
    assert seen["StepStatus"] == "Failed"
    assert seen["FailureReason"].startswith("ClientError: The model cannot be served.")
