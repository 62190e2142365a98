"""QualityCheck steps of pipelines: baselines made, compared with, registered; as both SDKs write them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import ROLE, image
from .test_pipelines import create, definition, finished, get, refused, run, step, steps_of

__all__ = ["create", "run"]

_ANALYZER = "156813124566.dkr.ecr.us-east-1.amazonaws.com/sagemaker-model-monitor-analyzer"
_GOOD = "age,plan\n" + "".join(f"{20 + n % 40},{'ab'[n % 2]}\n" for n in range(200))
_BAD = "age,plan\n" + "".join(f"{-20 - n % 40},{'xy'[n % 2]}\n" for n in range(200))


def analysis(bucket: str, data: str, out: Any, **environment: str) -> dict[str, Any]:
    """Return the arguments of a check, as the SDKs write them."""
    return {
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceType": "ml.m5.large",
                "InstanceCount": 1,
                "VolumeSizeInGB": 30,
            }
        },
        "AppSpecification": {"ImageUri": _ANALYZER},
        "RoleArn": ROLE,
        "ProcessingInputs": [
            {
                "InputName": "baseline_dataset_input",
                "AppManaged": False,
                "S3Input": {
                    "S3Uri": f"s3://{bucket}/{data}",
                    "LocalPath": "/opt/ml/processing/input/baseline_dataset_input",
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                    "S3DataDistributionType": "FullyReplicated",
                    "S3CompressionType": "None",
                },
            }
        ],
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": "quality_check_output",
                    "AppManaged": False,
                    "S3Output": {
                        "S3Uri": out,
                        "LocalPath": "/opt/ml/processing/output",
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ]
        },
        "Environment": {
            "output_path": "/opt/ml/processing/output",
            "publish_cloudwatch_metrics": "Disabled",
            "dataset_format": '{"csv": {"header": true, "output_columns_position": "START"}}',
            "dataset_source": "/opt/ml/processing/input/baseline_dataset_input",
            **environment,
        },
    }


def check(name: str, arguments: dict[str, Any], **about: Any) -> dict[str, Any]:
    """Return a step with the members that the SDKs write always."""
    given = {
        "CheckType": "DATA_QUALITY",
        "ModelPackageGroupName": None,
        "SkipCheck": False,
        "FailOnViolation": True,
        "RegisterNewBaseline": False,
        "SuppliedBaselineStatistics": None,
        "SuppliedBaselineConstraints": None,
        **about,
    }
    return step(name, "QualityCheck", arguments, **given)


@pytest.fixture(scope="module")
def data(s3: Any, bucket: str) -> str:
    """Return the prefix of two data sets, of which the second violates what holds in the first."""
    s3.put_object(Bucket=bucket, Key="qc/good/data.csv", Body=_GOOD.encode())
    s3.put_object(Bucket=bucket, Key="qc/bad/data.csv", Body=_BAD.encode())
    return "qc"


def place(bucket: str) -> dict[str, Any]:
    """Return an output of its own for each execution, as AWS's documentation shows it."""
    own = get("Execution.PipelineExecutionId")
    return {"Std:Join": {"On": "/", "Values": ["s3:/", bucket, "qc", own, "out"]}}


def test_a_first_run_makes_the_baseline_that_the_next_step_compares_with(
    sagemaker: Any, s3: Any, bucket: str, data: str, create: Callable[..., str], run: Any
) -> None:
    first = check(
        "Baseline",
        analysis(bucket, f"{data}/good", place(bucket)),
        SkipCheck=get("Parameters.Skip"),
        RegisterNewBaseline=True,
    )
    second = check(
        "Compare",
        analysis(bucket, f"{data}/good", f"s3://{bucket}/qc/compared"),
        SuppliedBaselineStatistics=get("Steps.Baseline.CalculatedBaselineStatistics"),
        SuppliedBaselineConstraints=get("Steps.Baseline.BaselineUsedForDriftCheckConstraints"),
    )
    parameters = [{"Name": "Skip", "Type": "Boolean", "DefaultValue": True}]

    ended = run(create(definition(second, first, Parameters=parameters)))

    seen = steps_of(sagemaker, ended)
    assert ended["PipelineExecutionStatus"] == "Succeeded", seen
    own = ended["PipelineExecutionArn"].rpartition("/")[2]
    made = f"s3://{bucket}/qc/{own}/out"
    told = seen["Baseline"]["Metadata"]["QualityCheck"]
    assert told.pop("CheckJobArn").startswith("arn:aws:sagemaker:us-east-1:123456789012:processing")
    assert told == {
        "CheckType": "DATA_QUALITY",
        "SkipCheck": True,
        "RegisterNewBaseline": True,
        "CalculatedBaselineConstraints": f"{made}/constraints.json",
        "CalculatedBaselineStatistics": f"{made}/statistics.json",
        "BaselineUsedForDriftCheckConstraints": f"{made}/constraints.json",
        "BaselineUsedForDriftCheckStatistics": f"{made}/statistics.json",
    }
    told = seen["Compare"]["Metadata"]["QualityCheck"]
    assert told["CalculatedBaselineStatistics"] == f"s3://{bucket}/qc/compared/statistics.json"
    assert told["BaselineUsedForDriftCheckStatistics"] == f"{made}/statistics.json"
    report = s3.get_object(Bucket=bucket, Key="qc/compared/constraint_violations.json")["Body"]
    assert json.loads(report.read()) == {"violations": []}
    assert "ViolationReport" not in told


def _baseline(sagemaker: Any, bucket: str, data: str, group: str) -> dict[str, Any]:
    """Return the steps that make a baseline and register it with a version."""
    uris = {
        name: {"ContentType": "application/json", "S3Uri": get(f"Steps.Base.{path}")}
        for name, path in (
            ("Statistics", "BaselineUsedForDriftCheckStatistics"),
            ("Constraints", "BaselineUsedForDriftCheckConstraints"),
        )
    }
    register = step(
        "Register",
        "RegisterModel",
        {
            "ModelPackageGroupName": group,
            "InferenceSpecification": {
                "Containers": [{"Image": "any:1", "ModelDataUrl": f"s3://{bucket}/{data}/m"}],
                "SupportedContentTypes": ["text/csv"],
                "SupportedResponseMIMETypes": ["text/csv"],
            },
            "ModelApprovalStatus": "Approved",
            "DriftCheckBaselines": {"ModelDataQuality": uris},
            "ModelMetrics": {"ModelDataQuality": uris},
        },
    )
    base = check(
        "Base",
        analysis(bucket, f"{data}/good", place(bucket)),
        SkipCheck=True,
        RegisterNewBaseline=True,
        ModelPackageGroupName=group,
    )
    return {"base": base, "register": register}


def test_a_violated_baseline_of_the_registry_fails_the_step_unless_it_may_not(
    sagemaker: Any, s3: Any, bucket: str, data: str, create: Callable[..., str], run: Any
) -> None:
    s3.put_object(Bucket=bucket, Key=f"{data}/m", Body=b"model")
    group = f"qc-{time.time_ns()}"
    made = _baseline(sagemaker, bucket, data, group)
    first = run(create(definition(made["base"], made["register"])))
    assert first["PipelineExecutionStatus"] == "Succeeded", steps_of(sagemaker, first)
    used = steps_of(sagemaker, first)["Base"]["Metadata"]["QualityCheck"]
    compare = check(
        "Compare",
        analysis(bucket, f"{data}/bad", place(bucket)),
        ModelPackageGroupName=group,
        FailOnViolation=get("Parameters.Strict"),
    )
    parameters = [{"Name": "Strict", "Type": "Boolean", "DefaultValue": True}]
    name = create(definition(compare, Parameters=parameters))

    strict = run(name)
    lenient = run(name, PipelineParameters=[{"Name": "Strict", "Value": "false"}])

    assert strict["PipelineExecutionStatus"] == "Failed"
    seen = steps_of(sagemaker, strict)["Compare"]
    told = seen["Metadata"]["QualityCheck"]
    assert (
        told["BaselineUsedForDriftCheckConstraints"] == used["BaselineUsedForDriftCheckConstraints"]
    )
    assert seen["StepStatus"] == "Failed"
    assert seen["FailureReason"] == (
        "ClientError: QualityCheck failed. Job completed successfully with 4 violations. "
        f"Violation report: {told['ViolationReport']}"
    )
    key = told["ViolationReport"].removeprefix(f"s3://{bucket}/")
    listed = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())["violations"]
    assert {each["feature_name"] for each in listed} == {"age", "plan"}
    assert lenient["PipelineExecutionStatus"] == "Succeeded"
    told = steps_of(sagemaker, lenient)["Compare"]["Metadata"]["QualityCheck"]
    assert told["ViolationReport"].endswith("/constraint_violations.json")


def test_model_quality_is_checked_and_its_success_is_taken_from_the_cache(
    sagemaker: Any, s3: Any, bucket: str, create: Callable[..., str], run: Any
) -> None:
    rows = "".join(f"{n},{n + n % 3}\n" for n in range(300))
    s3.put_object(Bucket=bucket, Key="qc/model/scored.csv", Body=f"truth,said\n{rows}".encode())
    s3.put_object(
        Bucket=bucket,
        Key="qc/model/constraints.json",
        Body=json.dumps(
            {
                "version": 0.0,
                "regression_constraints": {
                    "mae": {"threshold": 1.5, "comparison_operator": "GreaterThanThreshold"}
                },
            }
        ).encode(),
    )
    arguments = analysis(
        bucket,
        "qc/model/scored.csv",
        place(bucket),
        analysis_type="MODEL_QUALITY",
        problem_type="Regression",
        inference_attribute="said",
        ground_truth_attribute="truth",
    )
    about = {
        "CheckType": "MODEL_QUALITY",
        "SuppliedBaselineConstraints": f"s3://{bucket}/qc/model/constraints.json",
        "CacheConfig": {"Enabled": True, "ExpireAfter": "PT1H"},
    }
    name = create(definition(check("Quality", arguments, **about)))

    first, again = run(name), run(name)

    assert first["PipelineExecutionStatus"] == "Succeeded", steps_of(sagemaker, first)
    told = steps_of(sagemaker, first)["Quality"]["Metadata"]["QualityCheck"]
    assert told["CheckType"] == "MODEL_QUALITY"
    assert told["BaselineUsedForDriftCheckConstraints"].endswith("qc/model/constraints.json")
    seen = steps_of(sagemaker, again)["Quality"]
    assert seen["CacheHitResult"]["SourcePipelineExecutionArn"] == first["PipelineExecutionArn"]
    assert seen["Metadata"]["QualityCheck"] == told


def test_a_check_without_any_earlier_baseline_says_what_to_do(
    sagemaker: Any, bucket: str, data: str, create: Callable[..., str], run: Any
) -> None:
    arguments = analysis(bucket, f"{data}/good", place(bucket))
    group = f"none-{time.time_ns()}"
    name = create(
        definition(check("Check", arguments, SkipCheck=True, ModelPackageGroupName=group))
    )

    ended = run(name)

    assert steps_of(sagemaker, ended)["Check"]["FailureReason"] == (
        "ClientError: No previous baseline is available for the check type DATA_QUALITY: the model "
        f"package group '{group}' has none. Give it, or set skip_check and register_new_baseline "
        "for the first run."
    )


def test_a_check_of_an_unknown_type_is_refused(sagemaker: Any, bucket: str) -> None:
    text = definition(
        check("Check", analysis(bucket, "qc/good", "s3://x/y"), CheckType="DATA_BIAS")
    )

    code, message = refused(
        sagemaker.create_pipeline, PipelineName="qc-no", PipelineDefinition=text, RoleArn=ROLE
    )

    assert code == "ValidationException"
    assert message == (
        "Unable to parse pipeline definition. The step 'Check' has the CheckType 'DATA_BIAS'; "
        "there are DATA_QUALITY, MODEL_QUALITY."
    )


def test_a_job_knows_its_own_name_in_the_arguments_of_its_step(
    sagemaker: Any, bucket: str, create: Callable[..., str]
) -> None:
    name = get("Execution.TrainingJobName")
    arguments = {
        "AlgorithmSpecification": {
            **image("anything:1"),
            "ContainerEntrypoint": ["/bin/true"],
        },
        "RoleArn": ROLE,
        "HyperParameters": {"me": name},
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/pipelines"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }
    pipeline = create(definition(step("Train", "Training", arguments)))

    arn = sagemaker.start_pipeline_execution(PipelineName=pipeline)["PipelineExecutionArn"]
    ended = finished(sagemaker, arn)

    job = steps_of(sagemaker, ended)["Train"]["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    about = sagemaker.describe_training_job(TrainingJobName=job)
    assert about["HyperParameters"] == {"me": job}
