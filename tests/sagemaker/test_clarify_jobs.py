"""Jobs of Clarify through boto3, really run: a script's model is served, asked and explained."""

from __future__ import annotations

import json
import time
from typing import Any

from .conftest import ROLE, archive, until

IMAGE = "205585389593.dkr.ecr.us-east-1.amazonaws.com/sagemaker-clarify-processing:1.0"
ROOT = "/opt/ml/processing"
# 0.1 for each year of education above ten, and nothing for the rest
SERVING = """
def model_fn(model_dir):
    return None

def transform_fn(model, body, content_type, accept):
    rows = [line.split(",") for line in body.splitlines() if line]
    return "\\n".join(str(0.5 + 0.1 * (float(row[1]) - 10)) for row in rows), "text/csv"
"""
ROWS = [(20 + n, 6 + n % 9, n % 2, int(n % 9 > 3 + n % 2)) for n in range(60)]


def job(sagemaker: Any, s3: Any, bucket: str, config: dict[str, Any]) -> dict[str, Any]:
    """Run an analysis of `ROWS` and return how its job ended."""
    name = f"clarify-{time.time_ns()}"
    text = "\n".join(",".join(map(str, row)) for row in ROWS)
    s3.put_object(Bucket=bucket, Key=f"{name}/data/rows.csv", Body=text)
    s3.put_object(Bucket=bucket, Key=f"{name}/config/analysis_config.json", Body=json.dumps(config))
    inputs = [
        {
            "InputName": each,
            "S3Input": {
                "S3Uri": f"s3://{bucket}/{name}/{folder}",
                "LocalPath": f"{ROOT}/input/{folder}",
                "S3DataType": "S3Prefix",
                "S3InputMode": "File",
            },
        }
        for each, folder in (("dataset", "data"), ("analysis_config", "config"))
    ]
    output = {
        "S3Uri": f"s3://{bucket}/{name}/out",
        "LocalPath": f"{ROOT}/output",
        "S3UploadMode": "EndOfJob",
    }
    cluster = {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
    sagemaker.create_processing_job(
        ProcessingJobName=name,
        AppSpecification={"ImageUri": IMAGE},
        ProcessingInputs=inputs,
        ProcessingOutputConfig={"Outputs": [{"OutputName": "analysis_result", "S3Output": output}]},
        ProcessingResources={"ClusterConfig": cluster},
        RoleArn=ROLE,
    )
    found: dict[str, Any] = until(
        lambda: sagemaker.describe_processing_job(ProcessingJobName=name),
        lambda seen: seen["ProcessingJobStatus"] not in ("InProgress", "Stopping"),
        limit_s=120,
    )
    return found


def left(s3: Any, bucket: str, ended: dict[str, Any], name: str) -> str:
    key = f"{ended['ProcessingJobName']}/out/{name}"
    text: str = s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    return text


HEADERS = {"headers": ["age", "education", "sex", "target"], "label": "target"}


def test_bias_and_explanations_of_a_script_are_found_by_one_job(
    sagemaker: Any, s3: Any, bucket: str
) -> None:
    name = f"explained-{time.time_ns()}"
    s3.put_object(Bucket=bucket, Key=f"{name}.tar.gz", Body=archive({"code/inference.py": SERVING}))
    container = {"Image": "x/y:1", "ModelDataUrl": f"s3://{bucket}/{name}.tar.gz"}
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    s3.put_object(Bucket=bucket, Key=f"{name}/baseline.csv", Body="40,10,0\n")

    ended = job(
        sagemaker,
        s3,
        bucket,
        {
            **HEADERS,
            "label_values_or_threshold": [1],
            "facet": [{"name_or_index": "sex", "value_or_threshold": [1]}],
            "methods": {
                "pre_training_bias": {"methods": ["CI", "DPL"]},
                "post_training_bias": {"methods": "all"},
                "shap": {"baseline": f"s3://{bucket}/{name}/baseline.csv", "num_samples": 10},
                "pdp": {"grid_resolution": 3, "top_k_features": 1},
                "report": {"name": "report", "title": "<Incomes>"},
            },
            "predictor": {"model_name": name, "content_type": "text/csv"},
        },
    )

    assert ended["ProcessingJobStatus"] == "Completed", ended
    told = json.loads(left(s3, bucket, ended, "analysis.json"))
    before = told["pre_training_bias_metrics"]["facets"]["sex"][0]["metrics"]
    assert [each["name"] for each in before] == ["CI", "DPL"]
    women = [row[3] for row in ROWS if row[2] == 1]
    men = [row[3] for row in ROWS if row[2] == 0]
    assert abs(before[1]["value"] - (sum(men) / 30 - sum(women) / 30)) < 1e-12
    shap = told["explanations"]["kernel_shap"]["label0"]
    assert shap["expected_value"] == 0.5
    assert abs(shap["global_shap_values"]["age"]) < 1e-9
    mean = sum(abs(0.1 * (row[1] - 10)) for row in ROWS) / len(ROWS)
    assert abs(shap["global_shap_values"]["education"] - mean) < 1e-9
    assert [each["feature_name"] for each in told["explanations"]["pdp"]] == ["education"]
    local = left(s3, bucket, ended, "explanations_shap/out.csv").splitlines()
    assert local[0] == "age_label0,education_label0,sex_label0"
    assert len(local) == len(ROWS) + 1
    page = left(s3, bucket, ended, "report.html")
    assert "&lt;Incomes&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert json.loads(left(s3, bucket, ended, "report.ipynb"))["nbformat"] == 4


def test_what_is_wrong_with_an_analysis_is_the_reason_of_its_failure(
    sagemaker: Any, s3: Any, bucket: str
) -> None:
    shap = {"methods": {"shap": {}}, **HEADERS}

    nothing = job(sagemaker, s3, bucket, {"methods": {}, **HEADERS})
    nobody = job(sagemaker, s3, bucket, {**shap, "predictor": {"model_name": "nobody"}})

    assert nothing["ProcessingJobStatus"] == nobody["ProcessingJobStatus"] == "Failed"
    assert nothing["FailureReason"].startswith("ClientError: No method is configured")
    assert "Could not find model" in nobody["FailureReason"]
